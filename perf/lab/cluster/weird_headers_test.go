// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/fairlead/fairlead/lb/packet"
	"github.com/fairlead/fairlead/lb/packet/packettest"
)

// ipv4 are options and fragments.
func (m *maker) ipv4() []weird {
	options := map[string][]byte{
		"router alert":     {148, 4, 0, 0},
		"record route":     append([]byte{7, 15, 4}, make([]byte, 13)...),
		"40 bytes of NOPs": bytes.Repeat([]byte{1}, 40),
	}
	var all []weird
	for _, name := range []string{"router alert", "record route", "40 bytes of NOPs"} {
		all = append(all, arriving(m.name("%s", name), m.accepted, func(payload string) []byte {
			f := m.udp(payload)
			f.IPOptions = options[name]
			return wire(f)
		}))
	}
	noChecksum := func(payload string) []byte {
		f := m.udp(payload)
		f.NoChecksum = true
		return wire(f)
	}
	pieces := func(id uint16, payload string) [][]byte {
		b := m.udp(payload).IP()
		return [][]byte{fragment4(b, 0, 16, id), fragment4(b, 16, len(b)-packet.IPv4Len, id)}
	}
	whole := m.name("two fragments")
	tooFar := fragment4(m.udp("far").IP(), 0, 8, 3)
	binary.BigEndian.PutUint16(tooFar[2+6:], 0x1fff)
	return append(all,
		arriving(m.name("no UDP checksum"), m.accepted, noChecksum),
		weird{name: whole, frames: pieces(1, whole), want: m.twice(), arrives: true},
		one(m.name("later fragment alone"), "fragment", pieces(2, "later fragment alone")[1]),
		one(m.name("first fragment without its header"), "malformed", fragment4(m.tcp(packet.SYN).IP(), 0, 16, 4)),
		one(m.name("fragment beyond 64 KB"), "malformed", resum(tooFar)),
	)
}

// twice is what two packets of one flow count as.
func (m maker) twice() counts {
	if m.accepted == "new" {
		return counts{"new": 1, "mine": 1}
	}
	return counts{m.accepted: 2}
}

// fragment4 is a frame with bytes from to to of an IPv4 packet's payload.
func fragment4(ip []byte, from, to int, id uint16) []byte {
	b := append([]byte{8, 0}, ip[:packet.IPv4Len]...)
	flags := uint16(from / 8)
	if packet.IPv4Len+to < len(ip) {
		flags |= 0x2000
	}
	b = append(b, ip[packet.IPv4Len+from:packet.IPv4Len+to]...)
	h := b[2:]
	binary.BigEndian.PutUint16(h[2:], uint16(len(h)))
	binary.BigEndian.PutUint16(h[4:], id)
	binary.BigEndian.PutUint16(h[6:], flags)
	return resum(b)
}

// resum sets the checksum of the frame's IPv4 header.
func resum(frame []byte) []byte {
	h := frame[2 : 2+packet.IPv4Len]
	h[10], h[11] = 0, 0
	binary.BigEndian.PutUint16(h[10:], packettest.Checksum(h))
	return frame
}

// header is an IPv6 extension header without its first byte.
type header struct {
	kind uint8
	rest []byte
}

// Extension headers (RFC 8200) of so many words of 8 bytes, and a routing header
// whose segments are all done but for left.
func hopByHop(words int) header    { return header{0, option(words)} }
func destination(words int) header { return header{60, option(words)} }
func routing(left uint8) header    { return header{43, []byte{0, 0, left, 0, 0, 0, 0}} }

// option fills a header of so many words with an option that a host passes over
// (RFC 4727). As padding, Linux accepts no more than 7 bytes.
func option(words int) []byte {
	b := make([]byte, 8*words-1)
	b[0] = uint8(words - 1)
	b[1], b[2] = 0x1e, uint8(len(b)-3)
	return b
}

// fragment6 is a fragment header.
func fragment6(offset int, more bool, id uint32) header {
	v := uint16(offset)
	if more {
		v |= 1
	}
	return header{44, binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16([]byte{0}, v), id)}
}

// chain is a packet with the headers before bytes from to to of what its IPv6
// header has; to 0: all of them.
func chain(f packettest.Frame, from, to int, headers ...header) []byte {
	segment := f.IP()[packet.IPv6Len:]
	if to != 0 {
		segment = segment[:to]
	}
	next, payload := f.Proto, segment[from:]
	for _, h := range slices.Backward(headers) {
		payload = slices.Concat([]byte{next}, h.rest, payload)
		next = h.kind
	}
	f.Proto, f.Payload = next, payload
	return wire(f)
}

// ipv6 are extension headers and fragments.
func (m *maker) ipv6() []weird {
	var all []weird
	for _, tt := range []struct {
		name    string
		headers []header
	}{
		{"hop-by-hop options", []header{hopByHop(1)}},
		{"destination options", []header{destination(2)}},
		{"routing header that is done", []header{routing(0)}},
		{"atomic fragment", []header{fragment6(0, false, 9)}},
		{"four headers", []header{hopByHop(1), destination(1), routing(0), destination(1)}},
		{"64 bytes of headers", []header{destination(8)}},
	} {
		all = append(all, arriving(m.name("%s", tt.name), m.accepted, func(payload string) []byte {
			return chain(m.udp(payload), 0, 0, tt.headers...)
		}))
	}
	for _, tt := range []struct {
		name, reason string
		headers      []header
	}{
		{"routing header with a segment left", "headers", []header{routing(1)}},
		{"five headers", "headers", []header{hopByHop(1), destination(1), routing(0), destination(1), destination(1)}},
		{"72 bytes of headers", "headers", []header{destination(9)}},
		{"two fragment headers", "headers", []header{fragment6(0, false, 9), fragment6(0, false, 9)}},
		{"header beyond the end", "malformed", []header{{60, []byte{5, 1, 4, 0, 0, 0, 0}}}},
		{"later fragment alone", "fragment", []header{fragment6(16, false, 2)}},
		{"fragment beyond 64 KB", "malformed", []header{fragment6(0xfff8, false, 3)}},
	} {
		all = append(all, one(m.name("%s", tt.name), tt.reason, chain(m.udp(tt.name), 0, 0, tt.headers...)))
	}
	name := m.name("two fragments")
	split := m.udp(name)
	return append(all,
		weird{
			name: name, want: m.twice(), arrives: true,
			frames: [][]byte{
				chain(split, 0, 16, fragment6(0, true, 1)),
				chain(split, 16, 0, fragment6(16, false, 1)),
			},
		},
		one(m.name("first fragment without its header"), "malformed", chain(m.tcp(packet.SYN), 0, 16, fragment6(0, true, 4))),
	)
}
