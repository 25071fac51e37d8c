// SPDX-License-Identifier: Apache-2.0

package l2

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/fairlead/fairlead/announce/l2/ether"
	"github.com/fairlead/fairlead/perf/lab"
)

// deadline is for what happens within moments.
const deadline = 10 * time.Second

var (
	labVIP4 = netip.MustParseAddr("10.1.0.200")
	labVIP6 = netip.MustParseAddr("fd01::200")
	labVIPs = []netip.Addr{labVIP4, labVIP6}
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// bed is a segment with nodes and a client, whose kernel is the judge.
type bed struct {
	*lab.Lab
	client *lab.Machine
}

func newBed(t *testing.T, nodes int) *bed {
	t.Helper()
	lab.RequireRoot(t, "ip")
	l := lab.ForTest(t, lab.Options{Nodes: nodes})
	client, err := l.AddMachine("asker")
	must(t, err)
	return &bed{l, client}
}

// respond opens a responder in the namespace.
func respond(t *testing.T, n *lab.Namespace, config Config) *Responder {
	t.Helper()
	var r *Responder
	must(t, n.Do(func() (err error) {
		r, err = Open(config)
		return err
	}))
	t.Cleanup(func() { must(t, r.Close()) })
	return r
}

func (r *Responder) mustSync(t *testing.T, answers ...Answer) {
	t.Helper()
	must(t, r.Sync(t.Context(), answers))
}

func answersFor(vips ...netip.Addr) (answers []Answer) {
	for _, vip := range vips {
		answers = append(answers, Answer{VIP: vip})
	}
	return answers
}

func macOf(t *testing.T, n *lab.Namespace, link string) ether.MAC {
	t.Helper()
	l, err := n.Netlink().LinkByName(link)
	must(t, err)
	mac, ok := ether.MACFrom(l.Attrs().HardwareAddr)
	if !ok {
		t.Fatalf("%s has no MAC address", link)
	}
	return mac
}

// knock makes the namespace's kernel look for the VIP, if it does not know it.
func knock(t *testing.T, n *lab.Namespace, vip netip.Addr) {
	t.Helper()
	conn, err := n.Dial(t.Context(), "udp", netip.AddrPort{}, netip.AddrPortFrom(vip, 9))
	must(t, err)
	defer conn.Close()
	conn.Write([]byte("x")) // an ICMP error for an earlier one is none here
}

// neighbor is what the namespace's kernel knows of an address; false: nothing.
func neighbor(t *testing.T, n *lab.Namespace, vip netip.Addr) (netlink.Neigh, ether.MAC, bool) {
	t.Helper()
	all, err := n.Netlink().NeighList(0, netlink.FAMILY_ALL)
	must(t, err)
	for _, e := range all {
		if addr, _ := netip.AddrFromSlice(e.IP); addr.Unmap() == vip {
			mac, ok := ether.MACFrom(e.HardwareAddr)
			return e, mac, ok
		}
	}
	return netlink.Neigh{}, ether.MAC{}, false
}

// waitNeighbor waits until the kernel has this MAC address for the VIP.
func waitNeighbor(t *testing.T, n *lab.Namespace, vip netip.Addr, want ether.MAC) {
	t.Helper()
	var got ether.MAC
	err := lab.Poll(t.Context(), deadline, func() bool {
		_, got, _ = neighbor(t, n, vip)
		return got == want
	})
	if err != nil {
		t.Fatalf("%s: neighbor %s is %s, want %s: %v", n.Name, vip, got, want, err)
	}
}

// waitReport waits for a state of the responder.
func waitReport(t *testing.T, r *Responder, what string, done func(Report) bool) Report {
	t.Helper()
	var report Report
	err := lab.Poll(t.Context(), deadline, func() bool {
		report = r.Report()
		return done(report)
	})
	if err != nil {
		t.Fatalf("%s: %v: %+v", what, err, report)
	}
	return report
}

// flush makes the kernel forget the address.
func flush(t *testing.T, n *lab.Namespace, vip netip.Addr) {
	t.Helper()
	if e, _, found := neighbor(t, n, vip); found {
		must(t, n.Netlink().NeighDel(&e))
	}
}

// setLink sets a link up or down.
func (b *bed) setLink(t *testing.T, n *lab.Namespace, name string, up bool) {
	t.Helper()
	link, err := n.Netlink().LinkByName(name)
	must(t, err)
	if up {
		must(t, n.Netlink().LinkSetUp(link))
	} else {
		must(t, n.Netlink().LinkSetDown(link))
	}
}

func TestResolve(t *testing.T) {
	b := newBed(t, 1)
	node := b.Nodes[0].Namespace
	r := respond(t, node, Config{})
	mac := macOf(t, node, lab.Uplink)
	r.mustSync(t, answersFor(labVIPs...)...)
	for _, vip := range labVIPs {
		// Not by the announcement: it makes no entry where there is none.
		knock(t, b.client.Namespace, vip)
		waitNeighbor(t, b.client.Namespace, vip, mac)
		report := r.Report()
		counters := report.ARP
		if vip.Is6() {
			counters = report.NDP
		}
		if counters.Requests == 0 || counters.Replies != counters.Requests || counters.Malformed+counters.SendErrors+counters.Conflicts != 0 {
			t.Errorf("%s: counters %+v", vip, counters)
		}
		if report.Trouble != "" {
			t.Errorf("%s: trouble: %s", vip, report.Trouble)
		}
	}
	groups := func() bool {
		out, err := node.Output(t.Context(), "ip", "-6", "maddress", "show", "dev", lab.Uplink)
		must(t, err)
		return strings.Contains(out, "ff02::1:ff00:200")
	}
	if !groups() {
		t.Error("switches that snoop are not told of the group")
	}
	// On no interface.
	addrs, err := node.Netlink().AddrList(nil, netlink.FAMILY_ALL)
	must(t, err)
	for _, a := range addrs {
		if addr, _ := netip.AddrFromSlice(a.IP); slices.Contains(labVIPs, addr.Unmap()) {
			t.Errorf("%s is on an interface", addr)
		}
	}
	// An entry that is stale is confirmed by questions to us alone.
	for _, vip := range labVIPs {
		e, _, _ := neighbor(t, b.client.Namespace, vip)
		e.State = netlink.NUD_PROBE
		must(t, b.client.Netlink().NeighSet(&e))
		err := lab.Poll(t.Context(), deadline, func() bool {
			e, _, _ := neighbor(t, b.client.Namespace, vip)
			return e.State == netlink.NUD_REACHABLE
		})
		if err != nil {
			t.Errorf("%s is not confirmed: %v", vip, err)
		}
	}
	r.mustSync(t)
	if groups() {
		t.Error("the group is not left")
	}
	for _, vip := range labVIPs {
		flush(t, b.client.Namespace, vip)
		knock(t, b.client.Namespace, vip)
		err := lab.Poll(t.Context(), deadline, func() bool {
			e, _, _ := neighbor(t, b.client.Namespace, vip)
			return e.State == netlink.NUD_FAILED
		})
		if err != nil {
			t.Errorf("%s still has an answer: %v", vip, err)
		}
	}
}

func TestTakeover(t *testing.T) {
	b := newBed(t, 2)
	first, second := b.Nodes[0].Namespace, b.Nodes[1].Namespace
	one, two := respond(t, first, Config{}), respond(t, second, Config{})
	one.SetFellows([]ether.MAC{macOf(t, second, lab.Uplink)})
	one.mustSync(t, answersFor(labVIPs...)...)
	for _, vip := range labVIPs {
		knock(t, b.client.Namespace, vip)
		waitNeighbor(t, b.client.Namespace, vip, macOf(t, first, lab.Uplink))
	}
	leave := func(ctx context.Context) error {
		for _, vip := range labVIPs {
			// Nobody is to be left without an answer.
			flush(t, b.client.Namespace, vip)
			knock(t, b.client.Namespace, vip)
			waitNeighbor(t, b.client.Namespace, vip, macOf(t, first, lab.Uplink))
		}
		return two.Sync(ctx, answersFor(labVIPs...))
	}
	must(t, one.HandOver(t.Context(), leave))
	for _, vip := range labVIPs {
		waitNeighbor(t, b.client.Namespace, vip, macOf(t, second, lab.Uplink))
	}
	report := one.Report()
	if len(report.VIPs) != 0 || report.ARP.FellowClaims == 0 || report.NDP.FellowClaims == 0 || report.ARP.Conflicts+report.NDP.Conflicts != 0 {
		t.Errorf("after the hand-over: %+v", report)
	}
}

func TestStranger(t *testing.T) {
	b := newBed(t, 1)
	node := b.Nodes[0].Namespace
	changed := make(chan struct{}, 100)
	r := respond(t, node, Config{Changed: func() { signal(changed) }})
	r.mustSync(t, answersFor(labVIPs...)...)
	stranger, err := b.AddMachine("stranger")
	must(t, err)
	must(t, stranger.AddAddrs(lab.Uplink, netip.PrefixFrom(labVIP4, 24), netip.PrefixFrom(labVIP6, 64)))
	mac := macOf(t, stranger.Namespace, lab.Uplink)
	report := waitReport(t, r, "conflicts", func(r Report) bool {
		return r.VIPs[0].Conflict != nil && r.VIPs[1].Conflict != nil
	})
	for _, v := range report.VIPs {
		if v.Conflict.MAC != mac || v.Conflict.Interface != lab.Uplink || len(v.Interfaces) != 1 {
			t.Errorf("%s: conflict %+v, want with %s", v.VIP, v.Conflict, mac)
		}
	}
	<-changed
}

func TestInterfaces(t *testing.T) {
	b := newBed(t, 1)
	node, client := b.Nodes[0].Namespace, b.client.Namespace
	r := respond(t, node, Config{})
	r.mustSync(t, Answer{VIP: labVIP4, Interfaces: []string{"late*"}}, Answer{VIP: labVIP6})
	report := r.Report()
	if v := report.VIPs[0]; len(v.Interfaces) != 0 || v.Reason != "no interface matches late*" {
		t.Errorf("before the interface is there: %+v", v)
	}

	// An interface that appears later, on a network that has no address of it.
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "late0"
	must(t, node.Netlink().LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "late1", PeerNamespace: netlink.NsFd(client.FD())}))
	b.setLink(t, client, "late1", true)
	b.setLink(t, node, "late0", true)
	waitReport(t, r, "interface appears", func(r Report) bool { return slices.Equal(r.VIPs[0].Interfaces, []string{"late0"}) })
	must(t, client.SetRoute(lab.Route{Dst: netip.PrefixFrom(labVIP4, 32), Link: "late1"}))
	knock(t, client, labVIP4)
	waitNeighbor(t, client, labVIP4, macOf(t, node, "late0"))

	// Its link goes down at the other end, and comes again: everybody is told.
	before := r.Report().Takeovers
	b.setLink(t, client, "late1", false)
	waitReport(t, r, "link is down", func(r Report) bool {
		return len(r.VIPs[0].Interfaces) == 0 && r.VIPs[0].Reason == "no link on late0" && len(r.VIPs[1].Interfaces) == 1
	})
	b.setLink(t, client, "late1", true)
	waitReport(t, r, "link is back", func(r Report) bool { return len(r.VIPs[0].Interfaces) == 1 && r.Takeovers == before+1 })

	// Another MAC address has to be told, too.
	changed := ether.MAC{2, 0, 0, 0, 0, 42}
	must(t, client.SetRoute(lab.Route{Dst: netip.PrefixFrom(labVIP4, 32), Link: "late1"}))
	knock(t, client, labVIP4)
	waitNeighbor(t, client, labVIP4, macOf(t, node, "late0"))
	link, err := node.Netlink().LinkByName("late0")
	must(t, err)
	must(t, node.Netlink().LinkSetHardwareAddr(link, changed[:]))
	waitNeighbor(t, client, labVIP4, changed)

	must(t, node.Netlink().LinkDel(link))
	waitReport(t, r, "interface is gone", func(r Report) bool { return r.VIPs[0].Reason == "no interface matches late*" })
	if c := r.Report().ARP; c.Malformed+c.Conflicts != 0 {
		t.Errorf("counters %+v", c)
	}
}

