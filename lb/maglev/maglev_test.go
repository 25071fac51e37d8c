// SPDX-License-Identifier: Apache-2.0

package maglev

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/fairlead/fairlead/lb"
)

// backends returns n of them with weight 1: 10.1.x.y:8080.
func backends(n int) []lb.Backend {
	set := make([]lb.Backend, n)
	for i := range set {
		addr := netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})
		set[i] = lb.Backend{Addr: netip.AddrPortFrom(addr, 8080), Node: "a", Weight: 1}
	}
	return set
}

func weighted(weights ...uint16) []lb.Backend {
	set := backends(len(weights))
	for i, w := range weights {
		set[i].Weight = w
	}
	return set
}

func counts(t Table) []int {
	n := make([]int, len(t.Backends))
	for _, s := range t.Slots {
		n[s]++
	}
	return n
}

func TestSizesArePrimes(t *testing.T) {
	for i, m := range Sizes {
		if !prime(m) {
			t.Errorf("Sizes[%d] = %d is no prime", i, m)
		}
	}
	if !slices.Contains(Sizes, DefaultSize) {
		t.Errorf("DefaultSize %d is not in Sizes", DefaultSize)
	}
}

func TestBuildBoundaries(t *testing.T) {
	draining := backends(3)
	for i := range draining {
		draining[i].Draining = true
	}
	tests := []struct {
		name string
		m    int
		set  []lb.Backend
		want []int // slots of each backend
	}{
		{"nil", 251, nil, []int{}},
		{"empty", 251, []lb.Backend{}, []int{}},
		{"all draining", 251, draining, []int{84, 84, 83}},
		{"one", 251, backends(1), []int{251}},
		{"two", 251, backends(2), []int{126, 125}},
		{"one drains", 251, append(backends(2), draining[2]), []int{126, 125}},
		{"smallest size", 2, backends(2), []int{1, 1}},
		{"as many as slots", 5, backends(5), []int{1, 1, 1, 1, 1}},
		{"more than slots", 5, backends(7), []int{1, 1, 1, 1, 1, 0, 0}},
		{"largest size", 65537, backends(2), []int{32769, 32768}},
		{"light beside heavy", 251, weighted(1, 65535), []int{1, 250}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := Build(tt.m, tt.set)
			if (got.Slots == nil) != (len(tt.want) == 0) {
				t.Errorf("Slots has %d entries; want nil for an empty set only", len(got.Slots))
			}
			if diff := cmp.Diff(tt.want, counts(got)); diff != "" {
				t.Errorf("slots per backend (-want +got):\n%s", diff)
			}
		})
	}
}

func TestBuildPanics(t *testing.T) {
	tests := []struct {
		name string
		m    int
		set  []lb.Backend
		want string
	}{
		{"no prime", 4096, backends(1), "maglev: size 4096: want a prime up to 65537"},
		{"no prime, empty set", 0, nil, "maglev: size 0: want a prime up to 65537"},
		{"too large", 65539, backends(1), "maglev: size 65539: want a prime up to 65537"},
		{"weight 0", 251, weighted(0), "maglev: backend 10.1.0.0:8080: weight 0"},
		{"too many", 251, backends(65536), "maglev: 65536 backends: 65535 are the limit"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			defer func() {
				if got := recover(); got != tt.want {
					t.Errorf("panic %v, want %q", got, tt.want)
				}
			}()
			Build(tt.m, tt.set)
		})
	}
}

// With equal weights no backend has more than one slot more than another, so
// for M >= 100*N every share is within 1 % of M/N.
func TestBalance(t *testing.T) {
	for _, m := range []int{251, 4093, 65537} {
		for _, n := range []int{1, 2, 3, 7, 10, 40, 100, 650} {
			if m < 100*n {
				continue
			}
			c := counts(Build(m, backends(n)))
			if spread := slices.Max(c) - slices.Min(c); spread > 1 {
				t.Errorf("M=%d N=%d: shares differ by %d slots, want 1 at most", m, n, spread)
			}
			mean := float64(m) / float64(n)
			if top := float64(slices.Max(c)) / mean; top > 1.01 {
				t.Errorf("M=%d N=%d: largest share is %.4f of the mean", m, n, top)
			}
			if low := float64(slices.Min(c)) / mean; low < 0.99 {
				t.Errorf("M=%d N=%d: smallest share is %.4f of the mean", m, n, low)
			}
		}
	}
}

// For M >= 100*N a backend's slots are within one slot plus 1 % of the share that
// its weight asks for: each of N backends may be up to one turn ahead, and the
// slots that this takes come from all in proportion.
func TestWeightsInProportion(t *testing.T) {
	sets := map[string][]uint16{
		"equal but not 1":   {7, 7, 7},
		"1 2 3":             {1, 2, 3},
		"one heavy":         {100, 1, 1, 1, 1, 1, 1, 1, 1, 1},
		"one light":         {100, 100, 100, 1},
		"no common divisor": {97, 89, 83, 79, 73, 71, 67, 61, 59, 53, 47, 43, 41, 37, 31},
		"full range":        {65535, 32768, 1024, 1},
	}
	for name, weights := range sets {
		t.Run(name, func(t *testing.T) {
			total := 0
			for _, w := range weights {
				total += int(w)
			}
			for _, m := range []int{4093, 65521} {
				for i, got := range counts(Build(m, weighted(weights...))) {
					want := float64(m) * float64(weights[i]) / float64(total)
					if d := float64(got) - want; d > 1+want/100 || d < -1-want/100 {
						t.Errorf("M=%d weight %d: %d slots, want %.1f", m, weights[i], got, want)
					}
				}
			}
		})
	}
}

