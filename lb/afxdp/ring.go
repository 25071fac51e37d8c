// SPDX-License-Identifier: Apache-2.0

package afxdp

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ring is memory that one producer and one consumer share, one of them the
// kernel. The indexes run freely over all of uint32, and wrap; their difference
// is the number of entries in between. Publishing an index is an atomic store
// and looking at the other side's an atomic load: what was written to the
// entries before the one is seen after the other.
//
// No ring here can overflow: each has an entry for every frame that it can be given.
type ring[E any] struct {
	producer *uint32
	consumer *uint32
	flags    *uint32
	entries  []E
	mask     uint32
}

// ringAt lays a ring over memory that the kernel described by offset.
func ringAt[E any](memory []byte, offset unix.XDPRingOffset, entries int) ring[E] {
	return ring[E]{
		producer: (*uint32)(unsafe.Pointer(&memory[offset.Producer])),
		consumer: (*uint32)(unsafe.Pointer(&memory[offset.Consumer])),
		flags:    (*uint32)(unsafe.Pointer(&memory[offset.Flags])),
		entries:  unsafe.Slice((*E)(unsafe.Pointer(&memory[offset.Desc])), entries),
		mask:     uint32(entries - 1),
	}
}

// mapRing maps one of the socket's rings. The memory is the caller's to unmap.
func mapRing[E any](fd int, page int64, offset unix.XDPRingOffset, entries int) (ring[E], []byte, error) {
	var e E
	length := int(offset.Desc) + entries*int(unsafe.Sizeof(e))
	memory, err := unix.Mmap(fd, page, length, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return ring[E]{}, nil, fmt.Errorf("map ring of %d entries: %w", entries, err)
	}
	return ringAt[E](memory, offset, entries), memory, nil
}

// needsWakeup says that the kernel sleeps until a system call wakes it.
func (r *ring[E]) needsWakeup() bool {
	return atomic.LoadUint32(r.flags)&unix.XDP_RING_NEED_WAKEUP != 0
}

// producer is our end of the fill and TX rings.
type producer[E any] struct {
	ring[E]
	next      uint32 // index of the next entry
	published uint32
}

func producerOf[E any](r ring[E]) producer[E] {
	at := atomic.LoadUint32(r.producer)
	return producer[E]{ring: r, next: at, published: at}
}

// put adds an entry, which the kernel sees with the next publish.
func (p *producer[E]) put(e E) {
	p.entries[p.next&p.mask] = e
	p.next++
}

// publish shows the kernel what was put, and returns how many entries that were.
func (p *producer[E]) publish() int {
	n := p.next - p.published
	if n > 0 {
		p.published = p.next
		atomic.StoreUint32(p.ring.producer, p.next)
	}
	return int(n)
}

// left is how many published entries the kernel says it has not taken yet.
func (p *producer[E]) left() int {
	return int(p.published - atomic.LoadUint32(p.consumer))
}

// consumer is our end of the RX and completion rings.
type consumer[E any] struct {
	ring[E]
	next uint32 // index of the next entry
	end  uint32 // the kernel's index when last looked at
}

func consumerOf[E any](r ring[E]) consumer[E] {
	at := atomic.LoadUint32(r.consumer)
	return consumer[E]{ring: r, next: at, end: at}
}

// available is how many entries can be taken. It looks at the shared index,
// which costs a cache miss, only when the entries seen before are used up.
func (c *consumer[E]) available() int {
	if c.next == c.end {
		c.end = atomic.LoadUint32(c.producer)
	}
	return int(c.end - c.next)
}

// take returns the next entry. The caller has seen that it is available.
func (c *consumer[E]) take() E {
	e := c.entries[c.next&c.mask]
	c.next++
	return e
}

// release gives the entries that were taken back to the kernel.
func (c *consumer[E]) release() {
	atomic.StoreUint32(c.ring.consumer, c.next)
}
