// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/frr"
)

// world is a lab with FRR as its router and speakers on its nodes.
type world struct {
	*testing.T
	lab    *lab.Lab
	router *frr.Router
}

func newWorld(t *testing.T, nodes int) *world {
	lab.RequireRoot(t, frr.Tools...)
	w := &world{T: t, lab: lab.ForTest(t, lab.Options{Nodes: nodes})}
	var err error
	if w.router, err = frr.Start(t.Context(), w.lab, w.lab.Router, baseConfig); err != nil {
		t.Fatal(err)
	}
	return w
}

const baseConfig = `
router bgp 65000
 bgp router-id 192.0.2.1
 no bgp ebgp-requires-policy
 bgp bestpath as-path multipath-relax
 bgp graceful-restart preserve-fw-state
 address-family ipv4 unicast
  maximum-paths 16
 address-family ipv6 unicast
  maximum-paths 16
`

// neighbor is the configuration of a neighbor with both families.
func neighbor(addr netip.Addr, asn uint32, lines ...string) string {
	config := fmt.Sprintf("router bgp %d\n neighbor %s remote-as %d\n", routerASN, addr, asn)
	for _, line := range append(lines, "passive") {
		config += fmt.Sprintf(" neighbor %s %s\n", addr, line)
	}
	return config + fmt.Sprintf(" address-family ipv6 unicast\n  neighbor %s activate\n exit-address-family\n", addr)
}

func (w *world) configure(config string) {
	w.Helper()
	if err := w.router.Configure(w.Context(), config); err != nil {
		w.Fatal(err)
	}
}

// speaker is a Speaker on the node.
func (w *world) speaker(n *lab.Node, o Options) *Speaker {
	w.Helper()
	o.Dial = func(ctx context.Context, d *net.Dialer, network, address string) (conn net.Conn, err error) {
		err = n.Do(func() (err error) {
			conn, err = d.DialContext(ctx, network, address)
			return err
		})
		return conn, err
	}
	o.Listen = func(ctx context.Context, c *net.ListenConfig, network, address string) (l net.Listener, err error) {
		err = n.Do(func() (err error) {
			l, err = c.Listen(ctx, network, address)
			return err
		})
		return l, err
	}
	s, err := New(slog.New(slog.DiscardHandler), o)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() {
		if err := s.Close(false); err != nil {
			w.Errorf("close speaker: %v", err)
		}
	})
	return s
}

func (w *world) sync(s *Speaker, d Desired) {
	w.Helper()
	if err := s.Sync(w.Context(), d); err != nil {
		w.Fatal(err)
	}
}

// eventually waits until the check has nothing to say.
func (w *world) eventually(check func() string) {
	w.Helper()
	last := ""
	err := lab.Poll(w.Context(), within, func() bool { last = check(); return last == "" })
	if err != nil {
		w.Fatalf("%v: %s", err, last)
	}
}

// established waits for sessions with all peers of the speaker.
func (w *world) established(s *Speaker) {
	w.Helper()
	w.eventually(func() string {
		for _, r := range s.Report() {
			if r.State != StateEstablished {
				return fmt.Sprintf("%s is %s: %s", r.Peer, r.State, r.Error)
			}
		}
		return ""
	})
}

// external is a peer of the node's own AS, over the router's address.
func external(n *lab.Node, router netip.Addr) Peer {
	return Peer{
		Address: router, LocalASN: nodeASN, PeerASN: routerASN, RouterID: n.Addrs[0],
		DualStack: true, NextHop4: n.Addrs[0], NextHop6: n.Addrs[1],
	}
}

// show decodes a show command and returns the value at the keys, which an
// array is entered by with its first element.
func (w *world) show(command string, keys ...string) any {
	w.Helper()
	var value any
	if err := w.router.JSON(w.Context(), command+" json", &value); err != nil {
		w.Fatal(err)
	}
	return at(value, keys...)
}