// moved counts the slots that changed hands although neither their old nor
// their new backend is the one that left or joined.
func moved(with, without Table, changed netip.AddrPort) int {
	n := 0
	for i := range with.Slots {
		a := with.Backends[with.Slots[i]].Addr
		b := without.Backends[without.Slots[i]].Addr
		if a != b && a != changed && b != changed {
			n++
		}
	}
	return n
}

// One of N leaves, or, read backwards, joins: the share of all slots that move
// although they need not. Bounds: 1 % on average, 2 % at worst.
func TestDisruption(t *testing.T) {
	const m = 65537
	figures := map[int]string{10: "0.22 %", 100: "0.56 %", 650: "0.80 %"}
	for _, n := range []int{10, 100, 650} {
		set := backends(n)
		full := Build(m, set)
		sum, worst, trials := 0.0, 0.0, min(n, 20)
		for i := range trials {
			gone := set[i*n/trials].Addr
			rest := slices.DeleteFunc(slices.Clone(set), func(b lb.Backend) bool { return b.Addr == gone })
			share := 100 * float64(moved(full, Build(m, rest), gone)) / m
			sum, worst = sum+share, max(worst, share)
		}
		mean := sum / float64(trials)
		t.Logf("N=%d: %.2f %% of the slots move needlessly on average, %.2f %% at worst (figure to compare: %s)", n, mean, worst, figures[n])
		if mean > 1 || worst > 2 {
			t.Errorf("N=%d: mean %.2f %%, worst %.2f %%: want 1 %% and 2 %% at most", n, mean, worst)
		}
	}
}

func TestInputOrderDoesNotMatter(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	set := backends(50)
	for i := range set {
		set[i].Weight = uint16(1 + rng.IntN(5))
		set[i].Draining = rng.IntN(10) == 0
	}
	want := Build(4093, set)
	for range 20 {
		shuffled := slices.Clone(set)
		rng.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		before := slices.Clone(shuffled)
		if diff := cmp.Diff(want, Build(4093, shuffled), addrs); diff != "" {
			t.Fatalf("another order, another table (-want +got):\n%s", diff)
		}
		if !slices.Equal(before, shuffled) {
			t.Fatal("Build changed its argument")
		}
	}
}

var addrs = cmpopts.EquateComparable(netip.AddrPort{})

func TestHash(t *testing.T) {
	base := Build(251, weighted(1, 2))
	other := backends(2)
	other[1].Addr = netip.AddrPortFrom(other[1].Addr.Addr(), 8081)
	tests := []struct {
		name  string
		table Table
		equal bool
	}{
		{"same", Build(251, weighted(1, 2)), true},
		{"node does not matter", Build(251, func() []lb.Backend { s := weighted(1, 2); s[0].Node = "b"; return s }()), true},
		{"size", Build(509, weighted(1, 2)), false},
		{"weight", Build(251, weighted(1, 3)), false},
		{"weights swapped", Build(251, weighted(2, 1)), false},
		{"port", Build(251, other), false},
		{"fewer", Build(251, weighted(1)), false},
		{"empty", Build(251, nil), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.table.Hash == base.Hash; got != tt.equal {
				t.Errorf("hashes %#x and %#x: equal %v, want %v", tt.table.Hash, base.Hash, got, tt.equal)
			}
		})
	}
}

// oracle is the pseudo code of the paper: the whole permutation of every
// backend as a matrix. For equal weights only.
func oracle(m int, set []lb.Backend) []uint16 {
	matrix := make([][]int, len(set))
	for i, b := range set {
		offset, skip := permutation(m, b.Addr)
		for j := range m {
			matrix[i] = append(matrix[i], (int(offset)+j*int(skip))%m)
		}
	}
	next := make([]int, len(set))
	entry := make([]int, m)
	for i := range entry {
		entry[i] = -1
	}
	for n := 0; n < m; {
		for i := range set {
			c := matrix[i][next[i]]
			for entry[c] >= 0 {
				next[i]++
				c = matrix[i][next[i]]
			}
			entry[c] = i
			next[i]++
			if n++; n == m {
				break
			}
		}
	}
	slots := make([]uint16, m)
	for i, e := range entry {
		slots[i] = uint16(e)
	}
	return slots
}

func TestAgreesWithThePaper(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 40 {
		m := []int{2, 3, 5, 7, 13, 251, 509, 1021, 4093}[rng.IntN(9)]
		set := map[netip.AddrPort]bool{}
		for range 1 + rng.IntN(60) {
			addr := netip.AddrFrom4([4]byte{10, 0, byte(rng.IntN(4)), byte(rng.IntN(256))})
			set[netip.AddrPortFrom(addr, uint16(8000+rng.IntN(3)))] = true
		}
		var list []lb.Backend
		weight := uint16(1 + rng.IntN(9))
		for ap := range set {
			list = append(list, lb.Backend{Addr: ap, Weight: weight})
		}
		got := Build(m, list)
		if want := oracle(m, got.Backends); !slices.Equal(want, got.Slots) {
			t.Fatalf("M=%d N=%d: not the paper's table", m, len(list))
		}
	}
}

func BenchmarkBuild(b *testing.B) {
	for _, n := range []int{3, 10, 100, 1000} {
		b.Run(fmt.Sprintf("M=65537/N=%d", n), func(b *testing.B) {
			set := backends(n)
			b.ReportAllocs()
			for b.Loop() {
				Build(65537, set)
			}
		})
	}
}
