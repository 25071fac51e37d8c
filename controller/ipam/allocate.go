// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"cmp"
	"net/netip"
	"slices"
)

// allocation is the work of one Allocate.
type allocation struct {
	*State
	*space
	all   []*wish // by age
	byUID map[string]*wish
}

// wish is a Service on its way to an Assignment.
type wish struct {
	*Service
	claims []Claim
	addrs  []netip.Addr
	Assignment
}

// Allocate says who has which addresses.
func Allocate(st *State) Result {
	a := &allocation{State: st, space: newSpace(st), byUID: make(map[string]*wish, len(st.Services))}
	a.all = make([]*wish, 0, len(st.Services))
	for _, s := range st.Services {
		w := &wish{Service: s}
		a.all = append(a.all, w)
		a.byUID[s.UID] = w
	}
	slices.SortFunc(a.all, func(v, w *wish) int { return first(v.Service, w.Service) })
	a.takeOver()
	a.search()
	return a.result()
}

// takeOver leaves to Services what is theirs already: first what they have a
// claim on, unless terms changed in the meantime, then what their status shows
// without a claim, as after another load balancer.
func (a *allocation) takeOver() {
	for _, c := range a.Claims {
		if w := a.byUID[c.UID]; w != nil {
			w.claims = append(w.claims, c)
		}
	}
	changed := func(w *wish) int {
		return btoi(slices.ContainsFunc(w.claims, func(c Claim) bool { return c.Terms != w.Terms }))
	}
	ordered := slices.Clone(a.all)
	slices.SortStableFunc(ordered, func(v, w *wish) int { return cmp.Compare(changed(v), changed(w)) })
	for _, w := range ordered {
		a.keep(w, a.claimed(w), func(netip.Addr) bool { return true })
	}
	for _, c := range a.Claims {
		if w := a.byUID[c.UID]; w == nil || !slices.Contains(w.addrs, c.Addr) {
			a.at(c.Addr).leaving = true
		}
	}
	for _, w := range a.all {
		a.keep(w, a.preferred(w, slices.Clone(w.Status)), func(addr netip.Addr) bool {
			at := a.addrs[addr]
			return at == nil || !at.leaving
		})
	}
	for where := range a.keyed {
		slices.SortFunc(a.keyed[where], netip.Addr.Compare)
	}
}

// claimed are the addresses that a Service has a claim on, in the order in
// which it is to keep one of them.
func (a *allocation) claimed(w *wish) []netip.Addr {
	if len(w.claims) == 0 {
		return nil
	}
	var addrs []netip.Addr
	for _, c := range w.claims {
		addrs = append(addrs, c.Addr)
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return a.preferred(w, ahead(addrs, func(addr netip.Addr) bool { return slices.Contains(w.Status, addr) }))
}

// preferred puts the addresses in front that the Service asks for.
func (a *allocation) preferred(w *wish, addrs []netip.Addr) []netip.Addr {
	return ahead(addrs, func(addr netip.Addr) bool { return a.matches(w, addr) })
}

// ahead moves those to the front that are better, and keeps the order otherwise.
func ahead(addrs []netip.Addr, better func(netip.Addr) bool) []netip.Addr {
	slices.SortStableFunc(addrs, func(x, y netip.Addr) int { return btoi(better(y)) - btoi(better(x)) })
	return addrs
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// keep gives a Service the first of addrs of each of its families that is in a
// pool and suits it.
func (a *allocation) keep(w *wish, addrs []netip.Addr, also func(netip.Addr) bool) {
	for _, addr := range addrs {
		wanted := slices.Contains(w.Families, FamilyOf(addr)) && !w.has(FamilyOf(addr))
		if wanted && a.poolOf(addr) != nil && also(addr) && a.fits(w.Service, addr) {
			a.give(w.Service, addr)
			w.addrs = append(w.addrs, addr)
		}
	}
}

func (w *wish) has(f Family) bool {
	return slices.ContainsFunc(w.addrs, func(a netip.Addr) bool { return FamilyOf(a) == f })
}

// matches says whether an address is one that the Service asks for.
func (a *allocation) matches(w *wish, addr netip.Addr) bool {
	if asked, ok := w.asksFor(FamilyOf(addr)); ok && asked != addr {
		return false
	}
	if w.Request.Pool == "" {
		return true
	}
	// An older pool that came to have the address as well is no reason to move.
	p := a.pools[w.Request.Pool]
	return p != nil && slices.ContainsFunc(p.Ranges, func(r Range) bool { return r.Contains(addr) })
}

func (w *wish) asksFor(f Family) (netip.Addr, bool) {
	for _, a := range w.Request.Addrs {
		if FamilyOf(a) == f {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// search finds addresses for those that lack one or ask for another. Who asks
// for an address goes before those who take any.
func (a *allocation) search() {
	for _, explicit := range []bool{true, false} {
		for _, w := range a.all {
			if explicit == (len(w.Request.Addrs) > 0) {
				a.settle(w)
			}
		}
	}
}

// settle decides what the Service has in the end. What it has, it keeps until
// something better is sure.
func (a *allocation) settle(w *wish) {
	if w.Problem != nil {
		a.finish(w, &problem{ReasonInvalidRequest, w.Problem.Error()}, nil)
		return
	}
	var other []netip.Addr
	for _, addr := range w.addrs {
		if !a.matches(w, addr) {
			other = append(other, addr)
		}
	}
	kept := slices.DeleteFunc(slices.Clone(w.addrs), func(addr netip.Addr) bool { return slices.Contains(other, addr) })
	missing := slices.DeleteFunc(slices.Clone(w.Families), func(f Family) bool {
		return slices.ContainsFunc(kept, func(addr netip.Addr) bool { return FamilyOf(addr) == f })
	})
	if len(missing) == 0 {
		a.finish(w, nil, nil)
		return
	}
	got, note, wrong := a.obtain(w, kept, missing)
	if wrong == nil {
		for _, addr := range other {
			a.leave(w.Service, addr)
		}
		for _, addr := range got {
			a.give(w.Service, addr)
		}
		w.addrs = slices.Concat(kept, got)
	}
	a.finish(w, wrong, note)
}

// finish writes the Assignment.
func (a *allocation) finish(w *wish, wrong, note *problem) {
	slices.SortFunc(w.addrs, func(x, y netip.Addr) int {
		return slices.Index(w.Families, FamilyOf(x)) - slices.Index(w.Families, FamilyOf(y))
	})
	w.Addrs, w.Pools = w.addrs, nil
	for _, addr := range w.addrs {
		if name := a.poolOf(addr).Name; !slices.Contains(w.Pools, name) {
			w.Pools = append(w.Pools, name)
		}
	}
	w.Complete = wrong == nil
	w.Reason, w.Message = messages(w, wrong, note)
}