func at(value any, keys ...string) any {
	for _, key := range keys {
		if list, ok := value.([]any); ok {
			if len(list) == 0 {
				return nil
			}
			value = list[0]
		}
		object, _ := value.(map[string]any)
		value = object[key]
	}
	return value
}

// neighbor is what FRR knows of the neighbor.
func (w *world) neighbor(addr netip.Addr, keys ...string) any {
	w.Helper()
	return at(w.show("show bgp neighbors "+addr.String(), addr.String()), keys...)
}

// sees waits until FRR has the value there.
func (w *world) sees(want string, show func() any) {
	w.Helper()
	w.eventually(func() string {
		if got := fmt.Sprint(show()); got != want {
			return fmt.Sprintf("FRR has %q, want %q", got, want)
		}
		return ""
	})
}

var vip6 = netip.MustParsePrefix("2001:db8::1/128")

// beyond is an address of the router behind a hop.
var beyond = netip.MustParseAddr("203.0.113.1")

// linkLocal is an address of the router as the nodes see it.
var linkLocal = netip.MustParseAddr("fe80::1%eth0")

// fieldCase is a session of its own, from an address of its own.
type fieldCase struct {
	name   string
	router netip.Addr // zero: RouterAddr4
	change func(*Peer)
	lines  []string // of FRR's neighbor
	asn    uint32   // of the node; 0: nodeASN
	// rows are what FRR shows of the neighbor, by dotted keys.
	rows map[string]string
	// fails says by a regular expression why there is no session.
	fails string
}

// cutOff is what is seen where one side drops packets with a low TTL, which it
// may do before or after it took the connection.
const cutOff = "i/o timeout|router closed the connection|connection reset"

func duration(d time.Duration) *time.Duration { return &d }

