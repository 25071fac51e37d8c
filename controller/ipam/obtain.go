// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
)

// obtain finds addresses of the missing families for a Service that keeps kept,
// and gives them to nobody yet. note says why a family is left out that the
// Service can do without.
func (a *allocation) obtain(w *wish, kept []netip.Addr, missing []Family) (got []netip.Addr, note, wrong *problem) {
	var families []Family
	for _, f := range missing {
		addr, asked := w.asksFor(f)
		if !asked {
			families = append(families, f)
			continue
		}
		if wrong := a.refuse(w, addr); wrong != nil {
			return nil, nil, wrong
		}
		got = append(got, addr)
	}
	if len(families) == 0 {
		return got, nil, nil
	}
	base := slices.Concat(kept, got)
	pools, wrong := a.candidates(w, base)
	if wrong == nil {
		picked := a.fromOne(w, pools, families)
		if len(picked) < len(families) && a.TwoPools {
			picked = a.fromAny(w, pools, families)
		}
		if len(picked) == len(families) {
			return append(got, picked...), nil, nil
		}
		wrong = a.shortage(w, pools, families)
		if len(base) == 0 && !w.Required {
			for _, f := range families {
				if picked := a.fromAny(w, pools, []Family{f}); len(picked) > 0 {
					return picked, wrong, nil
				}
			}
		}
	}
	if len(base) > 0 && !w.Required {
		return got, wrong, nil
	}
	return nil, nil, wrong
}

// candidates are the pools to look in, best first, for a Service that has or
// gets the addresses of base.
func (a *allocation) candidates(w *wish, base []netip.Addr) ([]*pooled, *problem) {
	var named *pooled
	switch {
	case w.Request.Pool != "":
		if named = a.pools[w.Request.Pool]; named == nil {
			return nil, &problem{ReasonPoolNotFound, fmt.Sprintf("pool %q does not exist: create it, or name another one in annotation %s",
				w.Request.Pool, v1beta1.AnnotationAddressPool)}
		}
	case len(base) > 0 && !a.TwoPools:
		named = a.poolOf(base[0])
	}
	if named != nil {
		if wrong := a.closed(w, named); wrong != nil {
			return nil, wrong
		}
		return []*pooled{named}, nil
	}
	var open []*pooled
	for _, p := range a.pools {
		if p.AutoAssign && a.closed(w, p) == nil {
			open = append(open, p)
		}
	}
	slices.SortFunc(open, func(p, q *pooled) int { return ranked(p.Pool, q.Pool) })
	if len(open) == 0 {
		return nil, a.noPool(w)
	}
	if len(base) > 0 { // with two pools allowed, one is still better
		near := a.poolOf(base[0])
		slices.SortStableFunc(open, func(p, q *pooled) int { return btoi(q == near) - btoi(p == near) })
	}
	return open, nil
}

// closed says why a pool gives the Service nothing; nil where it does.
func (a *allocation) closed(w *wish, p *pooled) *problem {
	switch {
	case !p.isFor(w.Service, a.Namespaces):
		return &problem{ReasonPoolNotForIt, fmt.Sprintf("pool %q is for other namespaces or Services: see its serviceAllocation, or ask for another pool", p.Name)}
	case p.Drain:
		return &problem{ReasonPoolDraining, fmt.Sprintf("pool %q is being drained and gives out no addresses: ask for another pool", p.Name)}
	}
	return nil
}

// fromOne picks all families from the first pool that has them, but rather from
// one where the Service shares an address with its key. It is all or nothing.
func (a *allocation) fromOne(w *wish, pools []*pooled, families []Family) (picked []netip.Addr) {
	for _, p := range pools {
		var addrs []netip.Addr
		sharing := false
		for _, f := range families {
			if addr, shared, ok := a.pick(w.Service, p, f); ok {
				addrs, sharing = append(addrs, addr), sharing || shared
			}
		}
		if len(addrs) < len(families) {
			continue
		}
		if sharing || w.Request.Key == "" {
			return addrs
		}
		if picked == nil {
			picked = addrs
		}
	}
	return picked
}

// fromAny picks each family from the pool that is best for it alone. Families
// that no pool has are left out.
func (a *allocation) fromAny(w *wish, pools []*pooled, families []Family) (picked []netip.Addr) {
	for _, f := range families {
		picked = append(picked, a.fromOne(w, pools, []Family{f})...)
	}
	return picked
}

// refuse says why a Service cannot have the address that it asks for; nil where it can.
func (a *allocation) refuse(w *wish, addr netip.Addr) *problem {
	p := a.poolOf(addr)
	switch {
	case p == nil:
		return &problem{ReasonAddressNotInPool, fmt.Sprintf("no pool has %s: add it to a pool, or ask for another address", addr)}
	case w.Request.Pool != "" && w.Request.Pool != p.Name:
		return &problem{ReasonInvalidRequest, fmt.Sprintf("%s is in pool %q, but annotation %s asks for pool %q: remove one of them",
			addr, p.Name, v1beta1.AnnotationAddressPool, w.Request.Pool)}
	}
	if wrong := a.closed(w, p); wrong != nil {
		return &problem{wrong.reason, fmt.Sprintf("%s: %s", addr, wrong.message)}
	}
	if at := a.addrs[addr]; at != nil {
		for _, o := range at.holders {
			if err := canShare(w.Service, o); err != nil {
				return &problem{ReasonAddressInUse, fmt.Sprintf("%s belongs to Service %s: ask for another address; %v", addr, o.Name, err)}
			}
		}
		if at.leaving {
			return &problem{ReasonAddressResting, fmt.Sprintf("%s is being taken from another Service: wait, or ask for another address", addr)}
		}
	}
	if f, resting := a.rest[addr]; resting && f.By != w.Name && a.addrs[addr] == nil {
		return &problem{ReasonAddressResting, fmt.Sprintf("%s belonged to Service %s and rests until %s: wait, or ask for another address",
			addr, f.By, f.At.Add(a.Delay).UTC().Format(time.RFC3339))}
	}
	return nil
}
