// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/packet"
)

// sourceRanges are the clients that a service admits, in a set per prefix length.
type sourceRanges struct {
	prefixes map[rangeKey]bool
	lengths  []uint8 // those in use, of mapped addresses
}

type rangeKey struct {
	addr packet.Addr
	bits uint8
}

func rangeKeyOf(p netip.Prefix) rangeKey {
	bits := p.Bits()
	if p.Addr().Is4() {
		bits += 96
	}
	return rangeKey{packet.AddrOf(p.Masked().Addr()), uint8(bits)}
}

func (r *sourceRanges) contain(client packet.Addr) bool {
	if r == nil {
		return false
	}
	for _, bits := range r.lengths {
		if r.prefixes[rangeKey{mask(client, bits), bits}] {
			return true
		}
	}
	return false
}

// mask zeroes all but the first bits of an address.
func mask(a packet.Addr, bits uint8) packet.Addr {
	for i := range a {
		switch left := int(bits) - 8*i; {
		case left <= 0:
			a[i] = 0
		case left < 8:
			a[i] &= 0xff << (8 - left)
		}
	}
	return a
}

// PutSourceRange implements dataplane.Maps.
func (t *Tables) PutSourceRange(id lb.ServiceID, p netip.Prefix) error {
	if err := checkID("service", id, 0, t.limits.Services); err != nil {
		return err
	}
	if !p.IsValid() || p.Addr().Is4In6() {
		return fmt.Errorf("source range %s: not a prefix", p)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.ranges[id]
	if r == nil {
		r = &sourceRanges{prefixes: map[rangeKey]bool{}}
		t.ranges[id] = r
	}
	key := rangeKeyOf(p)
	r.prefixes[key] = true
	if !slices.Contains(r.lengths, key.bits) {
		r.lengths = append(r.lengths, key.bits)
	}
	return nil
}

// DeleteSourceRange implements dataplane.Maps.
func (t *Tables) DeleteSourceRange(id lb.ServiceID, p netip.Prefix) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.ranges[id]
	if r == nil {
		return nil
	}
	delete(r.prefixes, rangeKeyOf(p))
	r.lengths = r.usedLengths()
	if len(r.prefixes) == 0 {
		delete(t.ranges, id)
	}
	return nil
}

func (r *sourceRanges) usedLengths() []uint8 {
	used := map[uint8]bool{}
	for key := range r.prefixes {
		used[key.bits] = true
	}
	return slices.Sorted(maps.Keys(used))
}
