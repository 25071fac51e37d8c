// SPDX-License-Identifier: Apache-2.0

// Package packettest builds frames for tests. It shares no code with package
// packet but SipHash, so that it can say what package packet has to produce:
// slow and obvious, with its own checksums.
package packettest

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/fairlead/fairlead/lb/packet"
)

// Frame is an Ethernet frame with one IP packet. Zero fields get what an
// ordinary packet has: TTL 64, a window, right lengths and checksums.
type Frame struct {
	SrcMAC, DstMAC [6]byte
	Src, Dst       netip.AddrPort // ports are of TCP and UDP only
	Tags           []Tag
	Proto          uint8
	TTL, TOS       uint8
	Fragment       uint16 // flags and offset as in IPv4; IPv6 gets a fragment header for it
	Atomic         bool   // IPv6: a fragment header though there is one fragment
	ID             uint32 // 16 bits of it in IPv4
	IPOptions      []byte // IPv4, a multiple of 4 bytes
	Extensions     []Extension

	Seq, Ack   uint32
	Flags      uint8
	Window     uint16
	TCPOptions []byte // a multiple of 4 bytes

	ICMPType, ICMPCode uint8
	ICMPRest           [4]byte

	Payload    []byte
	NoChecksum bool   // UDP
	Raw        []byte // in place of the L4 header and Payload
	Quote      *Frame // what an ICMP error is about; see ICMPError
	Trailer    []byte // Ethernet padding
}

// The MAC addresses of every frame that says no other.
var (
	RouterMAC = [6]byte{2, 0, 0, 0, 0, 0xfe}
	NodeMAC   = [6]byte{2, 0, 0, 0, 0, 1}
)

func frame(src, dst netip.AddrPort, proto uint8) Frame {
	return Frame{SrcMAC: RouterMAC, DstMAC: NodeMAC, Src: src, Dst: dst, Proto: proto}
}

// TCP is a segment from "address:port" to "address:port".
func TCP(src, dst string, flags uint8) Frame {
	f := frame(netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst), packet.ProtoTCP)
	f.Flags, f.Seq = flags, 1000
	return f
}

// UDP is a datagram from "address:port" to "address:port".
func UDP(src, dst, payload string) Frame {
	f := frame(netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst), packet.ProtoUDP)
	f.Payload = []byte(payload)
	return f
}

// Ping is an echo request from an address to another.
func Ping(src, dst string) Frame {
	f := frame(netip.AddrPortFrom(netip.MustParseAddr(src), 0), netip.AddrPortFrom(netip.MustParseAddr(dst), 0), packet.ProtoICMP)
	f.ICMPType, f.ICMPRest, f.Payload = packet.ICMPEchoRequest, [4]byte{0x12, 0x34, 0, 1}, []byte("ping")
	if f.Src.Addr().Is6() {
		f.Proto, f.ICMPType = packet.ProtoICMPv6, packet.ICMPv6EchoRequest
	}
	return f
}

// Bytes is the whole frame.
func (f Frame) Bytes() []byte {
	b := append(f.DstMAC[:], f.SrcMAC[:]...)
	for _, tag := range f.Tags {
		b = append(b, tag[:]...)
	}
	if f.Src.Addr().Is4() {
		b = append(b, 8, 0)
	} else {
		b = append(b, 0x86, 0xdd)
	}
	return append(append(b, f.IP()...), f.Trailer...)
}

// IP is the IP packet alone.
func (f Frame) IP() []byte {
	segment := f.segment()
	ttl := f.TTL
	if ttl == 0 {
		ttl = 64
	}
	if f.Src.Addr().Is4() {
		return f.ipv4(segment, ttl)
	}
	next, extensions := f.extensions()
	b := []byte{0x60 | f.TOS>>4, f.TOS << 4, 0, 0}
	b = binary.BigEndian.AppendUint16(b, uint16(len(extensions)+len(segment)))
	b = append(b, next, ttl)
	b = append(b, f.Src.Addr().AsSlice()...)
	b = append(b, f.Dst.Addr().AsSlice()...)
	return append(append(b, extensions...), segment...)
}

