// SPDX-License-Identifier: Apache-2.0

package l2

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/announce/l2/arp"
	"github.com/fairlead/fairlead/announce/l2/ether"
	"github.com/fairlead/fairlead/announce/l2/ndp"
)

var (
	self   = ether.MAC{2, 0, 0, 0, 0, 1}
	client = ether.MAC{2, 0, 0, 0, 0, 9}
	vip4   = netip.MustParseAddr("192.0.2.1")
	vip6   = netip.MustParseAddr("2001:db8::1")
	host4  = netip.MustParseAddr("192.0.2.9")
	host6  = netip.MustParseAddr("2001:db8::9")

	eth0 = Interface{Name: "eth0", Index: 2, MAC: self, Running: true, Addrs: []netip.Prefix{
		netip.MustParsePrefix("192.0.2.11/24"), netip.MustParsePrefix("2001:db8::11/64"),
	}}
	eth1 = Interface{Name: "eth1", Index: 3, MAC: ether.MAC{2, 0, 0, 0, 0, 2}, Running: true}
)

// clocked is a book with a clock, and the frames that it sent.
type clocked struct {
	*book
	now  time.Time
	sent []string
}

func newClocked(lease time.Duration, interfaces ...Interface) *clocked {
	c := &clocked{book: newBook(0, lease), now: time.Unix(1_000_000, 0)}
	c.setInterfaces(c.now, interfaces)
	return c
}

func (c *clocked) mustSync(t *testing.T, answers ...Answer) {
	t.Helper()
	valid, err := normal(answers)
	must(t, err)
	c.sync(c.now, valid)
	c.keep(c.due(c.now))
}

// keep notes frames as "192.0.2.1@2 announced", one line for a run of them.
func (c *clocked) keep(outs []out) {
	for _, o := range outs {
		line := describe(o)
		if len(c.sent) == 0 || c.sent[len(c.sent)-1] != line {
			c.sent = append(c.sent, line)
		}
	}
}

func describe(o out) string {
	at := "@" + string(rune('0'+o.index))
	if isARP(o.frame) {
		p, err := arp.Parse(o.frame)
		switch {
		case err != nil:
			return err.Error()
		case p.Sender.IsUnspecified():
			return p.Target.String() + at + " asked"
		case p.To == ether.Broadcast:
			return p.Sender.String() + at + " announced"
		}
		return p.Sender.String() + at + " answered"
	}
	m, err := ndp.Parse(o.frame)
	switch {
	case err != nil:
		return err.Error()
	case m.Type == ndp.Solicitation:
		return m.Target.String() + at + " asked"
	case m.Solicited:
		return m.Target.String() + at + " answered"
	}
	return m.Target.String() + at + " announced"
}

// pass lets time pass, and the book do what it has to do in it.
func (c *clocked) pass(t *testing.T, d time.Duration) []string {
	t.Helper()
	end := c.now.Add(d)
	for steps := 0; ; steps++ {
		at, ok := c.next()
		if !ok || at.After(end) {
			break
		}
		if at.After(c.now) {
			c.now = at
		} else if steps > 100_000 {
			t.Fatal("the book has something to do for ever")
		}
		c.keep(c.due(c.now))
	}
	c.now = end
	return c.take()
}

// take returns what was sent since the last time.
func (c *clocked) take() []string {
	sent := c.sent
	c.sent = nil
	return sent
}

func (c *clocked) hear(index int, frame []byte) []string {
	c.keep(c.frame(c.now, index, isARP(frame), frame))
	return c.take()
}

func question(vip netip.Addr) []byte {
	if vip.Is6() {
		return ndp.Ask(client, host6, vip)
	}
	p := arp.Packet{To: ether.Broadcast, From: client, Op: arp.Request, SenderMAC: client, Sender: host4, Target: vip}
	return p.Append(nil)
}

func announcement(from ether.MAC, vip netip.Addr) []byte {
	if vip.Is6() {
		return ndp.Announce(from, vip)[0]
	}
	return arp.Announce(from, vip)[0]
}

