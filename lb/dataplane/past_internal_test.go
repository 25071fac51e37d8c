// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/lb"
)

const none = NoBackend

func TestWithPastOneSlot(t *testing.T) {
	// The old table: backend 10 is home, and 20, 30, 40 are the past.
	before := LookupTable{Slots: []uint16{0}, Past: [][3]uint16{{1, 2, 3}}, List: []lb.BackendID{10, 20, 30, 40}}
	tests := []struct {
		name    string
		home    lb.BackendID
		others  []lb.BackendID
		forget  bool
		past    []lb.BackendID
		changed bool
	}{
		{"at rest", 10, []lb.BackendID{20, 30, 40}, false, []lb.BackendID{20, 30, 40}, false},
		{"time is over", 10, []lb.BackendID{20, 30, 40}, true, nil, false},
		{"changed: the oldest falls out", 50, []lb.BackendID{10, 20, 30, 40}, false, []lb.BackendID{10, 20, 30}, true},
		{"changed, time is over", 50, []lb.BackendID{10, 20, 30, 40}, true, []lb.BackendID{10}, true},
		{"back to an earlier home", 20, []lb.BackendID{10, 30, 40}, false, []lb.BackendID{10, 30, 40}, true},
		{"home is gone", 50, []lb.BackendID{20, 40}, false, []lb.BackendID{20, 40}, true},
		{"all are gone", 50, nil, false, nil, true},
		{"only the past is gone", 10, nil, false, nil, false},
		{"strangers live too", 10, []lb.BackendID{5, 30, 60}, false, []lb.BackendID{30}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rest := LookupTable{Slots: []uint16{0}, List: []lb.BackendID{tt.home}}
			got, changed := withPast(rest, before, !tt.forget, tt.others)
			if changed != tt.changed {
				t.Errorf("changed %v, want %v", changed, tt.changed)
			}
			if (got.Past == nil) != (len(tt.past) == 0) {
				t.Errorf("Past %v, want nil exactly when nothing is remembered", got.Past)
			}
			want := slices.Concat([]lb.BackendID{tt.home}, tt.past)
			slices.Sort(want[1:])
			if !slices.Equal(got.List, want) {
				t.Errorf("List %v, want %v", got.List, want)
			}
			var past []lb.BackendID
			for _, p := range pastOf(got, 0) {
				if p != none {
					past = append(past, got.List[p])
				}
			}
			if diff := cmp.Diff(tt.past, past); diff != "" {
				t.Errorf("past (-want +got):\n%s", diff)
			}
		})
	}
}

func pastOf(t LookupTable, slot int) []uint16 {
	if t.Past == nil {
		return nil
	}
	return t.Past[slot][:]
}

// Random histories against a list per slot of all homes that it ever had.
func TestWithPastOracle(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	const m = 40
	for range 50 {
		history := make([][]lb.BackendID, m) // of each slot, latest first
		var table LookupTable
		for step := range 8 {
			alive := rng.Perm(10)[:2+rng.IntN(8)]
			slices.Sort(alive)
			var ids []lb.BackendID
			for _, a := range alive {
				ids = append(ids, lb.BackendID(a+1))
			}
			cut := 1 + rng.IntN(len(ids))
			rest := LookupTable{Slots: make([]uint16, m), List: ids[:cut]}
			for i := range rest.Slots {
				rest.Slots[i] = uint16(rng.IntN(cut))
			}
			if step == 0 {
				table = rest
			} else {
				table, _ = withPast(rest, table, true, ids[cut:])
			}
			for i := range m {
				home := table.List[table.Slots[i]]
				history[i] = expect(history[i], home, ids)
				got := []lb.BackendID{home}
				for _, p := range pastOf(table, i) {
					if p != none {
						got = append(got, table.List[p])
					}
				}
				if !slices.Equal(got, history[i]) {
					t.Fatalf("step %d slot %d: home and past %v, want %v", step, i, got, history[i])
				}
			}
		}
	}
}

func expect(history []lb.BackendID, home lb.BackendID, alive []lb.BackendID) []lb.BackendID {
	out := []lb.BackendID{home}
	for _, h := range history {
		if h != home && slices.Contains(alive, h) && len(out) < 4 {
			out = append(out, h)
		}
	}
	return out
}

// sameFlows against the definition: the slots of every hash near the borders.
func TestSameFlows(t *testing.T) {
	slot := func(hash uint32, m int) int { return int(uint64(hash) * uint64(m) >> 32) }
	for _, size := range [][2]int{{251, 251}, {509, 251}, {1021, 251}, {251, 509}, {65521, 4093}, {3, 2}} {
		m, old := size[0], size[1]
		from, to := make([]int, m), make([]int, m)
		for i := range from {
			from[i], to[i] = old, -1
		}
		note := func(hash uint32) {
			i, o := slot(hash, m), slot(hash, old)
			from[i], to[i] = min(from[i], o), max(to[i], o)
		}
		for k := range max(m, old) {
			for _, n := range []int{m, old} {
				border := uint32(uint64(k) << 32 / uint64(n))
				note(border - 1)
				note(border)
				note(border + 1)
			}
		}
		for i := range from {
			if a, b := sameFlows(i, m, old); a != from[i] || b != to[i] {
				t.Fatalf("sameFlows(%d, %d, %d) = %d, %d; want %d, %d", i, m, old, a, b, from[i], to[i])
			}
		}
	}
}

func TestReachedWraps(t *testing.T) {
	for _, tt := range []struct {
		now, until uint32
		want       bool
	}{
		{5, 5, true}, {5, 6, false}, {6, 5, true},
		{0xffffffff, 3, false}, {3, 0xffffffff, true}, {0, 0xffffffff, true},
	} {
		if got := reached(tt.now, tt.until); got != tt.want {
			t.Errorf("reached(%d, %d) = %v", tt.now, tt.until, got)
		}
	}
}