func (f Frame) ipv4(segment []byte, ttl uint8) []byte {
	header := 20 + len(f.IPOptions)
	b := []byte{0x40 | byte(header/4), f.TOS}
	b = binary.BigEndian.AppendUint16(b, uint16(header+len(segment)))
	b = binary.BigEndian.AppendUint16(b, uint16(f.ID))
	b = binary.BigEndian.AppendUint16(b, f.Fragment)
	b = append(b, ttl, f.Proto, 0, 0)
	b = append(b, f.Src.Addr().AsSlice()...)
	b = append(b, f.Dst.Addr().AsSlice()...)
	b = append(b, f.IPOptions...)
	binary.BigEndian.PutUint16(b[10:], Checksum(b))
	return append(b, segment...)
}

func (f Frame) segment() []byte {
	if f.Raw != nil {
		return f.Raw
	}
	var b []byte
	at := 0
	switch f.Proto {
	case packet.ProtoTCP:
		b, at = f.tcp(), 16
	case packet.ProtoUDP:
		b, at = f.udp(), 6
	case packet.ProtoICMP, packet.ProtoICMPv6:
		b, at = append([]byte{f.ICMPType, f.ICMPCode, 0, 0}, f.ICMPRest[:]...), 2
	default:
		return f.Payload
	}
	b = append(b, f.Payload...)
	if f.NoChecksum {
		return b
	}
	check := Checksum(b)
	if f.Proto != packet.ProtoICMP {
		check = Checksum(append(f.pseudo(len(b)), b...))
	}
	if check == 0 && f.Proto == packet.ProtoUDP {
		check = 0xffff
	}
	binary.BigEndian.PutUint16(b[at:], check)
	return b
}

func (f Frame) tcp() []byte {
	window := f.Window
	if window == 0 && f.Flags&packet.RST == 0 {
		window = 64240
	}
	b := binary.BigEndian.AppendUint16(nil, f.Src.Port())
	b = binary.BigEndian.AppendUint16(b, f.Dst.Port())
	b = binary.BigEndian.AppendUint32(b, f.Seq)
	b = binary.BigEndian.AppendUint32(b, f.Ack)
	b = append(b, byte(20+len(f.TCPOptions))/4<<4, f.Flags)
	b = binary.BigEndian.AppendUint16(b, window)
	return append(append(b, 0, 0, 0, 0), f.TCPOptions...)
}

func (f Frame) udp() []byte {
	b := binary.BigEndian.AppendUint16(nil, f.Src.Port())
	b = binary.BigEndian.AppendUint16(b, f.Dst.Port())
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(f.Payload)))
	return append(b, 0, 0)
}

func (f Frame) pseudo(length int) []byte {
	b := append(f.Src.Addr().AsSlice(), f.Dst.Addr().AsSlice()...)
	b = binary.BigEndian.AppendUint32(b, uint32(length))
	return append(b, 0, 0, 0, f.Proto)
}

// Checksum is the Internet checksum by its definition: the complement of the
// sum modulo 65535 of all words (RFC 1071), 0 standing only for a sum of zeros.
func Checksum(b []byte) uint16 {
	var sum uint64
	for i, c := range b {
		if i%2 == 0 {
			sum += uint64(c) << 8
		} else {
			sum += uint64(c)
		}
	}
	if sum != 0 {
		sum = (sum-1)%0xffff + 1
	}
	return ^uint16(sum)
}

// MSS is the TCP option.
func MSS(mss uint16) []byte { return binary.BigEndian.AppendUint16([]byte{2, 4}, mss) }

// Equal reports where two byte strings differ.
func Equal(t testing.TB, got, want []byte) {
	t.Helper()
	if bytes.Equal(got, want) {
		return
	}
	at := 0
	for at < len(got) && at < len(want) && got[at] == want[at] {
		at++
	}
	t.Errorf("bytes differ from offset %d on:\n got %x\nwant %x", at, got, want)
}
