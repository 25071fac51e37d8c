// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"slices"

	"github.com/fairlead/fairlead/lb"
)

const pastMax = len([3]uint16{}) // places of LookupTable.Past

// withPast returns the table rest with what its slots were in the table before:
// for each slot the earlier homes that still live and are not the home now, the
// latest first. keep says that before's own past still counts. others are the
// backends that live but are not in rest.List; those that some slot remembers
// follow in the new List. changed says that some slot has another home now.
func withPast(rest, before LookupTable, keep bool, others []lb.BackendID) (t LookupTable, changed bool) {
	list := slices.Concat(rest.List, others)
	b := earlier{m: len(rest.Slots), table: before, keep: keep, now: translate(before.List, list)}
	past := make([][pastMax]uint16, len(rest.Slots))
	remembered := make([]bool, len(list))
	any := false
	for i, home := range rest.Slots {
		var moved bool
		past[i], moved = b.slot(i, home)
		changed = changed || moved
		for _, p := range past[i] {
			if p != NoBackend {
				any, remembered[p] = true, true
			}
		}
	}
	if !any {
		return rest, changed
	}
	return compact(LookupTable{rest.Slots, past, list}, len(rest.List), remembered), changed
}

// translate says for each place in from at which place of to the same backend
// is, or NoBackend.
func translate(from, to []lb.BackendID) []uint16 {
	at := make(map[lb.BackendID]uint16, len(to))
	for i, id := range to {
		at[id] = uint16(i)
	}
	out := make([]uint16, len(from))
	for i, id := range from {
		if j, ok := at[id]; ok {
			out[i] = j
		} else {
			out[i] = NoBackend
		}
	}
	return out
}

// earlier reads an earlier table in terms of a new one.
type earlier struct {
	m     int // slots of the new table
	table LookupTable
	keep  bool
	now   []uint16 // place in the new List of each place in the old one
}

// slot returns the past of the new slot i. A table that has grown has, for each
// new slot, one or two old ones from which flows come; all of them count.
func (e earlier) slot(i int, home uint16) (past [pastMax]uint16, changed bool) {
	for k := range past {
		past[k] = NoBackend
	}
	n := 0
	remember := func(p uint16) {
		if p != NoBackend && p != home && n < pastMax && !slices.Contains(past[:n], p) {
			past[n] = p
			n++
		}
	}
	from, to := sameFlows(i, e.m, len(e.table.Slots))
	for o := from; o <= to; o++ {
		p := e.now[e.table.Slots[o]]
		changed = changed || p != home
		remember(p)
	}
	for k := 0; e.keep && e.table.Past != nil && k < pastMax; k++ {
		for o := from; o <= to; o++ {
			if p := e.table.Past[o][k]; p != NoBackend {
				remember(e.now[p])
			}
		}
	}
	return past, changed
}

// sameFlows returns the slots of a table of size old that the flows of slot i of
// a table of size m have there. A flow's slot is its 32-bit hash scaled to the
// size: hash * size >> 32.
func sameFlows(i, m, old int) (from, to int) {
	if m == old {
		return i, i
	}
	low := (uint64(i)<<32 + uint64(m) - 1) / uint64(m)
	high := (uint64(i+1)<<32+uint64(m)-1)/uint64(m) - 1
	return int(low * uint64(old) >> 32), int(high * uint64(old) >> 32)
}

// compact drops from the list those behind the first current ones that no slot
// remembers.
func compact(t LookupTable, current int, remembered []bool) LookupTable {
	list := slices.Clone(t.List[:current])
	place := make([]uint16, len(t.List))
	for i, id := range t.List {
		switch {
		case i < current:
			place[i] = uint16(i)
		case remembered[i]:
			place[i] = uint16(len(list))
			list = append(list, id)
		}
	}
	for i := range t.Past {
		for k, p := range t.Past[i] {
			if p != NoBackend {
				t.Past[i][k] = place[p]
			}
		}
	}
	t.List = list
	return t
}

// reached says that the tick now is not before until; both wrap.
func reached(now, until uint32) bool { return int32(now-until) >= 0 }