func check(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func TestMatch(t *testing.T) {
	for _, tt := range []struct {
		pattern, name string
		want          bool
	}{
		{"eth0", "eth0", true},
		{"eth0", "eth00", false},
		{"eth*", "eth", true},
		{"eth*", "eth0.100", true},
		{"*", "anything", true},
		{"e?h0", "eth0", true},
		{"e?h0", "eh0", false},
		{"b[ad]", "b[ad]", true},
		{"b[ad]", "ba", false},
		{`b\*`, `b\x`, true},
		{"*[*", "a[b", true},
		{"[", "[", true},
		{"{a,b}", "a", false},
	} {
		if got := matchName(tt.pattern, tt.name); got != tt.want {
			t.Errorf("%q matches %q: %t, want %t", tt.pattern, tt.name, got, tt.want)
		}
	}
}

func TestNormal(t *testing.T) {
	for _, tt := range []struct {
		name    string
		answers []Answer
		want    []string
		err     string
	}{
		{"none", nil, nil, ""},
		{"order", []Answer{{VIP: vip6}, {VIP: vip4}}, []string{"192.0.2.1", "2001:db8::1"}, ""},
		{"twice", []Answer{{VIP: vip4}, {VIP: vip6}, {VIP: vip4}}, []string{"192.0.2.1", "2001:db8::1"}, "vip 192.0.2.1: given twice"},
		{"no address", []Answer{{}, {VIP: vip4}}, []string{"192.0.2.1"}, `vip "invalid IP": want an IPv4 or IPv6 address`},
		{"mapped", []Answer{{VIP: netip.MustParseAddr("::ffff:192.0.2.1")}}, nil, `vip "::ffff:192.0.2.1": want an IPv4 or IPv6 address`},
		{"zone", []Answer{{VIP: netip.MustParseAddr("fe80::1%eth0")}}, nil, `vip "fe80::1%eth0": want an IPv4 or IPv6 address`},
		{"group", []Answer{{VIP: netip.MustParseAddr("224.0.0.1")}}, nil, "vip 224.0.0.1: want the address of a host"},
		{"no name", []Answer{{VIP: vip4, Interfaces: []string{"eth0", ""}}}, nil, `vip 192.0.2.1: interfaces ["eth0" ""]: want names or patterns`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			valid, err := normal(tt.answers)
			var got []string
			for _, a := range valid {
				got = append(got, a.VIP.String())
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if (err == nil) != (tt.err == "") || err != nil && err.Error() != tt.err {
				t.Errorf("error %v, want %q", err, tt.err)
			}
		})
	}
}

// A takeover announces at once and some times more, asks for others, and goes
// on at a low rate; the same set again changes nothing.
func TestBurstAndRefresh(t *testing.T) {
	for _, vip := range []netip.Addr{vip4, vip6} {
		t.Run(vip.String(), func(t *testing.T) {
			c := newClocked(0, eth0)
			announced, asked := vip.String()+"@2 announced", vip.String()+"@2 asked"
			c.mustSync(t, Answer{VIP: vip})
			check(t, "at once", c.take(), announced)
			for i, pause := range burst[1:] {
				check(t, "too early", c.pass(t, pause-1))
				c.mustSync(t, Answer{VIP: vip})
				want := []string{announced}
				if i == len(burst)-2 {
					want = append(want, asked)
				}
				check(t, "burst", c.pass(t, 1), want...)
			}
			check(t, "rest", c.pass(t, DefaultRefresh/4*3-1))
			check(t, "refresh", c.pass(t, DefaultRefresh/4+1), announced, asked)
			var frames int
			for range 60 {
				frames += len(c.pass(t, DefaultRefresh))
			}
			if frames < 2*60 || frames > 2*81 {
				t.Errorf("%d lines in 60 refreshes, want about two each", frames)
			}
			c.mustSync(t)
			check(t, "withdrawn", c.pass(t, time.Hour))
		})
	}
}

// Many VIPs that are taken at once are not refreshed at once.
func TestSpread(t *testing.T) {
	c := newClocked(0, eth0)
	var answers []Answer
	for i := range 200 {
		answers = append(answers, Answer{VIP: netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})})
	}
	c.mustSync(t, answers...)
	c.pass(t, 10*time.Second)
	for second := range 60 {
		if n := len(c.pass(t, time.Second)); n > 2*40 {
			t.Errorf("second %d: %d lines of 400", second, n)
		}
	}
}

