// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"context"
	"net/netip"
	"testing"

	"github.com/fairlead/fairlead/perf/lab"
)

const port = 8080

// direct is a lab with two Pods and a target for each network and family of the first.
func direct(t *testing.T) (*lab.Lab, []Target) {
	t.Helper()
	l := lab.ForTest(t, lab.Options{Nodes: 1, PodsPerNode: 1})
	p := l.Pods()[0]
	if err := p.Serve(port); err != nil {
		t.Fatal(err)
	}
	var targets []Target
	for _, network := range []string{"tcp", "udp"} {
		targets = append(targets,
			Target{Network: network, Addr: netip.AddrPortFrom(p.Addr4, port), Client: lab.ClientAddr4},
			Target{Network: network, Addr: netip.AddrPortFrom(p.Addr6, port), Client: lab.ClientAddr6})
	}
	return l, targets
}

func TestRequests(t *testing.T) {
	l, targets := direct(t)
	for _, target := range targets {
		r := Requests(t.Context(), l.Client, target, 200)
		if r.Failed != 0 || r.Shares["pod1-1"] != 200 || !r.ClientPreserved() || len(r.Clients) != 1 {
			t.Errorf("%v: %+v", target, r)
		}
	}
}

func TestRequestsFail(t *testing.T) {
	l, targets := direct(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r := Requests(ctx, l.Client, targets[0], 10); r.Failed != 10 || r.FirstError != context.Canceled || r.ClientPreserved() {
		t.Errorf("cancelled: %+v", r)
	}
	closed := targets[0]
	closed.Addr = netip.AddrPortFrom(closed.Addr.Addr(), port+1)
	if r := Requests(t.Context(), l.Client, closed, 10); r.Failed != 10 || r.FirstError == nil {
		t.Errorf("closed port: %+v", r)
	}
	// Without an expectation, every client is an unexpected one.
	asked := targets[0]
	asked.Client = netip.Addr{}
	if r := Requests(t.Context(), l.Client, asked, 10); r.Failed != 0 || r.WrongClient != 10 {
		t.Errorf("unexpected client: %+v", r)
	}
}

func TestFlows(t *testing.T) {
	l, targets := direct(t)
	var f Flows
	defer f.Close()
	for kind := Idle; kind <= Upload; kind++ {
		for _, target := range targets[:2] {
			if err := f.Open(t.Context(), l.Client, target, kind, 2); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 2 {
		f.Run(t.Context())
		if broken := f.Pause(); broken != 0 {
			t.Errorf("%d flows broken: %v", broken, f.Forget())
		}
	}
	if n := f.ByPod()["pod1-1"]; n != 16 {
		t.Errorf("%d flows to the pod, want 16", n)
	}
	if err := l.RemovePod(l.Pods()[0]); err != nil {
		t.Fatal(err)
	}
	f.Run(t.Context())
	for _, flow := range f.List {
		flow.conn.Close() // as a reset would
	}
	if broken := f.Pause(); broken != 16 || len(f.ByPod()) != 0 {
		t.Errorf("%d flows broken without their pod, want 16, still holding: %v", broken, f.ByPod())
	}
	f.Run(t.Context())
	if broken := f.Pause(); broken != 0 {
		t.Errorf("%d flows counted again", broken)
	}
	if err := f.Forget(); err == nil || len(f.List) != 0 {
		t.Errorf("forget: %v, %d flows kept", err, len(f.List))
	}
}

func TestFits(t *testing.T) {
	for _, tc := range []struct {
		n, total int
		share    float64
		want     bool
	}{
		{0, 1000, 0, true},
		{1, 1000, 0, false},
		{1000, 1000, 1, true},
		{999, 1000, 1, false},
		{167, 1000, 1.0 / 6, true},
		{110, 1000, 1.0 / 6, true},
		{100, 1000, 1.0 / 6, false},
		{240, 1000, 1.0 / 6, false},
		{0, 0, 0.5, true},
	} {
		if got := Fits(tc.n, tc.total, tc.share); got != tc.want {
			t.Errorf("%d of %d for a share of %.2f: %v, want %v", tc.n, tc.total, tc.share, got, tc.want)
		}
	}
}
