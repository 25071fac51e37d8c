// SPDX-License-Identifier: Apache-2.0

package packet

import "encoding/binary"

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
	optionSigned   = 4 + 4*(1+PastMax) // the bytes that the MAC covers
)

// Append appends the body, 28 bytes.
func (o Option) Append(b []byte) []byte {
	return binary.BigEndian.AppendUint64(o.appendSigned(b), o.MAC)
}

func (o Option) appendSigned(b []byte) []byte {
	b = append(b, o.Version, byte(o.Position))
	b = binary.BigEndian.AppendUint16(b, o.TableHash)
	for _, tag := range o.Tags {
		b = binary.BigEndian.AppendUint32(b, tag)
	}
	return b
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
	o.MAC = binary.BigEndian.Uint64(b[optionSigned:])
	return o, true
}

// Sign returns the MAC of the option on inner, a whole TCP or UDP packet:
// SipHash-1-3 over the option, ports, addresses, protocol and family.
func (o Option) Sign(key Key, inner *Packet) uint64 {
	var buf [optionSigned + 4 + 2*16 + 2]byte
	msg := o.appendSigned(buf[:0])
	msg = append(msg, inner.Frame[inner.L4:inner.L4+4]...)
	msg = append(msg, inner.SrcBytes()...)
	msg = append(msg, inner.DstBytes()...)
	msg = append(msg, inner.Proto, inner.Version)
	return key.Hash(msg)
}

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

// Append appends header, option header and option, 40 bytes: version 0, the
// critical bit set, VNI 0.
func (g Geneve) Append(b []byte) []byte {
	b = append(b, GeneveOptionLen/4, 0x40)
	b = binary.BigEndian.AppendUint16(b, uint16(g.Inner))
	b = append(b, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, GeneveClass)
	b = append(b, GeneveType, GeneveOptionWords)
	return g.Option.Append(b)
}