func TestAnswers(t *testing.T) {
	down := eth0
	down.Running = false
	for _, tt := range []struct {
		name       string
		interfaces []Interface
		answer     Answer
		at         int
		want       []string
	}{
		{"network", []Interface{eth0, eth1}, Answer{VIP: vip4}, 2, []string{"192.0.2.1@2 answered"}},
		{"not the network", []Interface{eth0, eth1}, Answer{VIP: vip4}, 3, nil},
		{"by name", []Interface{eth0, eth1}, Answer{VIP: vip4, Interfaces: []string{"eth1"}}, 3, []string{"192.0.2.1@3 answered"}},
		{"not by name", []Interface{eth0, eth1}, Answer{VIP: vip4, Interfaces: []string{"eth1"}}, 2, nil},
		{"by pattern", []Interface{eth0, eth1}, Answer{VIP: vip6, Interfaces: []string{"x", "eth?"}}, 3, []string{"2001:db8::1@3 answered"}},
		{"another vip", []Interface{eth0}, Answer{VIP: netip.MustParseAddr("192.0.2.2")}, 2, nil},
		{"no link", []Interface{down}, Answer{VIP: vip4}, 2, nil},
		{"no interface", nil, Answer{VIP: vip4}, 2, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newClocked(0, tt.interfaces...)
			c.mustSync(t, tt.answer)
			c.take()
			vip := vip4
			if tt.answer.VIP.Is6() {
				vip = vip6
			}
			check(t, "answer", c.hear(tt.at, question(vip)), tt.want...)
		})
	}
}

func TestReasons(t *testing.T) {
	down := eth1
	down.Running = false
	c := newClocked(time.Second, eth0, down)
	c.mustSync(t,
		Answer{VIP: vip4},
		Answer{VIP: netip.MustParseAddr("198.51.100.1")},
		Answer{VIP: netip.MustParseAddr("198.51.100.2"), Interfaces: []string{"eth1", "bond*"}},
		Answer{VIP: netip.MustParseAddr("198.51.100.3"), Interfaces: []string{"bond*", "wlan0"}},
		Answer{VIP: vip6, Yield: true},
	)
	var got []string
	for _, v := range c.report().VIPs {
		got = append(got, v.Reason+strings.Join(v.Interfaces, ","))
	}
	check(t, "reasons", got, "eth0", "no interface has its network", "no link on eth1", "no interface matches bond*, wlan0", "another node takes over")
	c.pass(t, time.Second)
	if v := c.report().VIPs[0]; v.Reason != "the last decision is older than 1s" {
		t.Errorf("after the lease: %+v", v)
	}
}

// A stranger is answered once, then not for a while, whatever it does; it is
// reported soon and until it was silent for long.
func TestConflict(t *testing.T) {
	for _, vip := range []netip.Addr{vip4, vip6} {
		t.Run(vip.String(), func(t *testing.T) {
			c := newClocked(0, eth0)
			c.mustSync(t, Answer{VIP: vip})
			c.pass(t, 10*time.Second)
			changes := c.changes
			first := c.now
			check(t, "defence", c.hear(2, announcement(client, vip)), vip.String()+"@2 announced")
			c.pass(t, ConflictDelay-1)
			if c.report().VIPs[0].Conflict != nil || c.changes != changes {
				t.Error("told of a conflict at once")
			}
			c.pass(t, 1)
			if c.report().VIPs[0].Conflict == nil || c.changes != changes+1 {
				t.Error("not told of a conflict")
			}
			for range 8 {
				check(t, "later", c.pass(t, time.Second))
				check(t, "again", c.hear(2, announcement(client, vip)))
			}
			c.pass(t, time.Second)
			check(t, "next interval", c.hear(2, announcement(client, vip)), vip.String()+"@2 announced")
			check(t, "still answered", c.hear(2, question(vip)), vip.String()+"@2 answered")
			want := &Conflict{MAC: client, Interface: "eth0", First: first, Last: c.now}
			if diff := cmp.Diff(want, c.report().VIPs[0].Conflict); diff != "" {
				t.Errorf("conflict (-want +got):\n%s", diff)
			}
			if c.changes != changes+1 || c.counters(vip).Conflicts != 10 {
				t.Errorf("%d changes and %d claims, want 1 and 10", c.changes-changes, c.counters(vip).Conflicts)
			}
			c.pass(t, ConflictHold-1)
			if c.report().VIPs[0].Conflict == nil {
				t.Error("conflict is over too early")
			}
			c.pass(t, 1)
			if c.report().VIPs[0].Conflict != nil || c.changes != changes+2 {
				t.Error("conflict is not over")
			}
		})
	}
}

