// SPDX-License-Identifier: Apache-2.0

package l2

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/fairlead/fairlead/announce/l2/arp"
	"github.com/fairlead/fairlead/announce/l2/ether"
	"github.com/fairlead/fairlead/announce/l2/ndp"
)

// What the protocols say.
const (
	// defendInterval is DEFEND_INTERVAL of RFC 5227 section 1.1: a claim is
	// answered by one announcement, and not more often.
	defendInterval = 10 * time.Second
)

// Tuning.
const (
	// DefaultRefresh is how often a VIP is announced again.
	DefaultRefresh = 60 * time.Second
	// ConflictHold is how long a stranger must be silent until a conflict is
	// over. Each refresh asks for others, so it is more than two of the default.
	ConflictHold = 150 * time.Second
	// ConflictDelay is how long a claim is no conflict yet: a node that just
	// joined may speak before it is known for a fellow.
	ConflictDelay = time.Second
	// HandOverTime is how long a VIP that is to be yielded is answered for when
	// nobody takes it.
	HandOverTime = 2 * time.Second
	// fellowDelay is how long a claim of another node is left alone: that one is
	// right, and the next set will say so, or it was mistaken for a moment, and
	// everybody has to be told again. Where claims go on, as while a network
	// comes and goes, it doubles each time, up to fellowDelayMax.
	fellowDelay    = 500 * time.Millisecond
	fellowDelayMax = 2 * time.Second
)

// burst are the pauses before the announcements of a takeover. One is enough
// for who hears it; the others are for frames that get lost, and for switches
// that are not forwarding yet.
var burst = [...]time.Duration{0, 100 * time.Millisecond, 400 * time.Millisecond, time.Second, 2 * time.Second}

// place is a VIP on one interface.
type place struct {
	vip   netip.Addr
	index int
}

// entry is a place that is answered for.
type entry struct {
	since    time.Time
	next     time.Time // when to announce again
	step     int       // in burst
	defended time.Time // against a stranger
	// claimed is when another node claimed it and was given pause.
	claimed time.Time
	pause   time.Duration
	again   bool // next is because of it
	// yieldBy is set for a VIP that is answered for, but not announced, until
	// then or until another node announces it, which is yielded.
	yieldBy time.Time
	yielded bool
}

// conflict is a stranger's claim, that is told once it has lasted.
type conflict struct {
	Conflict
	told bool
}

// out is a frame to send.
type out struct {
	index int
	frame []byte
}

// book decides what to answer and to send. It has no clock and no socket.
type book struct {
	refresh time.Duration
	lease   time.Duration // 0: no end

	synced     time.Time // of the answers
	lapsed     bool
	answers    []Answer           // by VIP, valid
	interfaces map[int]Interface  // by index
	own        map[ether.MAC]bool // of the interfaces
	fellows    map[ether.MAC]bool // of other nodes
	entries    map[place]*entry
	conflicts  map[netip.Addr]*conflict
	arp, ndp   Counters
	moved      bool // the set of entries is another
	sooner     bool // next may be earlier than it was
	takeovers  uint64
	changes    uint64 // of what a report says, but those that a sync makes
}

func newBook(refresh, lease time.Duration) *book {
	return &book{
		refresh: cmp.Or(refresh, DefaultRefresh), lease: lease,
		interfaces: map[int]Interface{}, entries: map[place]*entry{}, conflicts: map[netip.Addr]*conflict{},
	}
}

// counters are those of the VIP's protocol.
func (b *book) counters(vip netip.Addr) *Counters {
	if vip.Is4() {
		return &b.arp
	}
	return &b.ndp
}

// sync takes a whole set of valid answers, in order of their VIPs.
func (b *book) sync(now time.Time, answers []Answer) {
	b.expire(now)
	b.synced, b.lapsed, b.answers = now, false, answers
	b.place(now)
	for vip := range b.conflicts {
		if _, found := slices.BinarySearchFunc(answers, vip, byVIP); !found {
			delete(b.conflicts, vip)
		}
	}
}

func byVIP(a Answer, vip netip.Addr) int { return a.VIP.Compare(vip) }

// setInterfaces takes the whole set of interfaces.
func (b *book) setInterfaces(now time.Time, interfaces []Interface) {
	before, changed := b.interfaces, false
	b.interfaces, b.own = map[int]Interface{}, map[ether.MAC]bool{}
	for _, i := range interfaces {
		old, found := before[i.Index]
		changed = changed || !found || !old.equal(i)
		b.interfaces[i.Index], b.own[i.MAC] = i, true
		if found && (old.MAC != i.MAC || old.Name != i.Name) {
			b.forget(i.Index) // everybody has to learn the new one
		}
	}
	b.place(now)
	if changed || len(before) != len(b.interfaces) {
		b.changes++
	}
}

func (b *book) forget(index int) {
	for at := range b.entries {
		if at.index == index {
			delete(b.entries, at)
		}
	}
}

