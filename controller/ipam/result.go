// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"math"
	"math/big"
	"net/netip"
)

// Counts are the addresses of a pool, at most math.MaxInt64 of each. One that
// several Services share counts once; one that rests or that the pool avoids is
// not available.
type Counts struct {
	AssignedIPv4, AssignedIPv6   int64
	AvailableIPv4, AvailableIPv6 int64
}

// tally counts a family of a pool.
type tally struct {
	assigned int64
	gone     int64 // neither avoided nor to be had
}

func (a *allocation) result() Result {
	r := Result{Assignments: make(map[string]Assignment, len(a.all)), Counts: make(map[string]Counts, len(a.pools))}
	for _, w := range a.all {
		r.Assignments[w.UID] = w.Assignment
	}
	for _, f := range a.rest {
		if until := f.At.Add(a.Delay); r.Again.IsZero() || until.Before(r.Again) {
			r.Again = until
		}
	}
	tallies := map[place]*tally{}
	count := func(addr netip.Addr, held bool) {
		p := a.poolOf(addr)
		if p == nil {
			return
		}
		where := place{pool: p, family: FamilyOf(addr)}
		t := tallies[where]
		if t == nil {
			t = &tally{}
			tallies[where] = t
		}
		t.assigned += int64(btoi(held))
		t.gone += int64(btoi(!p.avoids(addr)))
	}
	for addr, at := range a.addrs {
		count(addr, len(at.holders) > 0)
	}
	for addr := range a.rest {
		if a.addrs[addr] == nil {
			count(addr, false)
		}
	}
	for _, p := range a.pools {
		var c Counts
		c.AssignedIPv4, c.AvailableIPv4 = p.count(IPv4, tallies)
		c.AssignedIPv6, c.AvailableIPv6 = p.count(IPv6, tallies)
		r.Counts[p.Name] = c
	}
	return r
}

func (p *pooled) count(f Family, tallies map[place]*tally) (assigned, available int64) {
	all := new(big.Int)
	for _, r := range p.ranges {
		if r.Family() == f {
			all.Add(all, p.available(r))
		}
	}
	if t := tallies[place{pool: p, family: f}]; t != nil {
		assigned = t.assigned
		all.Sub(all, big.NewInt(t.gone))
	}
	if !all.IsInt64() {
		return assigned, math.MaxInt64
	}
	return assigned, all.Int64()
}
