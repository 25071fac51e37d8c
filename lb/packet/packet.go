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

// mapped is the prefix of an IPv4 address in 16 bytes.
var mapped = [12]byte{10: 0xff, 11: 0xff}

// Packet is one parsed IP packet inside a frame. It borrows the frame and says
// where things are; the offsets are into Frame and lie inside it. Ports, flags
// and payload are known only of a packet that is neither malformed nor a fragment.
type Packet struct {
	Frame []byte
	L3    int // start of the IP header
	L4    int // start of what follows it
	Data  int // start of the TCP or UDP payload
	End   int // end of the IP packet; the frame may be longer

	Src, Dst         Addr
	SrcPort, DstPort uint16
	Version          uint8 // 4 or 6
	Proto            uint8 // IPv6: the next header, whatever it is
	TTL              uint8 // or hop limit
	TOS              uint8 // or traffic class
	Flags            uint8 // TCP
	ICMPType         uint8
	// Malformed: a length contradicts another or the frame. It counts only
	// if the packet turns out to be for us, so it is a mark and no error.
	Malformed bool
	Fragment  bool
}

// Parse reads a frame from its Ethernet header on. False means that it holds no
// whole IP header: another EtherType (VLAN and ARP included), a wrong version
// or header length, or too few bytes.
func (p *Packet) Parse(frame []byte) bool {
	if len(frame) < EthernetLen {
		return false
	}
	eth := EtherType(binary.BigEndian.Uint16(frame[12:]))
	return p.ParseIP(frame, EthernetLen, len(frame), eth)
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
	if !p.Malformed && !p.Fragment {
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
	copy(p.Src[:], mapped[:])
	copy(p.Src[12:], h[12:16])
	copy(p.Dst[:], mapped[:])
	copy(p.Dst[12:], h[16:20])
	p.L4, p.End = p.L3+4*words, p.L3+total
	p.Malformed = p.L4 > p.End || p.End > end
	p.Fragment = binary.BigEndian.Uint16(h[6:])&ipv4FragmentMask != 0
	return true
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
	if isMapped(p.Src) || isMapped(p.Dst) {
		return false
	}
	p.L4 = p.L3 + IPv6Len
	p.End = p.L4 + int(binary.BigEndian.Uint16(h[4:]))
	p.Malformed = p.End > end
	p.Fragment = p.Proto == ProtoIPv6Fragment
	return true
}

// isMapped says that a is ::ffff:0:0/96 (RFC 4291 section 2.5.5.2).
func isMapped(a Addr) bool { return [12]byte(a[:12]) == [12]byte{10: 0xff, 11: 0xff} }

func (p *Packet) parseL4() {
	segment := p.Frame[p.L4:p.End]
	switch {
	case p.Proto == ProtoTCP:
		p.parseTCP(segment)
	case p.Proto == ProtoUDP:
		p.parseUDP(segment)
	case p.Proto == ProtoICMP || p.Proto == ProtoICMPv6:
		if p.Malformed = len(segment) < ICMPLen; !p.Malformed {
			p.ICMPType = segment[0]
		}
	}
}

func (p *Packet) parseTCP(segment []byte) {
	p.Malformed = true
	if len(segment) < TCPLen {
		return
	}
	header := 4 * int(segment[12]>>4)
	if header < TCPLen || header > len(segment) {
		return
	}
	p.Malformed = false
	p.SrcPort, p.DstPort = binary.BigEndian.Uint16(segment), binary.BigEndian.Uint16(segment[2:])
	p.Flags = segment[13]
	p.Data = p.L4 + header
}

func (p *Packet) parseUDP(segment []byte) {
	p.Malformed = true
	if len(segment) < UDPLen {
		return
	}
	length := int(binary.BigEndian.Uint16(segment[4:]))
	if length < UDPLen || length > len(segment) {
		return
	}
	p.Malformed = false
	p.SrcPort, p.DstPort = binary.BigEndian.Uint16(segment), binary.BigEndian.Uint16(segment[2:])
	p.Data = p.L4 + UDPLen
}

// IsICMP says that the packet is of its IP version's ICMP.
func (p *Packet) IsICMP() bool {
	return p.Version == 4 && p.Proto == ProtoICMP || p.Version == 6 && p.Proto == ProtoICMPv6
}

// IsEchoRequest says that the packet is a whole ping.
func (p *Packet) IsEchoRequest() bool {
	if p.Malformed || p.Fragment || !p.IsICMP() {
		return false
	}
	return p.Version == 4 && p.ICMPType == ICMPEchoRequest || p.Version == 6 && p.ICMPType == ICMPv6EchoRequest
}

// HasPorts says that the packet is whole and of TCP or UDP.
func (p *Packet) HasPorts() bool {
	return !p.Malformed && !p.Fragment && (p.Proto == ProtoTCP || p.Proto == ProtoUDP)
}

// EtherType is that of the packet's IP version.
func (p *Packet) EtherType() EtherType {
	if p.Version == 4 {
		return EtherTypeIPv4
	}
	return EtherTypeIPv6
}

// Len is the length of the IP packet.
func (p *Packet) Len() int { return p.End - p.L3 }

// SrcBytes are the source address as on the wire, 4 or 16 bytes of the frame.
func (p *Packet) SrcBytes() []byte {
	if p.Version == 4 {
		return p.Frame[p.L3+12 : p.L3+16]
	}
	return p.Frame[p.L3+8 : p.L3+24]
}

// DstBytes are the destination address as on the wire.
func (p *Packet) DstBytes() []byte {
	if p.Version == 4 {
		return p.Frame[p.L3+16 : p.L3+20]
	}
	return p.Frame[p.L3+24 : p.L3+40]
}

// Seq is the sequence number of a TCP packet.
func (p *Packet) Seq() uint32 { return binary.BigEndian.Uint32(p.Frame[p.L4+4:]) }

// Ack is the acknowledgment number of a TCP packet.
func (p *Packet) Ack() uint32 { return binary.BigEndian.Uint32(p.Frame[p.L4+8:]) }