// place brings the entries in line with answers and interfaces. New ones start
// with a burst, and so do those that were to be yielded and now stay.
func (b *book) place(now time.Time) {
	b.moved = true
	wanted := map[place]bool{}
	for n := range b.answers {
		a := &b.answers[n]
		for index, i := range b.interfaces {
			if !i.Running || b.lapsed || !a.matches(&i) {
				continue
			}
			at := place{a.VIP, index}
			wanted[at] = true
			e := b.entries[at]
			switch {
			case e == nil && a.Yield:
				delete(wanted, at) // not ours any more, so not to be begun
			case e == nil:
				b.entries[at] = &entry{since: now, next: now}
				b.takeovers++
			case a.Yield && e.yieldBy.IsZero():
				e.yieldBy = now.Add(HandOverTime)
			case !a.Yield && !e.yieldBy.IsZero():
				*e = entry{since: now, next: now}
				b.takeovers++
			}
		}
	}
	for at := range b.entries {
		if !wanted[at] {
			delete(b.entries, at)
		}
	}
}

// stale says that the last set is too old to count.
func (b *book) stale(now time.Time) bool {
	return b.lapsed || b.lease != 0 && now.Sub(b.synced) >= b.lease
}

// answers says whether the entry is answered for.
func (e *entry) answers(now time.Time) bool {
	return !e.yielded && (e.yieldBy.IsZero() || now.Before(e.yieldBy))
}

// expire takes back what has had its time.
func (b *book) expire(now time.Time) {
	if !b.lapsed && len(b.entries) > 0 && b.stale(now) {
		b.lapsed, b.moved = true, true
		b.changes++
		clear(b.entries)
	}
	for _, e := range b.entries {
		if !e.yielded && !e.answers(now) {
			e.yielded = true
			b.changes++
		}
	}
	for vip, c := range b.conflicts {
		switch {
		case now.Sub(c.Last) >= ConflictHold:
			delete(b.conflicts, vip)
			b.changes++
		case !c.told && now.Sub(c.First) >= ConflictDelay:
			c.told = true
			b.changes++
		}
	}
}

// setFellows takes the MAC addresses of the other nodes.
func (b *book) setFellows(fellows []ether.MAC) {
	b.fellows = map[ether.MAC]bool{}
	for _, m := range fellows {
		b.fellows[m] = true
	}
	for vip, c := range b.conflicts {
		if b.fellows[c.MAC] {
			delete(b.conflicts, vip)
			b.changes++
		}
	}
}

// frame takes a frame of ARP or NDP that came in on the interface and returns
// what to send.
func (b *book) frame(now time.Time, index int, isARP bool, frame []byte) []out {
	i, found := b.interfaces[index]
	if !found || b.stale(now) {
		return nil
	}
	ours := func(vip netip.Addr) bool {
		e := b.entries[place{vip, index}]
		return e != nil && e.answers(now)
	}
	decide, counters := ndp.Decide, &b.ndp
	if isARP {
		decide, counters = arp.Decide, &b.arp
	}
	v := decide(frame, i.MAC, ours)
	if b.own[v.From] { // two interfaces on one network
		return nil
	}
	switch v.Kind {
	case ether.Malformed:
		counters.Malformed++
	case ether.Claim:
		return b.claim(now, i, v)
	case ether.Request:
		counters.Requests++
	case ether.Probe:
		counters.Probes++
	}
	if v.Answer == nil {
		return nil
	}
	counters.Replies++
	return []out{{index, v.Answer}}
}

// claim is somebody else's word that it has the VIP.
func (b *book) claim(now time.Time, i Interface, v ether.Verdict) []out {
	e, counters := b.entries[place{v.VIP, i.Index}], b.counters(v.VIP)
	b.sooner = true
	switch {
	case !e.yieldBy.IsZero():
		counters.FellowClaims++
		e.yielded = true
		b.changes++
	case b.fellows[v.From]:
		counters.FellowClaims++
		e.await(now)
	default:
		counters.Conflicts++
		c := b.conflicts[v.VIP]
		if c == nil {
			c = &conflict{Conflict: Conflict{First: now}}
			b.conflicts[v.VIP] = c
		}
		c.MAC, c.Interface, c.Last = v.From, i.Name, now
		if e.defended.IsZero() || now.Sub(e.defended) >= defendInterval {
			e.defended = now
			return b.announce(v.VIP, i)
		}
	}
	return nil
}

// await has the VIP announced again after the pause that another node is given,
// unless that is going to happen anyway.
func (e *entry) await(now time.Time) {
	pause := fellowDelay
	if now.Sub(e.claimed) < e.pause+defendInterval {
		pause = min(2*e.pause, fellowDelayMax)
	}
	if soon := now.Add(pause); e.next.After(soon) {
		e.next, e.claimed, e.pause, e.again = soon, now, pause, true
	}
}

func (b *book) announce(vip netip.Addr, i Interface) (outs []out) {
	announce := ndp.Announce
	if vip.Is4() {
		announce = arp.Announce
	}
	for _, frame := range announce(i.MAC, vip) {
		outs = append(outs, out{i.Index, frame})
	}
	b.counters(vip).Announcements += uint64(len(outs))
	return outs
}

