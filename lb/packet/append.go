// SPDX-License-Identifier: Apache-2.0

package packet

import "encoding/binary"

// IP is what the IP headers that we write say; everything else in them is
// fixed: IPv4 id 0 and "don't fragment", IPv6 flow label 0.
type IP struct {
	Src, Dst Addr
	Proto    uint8
	TOS, TTL uint8
	Length   int // of what follows
}

// Append appends an IPv4 or IPv6 header as version says, an IPv4 one with its checksum.
func (h IP) Append(b []byte, version uint8) []byte {
	if version == 4 {
		return h.appendV4(b)
	}
	b = append(b, 0x60|h.TOS>>4, h.TOS<<4, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(h.Length))
	b = append(b, h.Proto, h.TTL)
	b = append(b, h.Src[:]...)
	return append(b, h.Dst[:]...)
}

func (h IP) appendV4(b []byte) []byte {
	start := len(b)
	b = append(b, 0x40|ipv4MinWords, h.TOS)
	b = binary.BigEndian.AppendUint16(b, uint16(IPv4Len+h.Length))
	b = binary.BigEndian.AppendUint32(b, ipv4DontFragment)
	b = append(b, h.TTL, h.Proto, 0, 0)
	b = append(b, h.Src[12:]...)
	b = append(b, h.Dst[12:]...)
	binary.BigEndian.PutUint16(b[start+ipv4ChecksumOffset:], Checksum(b[start:]))
	return b
}

// AppendRST appends the IP packet that answers the TCP packet p with a reset,
// as RFC 9293 section 3.10.7.1 has it for a closed port.
func AppendRST(b []byte, p *Packet) []byte {
	seq, ack, flags := uint32(0), uint32(0), uint8(RST)
	if p.Flags&ACK != 0 {
		seq = p.Ack()
	} else {
		flags |= ACK
		ack = p.Seq() + uint32(p.End-p.Data)
		if p.Flags&SYN != 0 {
			ack++
		}
		if p.Flags&FIN != 0 {
			ack++
		}
	}
	b = IP{Src: p.Dst, Dst: p.Src, Proto: ProtoTCP, TTL: AnswerTTL, Length: TCPLen}.Append(b, p.Version)
	start := len(b)
	b = binary.BigEndian.AppendUint16(b, p.DstPort)
	b = binary.BigEndian.AppendUint16(b, p.SrcPort)
	b = binary.BigEndian.AppendUint32(b, seq)
	b = binary.BigEndian.AppendUint32(b, ack)
	b = append(b, TCPLen/4<<4, flags, 0, 0, 0, 0, 0, 0)
	check := L4Checksum(p.DstBytes(), p.SrcBytes(), ProtoTCP, b[start:])
	binary.BigEndian.PutUint16(b[start+tcpChecksumOffset:], check)
	return b
}

// AppendPortUnreachable appends the IP packet that answers the UDP packet p
// with ICMP or ICMPv6 port unreachable.
func AppendPortUnreachable(b []byte, p *Packet) []byte {
	if p.Version == 6 {
		return appendICMPError(b, p, ICMPv6Unreachable, ICMPv6CodePort, 0)
	}
	return appendICMPError(b, p, ICMPUnreachable, ICMPCodePort, 0)
}

// AppendTooBig appends the IP packet that answers the TCP or UDP packet p, no
// later fragment, with ICMP fragmentation needed or ICMPv6 packet too big.
func AppendTooBig(b []byte, p *Packet, mtu uint16) []byte {
	if p.Version == 6 {
		return appendICMPError(b, p, ICMPv6TooBig, 0, uint32(mtu))
	}
	return appendICMPError(b, p, ICMPUnreachable, ICMPCodeTooBig, uint32(mtu)) // RFC 1191: the low half
}

// appendICMPError quotes the IP header as it came, with options and extension
// headers, and the header behind it but for TCP options.
func appendICMPError(b []byte, p *Packet, kind, code byte, rest uint32) []byte {
	quoted := p.Frame[p.L3 : p.L4+UDPLen]
	if p.Proto == ProtoTCP {
		quoted = p.Frame[p.L3 : p.L4+TCPLen]
	}
	h := IP{Src: p.Dst, Dst: p.Src, Proto: ProtoICMP, TTL: AnswerTTL, Length: ICMPLen + len(quoted)}
	if p.Version == 6 {
		h.Proto = ProtoICMPv6
	}
	b = h.Append(b, p.Version)
	start := len(b)
	b = append(b, kind, code, 0, 0)
	b = binary.BigEndian.AppendUint32(b, rest)
	b = append(b, quoted...)
	check := Checksum(b[start:])
	if p.Version == 6 {
		check = L4Checksum(p.DstBytes(), p.SrcBytes(), ProtoICMPv6, b[start:])
	}
	binary.BigEndian.PutUint16(b[start+icmpChecksumOffset:], check)
	return b
}
