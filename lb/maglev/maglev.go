// SPDX-License-Identifier: Apache-2.0

// Package maglev builds lookup tables after "Maglev: A Fast and Reliable
// Software Network Load Balancer" (Eisenbud et al., NSDI 2016), section 3.4. It
// stands on road B and is pure: equal sets of backends give equal tables on
// every machine, whatever the order they come in.
package maglev

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/lb"
)

// Sizes are the table sizes that a service can have: the primes next below the
// powers of two. A datapath names a size by its place in this list, so the list
// only ever grows at its end.
var Sizes = []int{251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521}

// DefaultSize is the size for a service that asks for none.
const DefaultSize = 4093

const (
	maxSize     = 65537
	maxBackends = 0xffff // 2-byte slots, one value kept for "none"
)

// Table is a lookup table and the set that it was built from.
type Table struct {
	// Slots hold indexes into Backends; nil when Backends is empty.
	Slots []uint16
	// Backends are sorted by address; none of them is draining.
	Backends []lb.Backend
	// Hash names the content: it covers the size and every backend's address,
	// port and weight. Tables with equal hashes on two nodes are the same table.
	Hash uint64
}

// Build makes the table of m slots for those backends that are not draining, or
// for all where all are: without a table their old flows would end, too. No two
// may have the same address. It panics on what no caller may pass: m not a
// prime up to 65537, a weight of 0, or more than 65535 backends. Where there are
// more backends than slots, those with the highest addresses get none.
func Build(m int, backends []lb.Backend) Table {
	if m > maxSize || !prime(m) {
		panic(fmt.Sprintf("maglev: size %d: want a prime up to %d", m, maxSize))
	}
	set := candidates(backends)
	t := Table{Backends: set, Hash: contentHash(m, set)}
	if len(set) > 0 {
		t.Slots = fill(m, set)
	}
	return t
}

func candidates(backends []lb.Backend) []lb.Backend {
	allDrain := !slices.ContainsFunc(backends, func(b lb.Backend) bool { return !b.Draining })
	var set []lb.Backend
	for _, b := range backends {
		if b.Draining && !allDrain {
			continue
		}
		if b.Weight == 0 {
			panic(fmt.Sprintf("maglev: backend %s: weight 0", b.Addr))
		}
		set = append(set, b)
	}
	if len(set) > maxBackends {
		panic(fmt.Sprintf("maglev: %d backends: %d are the limit", len(set), maxBackends))
	}
	slices.SortFunc(set, func(a, b lb.Backend) int { return a.Addr.Compare(b.Addr) })
	return set
}

// walker is a backend on its way through its permutation of the slots. It keeps
// its place instead of the permutation: the next position is one addition away.
type walker struct {
	next, skip uint32
	weight     uint32
	// credit grows by weight in every round; a turn costs the heaviest
	// backend's weight. It begins so high that the first round is a turn for
	// everybody: no backend is left without a slot while there are enough.
	credit uint32
}

func fill(m int, set []lb.Backend) []uint16 {
	slots := make([]uint16, m)
	taken := make([]uint64, m/64+1)
	walkers, price := start(m, set)
	for left := m; ; {
		for i := range walkers {
			w := &walkers[i]
			if w.credit += w.weight; w.credit < price {
				continue
			}
			w.credit -= price
			slots[w.claim(taken, uint32(m))] = uint16(i)
			if left--; left == 0 {
				return slots
			}
		}
	}
}

func start(m int, set []lb.Backend) (walkers []walker, price uint32) {
	for _, b := range set {
		price = max(price, uint32(b.Weight))
	}
	walkers = make([]walker, len(set))
	for i, b := range set {
		offset, skip := permutation(m, b.Addr)
		weight := uint32(b.Weight)
		walkers[i] = walker{next: offset, skip: skip, weight: weight, credit: price - weight}
	}
	return walkers, price
}

// claim takes the next free slot of the permutation; there must be one. taken
// has a bit per slot: it stays in the first cache, which the slots do not.
func (w *walker) claim(taken []uint64, m uint32) uint32 {
	at, skip := w.next, w.skip
	for taken[at/64]&(1<<(at%64)) != 0 {
		if at += skip; at >= m {
			at -= m
		}
	}
	taken[at/64] |= 1 << (at % 64)
	if w.next = at + skip; w.next >= m {
		w.next -= m
	}
	return at
}

// permutation is the paper's offset, below m, and skip, from 1 to m-1.
func permutation(m int, addr netip.AddrPort) (offset, skip uint32) {
	h := newHash().address(addr)
	offset = uint32(mix(uint64(h)) % uint64(m))
	skip = uint32(mix(uint64(h)^0x9e3779b97f4a7c15)%uint64(m-1)) + 1
	return offset, skip
}

func contentHash(m int, set []lb.Backend) uint64 {
	h := newHash().bytes(binary.BigEndian.AppendUint32(nil, uint32(m)))
	for _, b := range set {
		h = h.address(b.Addr).uint16(b.Weight)
	}
	return mix(uint64(h))
}

// hash is 64-bit FNV-1a. Alone its low bits are weak: read it through mix.
type hash uint64

func newHash() hash { return 0xcbf29ce484222325 }

func (h hash) bytes(p []byte) hash {
	for _, c := range p {
		h = (h ^ hash(c)) * 0x100000001b3
	}
	return h
}

func (h hash) uint16(v uint16) hash {
	return h.bytes([]byte{byte(v >> 8), byte(v)})
}

func (h hash) address(ap netip.AddrPort) hash {
	addr := ap.Addr().As16()
	return h.bytes(addr[:]).uint16(ap.Port())
}

// mix is the finalizer of splitmix64: every bit in changes every bit out.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func prime(m int) bool {
	for d := 2; d*d <= m; d++ {
		if m%d == 0 {
			return false
		}
	}
	return m >= 2
}