// A node that claims a VIP before it is known is no conflict.
func TestFellowJustJoined(t *testing.T) {
	c := newClocked(0, eth0)
	c.mustSync(t, Answer{VIP: vip4})
	changes := c.changes
	c.hear(2, announcement(client, vip4))
	c.pass(t, ConflictDelay/2)
	c.setFellows([]ether.MAC{client})
	c.pass(t, ConflictDelay)
	if c.report().VIPs[0].Conflict != nil || c.changes != changes+1 {
		t.Errorf("conflict with a fellow: %+v", c.report().VIPs[0].Conflict)
	}
}

// Two that both go on claiming exchange a frame each in ten seconds, not more.
func TestConflictOfTwo(t *testing.T) {
	a, b := newClocked(0, eth0), newClocked(0, eth0)
	other := eth0
	other.MAC = client
	b.setInterfaces(b.now, []Interface{other})
	a.mustSync(t, Answer{VIP: vip4})
	b.mustSync(t, Answer{VIP: vip4})
	var frames int
	exchange := func(outs []out, to *clocked) {
		for len(outs) > 0 {
			frames += len(outs)
			var back []out
			for _, o := range outs {
				back = append(back, to.frame(to.now, 2, true, o.frame)...)
			}
			outs = back
			if to == a {
				to = b
			} else {
				to = a
			}
		}
	}
	for range 600 {
		a.now, b.now = a.now.Add(100*time.Millisecond), b.now.Add(100*time.Millisecond)
		exchange(a.due(a.now), b)
		exchange(b.due(b.now), a)
	}
	// Two forms of each: bursts of five, a refresh, six defences, some questions and answers.
	if frames > 2*2*(len(burst)+1+6)+10 {
		t.Errorf("%d frames in a minute", frames)
	}
}

// Another node is left alone for a moment; if the VIP is still ours then, it
// is announced once more. Where that goes on, it takes longer each time.
func TestFellow(t *testing.T) {
	c := newClocked(0, eth0)
	c.setFellows([]ether.MAC{client})
	c.mustSync(t, Answer{VIP: vip4})
	c.pass(t, 10*time.Second)
	const announced = "192.0.2.1@2 announced"
	for _, pause := range []time.Duration{500, 1000, 2000, 2000} {
		pause *= time.Millisecond
		for range 3 {
			check(t, "claim", c.hear(2, announcement(client, vip4)))
		}
		check(t, "not yet", c.pass(t, pause-1))
		check(t, "still ours", c.pass(t, 1), announced)
	}
	c.pass(t, fellowDelayMax+defendInterval)
	check(t, "after a rest", c.hear(2, announcement(client, vip4)))
	check(t, "soon again", c.pass(t, fellowDelay), announced)
	if r := c.report(); r.VIPs[0].Conflict != nil || r.ARP.FellowClaims != 13 || r.ARP.Conflicts != 0 {
		t.Errorf("report %+v", r)
	}
	// Who loses it meanwhile says nothing.
	c.hear(2, announcement(client, vip4))
	c.mustSync(t)
	check(t, "not ours any more", c.pass(t, time.Hour))
}

// What this node itself says on another interface of the same network is no claim.
func TestTwoInterfacesOfOneNetwork(t *testing.T) {
	second := eth1
	second.Addrs = eth0.Addrs
	c := newClocked(0, eth0, second)
	c.mustSync(t, Answer{VIP: vip4})
	check(t, "announcements", c.take(), "192.0.2.1@2 announced", "192.0.2.1@3 announced")
	check(t, "heard", c.hear(2, announcement(second.MAC, vip4)))
	check(t, "asked", c.hear(2, arp.Ask(second.MAC, vip4)))
	if r := c.report(); r.ARP.Conflicts != 0 || !slices.Equal(r.VIPs[0].Interfaces, []string{"eth0", "eth1"}) {
		t.Errorf("report %+v", r)
	}
}

