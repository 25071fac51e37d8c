// SPDX-License-Identifier: Apache-2.0

package packet

import "encoding/binary"

// What follows changes the packet that a Related one quotes. Every change is
// one of the ICMP checksum, too, also that of a checksum inside the quote.

func (p *Packet) quotedSrc() []byte {
	if p.Version == 4 {
		return p.Frame[p.Q3+12 : p.Q3+16]
	}
	return p.Frame[p.Q3+8 : p.Q3+24]
}

func (p *Packet) quotedDst() []byte {
	if p.Version == 4 {
		return p.Frame[p.Q3+16 : p.Q3+20]
	}
	return p.Frame[p.Q3+24 : p.Q3+40]
}

func (p *Packet) setQuotedAddr(field []byte, addr Addr) {
	to := addr[16-len(field):]
	from, sum := Sum(0, field), Sum(0, to)
	copy(field, to)
	p.updateICMP(from, sum)
	if p.Version == 4 {
		check := p.Frame[p.Q3+ipv4ChecksumOffset:]
		old := binary.BigEndian.Uint16(check)
		updateAt(check, from, sum)
		p.updateICMP(uint64(old), uint64(binary.BigEndian.Uint16(check)))
	}
	p.updateQuotedL4(from, sum)
}

func (p *Packet) setQuotedPort(field []byte, port uint16) {
	from := binary.BigEndian.Uint16(field)
	if from == port {
		return
	}
	binary.BigEndian.PutUint16(field, port)
	p.updateICMP(uint64(from), uint64(port))
	p.updateQuotedL4(uint64(from), uint64(port))
}

// updateQuotedL4 leaves a UDP checksum of 0 alone, and a TCP checksum that is
// not quoted: RFC 792 asks for 8 bytes only.
func (p *Packet) updateQuotedL4(from, to uint64) {
	at, udp := p.Q4+tcpChecksumOffset, p.Proto == ProtoUDP
	if udp {
		at = p.Q4 + udpChecksumOffset
	}
	if at+2 > p.End {
		return
	}
	check := p.Frame[at:]
	old := binary.BigEndian.Uint16(check)
	if udp && old == 0 {
		return
	}
	updateAt(check, from, to)
	if udp && binary.BigEndian.Uint16(check) == 0 {
		binary.BigEndian.PutUint16(check, 0xffff)
	}
	p.updateICMP(uint64(old), uint64(binary.BigEndian.Uint16(check)))
}

func (p *Packet) updateICMP(from, to uint64) {
	updateAt(p.Frame[p.L4+icmpChecksumOffset:], from, to)
}
