// SPDX-License-Identifier: Apache-2.0

package packet

import "encoding/binary"

// MayFragment says that a packet with ports may be cut into fragments on its
// way: IPv4 without "don't fragment". Options are not copied, so it has none; an
// ICMP error is never cut. A partial checksum has to be completed before.
func (p *Packet) MayFragment() bool {
	if p.Version != 4 || p.Related || p.L4-p.L3 != IPv4Len {
		return false
	}
	return binary.BigEndian.Uint16(p.Frame[p.L3+6:])&ipv4DontFragment == 0
}

// AppendFragment appends the IP packet that carries up to size bytes of the
// payload of p, from offset at on, with one hop less to live (RFC 791 section
// 2.3). p may be a fragment itself. Offset and size are multiples of 8.
func (p *Packet) AppendFragment(b []byte, at, size int) []byte {
	payload := p.Frame[p.L4+at : p.End]
	word := binary.BigEndian.Uint16(p.Frame[p.L3+6:])&(ipv4MoreFragments|ipv4OffsetMask) + uint16(at/8)
	if len(payload) > size {
		payload, word = payload[:size], word|ipv4MoreFragments
	}
	start := len(b)
	b = append(b, p.Frame[p.L3:p.L3+IPv4Len]...)
	h := b[start:]
	binary.BigEndian.PutUint16(h[2:], uint16(IPv4Len+len(payload)))
	binary.BigEndian.PutUint16(h[6:], word)
	h[8] = p.TTL - 1
	setIPv4Checksum(h)
	return append(b, payload...)
}