var fieldCases = []fieldCase{
	{name: "IPv4 transport", rows: map[string]string{
		"remoteAs": "4.200000011e+09", "nbrExternalLink": "true", "externalBgpNbrMaxHopsAway": "1", "bgpTimerHoldTimeMsecs": "90000",
		"neighborCapabilities.4byteAs": "advertisedAndReceived",
		"neighborCapabilities.multiprotocolExtensions.ipv4Unicast.advertisedAndReceived": "true",
		"neighborCapabilities.multiprotocolExtensions.ipv6Unicast.advertisedAndReceived": "true",
		"gracefulRestartInfo.remoteGrMode":                                               "Disable",
	}},
	{name: "IPv6 transport", router: lab.RouterAddr6, rows: map[string]string{
		"neighborCapabilities.multiprotocolExtensions.ipv4Unicast.advertisedAndReceived": "true",
		"neighborCapabilities.multiprotocolExtensions.ipv6Unicast.advertisedAndReceived": "true",
	}},
	{name: "link-local transport", router: linkLocal, lines: []string{"interface br0"}, rows: map[string]string{
		"neighborCapabilities.multiprotocolExtensions.ipv4Unicast.advertisedAndReceived": "true",
		"neighborCapabilities.multiprotocolExtensions.ipv6Unicast.advertisedAndReceived": "true",
	}},
	{name: "IPv4 alone", change: func(p *Peer) { p.DualStack = false }, rows: map[string]string{
		"neighborCapabilities.multiprotocolExtensions.ipv4Unicast.advertisedAndReceived": "true",
		"neighborCapabilities.multiprotocolExtensions.ipv6Unicast.advertised":            "true",
	}},
	{name: "IPv6 alone", router: lab.RouterAddr6, change: func(p *Peer) { p.DualStack = false }, rows: map[string]string{
		"neighborCapabilities.multiprotocolExtensions.ipv4Unicast.advertised":            "true",
		"neighborCapabilities.multiprotocolExtensions.ipv6Unicast.advertisedAndReceived": "true",
	}},
	{name: "LocalASN of two bytes", asn: 65011, rows: map[string]string{"remoteAs": "65011"}},
	{name: "internal", asn: routerASN, rows: map[string]string{"nbrInternalLink": "true"}},
	{name: "internal over IPv6", router: lab.RouterAddr6, asn: routerASN, rows: map[string]string{"nbrInternalLink": "true"}},
	{name: "DynamicASN internal", asn: routerASN, change: func(p *Peer) { p.PeerASN, p.DynamicASN = 0, "internal" },
		rows: map[string]string{"nbrInternalLink": "true"}},
	{name: "DynamicASN external", change: func(p *Peer) { p.PeerASN, p.DynamicASN = 0, "external" },
		rows: map[string]string{"nbrExternalLink": "true"}},
	{name: "PeerASN of another", change: func(p *Peer) { p.PeerASN = 65009 }, fails: "router's AS number is 65000, want 65009"},
	{name: "Password", change: func(p *Peer) { p.Password = "secret" }, lines: []string{"password secret"},
		rows: map[string]string{"authenticationEnabled": "1"}},
	{name: "Password over IPv6", router: lab.RouterAddr6, change: func(p *Peer) { p.Password = "secret" }, lines: []string{"password secret"},
		rows: map[string]string{"authenticationEnabled": "1"}},
	{name: "wrong Password", change: func(p *Peer) { p.Password = "guess" }, lines: []string{"password secret"}, fails: "i/o timeout"},
	{name: "MultiHop", router: beyond, change: func(p *Peer) { p.MultiHop = true }, lines: []string{"ebgp-multihop 3", "update-source 203.0.113.1"},
		rows: map[string]string{"externalBgpNbrMaxHopsAway": "3", "hostLocal": "203.0.113.1"}},
	{name: "MinTTL", change: func(p *Peer) { p.MinTTL = 255 }, lines: []string{"ttl-security hops 1"},
		rows: map[string]string{"externalBgpNbrMaxHopsAway": "1"}},
	{name: "MinTTL over IPv6", router: lab.RouterAddr6, change: func(p *Peer) { p.MinTTL = 255 }, lines: []string{"ttl-security hops 1"},
		rows: map[string]string{"externalBgpNbrMaxHopsAway": "1"}},
	{name: "MinTTL, and a router with less", change: func(p *Peer) { p.MinTTL = 255 }, fails: cutOff},
	{name: "HoldTime", change: func(p *Peer) { p.HoldTime = duration(9 * time.Second) },
		rows: map[string]string{"bgpTimerHoldTimeMsecs": "9000", "bgpTimerKeepAliveIntervalMsecs": "3000"}},
	{name: "HoldTime for ever", change: func(p *Peer) { p.HoldTime = duration(0) }, rows: map[string]string{"bgpTimerHoldTimeMsecs": "0"}},
	{name: "KeepaliveTime", change: func(p *Peer) { p.KeepaliveTime = duration(7 * time.Second) },
		rows: map[string]string{"bgpTimerHoldTimeMsecs": "21000"}},
	{name: "GracefulRestart", change: func(p *Peer) { p.GracefulRestart, p.RestartTime = true, 77*time.Second }, rows: map[string]string{
		"neighborCapabilities.gracefulRestart":                 "advertisedAndReceived",
		"neighborCapabilities.gracefulRestartRemoteTimerMsecs": "77000",
		"gracefulRestartInfo.remoteGrMode":                     "Restart",
		"gracefulRestartInfo.timers.receivedRestartTimer":      "77",
	}},
}

