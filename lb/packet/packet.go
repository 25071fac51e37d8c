// SPDX-License-Identifier: Apache-2.0

package packet

import (
	"encoding/binary"
	"net/netip"
)

// Addr is an address in 16 bytes, IPv4 mapped (::ffff:a.b.c.d).
type Addr = [16]byte

// AddrOf maps an address.
func AddrOf(a netip.Addr) Addr { return a.As16() }

// Fragment says which part of a datagram a packet is.
type Fragment uint8

// The parts.
const (
	Whole Fragment = iota
	FirstFragment
	LaterFragment
)

// Packet is one parsed IP packet inside a frame. It borrows the frame and says
// where things are; the offsets are into Frame and lie inside it.
//
// An ICMP error that quotes a TCP or UDP packet of its receiver is Related. It
// is then described like the packet that would answer the quoted one: Src, Dst,
// ports and Proto are those of that, while L4 is where the ICMP header is.
type Packet struct {
	Frame []byte
	L3    int // start of the IP header
	L4    int // start of what follows it and its extension headers
	Data  int // start of the TCP or UDP payload
	End   int // end of the IP packet; the frame may be longer
	Q3    int // Related: start of the quoted IP header
	Q4    int // Related: start of the quoted TCP or UDP header

	Src, Dst         Addr
	SrcPort, DstPort uint16 // see HasPorts
	MTU              uint16 // Related: what "too big" says, saturated; else 0
	ID               uint32 // of a fragment's datagram
	Version          uint8  // 4 or 6
	Proto            uint8  // IPv6: what the walk over extension headers ended at
	TTL              uint8  // or hop limit
	TOS              uint8  // or traffic class
	Flags            uint8  // TCP
	ICMPType         uint8
	Fragment         Fragment
	// Malformed: a length contradicts another or the frame. It counts only
	// if the packet turns out to be for us, so it is a mark and no error.
	Malformed bool
	// Headers: there are IPv6 extension headers that are not walked to the
	// end, or a routing header that has not been worked off.
	Headers  bool
	Related  bool
	Followed bool // a later fragment whose ports Follow was told
}

// Parse reads a frame from its Ethernet header on. False means that it holds no
// whole IP header: another EtherType (a third tag and ARP included), a wrong
// version or header length, or too few bytes.
func (p *Packet) Parse(frame []byte) bool {
	at := EthernetLen
	if len(frame) < at {
		return false
	}
	eth := EtherType(binary.BigEndian.Uint16(frame[at-2:]))
	for range TagsMax {
		if eth != EtherTypeVLAN && eth != EtherTypeQinQ {
			break
		}
		at += TagLen
		if len(frame) < at {
			return false
		}
		eth = EtherType(binary.BigEndian.Uint16(frame[at-2:]))
	}
	return p.ParseIP(frame, at, len(frame), eth)
}

// ParseIP is Parse for an IP packet that starts at offset; nothing from end on
// belongs to it.
func (p *Packet) ParseIP(frame []byte, offset, end int, eth EtherType) bool {
	*p = Packet{Frame: frame, L3: offset}
	switch eth {
	case EtherTypeIPv4:
		if !p.parseIPv4(end) {
			return false
		}
	case EtherTypeIPv6:
		if !p.parseIPv6(end) {
			return false
		}
	default:
		return false
	}
	if !p.Malformed && !p.Headers && p.Fragment != LaterFragment {
		p.parseL4()
	}
	return true
}

func (p *Packet) parseIPv4(end int) bool {
	if end < p.L3+IPv4Len {
		return false
	}
	h := p.Frame[p.L3 : p.L3+IPv4Len]
	if h[0]>>4 != 4 || h[0]&0xf < ipv4MinWords {
		return false
	}
	words, total := int(h[0]&0xf), int(binary.BigEndian.Uint16(h[2:]))
	p.Version, p.TOS, p.TTL, p.Proto = 4, h[1], h[8], h[9]
	setMapped(&p.Src, h[12:16])
	setMapped(&p.Dst, h[16:20])
	p.L4, p.End = p.L3+4*words, p.L3+total
	p.Malformed = p.L4 > p.End || p.End > end
	if word := binary.BigEndian.Uint16(h[6:]); word&(ipv4MoreFragments|ipv4OffsetMask) != 0 {
		p.fragment(int(word&ipv4OffsetMask), uint32(binary.BigEndian.Uint16(h[4:])))
	}
	return true
}