// What comes in on a port of a bridge is a question on the bridge.
func TestBridge(t *testing.T) {
	b := newBed(t, 1)
	node, client := b.Nodes[0].Namespace, b.client.Namespace
	vip := netip.MustParseAddr("10.8.0.200")
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "port"
	must(t, node.Netlink().LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "cable", PeerNamespace: netlink.NsFd(client.FD())}))
	attrs = netlink.NewLinkAttrs()
	attrs.Name = "br8"
	must(t, node.Netlink().LinkAdd(&netlink.Bridge{LinkAttrs: attrs}))
	port, err := node.Netlink().LinkByName("port")
	must(t, err)
	bridge, err := node.Netlink().LinkByName("br8")
	must(t, err)
	must(t, node.Netlink().LinkSetMaster(port, bridge))
	for _, link := range []string{"port", "br8"} {
		b.setLink(t, node, link, true)
	}
	b.setLink(t, client, "cable", true)
	must(t, node.AddAddrs("br8", netip.MustParsePrefix("10.8.0.1/24")))
	must(t, client.AddAddrs("cable", netip.MustParsePrefix("10.8.0.2/24")))

	r := respond(t, node, Config{})
	r.mustSync(t, Answer{VIP: vip, Interfaces: []string{"port"}})
	if v := r.Report().VIPs[0]; v.Reason != "no interface matches port" {
		t.Errorf("port of a bridge: %+v", v)
	}
	knock(t, client, vip)
	err = lab.Poll(t.Context(), deadline, func() bool {
		e, _, _ := neighbor(t, client, vip)
		return e.State == netlink.NUD_FAILED
	})
	if err != nil {
		t.Errorf("answered on the bridge instead of its port: %v", err)
	}
	r.mustSync(t, Answer{VIP: vip})
	waitReport(t, r, "bridge", func(r Report) bool { return slices.Equal(r.VIPs[0].Interfaces, []string{"br8"}) })
	knock(t, client, vip)
	waitNeighbor(t, client, vip, macOf(t, node, "br8"))
}

