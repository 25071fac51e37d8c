// SPDX-License-Identifier: Apache-2.0

package packettest

import (
	"encoding/binary"
	"net/netip"

	"github.com/fairlead/fairlead/lb/packet"
)

// Tag is what stands in front of an EtherType: 802.1Q or 802.1ad.
type Tag [4]byte

// VLAN is a customer's tag.
func VLAN(id uint16) Tag { return Tag{0x81, 0x00, byte(id >> 8), byte(id)} }

// QinQ is a provider's tag.
func QinQ(id uint16) Tag { return Tag{0x88, 0xa8, byte(id >> 8), byte(id)} }

// Extension is an IPv6 extension header. Body is what follows its length; with
// the two bytes in front it has to be a multiple of 8 bytes long.
type Extension struct {
	Type uint8
	Body []byte
}

// HopByHop is a header of so many bytes that says nothing.
func HopByHop(length int) Extension { return Extension{packet.ProtoHopByHop, padding(length)} }

// DestinationOptions is a header of so many bytes that says nothing.
func DestinationOptions(length int) Extension {
	return Extension{packet.ProtoDestination, padding(length)}
}

// Routing is a routing header of 8 bytes.
func Routing(segmentsLeft uint8) Extension {
	return Extension{packet.ProtoRouting, []byte{253, segmentsLeft, 0, 0, 0, 0}}
}

// padding is one PadN option (RFC 8200 section 4.2) that fills a header.
func padding(length int) []byte {
	body := make([]byte, length-2)
	body[0], body[1] = 1, byte(length-4)
	return body
}

// extensions are all extension headers, a fragment header last.
func (f Frame) extensions() (next uint8, b []byte) {
	all := f.Extensions
	if f.Fragment&0x3fff != 0 || f.Atomic {
		word := f.Fragment<<3 | f.Fragment>>13&1
		body := binary.BigEndian.AppendUint16(nil, word)
		all = append(all[:len(all):len(all)], Extension{packet.ProtoIPv6Fragment, binary.BigEndian.AppendUint32(body, f.ID)})
	}
	next = f.Proto
	for i := len(all) - 1; i >= 0; i-- {
		h := append([]byte{next, byte((len(all[i].Body)+2)/8 - 1)}, all[i].Body...)
		if all[i].Type == packet.ProtoIPv6Fragment {
			h[1] = 0
		}
		b, next = append(h, b...), all[i].Type
	}
	return next, b
}

// Fragments is f in fragments with an id, cut at these offsets in what follows
// its IP header, each a multiple of 8. f may be a fragment itself.
func (f Frame) Fragments(id uint32, cuts ...int) []Frame {
	const more, mask = 0x2000, 0x1fff
	segment, last := f.segment(), f.Fragment&more
	base, at := f.Fragment&mask, 0
	var out []Frame
	for _, cut := range append(cuts[:len(cuts):len(cuts)], len(segment)) {
		piece := f
		piece.ID, piece.Raw, piece.Fragment = id, segment[at:cut], base+uint16(at/8)|more
		if cut == len(segment) {
			piece.Fragment = piece.Fragment&^more | last
		}
		out = append(out, piece)
		at = cut
	}
	return out
}

// ICMPError is a router's error about f to its source. It quotes the IP header
// of f, with options or extension headers, and so many bytes more.
func ICMPError(router string, f Frame, kind, code uint8, quoted int) Frame {
	e := frame(netip.AddrPortFrom(netip.MustParseAddr(router), 0), netip.AddrPortFrom(f.Src.Addr(), 0), packet.ProtoICMP)
	if e.Src.Addr().Is6() {
		e.Proto = packet.ProtoICMPv6
	}
	e.ICMPType, e.ICMPCode, e.Quote = kind, code, &f
	ip := f.IP()
	e.Payload = ip[:min(len(ip), len(ip)-len(f.segment())+quoted)]
	return e
}

// WithMTU is an error that says how long a packet may be.
func (f Frame) WithMTU(mtu uint32) Frame {
	binary.BigEndian.PutUint32(f.ICMPRest[:], mtu)
	return f
}
