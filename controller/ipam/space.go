// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"net/netip"
	"slices"
	"sort"
)

// space is who has which address, while an allocation is made.
type space struct {
	pools   map[string]*pooled
	ranges  []owned // of all pools, sorted and disjoint
	addrs   map[netip.Addr]*address
	rest    map[netip.Addr]Freed    // freed, and not rested yet
	resting map[place]bool          // where some of rest are
	back    map[string][]netip.Addr // those of rest by whose they were, sorted
	keyed   map[place][]netip.Addr  // addresses of Services with a key
	tried   map[place]int           // how many of keyed do not suit Services of equal terms
	free    map[place]*freeList     // made when first needed
	groups  map[place][]netip.Addr  // addrs and rest by pool; made with the first freeList
}

// pooled is a pool with the ranges that no older pool has.
type pooled struct {
	*Pool
	ranges []Range
}

// owned is a range and whose it is.
type owned struct {
	Range
	pool *pooled
}

// place is a family of a pool, for a key or terms where those matter.
type place struct {
	pool   *pooled
	family Family
	word   string
}

// address is one that is not free.
type address struct {
	holders []*Service
	ports   map[port]struct{} // of all holders; nil before a second one comes
	// leaving says that a Service loses it: until the claim is withdrawn, no
	// other one gets it.
	leaving bool
}

func newSpace(st *State) *space {
	sp := &space{
		pools: map[string]*pooled{}, addrs: map[netip.Addr]*address{}, rest: map[netip.Addr]Freed{}, resting: map[place]bool{},
		back: map[string][]netip.Addr{}, keyed: map[place][]netip.Addr{}, tried: map[place]int{}, free: map[place]*freeList{},
	}
	var taken []Range
	for _, p := range slices.SortedFunc(slices.Values(st.Pools), older) {
		one := &pooled{Pool: p}
		for _, r := range p.Ranges {
			one.ranges = append(one.ranges, subtract(r, taken)...)
		}
		for _, r := range one.ranges {
			sp.ranges = append(sp.ranges, owned{r, one})
		}
		taken = append(taken, one.ranges...)
		sortRanges(taken)
		sp.pools[p.Name] = one
	}
	slices.SortFunc(sp.ranges, func(a, b owned) int { return a.From.Compare(b.From) })
	for _, f := range st.Freed {
		if st.Now.Before(f.At.Add(st.Delay)) {
			sp.rest[f.Addr] = f
			sp.back[f.By] = append(sp.back[f.By], f.Addr)
			sp.resting[place{pool: sp.poolOf(f.Addr), family: FamilyOf(f.Addr)}] = true
		}
	}
	for _, addrs := range sp.back {
		slices.SortFunc(addrs, netip.Addr.Compare)
	}
	return sp
}

// poolOf returns the pool that has an address, nil where none has.
func (sp *space) poolOf(a netip.Addr) *pooled {
	i := sort.Search(len(sp.ranges), func(i int) bool { return sp.ranges[i].To.Compare(a) >= 0 })
	if i < len(sp.ranges) && sp.ranges[i].Contains(a) {
		return sp.ranges[i].pool
	}
	return nil
}

// fits says whether s may have the address beside those who have it. Who has a
// claim on it may even while another one leaves it.
func (sp *space) fits(s *Service, a netip.Addr) bool {
	at := sp.addrs[a]
	if at == nil || len(at.holders) == 0 {
		return true
	}
	one := at.holders[0]
	if s.Request.Key == "" || s.Request.Key != one.Request.Key || s.backend != one.backend {
		return false
	}
	if at.ports == nil {
		return !slices.ContainsFunc(s.ports, func(p port) bool { return slices.Contains(one.ports, p) })
	}
	return !slices.ContainsFunc(s.ports, func(p port) bool { _, taken := at.ports[p]; return taken })
}

