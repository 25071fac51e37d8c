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
	to := uint16(ttl)<<8 | from&0xff // to read it back would wait for the write
	binary.BigEndian.PutUint16(h[8:], to)
	updateAt(h[ipv4ChecksumOffset:], uint64(from), uint64(to))
}

// SetECN writes the ECN codepoint.
func (p *Packet) SetECN(ecn uint8) {
	p.TOS = p.TOS&^ECNMask | ecn
	h := p.Frame[p.L3:]
	if p.Version == 6 {
		h[1] = h[1]&0xf | p.TOS<<4
		return
	}
	from := binary.BigEndian.Uint16(h)
	h[1] = p.TOS
	updateAt(h[ipv4ChecksumOffset:], uint64(from), uint64(binary.BigEndian.Uint16(h)))
}

// SetSrc writes source address and port of a packet with ports: of a later
// fragment the address alone, of a Related packet the source of the error and
// the destination that it quotes.
func (p *Packet) SetSrc(addr Addr, port uint16) {
	switch {
	case p.Related:
		p.setAddr(p.SrcBytes(), addr)
		p.setQuotedAddr(p.quotedDst(), addr)
		p.setQuotedPort(p.Frame[p.Q4+2:], port)
	case p.Fragment == LaterFragment:
		p.setAddr(p.SrcBytes(), addr)
	default:
		p.setAddr(p.SrcBytes(), addr)
		p.setPort(p.Frame[p.L4:], port)
	}
	p.Src, p.SrcPort = addr, port
}

// SetDst writes destination address and port of a packet with ports: of a later
// fragment the address alone, of a Related packet the destination of the error
// and the source that it quotes.
func (p *Packet) SetDst(addr Addr, port uint16) {
	switch {
	case p.Related:
		p.setAddr(p.DstBytes(), addr)
		p.setQuotedAddr(p.quotedSrc(), addr)
		p.setQuotedPort(p.Frame[p.Q4:], port)
	case p.Fragment == LaterFragment:
		p.setAddr(p.DstBytes(), addr)
	default:
		p.setAddr(p.DstBytes(), addr)
		p.setPort(p.Frame[p.L4+2:], port)
	}
	p.Dst, p.DstPort = addr, port
}

// SetSrcPort writes the source port alone; a later fragment has none.
func (p *Packet) SetSrcPort(port uint16) {
	switch {
	case p.Related:
		p.setQuotedPort(p.Frame[p.Q4+2:], port)
	case p.Fragment != LaterFragment:
		p.setPort(p.Frame[p.L4:], port)
	}
	p.SrcPort = port
}

// SetDstPort writes the destination port alone; a later fragment has none.
func (p *Packet) SetDstPort(port uint16) {
	switch {
	case p.Related:
		p.setQuotedPort(p.Frame[p.Q4:], port)
	case p.Fragment != LaterFragment:
		p.setPort(p.Frame[p.L4+2:], port)
	}
	p.DstPort = port
}

// setAddr writes an address of the IP header itself.
func (p *Packet) setAddr(field []byte, addr Addr) {
	to := addr[16-len(field):]
	from, sum := Sum(0, field), Sum(0, to)
	if p.Version == 4 {
		updateAt(p.Frame[p.L3+ipv4ChecksumOffset:], from, sum)
	}
	switch {
	case p.Fragment == LaterFragment:
	case !p.Related:
		p.updateL4(from, sum)
	case p.Version == 6: // IPv4's ICMP has no pseudo header
		p.updateICMP(from, sum)
	}
	copy(field, to)
}

func (p *Packet) setPort(field []byte, port uint16) {
	from := binary.BigEndian.Uint16(field)
	if from == port {
		return
	}
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

// AnswerEcho turns a ping, or any fragment of one, into its answer, in place.
func (p *Packet) AnswerEcho() {
	src, dst := p.SrcBytes(), p.DstBytes()
	for i := range src {
		src[i], dst[i] = dst[i], src[i]
	}
	p.Src, p.Dst = p.Dst, p.Src
	p.SetTTL(AnswerTTL)
	if p.Fragment == LaterFragment {
		return
	}
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
	setIPv4Checksum(h)
}

// setIPv4Checksum computes a header's checksum anew.
func setIPv4Checksum(h []byte) {
	binary.BigEndian.PutUint16(h[ipv4ChecksumOffset:], 0)
	binary.BigEndian.PutUint16(h[ipv4ChecksumOffset:], Checksum(h))
}

// Rebase makes p describe a copy of its packet in frame, where everything
// stands shift bytes nearer to the start.
func (p *Packet) Rebase(frame []byte, shift int) {
	p.Frame = frame
	p.L3, p.L4, p.Data, p.End = p.L3-shift, p.L4-shift, p.Data-shift, p.End-shift
	p.Q3, p.Q4 = p.Q3-shift, p.Q4-shift
}
