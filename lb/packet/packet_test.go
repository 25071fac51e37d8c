// SPDX-License-Identifier: Apache-2.0

package packet_test

import (
	"net/netip"
	"testing"

	"github.com/fairlead/fairlead/lb/packet"
	"github.com/fairlead/fairlead/lb/packet/packettest"
)

const (
	clientV4, vipV4 = "198.51.100.7:40000", "192.0.2.1:80"
	clientV6, vipV6 = "[2001:db8:1::7]:40000", "[2001:db8::1]:80"
)

func with(b []byte, at int, bytes ...byte) []byte {
	b = append([]byte(nil), b...)
	copy(b[at:], bytes)
	return b
}

func TestParse(t *testing.T) {
	tcp4 := packettest.TCP(clientV4, vipV4, packet.SYN).Bytes()
	tcp6 := packettest.TCP(clientV6, vipV6, packet.SYN).Bytes()
	udp4 := packettest.UDP(clientV4, vipV4, "hello").Bytes()
	options := packettest.UDP(clientV4, vipV4, "hello")
	options.IPOptions = []byte{1, 1, 1, 0}
	fragment := packettest.UDP(clientV4, vipV4, "hello")
	fragment.Fragment = 0x2000
	later := packettest.UDP(clientV4, vipV4, "hello")
	later.Fragment = 1
	padded := packettest.UDP(clientV4, vipV4, "hello")
	padded.Trailer = make([]byte, 13)
	tagged, twice, thrice := padded, padded, padded
	tagged.Tags = []packettest.Tag{packettest.VLAN(1)}
	twice.Tags = []packettest.Tag{packettest.QinQ(1), packettest.VLAN(2)}
	thrice.Tags = append(twice.Tags, packettest.VLAN(3))
	v6 := packettest.UDP(clientV6, vipV6, "hello")
	extended := func(e ...packettest.Extension) []byte {
		f := v6
		f.Extensions = e
		return f.Bytes()
	}
	hop, dst, routing := packettest.HopByHop, packettest.DestinationOptions, packettest.Routing
	atomic := v6
	atomic.Atomic = true
	pieces := v6.Fragments(9, 8)

	const whole, malformed, headers, first, last, related, none = "whole", "malformed", "headers", "first", "later", "related", "none"
	for _, tt := range []struct {
		name  string
		frame []byte
		want  string
	}{
		{"empty", nil, none},
		{"ethernet header cut", tcp4[:13], none},
		{"arp", with(tcp4, 12, 0x08, 0x06), none},
		{"vlan", tagged.Bytes(), whole},
		{"two tags", twice.Bytes(), whole},
		{"three tags", thrice.Bytes(), none},
		{"tag cut", tagged.Bytes()[:17], none},
		{"tag in front of arp", with(tagged.Bytes(), 16, 0x08, 0x06), none},
		{"v4 header cut", tcp4[:33], none},
		{"v6 header cut", tcp6[:53], none},
		{"v4 with version 6", with(tcp4, 14, 0x65), none},
		{"v6 with version 4", with(tcp6, 14, 0x40), none},
		{"v4 header of 16 bytes", with(tcp4, 14, 0x44), none},
		{"v4 header longer than packet", with(udp4[:14+33], 14, 0x4f, 0, 0, 33), malformed},
		{"v4 shorter than header", with(tcp4, 16, 0, 19), malformed},
		{"v4 longer than frame", with(tcp4, 16, 0, 41), malformed},
		{"v6 longer than frame", with(tcp6, 18, 0, 21), malformed},
		{"tcp header cut", with(tcp4, 16, 0, 39), malformed},
		{"tcp data offset 4", with(tcp4, 46, 0x40), malformed},
		{"tcp options cut", with(tcp4, 46, 0x60), malformed},
		{"udp header cut", with(udp4, 16, 0, 27), malformed},
		{"udp length 7", with(udp4, 38, 0, 7), malformed},
		{"udp longer than packet", with(udp4, 38, 0, 14), malformed},
		{"udp shorter than packet", with(udp4, 38, 0, 8), whole},
		{"first fragment", fragment.Bytes(), first},
		{"later fragment", later.Bytes(), last},
		{"later fragment at the end of a datagram", with(later.Bytes(), 20, 0x1f, 0xfd), last},
		{"later fragment beyond 64 KiB", with(later.Bytes(), 20, 0x1f, 0xff), malformed},
		{"first fragment, udp longer than packet", with(fragment.Bytes(), 38, 0xff, 0xff), first},
		{"first fragment, udp length 7", with(fragment.Bytes(), 38, 0, 7), malformed},
		{"v6 first fragment", pieces[0].Bytes(), first},
		{"v6 later fragment", pieces[1].Bytes(), last},
		{"v6 atomic fragment", atomic.Bytes(), whole},
		{"v6 fragment header cut", with(atomic.Bytes(), 18, 0, 7), malformed},
		{"v6 all kinds of headers", extended(hop(8), dst(8), routing(0), dst(40)), whole},
		{"v6 five headers", extended(hop(8), dst(8), routing(0), dst(8), dst(8)), headers},
		{"v6 65 bytes of headers and more", extended(hop(64), dst(8)), headers},
		{"v6 segments left", extended(routing(1)), headers},
		{"v6 header beyond the end", with(extended(dst(8)), 55, 4), malformed},
		{"v6 tcp behind nothing", with(tcp6, 20, packet.ProtoDestination), headers}, // its port is a length
		{"v6 port unreachable", packettest.ICMPError("2001:db8::9", v6, 1, 4, 8).Bytes(), related},
		{"port unreachable", packettest.ICMPError("192.0.2.9", options, 3, 3, 8).Bytes(), related},
		{"error that quotes too little", packettest.ICMPError("192.0.2.9", options, 3, 3, 7).Bytes(), whole},
		{"tcp v4", tcp4, whole},
		{"tcp v6", tcp6, whole},
		{"udp v4", udp4, whole},
		{"options", options.Bytes(), whole},
		{"padded", padded.Bytes(), whole},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var p packet.Packet
			got := none
			if p.Parse(tt.frame) {
				got = [...]string{whole, first, last}[p.Fragment]
				switch {
				case p.Malformed:
					got = malformed
				case p.Headers:
					got = headers
				case p.Related:
					got = related
				}
			}
			if got != tt.want {
				t.Fatalf("Parse: %s, want %s (%+v)", got, tt.want, p)
			}
		})
	}
}

