// SPDX-License-Identifier: Apache-2.0

package packet

import "encoding/binary"

// What follows changes the packet's frame in place and keeps its checksums
// right incrementally, so that a wrong one stays wrong.

// SetTTL writes the TTL or hop limit.
func (p *Packet) SetTTL(ttl uint8) {
	p.TTL = ttl
	if p.Version == 6 {
		p.Frame[p.L3+7] = ttl
		return
	}
	h := p.Frame[p.L3:]
	from := binary.BigEndian.Uint16(h[8:])
	h[8] = ttl
	updateAt(h[ipv4ChecksumOffset:], uint64(from), uint64(binary.BigEndian.Uint16(h[8:])))
}

// SetSrc writes source address and port of a packet with ports.
func (p *Packet) SetSrc(addr Addr, port uint16) {
	p.setAddr(p.SrcBytes(), addr)
	p.setPort(p.Frame[p.L4:], port)
	p.Src, p.SrcPort = addr, port
}

// SetDst writes destination address and port of a packet with ports.
func (p *Packet) SetDst(addr Addr, port uint16) {
	p.setAddr(p.DstBytes(), addr)
	p.setPort(p.Frame[p.L4+2:], port)
	p.Dst, p.DstPort = addr, port
}

// SetSrcPort writes the source port alone.
func (p *Packet) SetSrcPort(port uint16) {
	p.setPort(p.Frame[p.L4:], port)
	p.SrcPort = port
}

// SetDstPort writes the destination port alone.
func (p *Packet) SetDstPort(port uint16) {
	p.setPort(p.Frame[p.L4+2:], port)
	p.DstPort = port
}

func (p *Packet) setAddr(field []byte, addr Addr) {
	to := addr[16-len(field):]
	from, sum := Sum(0, field), Sum(0, to)
	if p.Version == 4 {
		updateAt(p.Frame[p.L3+ipv4ChecksumOffset:], from, sum)
	}
	p.updateL4(from, sum)
	copy(field, to)
}

func (p *Packet) setPort(field []byte, port uint16) {
	from := binary.BigEndian.Uint16(field)
	binary.BigEndian.PutUint16(field, port)
	p.updateL4(uint64(from), uint64(port))
}

// updateL4 leaves a UDP checksum of 0 alone: there is none.
func (p *Packet) updateL4(from, to uint64) {
	if p.Proto == ProtoTCP {
		updateAt(p.Frame[p.L4+tcpChecksumOffset:], from, to)
		return
	}
	field := p.Frame[p.L4+udpChecksumOffset:]
	if binary.BigEndian.Uint16(field) == 0 {
		return
	}
	updateAt(field, from, to)
	if binary.BigEndian.Uint16(field) == 0 {
		binary.BigEndian.PutUint16(field, 0xffff)
	}
}

func updateAt(field []byte, from, to uint64) {
	binary.BigEndian.PutUint16(field, Update(binary.BigEndian.Uint16(field), from, to))
}

// ClampMSS lowers the MSS option of a TCP packet to limit; without the option,
// or with a lower one, nothing changes.
func (p *Packet) ClampMSS(limit uint16) {
	options := p.Frame[p.L4+TCPLen : p.Data]
	at := findMSS(options)
	if at < 0 || binary.BigEndian.Uint16(options[at:]) <= limit {
		return
	}
	field := options[at : at+2]
	from := mssSum(field, at)
	binary.BigEndian.PutUint16(field, limit)
	p.updateL4(from, mssSum(field, at))
}

// findMSS returns where the value of the MSS option is, or -1.
func findMSS(options []byte) int {
	for i := 0; i < len(options); {
		switch options[i] {
		case tcpOptionEnd:
			return -1
		case tcpOptionNop:
			i++
			continue
		}
		if i+1 >= len(options) || options[i+1] < 2 || i+int(options[i+1]) > len(options) {
			return -1
		}
		if options[i] == tcpOptionMSS {
			if options[i+1] != tcpOptionMSSLen {
				return -1
			}
			return i + 2
		}
		i += int(options[i+1])
	}
	return -1
}

// mssSum is the sum of a two-byte field, which lies across two words when its
// offset is odd.
func mssSum(field []byte, offset int) uint64 {
	if offset%2 == 0 {
		return Sum(0, field)
	}
	return uint64(field[1])<<8 + uint64(field[0])
}

// AnswerEcho turns a ping into its answer, in place.
func (p *Packet) AnswerEcho() {
	src, dst := p.SrcBytes(), p.DstBytes()
	for i := range src {
		src[i], dst[i] = dst[i], src[i]
	}
	p.Src, p.Dst = p.Dst, p.Src
	p.SetTTL(AnswerTTL)
	segment := p.Frame[p.L4:p.End]
	from := binary.BigEndian.Uint16(segment)
	if segment[0] = ICMPEchoReply; p.Version == 6 {
		segment[0] = ICMPv6EchoReply
	}
	updateAt(segment[icmpChecksumOffset:], uint64(from), uint64(binary.BigEndian.Uint16(segment)))
}

// Readdress makes an outer header without IP options fresh, from src to dst.
func (p *Packet) Readdress(src, dst Addr) {
	sb, db := p.SrcBytes(), p.DstBytes()
	copy(sb, src[16-len(sb):])
	copy(db, dst[16-len(db):])
	p.Src, p.Dst, p.TTL = src, dst, AnswerTTL
	if p.Version == 6 {
		p.Frame[p.L3+7] = AnswerTTL
		return
	}
	h := p.Frame[p.L3 : p.L3+IPv4Len]
	h[8] = AnswerTTL
	binary.BigEndian.PutUint16(h[ipv4ChecksumOffset:], 0)
	binary.BigEndian.PutUint16(h[ipv4ChecksumOffset:], Checksum(h))
}

// Rebase makes p describe a copy of its packet in frame, where everything
// stands shift bytes nearer to the start.
func (p *Packet) Rebase(frame []byte, shift int) {
	p.Frame = frame
	p.L3, p.L4, p.Data, p.End = p.L3-shift, p.L4-shift, p.Data-shift, p.End-shift
}
