// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"encoding/binary"

	"github.com/fairlead/fairlead/lb/packet"
)

// What fragments are remembered for; abi.h has the same numbers.
const (
	FragmentTicks = 447  // 30 s, as long as Linux waits for the rest
	FragmentsMax  = 8192 // a power of two
)

// fragmentKey names a datagram (RFC 791 section 2.3, RFC 8200 section 4.5).
type fragmentKey struct {
	src, dst packet.Addr
	id       uint32
	proto    uint8
}

// fragment is a datagram whose first fragment was seen.
type fragment struct {
	key              fragmentKey
	tick             uint32
	next             int32 // in the chain of its bucket; 0 is the end
	srcPort, dstPort uint16
	live             bool
}

// Fragments remember the ports of datagrams by their first fragments, so that
// the later ones, which have none, can follow. When it is full, the oldest
// makes way. One goroutine at a time; nothing allocates.
type Fragments struct {
	key    packet.Key
	chains [FragmentsMax]int32 // place of a bucket's first entry; 0: none
	// ring has the entries in the order in which they came; place 0 is unused.
	ring [1 + FragmentsMax]fragment
	last int32
}

// NewFragments makes an empty one; key is this node's secret, so that nobody
// can choose datagrams that meet in one chain.
func NewFragments(key [16]byte) *Fragments { return &Fragments{key: packet.KeyOf(key)} }

func keyOf(p *packet.Packet) fragmentKey {
	return fragmentKey{src: p.Src, dst: p.Dst, id: p.ID, proto: p.Proto}
}

func (f *Fragments) chain(k *fragmentKey) *int32 {
	words := [5]uint64{
		binary.LittleEndian.Uint64(k.src[:8]), binary.LittleEndian.Uint64(k.src[8:]),
		binary.LittleEndian.Uint64(k.dst[:8]), binary.LittleEndian.Uint64(k.dst[8:]),
		uint64(k.id) | uint64(k.proto)<<32,
	}
	return &f.chains[f.key.HashWords(words[:], 0)%FragmentsMax]
}

// Record remembers the ports of a first fragment's datagram.
func (f *Fragments) Record(p *packet.Packet, now uint32) {
	k := keyOf(p)
	chain := f.chain(&k)
	if at := f.find(*chain, &k); at != 0 {
		f.forget(at)
	}
	f.last = f.last%FragmentsMax + 1
	e := &f.ring[f.last]
	if e.live {
		f.forget(f.last)
	}
	*e = fragment{key: k, tick: now, next: *chain, srcPort: p.SrcPort, dstPort: p.DstPort, live: true}
	*chain = f.last
}

// Follow tells a later fragment its datagram's ports. False: the first one was
// not seen, or too long ago.
func (f *Fragments) Follow(p *packet.Packet, now uint32) bool {
	k := keyOf(p)
	at := f.find(*f.chain(&k), &k)
	if at == 0 || now-f.ring[at].tick > FragmentTicks {
		return false
	}
	p.Follow(f.ring[at].srcPort, f.ring[at].dstPort)
	return true
}

func (f *Fragments) find(at int32, k *fragmentKey) int32 {
	for at != 0 && f.ring[at].key != *k {
		at = f.ring[at].next
	}
	return at
}

// forget takes an entry out of its chain.
func (f *Fragments) forget(at int32) {
	e := &f.ring[at]
	link := f.chain(&e.key)
	for *link != at {
		link = &f.ring[*link].next
	}
	*link = e.next
	e.live = false
}