func TestParseFields(t *testing.T) {
	f := packettest.TCP(clientV6, vipV6, packet.ACK|packet.PSH)
	f.Seq, f.Ack, f.TTL, f.TOS, f.Payload = 7, 9, 33, 0xb9, []byte("data")
	f.TCPOptions = packettest.MSS(1400)
	var p packet.Packet
	if !p.Parse(f.Bytes()) || !p.HasPorts() {
		t.Fatalf("Parse: %+v", p)
	}
	type facts struct {
		src, dst         packet.Addr
		srcPort, dstPort uint16
		version, proto   uint8
		ttl, tos, flags  uint8
		seq, ack         uint32
		l3, l4, data     int
		end, length      int
	}
	got := facts{p.Src, p.Dst, p.SrcPort, p.DstPort, p.Version, p.Proto, p.TTL, p.TOS, p.Flags,
		p.Seq(), p.Ack(), p.L3, p.L4, p.Data, p.End, p.Len()}
	want := facts{netip.MustParseAddr("2001:db8:1::7").As16(), netip.MustParseAddr("2001:db8::1").As16(),
		40000, 80, 6, 6, 33, 0xb9, packet.ACK | packet.PSH, 7, 9, 14, 54, 78, 82, 68}
	if got != want {
		t.Errorf("parsed %+v\nwant %+v", got, want)
	}
}

func TestRewrite(t *testing.T) {
	const pod4, pod6 = "10.1.2.3:8080", "[fd00:1::3]:8080"
	for _, tt := range []struct {
		name     string
		from, to packettest.Frame
	}{
		{"tcp v4", packettest.TCP(clientV4, vipV4, packet.SYN), packettest.TCP("198.51.100.7:50123", pod4, packet.SYN)},
		{"tcp v6", packettest.TCP(clientV6, vipV6, packet.SYN), packettest.TCP("[2001:db8:1::7]:50123", pod6, packet.SYN)},
		{"udp v4", packettest.UDP(clientV4, vipV4, "odd"), packettest.UDP("198.51.100.7:50123", pod4, "odd")},
		{"udp v6", packettest.UDP(clientV6, vipV6, "odd"), packettest.UDP("[2001:db8:1::7]:50123", pod6, "odd")},
	} {
		for _, noChecksum := range []bool{false, true} {
			tt.from.NoChecksum = noChecksum && tt.from.Proto == packet.ProtoUDP
			tt.to.NoChecksum, tt.to.TTL = tt.from.NoChecksum, 63
			frame := tt.from.Bytes()
			var p packet.Packet
			if !p.Parse(frame) {
				t.Fatalf("%s: not parsed", tt.name)
			}
			p.SetDst(packet.AddrOf(tt.to.Dst.Addr()), tt.to.Dst.Port())
			p.SetSrcPort(tt.to.Src.Port())
			p.SetTTL(63)
			packettest.Equal(t, frame, tt.to.Bytes())
			p.SetSrc(packet.AddrOf(tt.from.Dst.Addr()), 1)
			p.SetSrc(packet.AddrOf(tt.to.Src.Addr()), tt.to.Src.Port())
			packettest.Equal(t, frame, tt.to.Bytes())
		}
	}
}

// A UDP checksum whose sum comes out as 0 is sent as 0xffff.
func TestRewriteUDPZero(t *testing.T) {
	seen := false
	for port := range 65536 {
		f := packettest.UDP(clientV4, vipV4, "x")
		frame := f.Bytes()
		var p packet.Packet
		p.Parse(frame)
		p.SetDstPort(uint16(port))
		f.Dst = netip.AddrPortFrom(f.Dst.Addr(), uint16(port))
		want := f.Bytes()
		if want[40] == 0xff && want[41] == 0xff {
			seen = true
			packettest.Equal(t, frame, want)
		}
	}
	if !seen {
		t.Error("no port gives a sum of 0")
	}
}

