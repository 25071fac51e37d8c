// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/fairlead/fairlead/lb/maglev"
)

const (
	maxLines       = 1 << 24 // bits of TableRef.Line
	maxGenerations = 1 << 18 // bits of TableRef.Generation
)

// content is a lookup table before it has a place.
type content struct {
	size  uint8 // as in TableRef
	hash  uint16
	table LookupTable
}

func (c content) transition() bool { return c.table.Past != nil }

func (c content) lines() uint32 {
	return SlotLines(len(c.table.Slots), c.transition()) + ListLines(len(c.table.List))
}

func (c content) equal(o content) bool {
	return c.size == o.size && c.hash == o.hash && c.transition() == o.transition() &&
		slices.Equal(c.table.List, o.table.List) && slices.Equal(c.table.Slots, o.table.Slots) &&
		slices.Equal(c.table.Past, o.table.Past)
}

// region is a place in the line array and what lies there. Service ports with
// equal content share it.
type region struct {
	content
	ref   TableRef
	lines uint32
	users int
	// readable is false for a region that was taken over and whose content is
	// not known or not sane: it is only waited for to be free.
	readable bool
}

type extent struct{ line, lines uint32 }

// likeness narrows the search for a region of equal content.
type likeness struct {
	size       uint8
	hash       uint16
	transition bool
}

// regions gives out the line array.
type regions struct {
	total      uint32
	free       []extent // longest free first
	generation uint32   // the last one given out
	written    map[likeness][]*region
	releases   int // how often something became free
}

func newRegions(lines uint32) regions {
	lines = min(lines, maxLines)
	r := regions{total: lines, written: map[likeness][]*region{}}
	if lines > 0 {
		r.free = []extent{{0, lines}}
	}
	return r
}

func (c content) likeness() likeness { return likeness{c.size, c.hash, c.transition()} }

// find returns a written region of that content, or nil.
func (r *regions) find(c content) *region {
	for _, g := range r.written[c.likeness()] {
		if g.equal(c) {
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
	return &region{content: c, ref: ref, lines: lines, users: 1, readable: true}, nil
}

func (r *regions) markWritten(g *region) {
	r.written[g.likeness()] = append(r.written[g.likeness()], g)
}

// release frees the region when its last user leaves.
func (r *regions) release(g *region) {
	if g == nil {
		return
	}
	if g.users--; g.users > 0 {
		return
	}
	like := g.likeness()
	if rest := slices.DeleteFunc(r.written[like], func(o *region) bool { return o == g }); len(rest) > 0 {
		r.written[like] = rest
	} else {
		delete(r.written, like)
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
	g := &region{ref: ref, readable: true, content: content{size: ref.Size, hash: ref.Hash, table: t}}
	g.lines = g.content.lines()
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