// setMapped sets the low half of a zero address to an IPv4 address, mapped, in
// one word: whoever reads words soon after would wait for shorter writes.
func setMapped(a *Addr, v4 []byte) {
	binary.LittleEndian.PutUint64(a[8:], 0xffff_0000|uint64(binary.LittleEndian.Uint32(v4))<<32)
}

// fragment notes that the packet is one; offset is in words of 8 bytes.
func (p *Packet) fragment(offset int, id uint32) {
	p.Fragment, p.ID = FirstFragment, id
	if offset != 0 {
		p.Fragment = LaterFragment
	}
	if 8*offset+p.End-p.L4 > 65535 {
		p.Malformed = true
	}
}

func (p *Packet) parseIPv6(end int) bool {
	if end < p.L3+IPv6Len {
		return false
	}
	h := p.Frame[p.L3 : p.L3+IPv6Len]
	if h[0]>>4 != 6 {
		return false
	}
	p.Version, p.TOS, p.Proto, p.TTL = 6, h[0]<<4|h[1]>>4, h[6], h[7]
	p.Src, p.Dst = Addr(h[8:24]), Addr(h[24:40])
	// On the wire they are nobody's, and to us they would be an IPv4 flow's.
	if isMapped(&p.Src) || isMapped(&p.Dst) {
		return false
	}
	p.L4 = p.L3 + IPv6Len
	p.End = p.L4 + int(binary.BigEndian.Uint16(h[4:]))
	if p.Malformed = p.End > end; !p.Malformed {
		p.walkExtensions()
	}
	return true
}

// isMapped says that a is ::ffff:0:0/96 (RFC 4291 section 2.5.5.2).
func isMapped(a *Addr) bool { return [12]byte(a[:12]) == [12]byte{10: 0xff, 11: 0xff} }

// walkExtensions moves L4 and Proto over the extension headers (RFC 8200
// section 4), as far as the limits allow. What lies behind a later fragment's
// header is no header.
func (p *Packet) walkExtensions() {
	first, fragmented := p.L4, false
	for n := 0; isExtension(p.Proto) && p.Fragment != LaterFragment; n++ {
		if n == ExtensionsMax {
			p.Headers = true
			return
		}
		if p.End-p.L4 < extensionMinLen {
			p.Malformed = true
			return
		}
		h := p.Frame[p.L4 : p.L4+extensionMinLen]
		length := extensionMinLen
		switch {
		case p.Proto != ProtoIPv6Fragment:
			length *= int(h[1]) + 1
			p.Headers = p.Proto == ProtoRouting && h[3] != 0
		default:
			p.Headers = fragmented
		}
		if p.Headers = p.Headers || p.L4+length-first > ExtensionsBytes; p.Headers {
			return
		}
		if p.L4+length > p.End {
			p.Malformed = true
			return
		}
		p.L4 += length
		if p.Proto == ProtoIPv6Fragment {
			fragmented = true
			if word := binary.BigEndian.Uint16(h[2:]); word>>3 != 0 || word&1 != 0 { // else atomic: RFC 6946
				p.fragment(int(word>>3), binary.BigEndian.Uint32(h[4:]))
			}
		}
		p.Proto = h[0]
	}
}

func isExtension(proto uint8) bool {
	switch proto {
	case ProtoHopByHop, ProtoRouting, ProtoIPv6Fragment, ProtoDestination:
		return true
	}
	return false
}

// Follow tells a later fragment the ports of its datagram.
func (p *Packet) Follow(src, dst uint16) {
	p.SrcPort, p.DstPort, p.Followed = src, dst, true
}