func TestClampMSS(t *testing.T) {
	const limit = 1360
	mss := packettest.MSS
	pad := func(parts ...[]byte) []byte {
		var b []byte
		for _, p := range parts {
			b = append(b, p...)
		}
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
		return b
	}
	for _, tt := range []struct {
		name           string
		options, wants []byte
	}{
		{"none", nil, nil},
		{"larger", mss(1460), mss(limit)},
		{"equal", mss(limit), mss(limit)},
		{"smaller", mss(536), mss(536)},
		{"at an odd offset", pad([]byte{1}, mss(1460)), pad([]byte{1}, mss(limit))},
		{"after others", pad([]byte{3, 3, 7, 4, 2}, mss(65535)), pad([]byte{3, 3, 7, 4, 2}, mss(limit))},
		{"behind the end", pad([]byte{0}, mss(1460)), pad([]byte{0}, mss(1460))},
		{"cut", []byte{1, 1, 2, 4}, []byte{1, 1, 2, 4}},
		{"wrong length", []byte{2, 3, 9, 2, 4, 5, 180, 0}, []byte{2, 3, 9, 2, 4, 5, 180, 0}},
		{"length 0", []byte{5, 0, 2, 4, 5, 180, 0, 0}, []byte{5, 0, 2, 4, 5, 180, 0, 0}},
	} {
		for _, src := range []string{vipV4, vipV6} {
			dst := clientV4
			if src == vipV6 {
				dst = clientV6
			}
			f := packettest.TCP(src, dst, packet.SYN|packet.ACK)
			f.TCPOptions = tt.options
			frame := f.Bytes()
			var p packet.Packet
			p.Parse(frame)
			p.ClampMSS(limit)
			f.TCPOptions = tt.wants
			t.Run(tt.name, func(t *testing.T) { packettest.Equal(t, frame, f.Bytes()) })
		}
	}
}

func TestAnswerEcho(t *testing.T) {
	for _, addrs := range [][2]string{{"198.51.100.7", "192.0.2.1"}, {"2001:db8:1::7", "2001:db8::1"}} {
		f := packettest.Ping(addrs[0], addrs[1])
		f.TTL = 9
		frame := f.Bytes()
		var p packet.Packet
		if !p.Parse(frame) || !p.IsEchoRequest() {
			t.Fatalf("%s: no echo request", addrs[0])
		}
		p.AnswerEcho()
		f.Src, f.Dst, f.TTL = f.Dst, f.Src, 64
		if f.ICMPType = 0; f.Proto == packet.ProtoICMPv6 {
			f.ICMPType = 129
		}
		packettest.Equal(t, frame, f.Bytes())
	}
}

func FuzzParse(f *testing.F) {
	f.Add(packettest.TCP(clientV4, vipV4, packet.SYN).Bytes())
	f.Add(packettest.UDP(clientV6, vipV6, "hello").Bytes())
	f.Add(packettest.Ping("198.51.100.7", "192.0.2.1").Bytes())
	f.Add(packettest.ICMPError("192.0.2.9", packettest.UDP(vipV4, clientV4, "hello"), 3, 4, 8).Bytes())
	f.Add(packettest.ICMPError("2001:db8::9", packettest.TCP(vipV6, clientV6, packet.SYN), 2, 0, 20).Bytes())
	odd := packettest.UDP(clientV6, vipV6, "a datagram in two pieces")
	odd.Tags = []packettest.Tag{packettest.QinQ(1), packettest.VLAN(2)}
	odd.Extensions = []packettest.Extension{packettest.HopByHop(8), packettest.Routing(0)}
	for _, piece := range odd.Fragments(7, 16) {
		f.Add(piece.Bytes())
	}
	for _, piece := range packettest.UDP(clientV4, vipV4, "a datagram in two pieces").Fragments(7, 16) {
		f.Add(piece.Bytes())
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		var p packet.Packet
		if !p.Parse(frame) || p.Malformed {
			return
		}
		if p.L3 > p.L4 || p.L4 > p.End || p.End > len(frame) || p.Related && (p.Q3 < p.L4 || p.Q4 < p.Q3 || p.Q4+8 > p.End) {
			t.Fatalf("offsets outside of the packet: %+v", p)
		}
		if p.IsLater() {
			p.Follow(1, 2)
		}
		if !p.HasPorts() {
			return
		}
		if header := p.Fragment != packet.LaterFragment && !p.Related; header && (p.Data < p.L4 || p.Data > p.End) {
			t.Fatalf("payload outside of the packet: %+v", p)
		}
		rest := append([]byte(nil), frame[p.End:]...)
		if p.MayFragment() {
			p.AppendFragment(nil, 0, 8)
		}
		p.SetDst(packet.Addr{1}, 1)
		p.SetSrc(packet.Addr{2}, 2)
		p.SetTTL(3)
		p.SetECN(packet.CE)
		if p.Flags&packet.SYN != 0 {
			p.ClampMSS(500)
		}
		if string(rest) != string(frame[p.End:]) {
			t.Fatal("what follows the packet was changed")
		}
	})
}
