// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"fmt"
	"slices"
	"strings"
)

// problem is why a Service does not get what it asks for.
type problem struct{ reason, message string }

// messages tell what a Service has, what it lacks, and what to do about it.
func messages(w *wish, wrong, note *problem) (reason, message string) {
	has := ""
	if len(w.addrs) > 0 {
		has = fmt.Sprintf("%s from pool %s", joinAddrs(w.addrs), strings.Join(w.Pools, " and "))
	}
	switch {
	case wrong != nil && has != "":
		return wrong.reason, fmt.Sprintf("%s; until then the Service keeps %s", wrong.message, has)
	case wrong != nil:
		return wrong.reason, wrong.message
	case note != nil:
		return ReasonAllocated, fmt.Sprintf("%s; one family only: %s", has, note.message)
	}
	return ReasonAllocated, has
}

// noPool says why no pool is there to choose from.
func (a *allocation) noPool(w *wish) *problem {
	if len(a.pools) == 0 {
		return &problem{ReasonNoPool, "there is no IPAddressPool: create one"}
	}
	count := map[string]int{}
	for _, p := range a.pools {
		switch wrong := a.closed(w, p); {
		case wrong != nil:
			count[wrong.reason]++
		default:
			count["auto"]++
		}
	}
	switch len(a.pools) {
	case count["auto"]:
		return &problem{ReasonNoPool, "all pools have autoAssign: false: ask for one with annotation fairlead.io/address-pool"}
	case count[ReasonPoolDraining]:
		return &problem{ReasonPoolDraining, "all pools are being drained: create another one"}
	case count[ReasonPoolNotForIt]:
		return &problem{ReasonNoPool, "all pools are for other namespaces or Services: see serviceAllocation of the pools"}
	}
	return &problem{ReasonNoPool, fmt.Sprintf("no pool is there to choose from: %d for other namespaces or Services, %d being drained, %d with autoAssign: false",
		count[ReasonPoolNotForIt], count[ReasonPoolDraining], count["auto"])}
}

// shortage says what the pools lack.
func (a *allocation) shortage(w *wish, pools []*pooled, families []Family) *problem {
	var absent, used []Family
	resting := false
	for _, f := range families {
		if len(a.fromAny(w, pools, []Family{f})) > 0 {
			continue
		}
		has := slices.ContainsFunc(pools, func(p *pooled) bool {
			return slices.ContainsFunc(p.ranges, func(r Range) bool { return r.Family() == f })
		})
		if has {
			used = append(used, f)
			resting = resting || slices.ContainsFunc(pools, func(p *pooled) bool { return a.resting[place{pool: p, family: f}] })
		} else {
			absent = append(absent, f)
		}
	}
	names := poolNames(pools)
	switch {
	case len(absent) > 0:
		return &problem{ReasonFamilyMissing, fmt.Sprintf("%s no %s addresses: add some", holder(names, len(pools)), absent[0])}
	case len(used) > 0 && resting:
		return &problem{ReasonPoolExhausted, fmt.Sprintf("%s no free %s address: add some, or wait until freed ones have rested (%s)", holder(names, len(pools)), used[0], a.Delay)}
	case len(used) > 0:
		return &problem{ReasonPoolExhausted, fmt.Sprintf("%s no free %s address: add some, or delete Services", holder(names, len(pools)), used[0])}
	}
	return &problem{ReasonPoolExhausted, fmt.Sprintf("no single one of the pools %s has a free address of both families: add some, or run the controller with --dual-stack-from-two-pools", names)}
}

// holder is the subject and verb of a sentence about pools.
func holder(names string, n int) string {
	if n == 1 {
		return "pool " + names + " has"
	}
	return "pools " + names + " have"
}

func poolNames(pools []*pooled) string {
	const most = 5
	var names []string
	for _, p := range pools {
		if len(names) == most {
			return fmt.Sprintf("%s and %d more", strings.Join(names, ", "), len(pools)-most)
		}
		names = append(names, p.Name)
	}
	return strings.Join(names, ", ")
}
