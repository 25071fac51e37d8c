// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/fairlead/fairlead/lb"
)

func TestPool(t *testing.T) {
	p := newPool(1, 6, map[uint32]bool{2: true, 4: true})
	var got []uint32
	take := func() {
		id, ok := p.take()
		if !ok {
			id = 0
		}
		got = append(got, id)
	}
	take()
	p.give(1)
	p.give(4) // taken over, freed before the fresh ones reach it
	for range 5 {
		take()
	}
	p.give(5)
	p.give(3)
	take()
	take()
	if want := []uint32{1, 3, 5, 1, 4, 0, 5, 3}; !slices.Equal(got, want) {
		t.Errorf("ids %v, want %v (0: none left)", got, want)
	}
}

func TestPoolWithoutRoom(t *testing.T) {
	for _, limit := range []int{-1, 0, 1} {
		p := newPool(1, limit, nil)
		if id, ok := p.take(); ok {
			t.Errorf("limit %d: got id %d", limit, id)
		}
	}
}

// filled is a table of 251 slots (9 lines, 36 in transition) and a list of n.
func filled(n int, hash uint16, transition bool) content {
	c := content{size: 1, hash: hash}
	c.table.Slots = make([]uint16, 251)
	if transition {
		c.table.Past = make([][3]uint16, 251)
	}
	c.table.List = make([]lb.BackendID, n)
	return c
}

func TestRegionsReuseTheOldestThatFits(t *testing.T) {
	r := newRegions(30)
	take := func(want uint32) *region {
		t.Helper()
		g, err := r.take(filled(1, 0, false)) // 10 lines
		if err != nil || g.ref.Line != want {
			t.Fatalf("take = %+v, %v; want line %d", g, err, want)
		}
		return g
	}
	a, b, c := take(0), take(10), take(20)
	r.release(b)
	r.release(a)
	r.release(c)
	b, a = take(10), take(0)
	if a.ref.Generation != 5 || b.ref.Generation != 4 {
		t.Errorf("generations %d and %d, want 4 and 5", b.ref.Generation, a.ref.Generation)
	}
	r.release(b)
	r.release(a)
	// 30 lines are free in three pieces: only merged do they hold 28.
	c, err := r.take(filled(271, 0, false))
	if err != nil || c.ref.Line != 0 || c.lines != 28 {
		t.Errorf("take = %+v, %v; want 28 lines from line 0", c, err)
	}
}

func TestRegionsFull(t *testing.T) {
	for _, lines := range []uint32{0, 9} {
		r := newRegions(lines)
		_, err := r.take(filled(1, 0, false))
		if !errors.Is(err, ErrFull) {
			t.Errorf("%d lines: %v, want ErrFull", lines, err)
		}
	}
}

func TestGenerationWrapsPastZero(t *testing.T) {
	r := newRegions(100)
	r.generation = maxGenerations - 2
	for _, want := range []uint32{maxGenerations - 1, 1, 2} {
		g, err := r.take(filled(1, 0, false))
		if err != nil || g.ref.Generation != want {
			t.Errorf("generation %d, %v; want %d", g.ref.Generation, err, want)
		}
	}
}

func TestRegionsAreFoundByAllOfTheirContent(t *testing.T) {
	r := newRegions(1000)
	c := filled(2, 7, true)
	g, err := r.take(c)
	if err != nil {
		t.Fatal(err)
	}
	if r.find(c) != nil {
		t.Error("found before it is written")
	}
	r.markWritten(g)
	if r.find(filled(2, 7, true)) != g {
		t.Error("equal content is not found")
	}
	for name, change := range map[string]func(*content){
		"hash": func(c *content) { c.hash++ },
		"slot": func(c *content) { c.table.Slots[250] = 1 },
		"past": func(c *content) { c.table.Past[250][2] = 1 },
		"list": func(c *content) { c.table.List[1] = 1 },
		"rest": func(c *content) { c.table.Past = nil },
		"size": func(c *content) { c.size = 2 },
	} {
		other := filled(2, 7, true)
		change(&other)
		if r.find(other) != nil {
			t.Errorf("found in spite of another %s", name)
		}
	}
	r.release(g)
	if r.find(c) != nil {
		t.Error("found after it was freed")
	}
}

// Random takes, releases and adoptions: no two regions overlap and no line is lost.
func TestRegionsOracle(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	r := newRegions(500)
	owner := make([]*region, 500)
	var live []*region
	own := func(g *region, by *region) {
		for l := g.ref.Line; l < g.ref.Line+g.lines; l++ {
			if by != nil && owner[l] != nil {
				t.Fatalf("line %d is given twice", l)
			}
			owner[l] = by
		}
	}
	for range 5000 {
		if rng.IntN(2) == 0 || len(live) == 0 {
			if g, err := r.take(filled(1+rng.IntN(40), 0, rng.IntN(2) == 0)); err == nil {
				own(g, g)
				live = append(live, g)
			}
		} else {
			i := rng.IntN(len(live))
			own(live[i], nil)
			r.release(live[i])
			live = slices.Delete(live, i, i+1)
		}
		lines := uint32(0)
		for _, e := range r.free {
			lines += e.lines
			if owner[e.line] != nil {
				t.Fatalf("line %d is free and used", e.line)
			}
		}
		for _, g := range live {
			lines += g.lines
		}
		if lines != 500 {
			t.Fatalf("%d lines of 500 are accounted for", lines)
		}
	}
}

func TestAdopt(t *testing.T) {
	r := newRegions(40)
	table := filled(1, 0, false).table
	ref := func(line uint32) TableRef { return TableRef{Line: line, Size: 1, Generation: 9 + line} }
	a := r.adopt(ref(5), table)
	if r.adopt(ref(14), table) != nil || r.adopt(ref(31), table) != nil {
		t.Error("adopted a table that overlaps another one or ends outside")
	}
	outside := r.adoptUnreadable(ref(35), 1)
	unreadable := r.adoptUnreadable(ref(20), 1)
	squeezed := r.adoptUnreadable(ref(30), 100)
	unknown := r.adoptUnreadable(TableRef{Line: 30, Size: 31, Generation: 1}, 1)
	for name, tt := range map[string]struct {
		g        *region
		readable bool
		lines    uint32
	}{
		"good": {a, true, 10}, "outside": {outside, false, 0},
		"unreadable": {unreadable, false, 10}, "unreadable, list unknown": {squeezed, false, 10}, "of unknown size": {unknown, false, 0},
	} {
		if tt.g.readable != tt.readable || tt.g.lines != tt.lines {
			t.Errorf("%s: readable %v, %d lines; want %v, %d", name, tt.g.readable, tt.g.lines, tt.readable, tt.lines)
		}
	}
	if want := []extent{{0, 5}, {15, 5}}; !slices.Equal(r.free, want) {
		t.Errorf("free %v, want %v", r.free, want)
	}
	if r.generation != 9+35 {
		t.Errorf("generation %d, want the highest seen", r.generation)
	}
}
