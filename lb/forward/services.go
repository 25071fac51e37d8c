// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/dataplane"
	"github.com/fairlead/fairlead/lb/maglev"
	"github.com/fairlead/fairlead/lb/packet"
)

// region is a lookup table in its place. Like a region of the flat BPF array
// it may be overwritten while a service entry still names it.
type region struct {
	ref   dataplane.TableRef
	table dataplane.LookupTable
	stale bool
}

// lines are the first line of the region and the one behind its last.
func (r *region) lines() (from, to uint32) {
	lines := dataplane.SlotLines(len(r.table.Slots), r.ref.Transition) + dataplane.ListLines(len(r.table.List))
	return r.ref.Line, r.ref.Line + lines
}

// Bounds of a TableRef's fields.
const (
	maxLine       = 1<<24 - 1
	maxGeneration = 1<<18 - 1
)

// WriteTable implements dataplane.Maps.
func (t *Tables) WriteTable(ref dataplane.TableRef, table dataplane.LookupTable) error {
	r := &region{ref: ref, table: dataplane.LookupTable{
		Slots: slices.Clone(table.Slots), Past: slices.Clone(table.Past), List: slices.Clone(table.List),
	}}
	if err := t.checkRegion(r); err != nil {
		return fmt.Errorf("table at line %d: %w", ref.Line, err)
	}
	from, to := r.lines()
	t.mu.Lock()
	defer t.mu.Unlock()
	first, _ := slices.BinarySearchFunc(t.regions, from, func(r *region, line uint32) int {
		if _, end := r.lines(); end <= line {
			return -1
		}
		return 1
	})
	last := first
	for ; last < len(t.regions) && t.regions[last].ref.Line < to; last++ {
		if t.regions[last].ref == ref { // written again: whoever names it sees it
			t.regions[last].table = r.table
			r = t.regions[last]
			continue
		}
		t.regions[last].stale = true
	}
	t.regions = slices.Replace(t.regions, first, last, r)
	return nil
}

// ReadTable implements dataplane.Maps.
func (t *Tables) ReadTable(ref dataplane.TableRef) (table dataplane.LookupTable, ok bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	r := t.regionAt(ref)
	if r == nil || r.stale {
		return table, false
	}
	return r.copy(), true
}

// copy is the table with memory of its own.
func (r *region) copy() dataplane.LookupTable {
	return dataplane.LookupTable{
		Slots: slices.Clone(r.table.Slots), Past: slices.Clone(r.table.Past), List: slices.Clone(r.table.List),
	}
}

func (t *Tables) checkRegion(r *region) error {
	if err := checkRef(r.ref); err != nil {
		return err
	}
	m := maglev.Sizes[r.ref.Size-1]
	if len(r.table.Slots) != m {
		return fmt.Errorf("%d slots: want %d", len(r.table.Slots), m)
	}
	if past := len(r.table.Past); r.ref.Transition && past != m || !r.ref.Transition && past != 0 {
		return fmt.Errorf("%d pasts for %d slots, transition %t", past, m, r.ref.Transition)
	}
	if _, end := r.lines(); end > t.limits.Lines {
		return fmt.Errorf("needs lines up to %d of %d", end, t.limits.Lines)
	}
	for _, id := range r.table.List {
		if err := checkID("backend", id, 1, t.limits.Backends); err != nil {
			return err
		}
	}
	return checkIndexes(r.table)
}

// regionAt is the region that ref names, or nil.
func (t *Tables) regionAt(ref dataplane.TableRef) *region {
	i, found := slices.BinarySearchFunc(t.regions, ref.Line, func(r *region, line uint32) int {
		return cmp.Compare(r.ref.Line, line)
	})
	if !found || t.regions[i].ref != ref {
		return nil
	}
	return t.regions[i]
}

func checkRef(ref dataplane.TableRef) error {
	switch {
	case ref.Size < 1 || int(ref.Size) > len(maglev.Sizes):
		return fmt.Errorf("size %d: want 1 to %d", ref.Size, len(maglev.Sizes))
	case ref.Line > maxLine:
		return fmt.Errorf("line above %d", maxLine)
	case ref.Generation < 1 || ref.Generation > maxGeneration:
		return fmt.Errorf("generation %d: want 1 to %d", ref.Generation, maxGeneration)
	}
	return nil
}

func checkIndexes(table dataplane.LookupTable) error {
	n := len(table.List)
	for slot, index := range table.Slots {
		if int(index) >= n {
			return fmt.Errorf("slot %d: backend %d of %d", slot, index, n)
		}
	}
	for slot, past := range table.Past {
		for _, index := range past {
			if index != dataplane.NoBackend && int(index) >= n {
				return fmt.Errorf("past of slot %d: backend %d of %d", slot, index, n)
			}
		}
	}
	return nil
}

// PutService implements dataplane.Maps.
func (t *Tables) PutService(id lb.ServiceID, e dataplane.ServiceEntry) error {
	if err := checkID("service", id, 0, t.limits.Services); err != nil {
		return err
	}
	if !e.Key.VIP.IsValid() || e.Key.VIP.Is4In6() {
		return fmt.Errorf("service %d: vip %s: not an address", id, e.Key.VIP)
	}
	s := service{entry: e, vip: packet.AddrOf(e.Key.VIP), tag: e.Key.Tag()}
	if e.Table != (dataplane.TableRef{}) {
		if err := checkRef(e.Table); err != nil {
			return fmt.Errorf("service %d: table: %w", id, err)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s.region = t.regionAt(e.Table)
	t.services[id] = s
	t.keys.put(keyOf(e.Key), uint32(id))
	return nil
}

// DeleteService implements dataplane.Maps.
func (t *Tables) DeleteService(id lb.ServiceID, key lb.ServiceKey) error {
	if err := checkID("service", id, 0, t.limits.Services); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.keys.deleteOf(keyOf(key), uint32(id))
	t.services[id] = service{}
	return nil
}

func keyOf(k lb.ServiceKey) indexKey {
	vip := packet.AddrOf(k.VIP)
	return keyAt(&vip, k.Port, uint8(k.Proto))
}
