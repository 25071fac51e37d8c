// SPDX-License-Identifier: Apache-2.0

package packet

import (
	"encoding/binary"
	"math/bits"
)

// The wire format, version 1. abi.h has the same numbers (enum lb_geneve,
// lb_position, LB_VERSION_WIRE); the tests of package xdp compare them.
const (
	WireVersion       = 1
	GeneveClass       = 0xff1d // option class, from RFC 8926's experimental range
	GeneveType        = 0x81   // option type, critical
	GeneveOptionWords = 7      // option body, in 4-byte words
	GeneveHeaderLen   = 8
	GeneveOptionLen   = 4 + 4*GeneveOptionWords // option header and body
	GeneveLen         = GeneveHeaderLen + GeneveOptionLen
	EncapLenV4        = IPv4Len + UDPLen + GeneveLen // what an outer header adds
	EncapLenV6        = IPv6Len + UDPLen + GeneveLen
	PastMax           = 3
	geneveCritical    = 0x40 // a critical option is present
)

// Position says where a packet is on its way; it only grows.
type Position uint8

// The positions. Home and redirected are terminal.
const (
	PositionIngress Position = iota
	PositionPast1
	PositionPast2
	PositionPast3
	PositionHome
	PositionRedirected
)

// Terminal says that no node may send the packet on.
func (p Position) Terminal() bool { return p >= PositionHome }

// Tags are the wire ids of a slot's home and of up to three past backends; 0 is none.
type Tags [1 + PastMax]uint32

// Option is the body of our Geneve option.
type Option struct {
	Version   uint8
	Position  Position
	TableHash uint16 // low bits of the lookup table's content hash
	Tags      Tags
	MAC       uint64
}

// Offsets in the option's body.
const (
	optionPosition = 1
	optionMAC      = 4 + 4*(1+PastMax)
)

// Append appends the body, 28 bytes.
func (o Option) Append(b []byte) []byte {
	b = append(b, o.Version, byte(o.Position))
	b = binary.BigEndian.AppendUint16(b, o.TableHash)
	for _, tag := range o.Tags {
		b = binary.BigEndian.AppendUint32(b, tag)
	}
	return binary.BigEndian.AppendUint64(b, o.MAC)
}

// ParseOption reads a body; ok is false when it is shorter than 28 bytes.
func ParseOption(b []byte) (o Option, ok bool) {
	if len(b) < 4*GeneveOptionWords {
		return o, false
	}
	o.Version, o.Position = b[0], Position(b[optionPosition])
	o.TableHash = binary.BigEndian.Uint16(b[2:])
	for i := range o.Tags {
		o.Tags[i] = binary.BigEndian.Uint32(b[4+4*i:])
	}
	o.MAC = binary.BigEndian.Uint64(b[optionMAC:])
	return o, true
}

// Sign returns the MAC of the option on inner, a packet with ports:
// SipHash-1-3 over the option's bytes before the MAC, ports, addresses (4 or 16
// bytes each), protocol, IP version and, as 0 or 1, the mark Related.
func (o *Option) Sign(key Key, inner *Packet) uint64 {
	words := [7]uint64{
		uint64(o.Version) | uint64(o.Position)<<8 | uint64(bits.ReverseBytes16(o.TableHash))<<16 |
			uint64(bits.ReverseBytes32(o.Tags[0]))<<32,
		uint64(bits.ReverseBytes32(o.Tags[1])) | uint64(bits.ReverseBytes32(o.Tags[2]))<<32,
		uint64(bits.ReverseBytes32(o.Tags[3])) |
			uint64(bits.ReverseBytes16(inner.SrcPort))<<32 | uint64(bits.ReverseBytes16(inner.DstPort))<<48,
	}
	last := uint64(inner.Proto) | uint64(inner.Version)<<8
	if inner.Related {
		last |= 1 << 16
	}
	src, dst := &inner.Src, &inner.Dst
	if inner.Version == 4 {
		words[3] = uint64(binary.LittleEndian.Uint32(src[12:])) | uint64(binary.LittleEndian.Uint32(dst[12:]))<<32
		return key.HashWords(words[:4], last|signedLenV4<<56)
	}
	words[3], words[4] = binary.LittleEndian.Uint64(src[:8]), binary.LittleEndian.Uint64(src[8:])
	words[5], words[6] = binary.LittleEndian.Uint64(dst[:8]), binary.LittleEndian.Uint64(dst[8:])
	return key.HashWords(words[:7], last|signedLenV6<<56)
}