// A question on a VLAN that the node has no device for is not for it.
func TestTagged(t *testing.T) {
	b := newBed(t, 1)
	wire, err := b.OpenWire(b.Nodes[0])
	must(t, err)
	t.Cleanup(func() { must(t, wire.Close()) })
	r := respond(t, b.Nodes[0].Namespace, Config{})
	r.mustSync(t, answersFor(labVIPs...)...)
	for _, vip := range labVIPs {
		frame := question(vip)
		tagged := append(slices.Clone(frame[:12]), 0x81, 0, 0, 9)
		must(t, wire.Send(append(tagged, frame[12:]...)))
		must(t, wire.Send(frame)) // comes after the other
		report := waitReport(t, r, "question", func(r Report) bool { return r.ARP.Requests > 0 && (vip.Is4() || r.NDP.Requests > 0) })
		counters := report.ARP
		if vip.Is6() {
			counters = report.NDP
		}
		if counters.Requests != 1 || counters.Replies != 1 {
			t.Errorf("%s: counters %+v, want one request with a reply", vip, counters)
		}
	}
}

func TestLease(t *testing.T) {
	b := newBed(t, 1)
	node := b.Nodes[0].Namespace
	r := respond(t, node, Config{Lease: 50 * time.Millisecond})
	r.mustSync(t, answersFor(labVIPs...)...)
	report := waitReport(t, r, "lapse", func(r Report) bool { return r.Lapsed })
	for _, v := range report.VIPs {
		if len(v.Interfaces) != 0 || v.Reason == "" {
			t.Errorf("%+v, want no interfaces and a reason", v)
		}
	}
	before := report.Takeovers
	r.mustSync(t, answersFor(labVIPs...)...)
	waitReport(t, r, "takeover", func(r Report) bool { return r.Takeovers == before+2 })
}