// TestFields has one session per row of settings, all at once, each from an
// address and with a router id of its own, and looks at it with FRR's eyes.
func TestFields(t *testing.T) {
	w := newWorld(t, 1)
	n := w.lab.Nodes[0]
	if err := w.lab.Router.AddAddrs("lo", netip.PrefixFrom(beyond, 32)); err != nil {
		t.Fatal(err)
	}
	if err := w.lab.Router.AddAddrs("br0", netip.PrefixFrom(linkLocal, 64)); err != nil {
		t.Fatal(err)
	}
	config := ""
	speakers := make([]*Speaker, len(fieldCases))
	peers := make([]Peer, len(fieldCases))
	for i, c := range fieldCases {
		p := external(n, c.router)
		if !c.router.IsValid() {
			p.Address = lab.RouterAddr4
		}
		p.RouterID = netip.AddrFrom4([4]byte{192, 0, 2, byte(100 + i)})
		bits := 24
		p.Source = netip.AddrFrom4([4]byte{10, 1, 0, byte(100 + i)})
		if p.Address.Is6() {
			bits, p.Source = 64, netip.MustParseAddr(fmt.Sprintf("fd01::%d", 100+i))
		}
		if p.Address == linkLocal {
			p.Source = netip.MustParseAddr(fmt.Sprintf("fe80::%d%%eth0", 100+i))
		}
		if c.asn != 0 {
			p.LocalASN = c.asn
		}
		if c.change != nil {
			c.change(&p)
		}
		if err := n.AddAddrs(lab.Uplink, netip.PrefixFrom(p.Source, bits)); err != nil {
			t.Fatal(err)
		}
		config += neighbor(p.Source.WithZone(""), p.LocalASN, c.lines...)
		peers[i], speakers[i] = p, w.speaker(n, Options{})
	}
	w.configure(config)
	for i, p := range peers {
		w.sync(speakers[i], Desired{Peers: []Peer{p}})
	}
	for i, c := range fieldCases {
		t.Run(c.name, func(t *testing.T) { w.with(t).checkFields(c, peers[i], speakers[i]) })
	}
}

// with is the world for a subtest.
func (w *world) with(t *testing.T) *world {
	sub := *w
	sub.T = t
	return &sub
}

func (w *world) checkFields(c fieldCase, p Peer, s *Speaker) {
	w.Helper()
	node := p.Source.WithZone("")
	if c.fails != "" {
		w.eventually(func() string {
			if r := s.Report()[0]; r.State == StateEstablished || !regexp.MustCompile(c.fails).MatchString(r.Error) {
				return fmt.Sprintf("session is %s, %q, want %q", r.State, r.Error, c.fails)
			}
			return ""
		})
		return
	}
	w.established(s)
	w.sees("Established", func() any { return w.neighbor(node, "bgpState") })
	rows := map[string]string{"remoteRouterId": p.RouterID.String(), "hostForeign": node.String()}
	maps.Copy(rows, c.rows)
	shown := w.neighbor(node)
	for key, want := range rows {
		if got := fmt.Sprint(at(shown, strings.Split(key, ".")...)); got != want {
			w.Errorf("FRR has %s %q, want %q", key, got, want)
		}
	}
}

// routeCase is a route with its attributes, and what FRR shows of its path.
type routeCase struct {
	name     string
	route    Route
	external map[string]string // dotted keys; nil: the route is not there
	internal map[string]string
}

