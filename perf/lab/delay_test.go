// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bufio"
	"fmt"
	"net/netip"
	"testing"
	"time"

	podserver "github.com/fairlead/fairlead/perf/lab/pod"
)

func TestDelay(t *testing.T) {
	const delay = 20 * time.Millisecond
	l := ForTest(t, Options{Nodes: 1, PodsPerNode: 1, Delay: delay})
	p := l.Pods()[0]
	if err := p.Serve(testPort); err != nil {
		t.Fatal(err)
	}
	for _, network := range []string{"tcp", "udp"} {
		for _, addr := range []netip.Addr{p.Addr4, p.Addr6} {
			trips := time.Duration(1) // of the question, and for TCP of the handshake
			if network == "tcp" {
				trips = 2
			}
			start := time.Now()
			got := ask(t, l.Client, network, netip.AddrPortFrom(addr, testPort))
			took := time.Since(start)
			if want := trips * 2 * delay; took < want {
				t.Errorf("%s to %s took %s, want %s or more", network, addr, took, want)
			}
			if got.Client.Addr() != ClientAddr4 && got.Client.Addr() != ClientAddr6 {
				t.Errorf("%s to %s: the pod sees %s", network, addr, got.Client)
			}
		}
	}
	if n := l.DelayDropped(); n != 0 {
		t.Errorf("%d packets dropped", n)
	}
}

// Large segments are cut before the line, and nothing is lost or reordered.
func TestDelayCarriesBulk(t *testing.T) {
	l := ForTest(t, Options{Nodes: 1, PodsPerNode: 1, Delay: time.Millisecond})
	p := l.Pods()[0]
	if err := p.Serve(testPort); err != nil {
		t.Fatal(err)
	}
	conn, err := l.Client.Dial(t.Context(), "tcp", netip.AddrPort{}, netip.AddrPortFrom(p.Addr6, testPort))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	const size = 3_000_000
	fmt.Fprintf(conn, "bulk %d\n", size)
	if err := podserver.Verify(bufio.NewReader(conn), size); err != nil {
		t.Fatal(err)
	}
}
