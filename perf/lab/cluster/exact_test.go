// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/cluster"
	"github.com/fairlead/fairlead/perf/lab/traffic"
)

// exchanges are counted packet by packet for each network and family.
const exchanges = 40

// testCounters compares the datapath's counters with what the client's kernel
// counted: every packet there and back has one verdict on each node it crosses.
func testCounters(t *testing.T, c *cluster.Cluster) {
	ingress := c.Lab.Nodes[0]
	for _, target := range targetsOf(vips(10), cluster.ServicePort) {
		before, beforeIngress := countersOf(t, c), countersOf(t, c, ingress)
		sent, received := exchangeAll(t, c, target.Target)
		grown := waitCounts(t, c, before, func(g counts) bool {
			return g.delivered() >= sent && g["translated"] >= received
		})
		grown.expectOnly(t, "encap_home", "mine", "new", "translated")
		if got := grown.delivered(); got != sent {
			t.Errorf("%s: %d packets delivered, the client sent %d: %v", target.name, got, sent, grown)
		}
		if got := grown["translated"]; got != received {
			t.Errorf("%s: %d replies translated, the client received %d: %v", target.name, got, received, grown)
		}
		// A UDP port may have been in use a moment before.
		if got := grown["new"]; target.Network == "tcp" && got != exchanges {
			t.Errorf("%s: %d new flows, want %d", target.name, got, exchanges)
		}
		first := countersOf(t, c, ingress).since(beforeIngress)
		if got := first.sum("encap_home") + first.delivered(); got != sent || first["encap_home"] != grown["encap_home"] {
			t.Errorf("%s: %d packets on the ingress node, want %d: %v", target.name, got, sent, first)
		}
	}
}

// exchangeAll makes exchanges one after the other.
func exchangeAll(t *testing.T, c *cluster.Cluster, target traffic.Target) (sent, received uint64) {
	t.Helper()
	err := c.Lab.Client.Do(func() error {
		for range exchanges {
			out, in, err := exchangeHere(t.Context(), target)
			if err != nil {
				return err
			}
			sent, received = sent+out, received+in
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return sent, received
}

// exchangeHere asks once, ends the connection as both sides like it, and returns
// how many packets left and came.
func exchangeHere(ctx context.Context, target traffic.Target) (out, in uint64, err error) {
	conn, err := lab.DialHere(ctx, target.Network, netip.AddrPortFrom(target.Client, 0), target.Addr)
	if err != nil {
		return 0, 0, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := fmt.Fprint(conn, "hello 1\n"); err != nil {
		return 0, 0, err
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		_, err := conn.Read(make([]byte, 256))
		return 1, 1, err
	}
	if err := tcp.CloseWrite(); err != nil {
		return 0, 0, err
	}
	if _, err := io.Copy(io.Discard, conn); err != nil {
		return 0, 0, err
	}
	info, err := tcpInfo(tcp)
	if err != nil {
		return 0, 0, err
	}
	return uint64(info.Segs_out), uint64(info.Segs_in), nil
}

func tcpInfo(conn *net.TCPConn) (*unix.TCPInfo, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	var info *unix.TCPInfo
	cerr := raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) })
	if cerr != nil {
		return nil, cerr
	}
	return info, err
}