var routeCases = []routeCase{
	{"plain", Route{Prefix: prefix(1)},
		map[string]string{"aspath.string": "4200000011", "origin": "IGP", "nexthops.ip": "10.1.0.11", "locPrf": "<nil>", "community": "<nil>"},
		map[string]string{"aspath.string": "Local", "origin": "IGP", "nexthops.ip": "10.1.0.12", "locPrf": "100"}},
	{"IPv6", Route{Prefix: vip6},
		map[string]string{"aspath.string": "4200000011", "nexthops.ip": "fd01::11"},
		map[string]string{"aspath.string": "Local", "nexthops.ip": "fd01::12", "locPrf": "100"}},
	{"aggregate", Route{Prefix: netip.MustParsePrefix("203.0.113.0/28")},
		map[string]string{"nexthops.ip": "10.1.0.11"}, map[string]string{"nexthops.ip": "10.1.0.12"}},
	{"IPv6 aggregate", Route{Prefix: netip.MustParsePrefix("2001:db8:1::/64")},
		map[string]string{"nexthops.ip": "fd01::11"}, map[string]string{"nexthops.ip": "fd01::12"}},
	{"LocalPref", Route{Prefix: prefix(2), LocalPref: 250},
		map[string]string{"locPrf": "<nil>"}, map[string]string{"locPrf": "250"}},
	{"Communities", Route{Prefix: prefix(3), Communities: []uint32{65000<<16 | 100, 64512<<16 | 7}},
		map[string]string{"community.string": "64512:7 65000:100"}, map[string]string{"community.string": "64512:7 65000:100"}},
	{"well-known community", Route{Prefix: prefix(4), Communities: []uint32{0xffffff01}},
		map[string]string{"community.string": "no-export"}, map[string]string{"community.string": "no-export"}},
	{"community of shutdown", Route{Prefix: prefix(10), Communities: []uint32{gracefulShutdown}},
		map[string]string{"community.string": "graceful-shutdown"}, map[string]string{"community.string": "graceful-shutdown", "locPrf": "100"}},
	{"LargeCommunities", Route{Prefix: prefix(5), LargeCommunities: [][3]uint32{{4_200_000_011, 1, 4_294_967_295}}},
		map[string]string{"largeCommunity.string": "4200000011:1:4294967295"}, map[string]string{"largeCommunity.string": "4200000011:1:4294967295"}},
	{"Prepend", Route{Prefix: prefix(6), Prepend: 2},
		map[string]string{"aspath.string": "4200000011 4200000011 4200000011"}, map[string]string{"aspath.string": "Local"}},
	{"Peers", Route{Prefix: prefix(7), Peers: []netip.AddrPort{netip.AddrPortFrom(lab.RouterAddr4, 179)}},
		map[string]string{"nexthops.ip": "10.1.0.11"}, nil},
	{"no Peers", Route{Prefix: prefix(8), Peers: []netip.AddrPort{}}, nil, nil},
}

// pathOf is FRR's path of the prefix from the node, nil if it has none.
func (w *world) pathOf(p netip.Prefix, node netip.Addr) any {
	w.Helper()
	f := "ipv4"
	if p.Addr().Is6() {
		f = "ipv6"
	}
	paths, _ := w.show(fmt.Sprintf("show bgp %s unicast %s", f, p), "paths").([]any)
	for _, path := range paths {
		if at(path, "peer", "peerId") == node.String() {
			return path
		}
	}
	return nil
}

// pathDiff is how FRR's path is not as wanted, "" if it is.
func (w *world) pathDiff(p netip.Prefix, node netip.Addr, want map[string]string) string {
	w.Helper()
	path := w.pathOf(p, node)
	if (path != nil) != (want != nil) {
		return fmt.Sprintf("FRR has path %v of %s from %s, want one: %v", path, p, node, want != nil)
	}
	for key, value := range want {
		if got := fmt.Sprint(at(path, strings.Split(key, ".")...)); got != value {
			return fmt.Sprintf("FRR has %s %q of %s from %s, want %q", key, got, p, node, value)
		}
	}
	return ""
}

func (w *world) checkPath(p netip.Prefix, node netip.Addr, want map[string]string) {
	w.Helper()
	if diff := w.pathDiff(p, node, want); diff != "" {
		w.Error(diff)
	}
}

