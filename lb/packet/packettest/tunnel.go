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
	Inner          []byte // an IP packet with TCP or UDP
	IPOptions      []byte
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
		SrcPort: 0xc123, Port: port, Key: key, Inner: f.IP(),
	}
}

// Bytes is the whole frame.
func (t Tunnel) Bytes() []byte {
	outer := Frame{
		SrcMAC: t.SrcMAC, DstMAC: t.DstMAC,
		Src: netip.AddrPortFrom(t.Src, t.SrcPort), Dst: netip.AddrPortFrom(t.Dst, t.Port),
		Proto: packet.ProtoUDP, TOS: t.TOS, TTL: t.TTL, NoChecksum: true,
		Fragment: 0x4000, IPOptions: t.IPOptions, Trailer: t.Trailer,
	}
	outer.Payload = append(t.geneve(), t.Inner...)
	return outer.Bytes()
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

func (t Tunnel) mac(body []byte) uint64 {
	version := t.Inner[0] >> 4
	var l4 int
	var proto byte
	var addrs []byte
	if version == 4 {
		l4, proto, addrs = 4*int(t.Inner[0]&15), t.Inner[9], t.Inner[12:20]
	} else {
		l4, proto, addrs = 40, t.Inner[6], t.Inner[8:40]
	}
	msg := append([]byte(nil), body...)
	msg = append(msg, t.Inner[l4:l4+4]...)
	msg = append(msg, addrs...)
	msg = append(msg, proto, version)
	k0, k1 := binary.LittleEndian.Uint64(t.Key[:]), binary.LittleEndian.Uint64(t.Key[8:])
	return packet.Sum64(1, 3, k0, k1, msg)
}
