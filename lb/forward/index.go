// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"encoding/binary"

	"github.com/fairlead/fairlead/lb/packet"
)

// indexKey is an address with what is looked up at it, as words.
type indexKey struct{ high, low, rest uint64 }

// keyAt is the key of an address, port and protocol; without port and protocol
// it is that of the address alone.
func keyAt(a *packet.Addr, port uint16, proto uint8) indexKey {
	return indexKey{
		binary.LittleEndian.Uint64(a[:8]), binary.LittleEndian.Uint64(a[8:]),
		uint64(port) | uint64(proto)<<16,
	}
}

func (k indexKey) hash() uint64 {
	const multiplier = 0x9e3779b97f4a7c15
	h := (k.high ^ k.rest) * multiplier
	h = (h ^ h>>32 ^ k.low) * multiplier
	return h ^ h>>29
}

// index maps keys to numbers: a Go map costs a third of a packet's time. It is
// open addressing with linear probing, at most half full. What is put there
// comes from the cluster's configuration, so nobody chooses keys that collide.
type index struct {
	places []indexPlace // a power of two
	used   int
}

type indexPlace struct {
	key   indexKey
	value uint32
	taken bool
}

const indexMin = 16 // places of the smallest index

// find is the place of k, or the free one where it would go.
func (x *index) find(k indexKey) int {
	mask := uint64(len(x.places) - 1)
	at := k.hash() & mask
	for x.places[at].taken && x.places[at].key != k {
		at = (at + 1) & mask
	}
	return int(at)
}

func (x *index) get(k indexKey) (value uint32, ok bool) {
	if x.used == 0 {
		return 0, false
	}
	p := &x.places[x.find(k)]
	return p.value, p.taken
}

func (x *index) put(k indexKey, value uint32) {
	if 2*(x.used+1) > len(x.places) {
		x.grow()
	}
	p := &x.places[x.find(k)]
	if !p.taken {
		x.used++
	}
	*p = indexPlace{k, value, true}
}

func (x *index) grow() {
	old := x.places
	x.places = make([]indexPlace, max(indexMin, 2*len(old)))
	for _, p := range old {
		if p.taken {
			x.places[x.find(p.key)] = p
		}
	}
}

// deleteOf deletes k if that is the value's.
func (x *index) deleteOf(k indexKey, value uint32) {
	if v, ok := x.get(k); ok && v == value {
		x.delete(k)
	}
}

// all calls with every key and value.
func (x *index) all(yield func(indexKey, uint32) bool) {
	for _, p := range x.places {
		if p.taken && !yield(p.key, p.value) {
			return
		}
	}
}

// addr is the key's address.
func (k indexKey) addr() (a packet.Addr) {
	binary.LittleEndian.PutUint64(a[:8], k.high)
	binary.LittleEndian.PutUint64(a[8:], k.low)
	return a
}

// delete closes the gap, so that what lies behind it is still found.
func (x *index) delete(k indexKey) {
	if x.used == 0 {
		return
	}
	gap := x.find(k)
	if !x.places[gap].taken {
		return
	}
	x.used--
	mask := len(x.places) - 1
	for at := (gap + 1) & mask; x.places[at].taken; at = (at + 1) & mask {
		home := int(x.places[at].key.hash()) & mask
		if (at-home)&mask >= (at-gap)&mask {
			x.places[gap] = x.places[at]
			gap = at
		}
	}
	x.places[gap] = indexPlace{}
}