// TestRoutes has an external session from one node and an internal one, over
// IPv6, from the other, both with all routes.
func TestRoutes(t *testing.T) {
	w := newWorld(t, 2)
	one, two := w.lab.Nodes[0], w.lab.Nodes[1]
	w.configure(neighbor(one.Addrs[0], nodeASN) + neighbor(two.Addrs[1], routerASN))
	d := Desired{}
	for _, c := range routeCases {
		d.Routes = append(d.Routes, c.route)
	}
	// Own addresses of the session are next hops where none is given.
	outside, inside := external(one, lab.RouterAddr4), external(two, lab.RouterAddr6)
	outside.NextHop4, inside.NextHop6 = netip.Addr{}, netip.Addr{}
	inside.LocalASN = routerASN
	speakers := []*Speaker{w.speaker(one, Options{}), w.speaker(two, Options{})}
	d.Peers = []Peer{outside}
	w.sync(speakers[0], d)
	d.Peers = []Peer{inside}
	w.sync(speakers[1], d)
	accepted := func(node netip.Addr) func() any {
		return func() any {
			return fmt.Sprint(w.neighbor(node, "addressFamilyInfo", "ipv4Unicast", "acceptedPrefixCounter"),
				w.neighbor(node, "addressFamilyInfo", "ipv6Unicast", "acceptedPrefixCounter"))
		}
	}
	w.sees("9 2", accepted(one.Addrs[0]))
	w.sees("8 2", accepted(two.Addrs[1]))
	for _, c := range routeCases {
		t.Run(c.name, func(t *testing.T) {
			w.with(t).checkPath(c.route.Prefix, one.Addrs[0], c.external)
			w.with(t).checkPath(c.route.Prefix, two.Addrs[1], c.internal)
		})
	}
	t.Run("report", func(t *testing.T) {
		for i, want := range []int{11, 10} {
			if r := speakers[i].Report()[0]; r.Prefixes != want || r.Unannounced != 0 {
				t.Errorf("report %d: %d prefixes, %d unannounced, want %d, 0", i, r.Prefixes, r.Unannounced, want)
			}
		}
	})

	// One change each, told by one UPDATE, in the same session.
	updates := func() any { return w.neighbor(one.Addrs[0], "messageStats", "updatesRecv") }
	d.Peers = []Peer{outside}
	change := func(name string, change func(), prefix netip.Prefix, want map[string]string) {
		t.Run(name, func(t *testing.T) {
			w := w.with(t)
			before := updates().(float64)
			change()
			w.sync(speakers[0], d)
			w.sees(fmt.Sprint(before+1), updates)
			w.eventually(func() string { return w.pathDiff(prefix, one.Addrs[0], want) })
		})
	}
	change("community added", func() { d.Routes[0].Communities = []uint32{65000<<16 | 1} }, prefix(1), map[string]string{"community.string": "65000:1"})
	change("community changed", func() { d.Routes[0].Communities = []uint32{65000<<16 | 2} }, prefix(1), map[string]string{"community.string": "65000:2"})
	change("prepend changed", func() { d.Routes[9].Prepend = 1 }, prefix(6), map[string]string{"aspath.string": "4200000011 4200000011"})
	change("route removed", func() { d.Routes = d.Routes[1:] }, prefix(1), nil)
	change("route added", func() { d.Routes = append(d.Routes, Route{Prefix: prefix(9)}) }, prefix(9), map[string]string{"nexthops.ip": "10.1.0.11"})
	if got := fmt.Sprint(w.neighbor(one.Addrs[0], "connectionsEstablished")); got != "1" {
		t.Errorf("FRR has connectionsEstablished %s after the changes, want 1", got)
	}

	t.Run("shutdown", func(t *testing.T) {
		w := w.with(t)
		d.Shutdown = true
		w.sync(speakers[0], d)
		d.Peers = []Peer{inside}
		w.sync(speakers[1], d)
		community := func(node netip.Addr) func() any {
			return func() any { return at(w.pathOf(vip6, node), "community", "string") }
		}
		w.sees("graceful-shutdown", community(one.Addrs[0]))
		w.sees("graceful-shutdown", community(two.Addrs[1]))
		w.checkPath(vip6, two.Addrs[1], map[string]string{"locPrf": "0"})
		w.sees("graceful-shutdown", func() any { return at(w.pathOf(prefix(10), one.Addrs[0]), "community", "string") })
		w.sees("64512:7 65000:100 graceful-shutdown", func() any { return at(w.pathOf(prefix(3), one.Addrs[0]), "community", "string") })
	})
}
