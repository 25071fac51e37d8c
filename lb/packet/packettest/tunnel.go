// SPDX-License-Identifier: Apache-2.0

package packettest

import (
	"encoding/binary"
	"net/netip"

	"github.com/fairlead/fairlead/lb/packet"
)

// Tunnel is a frame that one node sends to another.
type Tunnel struct {
	SrcMAC, DstMAC [6]byte
	Src, Dst       netip.Addr
	SrcPort, Port  uint16 // of the outer UDP header
	TOS            uint8
	TTL            uint8 // 0: 64
	Position       uint8
	TableHash      uint16
	Tags           [4]uint32
	Key            [16]byte
	Inner          []byte // an IP packet
	Signed         Tuple  // what the MAC covers of it
	VLANs          []Tag
	IPOptions      []byte
	Extensions     []Extension
	Trailer        []byte
}

// Where the parts of a tunnel frame begin, for tests that change one byte.
const (
	GeneveOffsetV4 = 14 + 20 + 8
	GeneveOffsetV6 = 14 + 40 + 8
	OptionOffset   = 8 // from the Geneve header
	BodyOffset     = OptionOffset + 4
	MACOffset      = BodyOffset + 20
	InnerOffset    = BodyOffset + 28
)

// Encap is f on its way from one node to another.
func Encap(src, dst string, port uint16, key [16]byte, f Frame) Tunnel {
	return Tunnel{
		SrcMAC: f.SrcMAC, DstMAC: f.DstMAC,
		Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr(dst),
		SrcPort: 0xc123, Port: port, Key: key, Inner: f.IP(), Signed: f.Tuple(),
	}
}

// Bytes is the whole frame.
func (t Tunnel) Bytes() []byte { return t.Frame().Bytes() }

// Frame is the outer one, a UDP datagram.
func (t Tunnel) Frame() Frame {
	return Frame{
		SrcMAC: t.SrcMAC, DstMAC: t.DstMAC, Tags: t.VLANs,
		Src: netip.AddrPortFrom(t.Src, t.SrcPort), Dst: netip.AddrPortFrom(t.Dst, t.Port),
		Proto: packet.ProtoUDP, TOS: t.TOS, TTL: t.TTL, NoChecksum: true,
		Fragment: 0x4000, IPOptions: t.IPOptions, Extensions: t.Extensions, Trailer: t.Trailer,
		Payload: append(t.geneve(), t.Inner...),
	}
}

func (t Tunnel) geneve() []byte {
	b := []byte{8, 0x40, 0x08, 0x00, 0, 0, 0, 0, 0xff, 0x1d, 0x81, 7}
	if t.Inner[0]>>4 == 6 {
		b[2], b[3] = 0x86, 0xdd
	}
	body := t.body()
	return binary.BigEndian.AppendUint64(append(b, body...), t.mac(body))
}

func (t Tunnel) body() []byte {
	b := binary.BigEndian.AppendUint16([]byte{1, t.Position}, t.TableHash)
	for _, tag := range t.Tags {
		b = binary.BigEndian.AppendUint32(b, tag)
	}
	return b
}

// Tuple is what the MAC says of the packet inside. That of an ICMP error is the
// tuple of the packet that would answer the quoted one.
type Tuple struct {
	Src, Dst netip.AddrPort
	Proto    uint8
	Related  bool
}

// Tuple is the frame's; a later fragment's has the ports of the first one.
func (f Frame) Tuple() Tuple {
	if f.Quote != nil {
		return Tuple{f.Quote.Dst, f.Quote.Src, f.Quote.Proto, true}
	}
	return Tuple{f.Src, f.Dst, f.Proto, false}
}

func (t Tunnel) mac(body []byte) uint64 {
	s := t.Signed
	msg := append([]byte(nil), body...)
	msg = binary.BigEndian.AppendUint16(msg, s.Src.Port())
	msg = binary.BigEndian.AppendUint16(msg, s.Dst.Port())
	msg = append(msg, s.Src.Addr().AsSlice()...)
	msg = append(msg, s.Dst.Addr().AsSlice()...)
	msg = append(msg, s.Proto, t.Inner[0]>>4, 0)
	if s.Related {
		msg[len(msg)-1] = 1
	}
	k0, k1 := binary.LittleEndian.Uint64(t.Key[:]), binary.LittleEndian.Uint64(t.Key[8:])
	return packet.Sum64(1, 3, k0, k1, msg)
}