// ask asks whether anybody else has the VIP.
func (b *book) ask(vip netip.Addr, i Interface) []out {
	if vip.Is4() {
		b.arp.Questions++
		return []out{{i.Index, arp.Ask(i.MAC, vip)}}
	}
	from, ok := i.addr6()
	if !ok {
		return nil
	}
	b.ndp.Questions++
	return []out{{i.Index, ndp.Ask(i.MAC, from, vip)}}
}

// due returns the announcements whose time has come, in order of the VIPs. The
// last one of a burst and each refresh come with a question.
func (b *book) due(now time.Time) (outs []out) {
	b.expire(now)
	var places []place
	for at, e := range b.entries {
		if e.yieldBy.IsZero() && !now.Before(e.next) {
			places = append(places, at)
		}
	}
	slices.SortFunc(places, func(p, q place) int {
		return cmp.Or(p.vip.Compare(q.vip), cmp.Compare(p.index, q.index))
	})
	for _, at := range places {
		i, e := b.interfaces[at.index], b.entries[at]
		outs = append(outs, b.announce(at.vip, i)...)
		if e.step++; e.step < len(burst) {
			e.next = now.Add(burst[e.step])
			continue
		}
		if !e.again {
			outs = append(outs, b.ask(at.vip, i)...)
		}
		e.again = false
		e.next = now.Add(spread(at.vip, b.refresh))
	}
	return outs
}

// spread takes up to a quarter from a pause, by the VIP, so that the many VIPs
// of one takeover are not refreshed all at once for ever.
func spread(vip netip.Addr, pause time.Duration) time.Duration {
	h := fnv.New32a()
	h.Write(vip.AsSlice())
	return pause - pause/4*time.Duration(h.Sum32()%1024)/1024
}

// next is when the book has something to do; false: nothing without an event.
func (b *book) next() (at time.Time, ok bool) {
	earliest := func(t time.Time) {
		if !ok || t.Before(at) {
			at, ok = t, true
		}
	}
	for _, e := range b.entries {
		switch {
		case e.yieldBy.IsZero():
			earliest(e.next)
		case !e.yielded:
			earliest(e.yieldBy)
		}
	}
	if b.lease != 0 && !b.lapsed && len(b.entries) > 0 {
		earliest(b.synced.Add(b.lease))
	}
	for _, c := range b.conflicts {
		if !c.told {
			earliest(c.First.Add(ConflictDelay))
		}
		earliest(c.Last.Add(ConflictHold))
	}
	return at, ok
}

// live says how many places are answered for.
func (b *book) live() (n int) {
	for _, e := range b.entries {
		if !e.yielded {
			n++
		}
	}
	return n
}

// vips are the addresses of one family that are answered for or to be yielded,
// in order.
func (b *book) vips(is4 bool) (vips []netip.Addr) {
	for at := range b.entries {
		if at.vip.Is4() == is4 {
			vips = append(vips, at.vip)
		}
	}
	slices.SortFunc(vips, netip.Addr.Compare)
	return slices.Compact(vips)
}

// groups are the multicast groups in which others ask for the VIPs.
func (b *book) groups() map[group]bool {
	groups := map[group]bool{}
	for at := range b.entries {
		if at.vip.Is6() {
			groups[group{at.index, ndp.Group(at.vip)}] = true
		}
	}
	return groups
}

func (b *book) report() Report {
	r := Report{ARP: b.arp, NDP: b.ndp, Takeovers: b.takeovers, Lapsed: b.lapsed}
	for _, i := range b.interfaces {
		i.Addrs = slices.Clone(i.Addrs)
		r.Interfaces = append(r.Interfaces, i)
	}
	slices.SortFunc(r.Interfaces, func(i, j Interface) int { return cmp.Compare(i.Index, j.Index) })
	for n := range b.answers {
		a := &b.answers[n]
		v := VIPReport{VIP: a.VIP, Yielding: a.Yield}
		for _, i := range r.Interfaces {
			e := b.entries[place{a.VIP, i.Index}]
			if e == nil || e.yielded {
				continue
			}
			v.Interfaces = append(v.Interfaces, i.Name)
			if v.Since.IsZero() || e.since.Before(v.Since) {
				v.Since = e.since
			}
		}
		if c := b.conflicts[a.VIP]; c != nil && c.told {
			v.Conflict = new(c.Conflict)
		}
		if len(v.Interfaces) == 0 {
			v.Reason = b.reason(a, r.Interfaces)
		}
		r.VIPs = append(r.VIPs, v)
	}
	return r
}

// reason says why an answer is given nowhere.
func (b *book) reason(a *Answer, interfaces []Interface) string {
	var down []string
	for _, i := range interfaces {
		if a.matches(&i) && !i.Running {
			down = append(down, i.Name)
		}
	}
	switch {
	case b.lapsed:
		return fmt.Sprintf("the last decision is older than %s", b.lease)
	case len(down) > 0:
		return fmt.Sprintf("no link on %s", strings.Join(down, ", "))
	case a.Yield:
		return "another node takes over"
	case len(a.Interfaces) == 0:
		return "no interface has its network"
	}
	return fmt.Sprintf("no interface matches %s", strings.Join(a.Interfaces, ", "))
}
