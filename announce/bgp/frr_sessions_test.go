// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/perf/lab"
)

// sessions are FRR's of the neighbor's sessions.
func (w *world) sessions(node netip.Addr) string {
	w.Helper()
	return fmt.Sprint(w.neighbor(node, "bgpState"), " ", w.neighbor(node, "connectionsEstablished"))
}

// TestChanges changes one of two peers in every way that needs no other
// session, then in ways that do. The other peer's session goes on.
func TestChanges(t *testing.T) {
	w := newWorld(t, 1)
	n := w.lab.Nodes[0]
	one, other := n.Addrs[0], n.Addrs[1]
	w.configure(neighbor(one, nodeASN) + neighbor(other, nodeASN))
	s := w.speaker(n, Options{})
	p := external(n, lab.RouterAddr4)
	d := Desired{Peers: []Peer{p, external(n, lab.RouterAddr6)}, Routes: []Route{{Prefix: vip4}, {Prefix: vip6}}}
	w.sync(s, d)
	w.established(s)
	w.sees("Established 1", func() any { return w.sessions(one) })
	w.sees("Established 1", func() any { return w.sessions(other) })

	for _, tc := range []struct {
		name     string
		change   func(*Peer)
		sessions int // of the changed peer since the beginning
	}{
		{"nothing", func(*Peer) {}, 1},
		{"HoldTime", func(p *Peer) { p.HoldTime = duration(30 * time.Second) }, 1},
		{"KeepaliveTime", func(p *Peer) { p.KeepaliveTime = duration(5 * time.Second) }, 1},
		{"ConnectTime", func(p *Peer) { p.ConnectTime = time.Second }, 1},
		{"NextHop6", func(p *Peer) { p.NextHop6 = netip.MustParseAddr("fd01::99") }, 1},
		{"RestartTime without GracefulRestart", func(p *Peer) { p.RestartTime = time.Minute }, 1},
		{"RouterID", func(p *Peer) { p.RouterID = netip.MustParseAddr("192.0.2.77") }, 2},
		{"GracefulRestart", func(p *Peer) { p.GracefulRestart = true }, 3},
		{"DualStack", func(p *Peer) { p.DualStack = false }, 4},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := w.with(t)
			tc.change(&d.Peers[0])
			w.sync(s, d)
			w.established(s)
			w.sees(fmt.Sprint("Established ", tc.sessions), func() any { return w.sessions(one) })
			if got := w.sessions(other); got != "Established 1" {
				t.Errorf("FRR has %q of the other peer, want Established 1", got)
			}
			if tc.name == "NextHop6" {
				w.sees("fd01::99", func() any { return at(w.pathOf(vip6, one), "nexthops", "ip") })
			}
		})
	}

	d.Peers = d.Peers[1:]
	w.sync(s, d)
	w.eventually(func() string {
		if got := fmt.Sprint(w.neighbor(one, "bgpState")); got == "Established" {
			return "the removed peer is " + got
		}
		return ""
	})
	if got := w.sessions(other); got != "Established 1" {
		t.Errorf("FRR has %q of the other peer, want Established 1", got)
	}
	if got := fmt.Sprint(at(w.pathOf(vip4, other), "nexthops", "ip")); got != "10.1.0.11" {
		t.Errorf("FRR has next hop %s by the other peer, want 10.1.0.11", got)
	}
}

// fib counts changes of a prefix's route in the router's kernel.
type fib struct {
	mu      sync.Mutex
	removed int
	present bool
}

func (w *world) watchFIB(p netip.Prefix) *fib {
	w.Helper()
	f := &fib{}
	updates, done := make(chan netlink.RouteUpdate), make(chan struct{})
	ns := netns.NsHandle(w.lab.Router.FD())
	if err := netlink.RouteSubscribeWithOptions(updates, done, netlink.RouteSubscribeOptions{Namespace: &ns, ListExisting: true}); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { close(done) })
	go func() {
		for u := range updates {
			if u.Dst == nil || u.Dst.String() != p.String() {
				continue
			}
			f.mu.Lock()
			f.present = u.Type == unix.RTM_NEWROUTE
			if !f.present {
				f.removed++
			}
			f.mu.Unlock()
		}
	}()
	return f
}

func (f *fib) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return fmt.Sprintf("present %v, removed %d times", f.present, f.removed)
}