// give makes s a holder of the address.
func (sp *space) give(s *Service, a netip.Addr) {
	at := sp.at(a)
	at.holders = append(at.holders, s)
	if len(at.holders) > 1 {
		if at.ports == nil {
			at.ports = map[port]struct{}{}
			for _, p := range at.holders[0].ports {
				at.ports[p] = struct{}{}
			}
		}
		for _, p := range s.ports {
			at.ports[p] = struct{}{}
		}
	} else if pool := sp.poolOf(a); s.Request.Key != "" && pool != nil {
		where := place{pool, FamilyOf(a), s.Request.Key}
		sp.keyed[where] = append(sp.keyed[where], a)
	}
}

// leave takes the address from s. It stays out of reach.
func (sp *space) leave(s *Service, a netip.Addr) {
	at := sp.at(a)
	at.leaving = true
	at.holders = slices.DeleteFunc(at.holders, func(o *Service) bool { return o == s })
	// The ports of s stay taken: nobody comes to an address that is being left.
}

func (sp *space) at(a netip.Addr) *address {
	at := sp.addrs[a]
	if at == nil {
		at = &address{}
		sp.addrs[a] = at
	}
	return at
}

// pick finds an address of a family in a pool: one that the key's Services
// have, else one that the Service itself had, else the lowest free one.
func (sp *space) pick(s *Service, pool *pooled, family Family) (a netip.Addr, shared, ok bool) {
	if s.Request.Key != "" {
		keyed, tried := sp.keyed[place{pool, family, s.Request.Key}], place{pool, family, s.Terms}
		for i := sp.tried[tried]; i < len(keyed); i++ {
			if at := sp.addrs[keyed[i]]; !at.leaving && sp.fits(s, keyed[i]) {
				return keyed[i], true, true
			}
			sp.tried[tried] = i + 1 // addresses only fill while an allocation is made
		}
	}
	for _, a := range sp.back[s.Name] {
		if FamilyOf(a) == family && sp.addrs[a] == nil && sp.poolOf(a) == pool && !pool.avoids(a) {
			return a, false, true
		}
	}
	a, ok = sp.freeOf(pool, family).first(func(a netip.Addr) bool { return sp.addrs[a] == nil && !pool.avoids(a) })
	return a, false, ok
}

// freeList are ranges without any address that was taken when it was made.
type freeList struct{ ranges []Range }

// first returns the lowest address that is usable. Those below it are
// forgotten: what is not usable once will not become so.
func (f *freeList) first(usable func(netip.Addr) bool) (netip.Addr, bool) {
	for len(f.ranges) > 0 {
		r := &f.ranges[0]
		if usable(r.From) {
			return r.From, true
		}
		if r.From == r.To {
			f.ranges = f.ranges[1:]
		} else {
			r.From = r.From.Next()
		}
	}
	return netip.Addr{}, false
}

func (sp *space) freeOf(pool *pooled, family Family) *freeList {
	where := place{pool: pool, family: family}
	if list := sp.free[where]; list != nil {
		return list
	}
	if sp.groups == nil {
		sp.group()
	}
	var taken []Range
	for _, a := range sp.groups[where] {
		if n := len(taken); n > 0 && taken[n-1].To.Next() == a {
			taken[n-1].To = a
		} else {
			taken = append(taken, Range{a, a})
		}
	}
	list := &freeList{}
	for _, r := range pool.ranges {
		if r.Family() == family {
			list.ranges = append(list.ranges, subtract(r, taken)...)
		}
	}
	sp.free[where] = list
	return list
}

// group sorts all that is not free into the places where it lies.
func (sp *space) group() {
	sp.groups = map[place][]netip.Addr{}
	put := func(a netip.Addr) {
		if pool := sp.poolOf(a); pool != nil {
			where := place{pool: pool, family: FamilyOf(a)}
			sp.groups[where] = append(sp.groups[where], a)
		}
	}
	for a := range sp.addrs {
		put(a)
	}
	for a := range sp.rest {
		if sp.addrs[a] == nil {
			put(a)
		}
	}
	for _, addrs := range sp.groups {
		slices.SortFunc(addrs, netip.Addr.Compare)
	}
}
