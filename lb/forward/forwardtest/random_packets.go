// SPDX-License-Identifier: Apache-2.0

package forwardtest

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/fairlead/fairlead/lb/flow"
	"github.com/fairlead/fairlead/lb/packet"
	"github.com/fairlead/fairlead/lb/packet/packettest"
)

// client is one of a few, now and then one that cannot be.
func (s *storyteller) client(v6 bool) string {
	host, port := fmt.Sprintf("198.51.100.%d", s.IntN(2)), 40000+s.IntN(3)
	if v6 {
		host = fmt.Sprintf("[2001:db8:1::%d]", 2+3*s.IntN(2))
	}
	if s.oneIn(40) {
		host = pick(s, "127.0.0.1", "0.0.0.0", "224.0.0.9", "255.255.255.255", "192.0.2.1")
		if v6 {
			host = pick(s, "[::]", "[::1]", "[ff02::1]", "[2001:db8::1]")
		}
	}
	if s.oneIn(40) {
		port = 0
	}
	return fmt.Sprintf("%s:%d", host, port)
}

// lengths are those of payloads; the larger ones are about what fits through
// the tunnels, or does not.
var lengths = []int{0, 1, 2, 3, 100, 100, 101, 600, 1192, 1372, 1373, 1392, 1393, 1404, 1405, 2000, 3001}

func (s *storyteller) payload() []byte {
	b := make([]byte, pick(s, lengths...))
	for i := range b {
		b[i] = byte(s.Uint32())
	}
	return b
}

// request is a packet of a client that there is a record of, or of any.
func (s *storyteller) request() packettest.Frame {
	v6 := s.oneIn(3)
	client, vip, proto := s.client(v6), s.vip(v6), uint8(packet.ProtoTCP)
	if s.oneIn(3) {
		vip, proto = s.dns(v6), packet.ProtoUDP
	}
	if c, ok := s.known(pick(s, flow.Own, flow.Own, flow.Redirect, flow.Affinity)); ok && s.oneIn(2) {
		client, vip, proto = c.client, c.vip, c.proto
	}
	if s.oneIn(40) {
		vip = pick(s, otherPort(vip), otherHost(vip))
	}
	var f packettest.Frame
	if proto == packet.ProtoUDP {
		f = packettest.UDP(client, vip, "")
		f.NoChecksum = f.Src.Addr().Is4() && s.oneIn(4)
	} else {
		f = packettest.TCP(client, vip, pick[uint8](s, syn, syn, syn, ack, ack, ack, ack|fin, rst, rst|ack, syn|ack))
		f.Seq, f.Ack = s.Uint32(), podISN+pick[uint32](s, 0, 1, 1, 1, 2, 0x4000, 0x4001, 0x8000_0000)
	}
	f.TTL = pick[uint8](s, 64, 64, 64, 64, 64, 64, 2, 1)
	if f.Src.Addr().Is4() {
		f.ID = s.Uint32N(1 << 16) // so that every header checksum comes about
	}
	f.Payload = s.payload()
	return f
}

func (s *storyteller) vip(v6 bool) string {
	if v6 {
		return pick(s, webV6, webV6, web2V6)
	}
	return pick(s, webV4, webV4, web81, web2V4)
}

func (s *storyteller) dns(v6 bool) string {
	if v6 {
		return pick(s, dnsV6, dnsV6, dns2V6)
	}
	return pick(s, dnsV4, dnsV4, dns2V4)
}

func (s *storyteller) ping() packettest.Frame {
	f := packettest.Ping("198.51.100.7", pick(s, "192.0.2.1", "192.0.2.1", vip2V4))
	if s.oneIn(2) {
		f = packettest.Ping("2001:db8:1::7", pick(s, "2001:db8::1", "2001:db8::1", vip2V6))
	}
	f.Payload = s.payload()
	if s.oneIn(8) {
		f.ICMPType, f.TTL = pick[uint8](s, 0, 5, 13, 129, 133, 135, 135, 136), pick[uint8](s, 64, 255, 255)
	}
	return f
}

