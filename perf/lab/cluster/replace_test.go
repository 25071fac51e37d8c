// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/cluster"
)

const (
	datagramInterval = 500 * time.Microsecond
	lastAnswer       = 5 * time.Second
	replacements     = 3 // on every node
)

// TestReplacementLosesNoPacket restarts agents, which replaces the programs
// under traffic: every numbered datagram is answered. The userspace datapath
// stands still while its agent is dead, so there the settings change instead,
// which replaces programs and loops.
func TestReplacementLosesNoPacket(t *testing.T) {
	lab.RequireRoot(t)
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			c := startCluster(t, newLab(t, mode, lab.Options{}), mode)
			serve(t, c, cluster.NewService("lab/web", "Cluster", c.Lab.Pods(), vipList(10)...))
			s := sendNumbered(t, c.Lab, netip.AddrPortFrom(vips(10)[0], cluster.ServicePort))
			for i := range replacements {
				if mode == cluster.ModeUserspace {
					c.PreviousKey = []string{nextKey, ""}[i%2]
					sync(t, c)
				} else {
					restart(t, c)
				}
			}
			sent, answered := s.stop(t)
			t.Logf("%d datagrams, %d answered", sent, answered)
			if sent == 0 || answered != sent {
				t.Errorf("%d of %d datagrams lost", sent-answered, sent)
			}
		})
	}
}

// numbered sends datagrams at a steady rate over several flows, so that homes
// on all nodes get some.
type numbered struct {
	conns    []net.Conn
	ending   chan struct{}
	sent     chan int
	answered atomic.Int64
}

const numberedFlows = 12

func sendNumbered(t *testing.T, l *lab.Lab, to netip.AddrPort) *numbered {
	t.Helper()
	s := &numbered{ending: make(chan struct{}), sent: make(chan int, 1)}
	for range numberedFlows {
		conn, err := l.Client.Dial(t.Context(), "udp", netip.AddrPort{}, to)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		s.conns = append(s.conns, conn)
		go s.read(conn)
	}
	go s.send()
	return s
}

func (s *numbered) send() {
	ticker := time.NewTicker(datagramInterval)
	defer ticker.Stop()
	for n := 0; ; n++ {
		select {
		case <-s.ending:
			s.sent <- n
			return
		case <-ticker.C:
			if _, err := fmt.Fprintf(s.conns[n%len(s.conns)], "%d", n); err != nil {
				s.sent <- n
				return
			}
		}
	}
}

// read counts answers until the connection is closed.
func (s *numbered) read(conn net.Conn) {
	buf := make([]byte, 512)
	for {
		if _, err := conn.Read(buf); err != nil {
			return
		}
		s.answered.Add(1)
	}
}

// stop ends sending and waits for the answers that are on their way.
func (s *numbered) stop(t *testing.T) (sent, answered int) {
	t.Helper()
	close(s.ending)
	sent = <-s.sent
	// Too few in the end is for the caller to judge.
	_ = lab.Poll(t.Context(), lastAnswer, func() bool { return s.answered.Load() == int64(sent) })
	return sent, int(s.answered.Load())
}