// TestGracefulRestart restarts the node's speaker: the router's kernel never
// loses the route. A node that leaves takes it along.
func TestGracefulRestart(t *testing.T) {
	w := newWorld(t, 1)
	n := w.lab.Nodes[0]
	w.configure(neighbor(n.Addrs[0], nodeASN))
	fib := w.watchFIB(vip4)
	p := external(n, lab.RouterAddr4)
	p.GracefulRestart = true
	d := Desired{Peers: []Peer{p}, Routes: []Route{{Prefix: vip4}, {Prefix: vip6}}}
	start := func() *Speaker {
		s := w.speaker(n, Options{})
		w.sync(s, d)
		w.established(s)
		return s
	}
	s := start()
	w.sees("present true, removed 0 times", func() any { return fib })
	for range 2 {
		if err := s.Close(true); err != nil {
			t.Fatal(err)
		}
		w.sees("true", func() any { return at(w.pathOf(vip4, n.Addrs[0]), "stale") })
		s = start()
		w.sees("<nil>", func() any { return at(w.pathOf(vip4, n.Addrs[0]), "stale") })
		w.sees("<nil>", func() any { return at(w.pathOf(vip6, n.Addrs[0]), "stale") })
	}
	// A loss without a restart, too.
	before := s.Report()[0].Sessions
	s.all()[0].takeDown(ending{err: fmt.Errorf("connection is cut")})
	w.eventually(func() string {
		if r := s.Report()[0]; r.Sessions == before || r.State != StateEstablished {
			return fmt.Sprintf("%+v", r)
		}
		return ""
	})
	w.sees("<nil>", func() any { return at(w.pathOf(vip4, n.Addrs[0]), "stale") })
	if got := fib.String(); got != "present true, removed 0 times" {
		t.Errorf("route in the router's kernel: %s", got)
	}
	if err := s.Close(false); err != nil {
		t.Fatal(err)
	}
	w.sees("present false, removed 1 times", func() any { return fib })
}

// TestRecovery ends sessions in several ways and says how long it was until the
// next one. gobgp alone would wait for its idle hold time, 5 s, and more.
func TestRecovery(t *testing.T) {
	w := newWorld(t, 1)
	n := w.lab.Nodes[0]
	config := neighbor(n.Addrs[0], nodeASN)
	w.configure(config)
	s := w.speaker(n, Options{})
	w.sync(s, Desired{Peers: []Peer{external(n, lab.RouterAddr4)}, Routes: []Route{{Prefix: vip4}}})
	w.established(s)
	for _, tc := range []struct {
		name string
		end  func() error
	}{
		{"router resets the session", func() error {
			_, err := w.router.Do(t.Context(), "clear bgp "+n.Addrs[0].String())
			return err
		}},
		{"BFD fails", func() error { s.Fail(lab.RouterAddr4, "BFD session is down"); return nil }},
		{"router's FRR is killed and started", func() error {
			if err := w.router.Kill(); err != nil {
				return err
			}
			if err := w.router.Run(t.Context()); err != nil {
				return err
			}
			return w.router.Configure(t.Context(), baseConfig+config)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := w.with(t)
			before := s.Report()[0].Sessions
			if err := tc.end(); err != nil {
				t.Fatal(err)
			}
			ready := time.Now()
			w.eventually(func() string {
				if r := s.Report()[0]; r.Sessions == before || r.State != StateEstablished {
					return fmt.Sprintf("%+v", r)
				}
				return ""
			})
			session := time.Since(ready)
			w.sees("10.1.0.11", func() any { return at(w.pathOf(vip4, n.Addrs[0]), "nexthops", "ip") })
			t.Logf("session after %v, route after %v; ended: %s", session.Round(time.Millisecond), time.Since(ready).Round(time.Millisecond), s.Report()[0].Error)
		})
	}
}

// TestRouterRestarts restarts a router that restarts gracefully, too: it waits
// for the node's End-of-RIB before it uses a route, up to 360 s.
func TestRouterRestarts(t *testing.T) {
	w := newWorld(t, 1)
	n := w.lab.Nodes[0]
	config := baseConfig + " exit-address-family\n bgp graceful-restart\n" + neighbor(n.Addrs[0], nodeASN)
	w.configure(config)
	s := w.speaker(n, Options{})
	p := external(n, lab.RouterAddr4)
	p.GracefulRestart = true
	w.sync(s, Desired{Peers: []Peer{p}, Routes: []Route{{Prefix: vip4}, {Prefix: vip6}}})
	best := func(prefix netip.Prefix) {
		t.Helper()
		w.sees("true", func() any { return at(w.pathOf(prefix, n.Addrs[0]), "bestpath", "overall") })
	}
	best(vip4)
	best(vip6)
	if got := fmt.Sprint(w.neighbor(n.Addrs[0], "gracefulRestartInfo", "localGrMode")); got != "Restart*" {
		t.Fatalf("FRR has localGrMode %q, want Restart*: the test shows nothing", got)
	}
	if err := w.router.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := w.router.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.configure(config)
	best(vip4)
	best(vip6)
}

