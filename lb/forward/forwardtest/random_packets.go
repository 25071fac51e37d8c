// SPDX-License-Identifier: Apache-2.0

package forwardtest

import (
	"fmt"
	"net/netip"

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
var lengths = []int{0, 1, 2, 3, 100, 100, 101, 1192, 1372, 1373, 1392, 1393, 1404, 1405, 2000, 3001}

func (s *storyteller) payload() []byte {
	b := make([]byte, pick(s, lengths...))
	for i := range b {
		b[i] = byte(s.Uint32())
	}
	return b
}

func (s *storyteller) request() packettest.Frame {
	v6 := s.oneIn(3)
	client, web, dns := s.client(v6), pick(s, webV4, web81), dnsV4
	if v6 {
		web, dns = webV6, dnsV6
	}
	if s.oneIn(40) {
		web = pick(s, otherPort(web), otherHost(web))
	}
	var f packettest.Frame
	if s.oneIn(3) {
		f = packettest.UDP(client, dns, "")
		f.NoChecksum = !v6 && s.oneIn(4)
	} else {
		f = packettest.TCP(client, web, pick[uint8](s, syn, syn, syn, ack, ack, ack, ack|fin, rst, rst|ack, syn|ack))
		f.Seq, f.Ack = s.Uint32(), podISN+pick[uint32](s, 0, 1, 2, 0x4000, 0x8000_0000)
	}
	f.TTL = pick[uint8](s, 64, 64, 64, 64, 64, 64, 2, 1)
	f.Payload = s.payload()
	return f
}

func (s *storyteller) ping() packettest.Frame {
	f := packettest.Ping("198.51.100.7", "192.0.2.1")
	if s.oneIn(2) {
		f = packettest.Ping("2001:db8:1::7", "2001:db8::1")
	}
	f.Payload = s.payload()
	if s.oneIn(8) {
		f.ICMPType = pick[uint8](s, 0, 5, 13, 129, 133)
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
	if length < 2*least || !s.oneIn(4) {
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
		wire[i] = tag(pick(s, a1, a1, a1, a2, b1, c1, d1, e1, a1v6, a1v6, a1v6, b1v6))
	}
	over6, tos := s.oneIn(4), pick[uint8](s, 0, 0, 1, 2, 3)
	return s.sent(In, frames, func(f packettest.Frame) framer {
		t := packettest.Encap(nodeB, selfV4, geneve, key, f)
		if over6 {
			t.Src, t.Dst = netip.MustParseAddr("fd00::2"), netip.MustParseAddr(selfV6)
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