func TestYield(t *testing.T) {
	for _, vip := range []netip.Addr{vip4, vip6} {
		t.Run(vip.String(), func(t *testing.T) {
			announced, answered := vip.String()+"@2 announced", vip.String()+"@2 answered"
			c := newClocked(0, eth0)
			c.mustSync(t, Answer{VIP: vip})
			c.take()
			c.mustSync(t, Answer{VIP: vip, Yield: true})
			check(t, "not announced any more", c.pass(t, HandOverTime/2))
			check(t, "answered on", c.hear(2, question(vip)), answered)
			check(t, "taken", c.hear(2, announcement(client, vip)))
			check(t, "answered no more", c.hear(2, question(vip)))
			if c.live() != 0 || c.counters(vip).Conflicts != 0 {
				t.Errorf("%d live, counters %+v", c.live(), c.counters(vip))
			}

			c.mustSync(t, Answer{VIP: vip})
			check(t, "ours again", c.take(), announced)
			c.mustSync(t, Answer{VIP: vip, Yield: true})
			c.pass(t, HandOverTime-1)
			check(t, "nobody took it yet", c.hear(2, question(vip)), answered)
			c.mustSync(t, Answer{VIP: vip, Yield: true})
			c.now = c.now.Add(1)
			check(t, "the time is over", c.hear(2, question(vip)))

			c.mustSync(t)
			c.mustSync(t, Answer{VIP: vip, Yield: true})
			check(t, "never ours", c.hear(2, question(vip)))
		})
	}
}

// A node that was stopped does not answer by an old decision, not even the
// questions that wait for it; with a new one it takes over again.
func TestLeaseEnds(t *testing.T) {
	c := newClocked(time.Second, eth0)
	c.mustSync(t, Answer{VIP: vip4})
	c.take()
	c.now = c.now.Add(time.Second - 1)
	check(t, "in time", c.hear(2, question(vip4)), "192.0.2.1@2 answered")
	c.now = c.now.Add(1)
	check(t, "too late", c.hear(2, question(vip4)))
	check(t, "no announcement either", c.pass(t, time.Hour))
	if r := c.report(); !r.Lapsed || c.live() != 0 {
		t.Errorf("report %+v", r)
	}
	c.setInterfaces(c.now, []Interface{eth0, eth1})
	check(t, "an interface is no decision", c.pass(t, time.Hour))
	c.mustSync(t, Answer{VIP: vip4})
	check(t, "new decision", c.take(), "192.0.2.1@2 announced")
	if c.takeovers != 2 {
		t.Errorf("%d takeovers, want 2", c.takeovers)
	}
}

// What changes of an interface is told again; what does not is left alone.
func TestInterfaceChanges(t *testing.T) {
	c := newClocked(0, eth0, eth1)
	both := Answer{VIP: vip4, Interfaces: []string{"eth*"}}
	c.mustSync(t, both)
	c.pass(t, 10*time.Second)
	set := func(interfaces ...Interface) []string {
		c.setInterfaces(c.now, interfaces)
		c.keep(c.due(c.now))
		return c.take()
	}
	changes := c.changes
	check(t, "the same", set(eth1, eth0))
	if c.changes != changes {
		t.Error("the same interfaces are a change")
	}
	other := eth0
	other.MAC = ether.MAC{2, 0, 0, 0, 0, 3}
	check(t, "another MAC", set(other, eth1), "192.0.2.1@2 announced")
	check(t, "gone", set(eth1))
	check(t, "back", set(eth0, eth1), "192.0.2.1@2 announced")
	down := eth1
	down.Running = false
	check(t, "no link", set(eth0, down))
	check(t, "link", set(eth0, eth1), "192.0.2.1@3 announced")
	renamed := eth1
	renamed.Name = "wan"
	check(t, "another name", set(eth0, renamed))
	if c.changes != changes+6 {
		t.Errorf("%d changes, want 6", c.changes-changes)
	}
}

func TestMalformed(t *testing.T) {
	c := newClocked(0, eth0)
	c.mustSync(t, Answer{VIP: vip4}, Answer{VIP: vip6})
	c.pass(t, 10*time.Second)
	for _, vip := range []netip.Addr{vip4, vip6} {
		before := c.report().VIPs
		frame := announcement(client, vip)
		for cut := range frame {
			c.frame(c.now, 2, vip.Is4(), frame[:cut])
		}
		if got := *c.counters(vip); got.Malformed != uint64(len(frame)) || got.Conflicts+got.Replies != 0 {
			t.Errorf("%s: counters %+v", vip, got)
		}
		if diff := cmp.Diff(before, c.report().VIPs, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Errorf("%s: state changed:\n%s", vip, diff)
		}
	}
	check(t, "nothing sent", c.pass(t, time.Second))
}