// TestNextHopOfOtherFamily announces both families by a session over IPv6 from a
// node without other next hops: the router takes IPv4 routes by IPv6 once it says
// that it can.
func TestNextHopOfOtherFamily(t *testing.T) {
	w := newWorld(t, 1)
	n := w.lab.Nodes[0]
	p := external(n, lab.RouterAddr6)
	p.NextHop4, p.NextHop6 = netip.Addr{}, netip.Addr{}
	s := w.speaker(n, Options{})
	w.configure(neighbor(n.Addrs[1], nodeASN))
	w.sync(s, Desired{Peers: []Peer{p}, Routes: []Route{{Prefix: vip4}, {Prefix: vip6}}})
	w.established(s)
	w.sees("[] [fd01::11]", func() any { return fmt.Sprint(w.nextHops(vip4), w.nextHops(vip6)) })
	if r := s.Report()[0]; r.Prefixes != 1 || r.Unannounced != 1 || s.Announced(vip4) != nil {
		t.Errorf("without the capability: %+v", r)
	}
	w.configure(neighbor(n.Addrs[1], nodeASN, "capability extended-nexthop"))
	w.sees("[fd01::11] [fd01::11]", func() any { return fmt.Sprint(w.nextHops(vip4), w.nextHops(vip6)) })
	if r := s.Report()[0]; r.Prefixes != 2 || r.Unannounced != 0 || len(s.Announced(vip4)) != 1 {
		t.Errorf("with the capability: %+v", r)
	}
}

// TestLinkLocal has a session between link-local addresses, which are the next
// hops of both families in the router's kernel.
func TestLinkLocal(t *testing.T) {
	w := newWorld(t, 1)
	n := w.lab.Nodes[0]
	p := external(n, linkLocal)
	p.Source, p.NextHop4, p.NextHop6 = netip.MustParseAddr("fe80::77%eth0"), netip.Addr{}, netip.Addr{}
	if err := errors.Join(
		w.lab.Router.AddAddrs("br0", netip.PrefixFrom(linkLocal, 64)),
		n.AddAddrs(lab.Uplink, netip.PrefixFrom(p.Source, 64)),
	); err != nil {
		t.Fatal(err)
	}
	w.configure(neighbor(p.Source.WithZone(""), nodeASN, "interface br0", "capability extended-nexthop"))
	s := w.speaker(n, Options{})
	w.sync(s, Desired{Peers: []Peer{p}, Routes: []Route{{Prefix: vip4}, {Prefix: vip6}}})
	w.sees("[fe80::77] [fe80::77]", func() any { return fmt.Sprint(w.nextHops(vip4), w.nextHops(vip6)) })
}

// nextHops are the gateways of the router's kernel for the prefix, sorted.
func (w *world) nextHops(p netip.Prefix) []string {
	w.Helper()
	dst := &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
	routes, err := w.lab.Router.Netlink().RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Dst: dst}, netlink.RT_FILTER_DST)
	if err != nil {
		w.Fatal(err)
	}
	var out []string
	for _, r := range routes {
		for _, hop := range r.MultiPath {
			out = append(out, hop.Gw.String())
		}
		if r.Gw != nil {
			out = append(out, r.Gw.String())
		}
		if via, ok := r.Via.(*netlink.Via); ok {
			out = append(out, via.Addr.String())
		}
	}
	slices.Sort(out)
	return out
}

// TestECMP has three nodes announce the same VIPs, over IPv4, over IPv6, and as
// each family of its own. One is about to leave, and leaves.
func TestECMP(t *testing.T) {
	w := newWorld(t, 3)
	config := ""
	speakers := make([]*Speaker, 3)
	d := make([]Desired, 3)
	for i, n := range w.lab.Nodes {
		four, six := external(n, lab.RouterAddr4), external(n, lab.RouterAddr6)
		if i == 2 {
			four.DualStack, six.DualStack = false, false
		}
		peers := [][]Peer{{four}, {six}, {four, six}}[i]
		for _, p := range peers {
			config += neighbor(n.Addr(p.Address), nodeASN)
		}
		speakers[i] = w.speaker(n, Options{})
		d[i] = Desired{Peers: peers, Routes: []Route{{Prefix: vip4}, {Prefix: vip6}}}
	}
	w.configure(config)
	for i, s := range speakers {
		w.sync(s, d[i])
	}
	hops := func() any { return fmt.Sprint(w.nextHops(vip4), w.nextHops(vip6)) }
	w.sees("[10.1.0.11 10.1.0.12 10.1.0.13] [fd01::11 fd01::12 fd01::13]", hops)
	d[1].Shutdown = true
	w.sync(speakers[1], d[1])
	w.sees("[10.1.0.11 10.1.0.13] [fd01::11 fd01::13]", hops)
	if err := speakers[1].Close(false); err != nil {
		t.Fatal(err)
	}
	d[2].Routes = d[2].Routes[:1]
	w.sync(speakers[2], d[2])
	w.sees("[10.1.0.11 10.1.0.13] [fd01::11]", hops)
}