// odd is f with things that few packets have.
func (s *storyteller) odd(f packettest.Frame) packettest.Frame {
	f.TOS = pick[uint8](s, 0, 0, 0xb8, 1, 2, 3)
	if s.oneIn(6) {
		f.Tags = pick(s, oneTag, twoTags, append(twoTags[:2:2], oneTag...))
	}
	if s.oneIn(8) {
		f.Trailer = make([]byte, 1+s.IntN(8))
	}
	f.ID = 1 + s.Uint32N(3)
	if f.Src.Addr().Is4() {
		f.Fragment = pick[uint16](s, 0, 0x4000)
		if s.oneIn(8) {
			f.IPOptions = pick(s, []byte{1, 1, 1, 0}, make([]byte, 40))
		}
		if s.oneIn(8) {
			f.ID = carrying(f)
		}
		return f
	}
	if s.oneIn(4) {
		f.Extensions = pick(s, walked(f)...).Extensions
		f.Atomic = s.oneIn(4)
	}
	if s.oneIn(16) {
		f.Extensions = pick(s, unwalked(f)...).Extensions
	}
	return f
}

// carrying is the id with which the IPv4 header's checksum becomes 0xfffe: an
// update of it then has to carry.
func carrying(f packettest.Frame) uint32 {
	f.ID = 0
	id := uint32(binary.BigEndian.Uint16(f.IP()[10:])) + 1 // what the sum lacks to 0x0001, its complement
	return (id + id>>16) & 0xffff
}

func (s *storyteller) untagged(f packettest.Frame) packettest.Frame {
	f.Tags = nil
	return f
}

// fragmented is f, or its fragments, of which one may come in front of the others.
func (s *storyteller) fragmented(f packettest.Frame) []packettest.Frame {
	const least = 24 // bytes of L4 header and payload, and 8 more
	f4 := f
	f4.Extensions, f4.Atomic, f4.IPOptions = nil, false, nil
	length := len(f4.IP()) - 20
	if f.Src.Addr().Is6() {
		length -= 20
	}
	if length < 2*least || !s.oneIn(6) {
		return []packettest.Frame{f}
	}
	f.Fragment, f.Atomic = 0, false
	var cuts []int
	for at := 0; len(cuts) < 1+s.IntN(3); {
		if at += 8 * (1 + s.IntN(length/16)); at >= length {
			break
		}
		cuts = append(cuts, at)
	}
	all := f.Fragments(f.ID, cuts...)
	if s.oneIn(4) && len(all) > 1 {
		all[0], all[1] = all[1], all[0]
	}
	if s.oneIn(4) {
		for i := range all {
			all[i].Fragment |= 0x4000 & (uint16(s.IntN(2)) << 14)
		}
	}
	return all
}

// arrivals come from another node, with tables that need not agree with ours.
func (s *storyteller) arrivals(frames []packettest.Frame) []Step {
	position, hash, key := uint8(s.IntN(6)), uint16(s.Uint32()), pick(s, key1, key1, key1, key1, key2, key2, key2, key3)
	var wire [4]uint32
	for i := range wire {
		if i > 0 && s.oneIn(3) {
			break
		}
		pod := pick(s, a1, a1, a1, a2, b1, c1, d1, e1)
		if frames[0].Src.Addr().Is6() != s.oneIn(20) {
			pod = pick(s, a1v6, a1v6, b1v6)
		}
		wire[i] = tag(pod)
	}
	self, tos := s.self[s.IntN(len(s.self))], pick[uint8](s, 0, 0, 1, 2, 3)
	return s.sent(In, frames, func(f packettest.Frame) framer {
		t := packettest.Encap(nodeB, self.String(), geneve, key, f)
		if self.Is6() {
			t.Src = netip.MustParseAddr("fd00::2")
			if s.oneIn(20) {
				t.Extensions = pick(s, walked(f)...).Extensions
			}
		}
		t.Position, t.TableHash, t.Tags, t.TOS = position, hash, wire, tos
		if s.oneIn(8) {
			t.VLANs = pick(s, oneTag, twoTags)
		}
		return t
	})
}
