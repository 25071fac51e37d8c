// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// Random pasts, near the wrap of the clock, against a look at each of them.
func TestPastsOracle(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	var p pasts
	all := make([]*service, 50)
	for i := range all {
		all[i] = &service{id: 1}
	}
	for range 5000 {
		base := ^uint32(0) - 500
		until := max(base+rng.Uint32N(1000), 1)
		if rng.IntN(3) == 0 {
			until = 0
		}
		p.set(all[rng.IntN(len(all))], until)

		now := base + rng.Uint32N(1000)
		var want []*service
		known := 0
		for _, s := range all {
			if s.pastUntil == 0 {
				continue
			}
			known++
			if reached(now, s.pastUntil) {
				want = append(want, s)
			}
			if !reached(s.pastUntil, p[0].pastUntil) {
				t.Fatalf("first is %d, but there is %d", p[0].pastUntil, s.pastUntil)
			}
		}
		got := p.due(now, 0, nil)
		for _, s := range got {
			if !slices.Contains(want, s) {
				t.Fatalf("due at %d: one until %d", now, s.pastUntil)
			}
		}
		if len(got) != len(want) || len(p) != known {
			t.Fatalf("%d of %d are due, want %d of %d", len(got), len(p), len(want), known)
		}
	}
}
