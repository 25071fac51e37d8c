// SPDX-License-Identifier: Apache-2.0

package packet

import (
	"encoding/binary"
	"math"
)

// parseL4 reads what follows the IP header of a whole packet or a first fragment.
func (p *Packet) parseL4() {
	segment := p.Frame[p.L4:p.End]
	switch p.Proto {
	case ProtoTCP:
		p.parseTCP(segment)
	case ProtoUDP:
		p.parseUDP(segment)
	case ProtoICMP, ProtoICMPv6:
		if p.Malformed = len(segment) < ICMPLen; p.Malformed {
			return
		}
		p.ICMPType = segment[0]
		if p.Fragment == Whole && p.isICMPError() {
			p.parseQuote(segment)
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
	// That of a first fragment counts the whole datagram.
	length := int(binary.BigEndian.Uint16(segment[4:]))
	if length < UDPLen || p.Fragment == Whole && length > len(segment) {
		return
	}
	p.Malformed = false
	p.SrcPort, p.DstPort = binary.BigEndian.Uint16(segment), binary.BigEndian.Uint16(segment[2:])
	p.Data = p.L4 + UDPLen
}

// isICMPError says that the packet is of a type that quotes (RFC 792, 4443).
func (p *Packet) isICMPError() bool {
	if p.Version == 4 {
		return p.Proto == ProtoICMP &&
			(p.ICMPType == ICMPUnreachable || p.ICMPType == ICMPTimeExceeded || p.ICMPType == ICMPParameter)
	}
	return p.Proto == ProtoICMPv6 && p.ICMPType >= ICMPv6Unreachable && p.ICMPType <= ICMPv6Parameter
}

// parseQuote reads the packet that an ICMP error quotes, and makes p Related
// if that was sent by the error's receiver.
func (p *Packet) parseQuote(icmp []byte) {
	p.Q3 = p.L4 + ICMPLen
	quote := icmp[ICMPLen:]
	var src, dst Addr
	var proto uint8
	var length int
	if p.Version == 4 {
		if len(quote) < IPv4Len || quote[0]>>4 != 4 || quote[0]&0xf < ipv4MinWords ||
			binary.BigEndian.Uint16(quote[6:])&ipv4OffsetMask != 0 {
			return
		}
		setMapped(&src, quote[12:])
		setMapped(&dst, quote[16:])
		proto, length = quote[9], 4*int(quote[0]&0xf)
	} else {
		if len(quote) < IPv6Len || quote[0]>>4 != 6 {
			return
		}
		src, dst, proto, length = Addr(quote[8:24]), Addr(quote[24:40]), quote[6], IPv6Len
		if isMapped(&dst) {
			return
		}
	}
	if proto != ProtoTCP && proto != ProtoUDP || len(quote) < length+quotedL4Min || src != p.Dst {
		return
	}
	p.Related, p.Proto, p.Src, p.Q4 = true, proto, dst, p.Q3+length
	p.DstPort = binary.BigEndian.Uint16(quote[length:])
	p.SrcPort = binary.BigEndian.Uint16(quote[length+2:])
	switch {
	case p.Version == 4 && p.ICMPType == ICMPUnreachable && icmp[1] == ICMPCodeTooBig:
		p.MTU = binary.BigEndian.Uint16(icmp[6:])
	case p.Version == 6 && p.ICMPType == ICMPv6TooBig:
		p.MTU = uint16(min(binary.BigEndian.Uint32(icmp[4:]), math.MaxUint16))
	}
}

// IsICMP says that the packet is of its IP version's ICMP, and not Related.
func (p *Packet) IsICMP() bool {
	return p.Version == 4 && p.Proto == ProtoICMP || p.Version == 6 && p.Proto == ProtoICMPv6
}

// IsNeighbor says that the packet is neighbor discovery from the link, and no
// fragment (RFC 4861 section 7.1, RFC 6980).
func (p *Packet) IsNeighbor() bool {
	return p.IsICMP() && p.Version == 6 && p.TTL == 255 && p.Fragment == Whole && !p.Malformed && !p.Headers &&
		(p.ICMPType == ICMPv6NeighborSolicitation || p.ICMPType == ICMPv6NeighborAdvertisement)
}

// IsEchoRequest says that the packet is a ping, or the first fragment of one.
func (p *Packet) IsEchoRequest() bool {
	if p.Malformed || p.Headers || p.Fragment == LaterFragment || !p.IsICMP() {
		return false
	}
	return p.Version == 4 && p.ICMPType == ICMPEchoRequest || p.Version == 6 && p.ICMPType == ICMPv6EchoRequest
}

// HasPorts says that the ports are known: of whole TCP and UDP packets, first
// fragments, later ones that Follow was told about, and Related ones.
func (p *Packet) HasPorts() bool {
	return !p.Malformed && !p.Headers && p.isTCPOrUDP() && (p.Fragment != LaterFragment || p.Followed)
}

// MayBeInside says that a node of ours may have sent the packet to another in
// a tunnel. It does not ask whether a later fragment's ports are known.
func (p *Packet) MayBeInside() bool { return !p.Malformed && !p.Headers && p.isTCPOrUDP() }

func (p *Packet) isTCPOrUDP() bool { return p.Proto == ProtoTCP || p.Proto == ProtoUDP }

// IsLater says that the packet is a later fragment that makes sense.
func (p *Packet) IsLater() bool { return p.Fragment == LaterFragment && !p.Malformed }

// EtherType is that of the packet's IP version.
func (p *Packet) EtherType() EtherType {
	if p.Version == 4 {
		return EtherTypeIPv4
	}
	return EtherTypeIPv6
}

// Len is the length of the IP packet.
func (p *Packet) Len() int { return p.End - p.L3 }

// ECN is the codepoint in TOS.
func (p *Packet) ECN() uint8 { return p.TOS & ECNMask }

// SrcBytes are the IP header's source address as on the wire, 4 or 16 bytes of
// the frame. It is not Src of a Related packet.
func (p *Packet) SrcBytes() []byte {
	if p.Version == 4 {
		return p.Frame[p.L3+12 : p.L3+16]
	}
	return p.Frame[p.L3+8 : p.L3+24]
}

// DstBytes are the IP header's destination address as on the wire.
func (p *Packet) DstBytes() []byte {
	if p.Version == 4 {
		return p.Frame[p.L3+16 : p.L3+20]
	}
	return p.Frame[p.L3+24 : p.L3+40]
}

// Seq is the sequence number of a TCP packet or first fragment.
func (p *Packet) Seq() uint32 { return binary.BigEndian.Uint32(p.Frame[p.L4+4:]) }

// Ack is the acknowledgment number of a TCP packet or first fragment.
func (p *Packet) Ack() uint32 { return binary.BigEndian.Uint32(p.Frame[p.L4+8:]) }
