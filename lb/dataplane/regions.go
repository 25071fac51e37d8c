// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"slices"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/maglev"
)

const (
	maxLines       = 1 << 24 // bits of TableRef.Line
	maxGenerations = 1 << 18 // bits of TableRef.Generation
)

// content is a lookup table on its way to its place. Afterwards the datapath alone
// has it: 10,000 of them would be most of the agent's memory.
type content struct {
	size  uint8 // as in TableRef
	hash  uint16
	table LookupTable
}

func (c content) transition() bool { return c.table.Past != nil }

func (c content) lines() uint32 {
	return SlotLines(len(c.table.Slots), c.transition()) + ListLines(len(c.table.List))
}

// region is a place in the line array. Service ports with equal content share it.
type region struct {
	likeness
	list  []lb.BackendID // what the slots refer to
	ref   TableRef
	lines uint32
	users int
	// readable is false for a region that was taken over and whose content is
	// not known or not sane: it is only waited for to be free.
	readable bool
}

type extent struct{ line, lines uint32 }

// likeness stands for a content but for its list: different contents that are
// alike are as rare as collisions of 64-bit hashes, and refer to the same
// backends.
type likeness struct {
	size       uint8
	hash       uint16
	transition bool
	digest     uint64 // of slots and past
}

// regions gives out the line array.
type regions struct {
	total      uint32
	free       []extent // longest free first
	generation uint32   // the last one given out
	written    map[likeness][]*region
	releases   int // how often something became free
	seed       maphash.Seed
	words      []byte // likeness's, from call to call
}

func newRegions(lines uint32) regions {
	lines = min(lines, maxLines)
	r := regions{total: lines, written: map[likeness][]*region{}, seed: maphash.MakeSeed()}
	if lines > 0 {
		r.free = []extent{{0, lines}}
	}
	return r
}

func (r *regions) likeness(c content) likeness {
	words := r.words[:0]
	for _, s := range c.table.Slots {
		words = binary.NativeEndian.AppendUint16(words, s)
	}
	for _, past := range c.table.Past {
		for _, p := range past {
			words = binary.NativeEndian.AppendUint16(words, p)
		}
	}
	r.words = words
	return likeness{c.size, c.hash, c.transition(), maphash.Bytes(r.seed, words)}
}

// find returns a written region of that content, or nil.
func (r *regions) find(c content) *region {
	for _, g := range r.written[r.likeness(c)] {
		if slices.Equal(g.list, c.table.List) {
			return g
		}
	}
	return nil
}

// take gives the content a place, with one user, and the next generation. It is
// not found until it is written.
func (r *regions) take(c content) (*region, error) {
	lines := c.lines()
	line, ok := r.cut(lines)
	if !ok {
		r.merge()
		if line, ok = r.cut(lines); !ok {
			return nil, fmt.Errorf("%w: lookup table of %d lines: %d lines are the limit", ErrFull, lines, r.total)
		}
	}
	r.generation = r.generation%(maxGenerations-1) + 1
	ref := TableRef{Line: line, Size: c.size, Transition: c.transition(), Generation: r.generation, Hash: c.hash}
	return &region{likeness: r.likeness(c), list: c.table.List, ref: ref, lines: lines, users: 1, readable: true}, nil
}

func (r *regions) markWritten(g *region) {
	r.written[g.likeness] = append(r.written[g.likeness], g)
}

// release frees the region when its last user leaves.
func (r *regions) release(g *region) {
	if g == nil {
		return
	}
	if g.users--; g.users > 0 {
		return
	}
	if rest := slices.DeleteFunc(r.written[g.likeness], func(o *region) bool { return o == g }); len(rest) > 0 {
		r.written[g.likeness] = rest
	} else {
		delete(r.written, g.likeness)
	}
	if g.lines > 0 {
		r.free = append(r.free, extent{g.ref.Line, g.lines})
		r.releases++
	}
}

// cut takes lines from the extent that has been free for longest of those that
// are large enough; what is left of it keeps its age.
func (r *regions) cut(lines uint32) (line uint32, ok bool) {
	i := slices.IndexFunc(r.free, func(e extent) bool { return e.lines >= lines })
	if i < 0 {
		return 0, false
	}
	e := r.free[i]
	if e.lines == lines {
		r.free = slices.Delete(r.free, i, i+1)
	} else {
		r.free[i] = extent{e.line + lines, e.lines - lines}
	}
	return e.line, true
}

// merge joins neighbours. Their ages are lost; it is for when nothing fits.
func (r *regions) merge() {
	slices.SortFunc(r.free, func(a, b extent) int { return cmp.Compare(a.line, b.line) })
	var merged []extent
	for _, e := range r.free {
		if n := len(merged); n > 0 && merged[n-1].line+merged[n-1].lines == e.line {
			merged[n-1].lines += e.lines
		} else {
			merged = append(merged, e)
		}
	}
	r.free = merged
}

// adopt takes over a table that lies in the datapath already; nil if it overlaps
// another one or lies outside.
func (r *regions) adopt(ref TableRef, t LookupTable) *region {
	c := content{size: ref.Size, hash: ref.Hash, table: t}
	g := &region{likeness: r.likeness(c), list: t.List, ref: ref, lines: c.lines(), readable: true}
	if !r.reserve(ref.Line, g.lines) {
		return nil
	}
	r.generation = max(r.generation, ref.Generation%maxGenerations)
	r.markWritten(g)
	return g
}

// adoptUnreadable keeps the place of a table whose content is not known from
// being given away while it is in use: the slots, and as much of the list of at
// most n backends as does not belong to another one.
func (r *regions) adoptUnreadable(ref TableRef, n int) *region {
	g := &region{ref: ref}
	r.generation = max(r.generation, ref.Generation%maxGenerations)
	if int(ref.Size) > len(maglev.Sizes) {
		return g
	}
	slots := SlotLines(maglev.Sizes[ref.Size-1], ref.Transition)
	for lines := slots + ListLines(n); lines >= slots; lines-- {
		if r.reserve(ref.Line, lines) {
			g.lines = lines
			break
		}
	}
	return g
}

func (r *regions) reserve(line, lines uint32) bool {
	for i, e := range r.free {
		if line < e.line || uint64(line)+uint64(lines) > uint64(e.line)+uint64(e.lines) {
			continue
		}
		var parts []extent
		if line > e.line {
			parts = append(parts, extent{e.line, line - e.line})
		}
		if end := line + lines; end < e.line+e.lines {
			parts = append(parts, extent{end, e.line + e.lines - end})
		}
		r.free = slices.Replace(r.free, i, i+1, parts...)
		return true
	}
	return false
}
