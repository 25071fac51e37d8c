// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/fairlead/fairlead/perf/lab/cluster"
	"github.com/fairlead/fairlead/perf/lab/pod"
	"github.com/fairlead/fairlead/perf/lab/traffic"
)

const (
	bulkBytes    = 6_000_000 // each way
	bulkTimeout  = 30 * time.Second
	helloTimeout = 5 * time.Second // room for four retransmits, not for a path that heals
	// placeTries are so many flows that both an ingress node's own Pods and
	// others get one: with a third of the Pods, all but once in a hundred billion.
	placeTries = 64
)

// testBulk moves verified bytes both ways, to a Pod of the ingress node and to
// one behind the tunnel.
func testBulk(t *testing.T, c *cluster.Cluster) {
	before := countersOf(t, c)
	for _, target := range targetsOf(vips(10), cluster.ServicePort)[:2] {
		eachPlace(t, c, target, func(s *stream) error {
			return s.bulk(bulkBytes)
		})
	}
	countersOf(t, c).since(before).expectOnly(t, "encap_home", "mine", "new", "translated")
}

// eachPlace calls f with a connection to a Pod on the ingress node, node 1, and
// with one to a Pod on another node.
func eachPlace(t *testing.T, c *cluster.Cluster, target target, f func(*stream) error) {
	t.Helper()
	done := map[bool]bool{}
	for range placeTries {
		s := openStream(t, c, target.Target)
		here := nodeOf(t, c, s.pod) == c.Lab.Nodes[0]
		if !done[here] {
			if err := f(s); err != nil {
				t.Errorf("%s to %s: %v", target.name, s.pod, err)
			}
			done[here] = true
		}
		s.conn.Close()
		if len(done) == 2 {
			return
		}
	}
	t.Errorf("%s: no flow to both places in %d tries", target.name, placeTries)
}

// stream is one TCP connection to a Pod.
type stream struct {
	conn *net.TCPConn
	r    *bufio.Reader
	pod  string
	seen netip.AddrPort // the client as the Pod sees it
}

// openStream connects and lets the Pod say its name.
func openStream(t *testing.T, c *cluster.Cluster, target traffic.Target) *stream {
	t.Helper()
	conn, err := c.Lab.Client.Dial(t.Context(), "tcp", netip.AddrPortFrom(target.Client, 0), target.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	s := newStream(conn)
	if err := s.hello("first"); err != nil {
		t.Fatal(err)
	}
	if s.seen.Addr() != target.Client {
		t.Errorf("%s saw client %s, want %s", s.pod, s.seen, target.Client)
	}
	return s
}

func newStream(conn net.Conn) *stream {
	return &stream{conn: conn.(*net.TCPConn), r: bufio.NewReaderSize(conn, 64<<10)}
}

// hello exchanges a line with the one Pod.
func (s *stream) hello(word string) error {
	s.conn.SetDeadline(time.Now().Add(helloTimeout))
	if _, err := fmt.Fprintf(s.conn, "hello %s\n", word); err != nil {
		return err
	}
	return s.answer(word)
}

func (s *stream) answer(want string) error {
	line, err := s.r.ReadString('\n')
	if err != nil {
		return err
	}
	a, err := pod.ParseAnswer(line)
	switch {
	case err != nil:
		return err
	case a.Rest != want:
		return fmt.Errorf("answer %q, want %q", a.Rest, want)
	case s.pod != "" && s.pod != a.Pod:
		return fmt.Errorf("answer of %s, want %s", a.Pod, s.pod)
	}
	s.pod, s.seen = a.Pod, a.Client
	return nil
}

// bulk moves n bytes of the pattern both ways, one after the other.
func (s *stream) bulk(n int64) error {
	s.conn.SetDeadline(time.Now().Add(bulkTimeout))
	if _, err := fmt.Fprintf(s.conn, "bulk %d\n", n); err != nil {
		return err
	}
	if err := pod.Verify(s.r, n); err != nil {
		return fmt.Errorf("download: %w", err)
	}
	if _, err := fmt.Fprintf(s.conn, "sink %d\n", n); err != nil {
		return err
	}
	if _, err := io.CopyBuffer(struct{ io.Writer }{s.conn}, io.LimitReader(&pod.Pattern{}, n), make([]byte, 256<<10)); err != nil {
		return fmt.Errorf("upload: %w", err)
	}
	return s.answer(fmt.Sprintf("sunk %d", n))
}