// Lengths of the signed message.
const (
	signedLenV4 = optionMAC + 4 + 2*4 + 3
	signedLenV6 = optionMAC + 4 + 2*16 + 3
)

// Geneve is a Geneve header with our option in it.
type Geneve struct {
	Inner  EtherType // of the packet inside
	Option Option
}

// IsOurGeneve says whether a UDP payload is Geneve whose first option is of our
// class and whose options have our length. Everything else is somebody else's.
func IsOurGeneve(b []byte) bool {
	return len(b) >= GeneveLen &&
		b[0] == GeneveOptionLen/4 && // version 0 in the two high bits
		binary.BigEndian.Uint16(b[GeneveHeaderLen:]) == GeneveClass
}

// ParseGeneve reads what IsOurGeneve accepted. ok is false when it is of our
// class but of a type, length, version, position or content that we do not speak.
func ParseGeneve(b []byte) (g Geneve, ok bool) {
	if !IsOurGeneve(b) || b[GeneveHeaderLen+2] != GeneveType || b[GeneveHeaderLen+3] != GeneveOptionWords {
		return g, false
	}
	g.Inner = EtherType(binary.BigEndian.Uint16(b[2:]))
	g.Option, ok = ParseOption(b[GeneveHeaderLen+4:])
	ok = ok && (g.Inner == EtherTypeIPv4 || g.Inner == EtherTypeIPv6) &&
		g.Option.Version == WireVersion && g.Option.Position <= PositionRedirected
	return g, ok
}

// Tunnel is all that stands in front of a packet on its way to another node.
type Tunnel struct {
	Src, Dst         Addr
	SrcPort, DstPort uint16
	Version          uint8 // of the outer IP header
	TOS              uint8
	Inner            EtherType
	Option           *Option
}

// AppendTo appends IP, UDP and Geneve headers for an inner packet of so many
// bytes. The UDP checksum is 0 (RFC 6935 allows it for a tunnel over IPv6 too);
// IPv4 says "don't fragment".
func (t *Tunnel) AppendTo(b []byte, length int) []byte {
	var zero [EncapLenV6]byte
	start := len(b)
	if length += UDPLen + GeneveLen; t.Version == 4 {
		b = append(b, zero[:EncapLenV4]...)
		t.putIPv4(b[start:], uint32(length+IPv4Len))
		start += IPv4Len
	} else {
		b = append(b, zero[:]...)
		t.putIPv6(b[start:], uint64(length))
		start += IPv6Len
	}
	h, o := b[start:start+UDPLen+GeneveLen], t.Option
	be := binary.BigEndian
	be.PutUint64(h, uint64(t.SrcPort)<<48|uint64(t.DstPort)<<32|uint64(length)<<16)
	be.PutUint64(h[8:], GeneveOptionLen/4<<56|geneveCritical<<48|uint64(t.Inner)<<32)
	be.PutUint64(h[16:], GeneveClass<<48|GeneveType<<40|GeneveOptionWords<<32|
		uint64(o.Version)<<24|uint64(o.Position)<<16|uint64(o.TableHash))
	be.PutUint64(h[24:], uint64(o.Tags[0])<<32|uint64(o.Tags[1]))
	be.PutUint64(h[32:], uint64(o.Tags[2])<<32|uint64(o.Tags[3]))
	be.PutUint64(h[40:], o.MAC)
	return b
}

func (t *Tunnel) putIPv4(h []byte, total uint32) {
	be := binary.BigEndian
	src, dst := be.Uint32(t.Src[12:]), be.Uint32(t.Dst[12:])
	first, third := 0x4500_0000|uint32(t.TOS)<<16|total, uint32(AnswerTTL<<24|ProtoUDP<<16)
	// The header's own words: reading it back so soon takes longer.
	sum := first>>16 + first&0xffff + ipv4DontFragment + third>>16 +
		src>>16 + src&0xffff + dst>>16 + dst&0xffff
	be.PutUint64(h, uint64(first)<<32|ipv4DontFragment)
	be.PutUint64(h[8:], uint64(third|uint32(^Fold(uint64(sum))))<<32|uint64(src))
	be.PutUint32(h[16:], dst)
}

func (t *Tunnel) putIPv6(h []byte, length uint64) {
	binary.BigEndian.PutUint64(h, 6<<60|uint64(t.TOS)<<52|length<<16|ProtoUDP<<8|AnswerTTL)
	copy(h[8:], t.Src[:])
	copy(h[24:], t.Dst[:])
}
