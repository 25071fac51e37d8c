// SPDX-License-Identifier: Apache-2.0

package ndp

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/fairlead/fairlead/announce/l2/ether"
	"github.com/fairlead/fairlead/lb/packet"
)

var (
	self   = ether.MAC{2, 0, 0, 0, 0, 1}
	client = ether.MAC{2, 0, 0, 0, 0, 9}
	vip    = netip.MustParseAddr("2001:db8::1:203")
	host   = netip.MustParseAddr("2001:db8::9")
	zero   = netip.IPv6Unspecified()
)

func ours(a netip.Addr) bool { return a == vip }

// solicitation is what Linux sends when it looks for the VIP.
func solicitation() Message {
	return Message{
		To: ether.MAC{0x33, 0x33, 0xff, 1, 2, 3}, From: client,
		Dst: netip.MustParseAddr("ff02::1:ff01:203"), Src: host,
		Type: Solicitation, Target: vip, Link: client,
	}
}

func TestBytes(t *testing.T) {
	const ask = "3333ff010203 020000000009 86dd" +
		"60000000 0020 3a ff 20010db8000000000000000000000009 ff0200000000000000000001ff010203" +
		"87 00 SSSS 00000000 20010db8000000000000000000010203 01 01 020000000009"
	const answer = "020000000009 020000000001 86dd" +
		"60000000 0020 3a ff 20010db8000000000000000000010203 20010db8000000000000000000000009" +
		"88 00 SSSS 60000000 20010db8000000000000000000010203 02 01 020000000001"
	check(t, "solicitation", solicitation().Append(nil), ask)
	v := Decide(solicitation().Append(nil), self, ours)
	if v.Kind != ether.Request || v.VIP != vip || v.From != client {
		t.Fatalf("verdict %+v", v)
	}
	check(t, "answer", v.Answer, answer)
	const announcement = "333300000001 020000000001 86dd" +
		"60000000 0020 3a ff 20010db8000000000000000000010203 ff020000000000000000000000000001" +
		"88 00 SSSS 20000000 20010db8000000000000000000010203 02 01 020000000001"
	check(t, "announcement", Announce(self, vip)[0], announcement)
	const question = "3333ff010203 020000000001 86dd" +
		"60000000 0020 3a ff 20010db8000000000000000000000009 ff0200000000000000000001ff010203" +
		"87 00 SSSS 00000000 20010db8000000000000000000010203 01 01 020000000001"
	check(t, "question", Ask(self, host, vip), question)
}

// check compares a frame, whose checksum is SSSS in the wanted one: another
// implementation reads it and computes that.
func check(t *testing.T, name string, frame []byte, want string) {
	t.Helper()
	parsed := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
	ip, _ := parsed.NetworkLayer().(*layers.IPv6)
	icmp, _ := parsed.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6)
	if ip == nil || icmp == nil || parsed.ErrorLayer() != nil {
		t.Fatalf("%s: gopacket reads %s", name, parsed)
	}
	again := gopacket.NewSerializeBuffer()
	icmp.SetNetworkLayerForChecksum(ip)
	if err := gopacket.SerializeLayers(again, gopacket.SerializeOptions{ComputeChecksums: true}, icmp, gopacket.Payload(icmp.Payload)); err != nil {
		t.Fatal(err)
	}
	sum := hex.EncodeToString(again.Bytes()[2:4])
	want = strings.ReplaceAll(strings.ReplaceAll(want, " ", ""), "SSSS", sum)
	if got := hex.EncodeToString(frame); got != want {
		t.Errorf("%s:\n got %s\nwant %s", name, got, want)
	}
}

// resum makes the checksum of a changed frame right.
func resum(f []byte) []byte {
	binary.BigEndian.PutUint16(f[icmpOffset+2:], 0)
	end := min(len(f), icmpOffset+int(binary.BigEndian.Uint16(f[ether.HeaderLen+4:])))
	binary.BigEndian.PutUint16(f[icmpOffset+2:], packet.L4Checksum(f[22:38], f[38:54], packet.ProtoICMPv6, f[icmpOffset:end]))
	return f
}

func TestDecide(t *testing.T) {
	with := func(change func(*Message)) []byte {
		m := solicitation()
		change(&m)
		return m.Append(nil)
	}
	raw := func(at int, b byte) []byte {
		f := solicitation().Append(nil)
		f[at] = b
		return f
	}
	options := func(options ...byte) []byte {
		f := append(with(func(m *Message) { m.Link = ether.MAC{} }), options...)
		f[ether.HeaderLen+5] = byte(len(f) - icmpOffset)
		return resum(f)
	}
	advertisement := func(change func(*Message)) []byte {
		m := Message{To: ether.Multicast(allNodes), From: client, Dst: allNodes, Src: host, Type: Advertisement, Target: vip, Link: client}
		change(&m)
		return m.Append(nil)
	}
	probe := func(m *Message) { m.Src, m.Link = zero, ether.MAC{} }
	whole := solicitation().Append(nil)
	for _, tt := range []struct {
		name  string
		frame []byte
		kind  ether.Kind
	}{
		{"empty", nil, ether.Malformed},
		{"one byte short", whole[:Len-1], ether.Malformed},
		{"option cut", whole[:len(whole)-1], ether.Malformed},
		{"solicitation", whole, ether.Request},
		{"padded", append(solicitation().Append(nil), 1, 2, 3), ether.Request},
		{"to us", with(func(m *Message) { m.To, m.Dst = self, vip }), ether.Request},
		{"to another", with(func(m *Message) { m.To, m.Dst = ether.MAC{2, 0, 0, 0, 0, 7}, vip }), ether.Ignored},
		{"not a vip", with(func(m *Message) { m.Target = host }), ether.Ignored},
		{"from link-local", with(func(m *Message) { m.Src = netip.MustParseAddr("fe80::9") }), ether.Request},
		{"without options", options(), ether.Request},
		{"unknown option first", options(14, 1, 1, 2, 3, 4, 5, 6, 1, 1, 2, 0, 0, 0, 0, 9), ether.Request},
		{"long unknown option", options(append([]byte{14, 2}, make([]byte, 14)...)...), ether.Request},
		{"option of length 0", options(14, 0, 1, 2, 3, 4, 5, 6), ether.Malformed},
		{"option longer than the packet", options(14, 2, 1, 2, 3, 4, 5, 6), ether.Malformed},
		{"half an option", options(14, 1, 1), ether.Malformed},
		{"long link address", options(append([]byte{1, 2}, make([]byte, 14)...)...), ether.Malformed},
		{"link address is a group", options(1, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), ether.Malformed},
		{"probe", with(probe), ether.Probe},
		{"probe to one", with(func(m *Message) { probe(m); m.Dst = vip }), ether.Malformed},
		{"probe with link address", with(func(m *Message) { m.Src = zero }), ether.Malformed},
		{"our own", with(func(m *Message) { m.From, m.Link = self, self }), ether.Ignored},
		{"our own announcement come back", Announce(self, vip)[0], ether.Ignored},
		{"question from the vip", with(func(m *Message) { m.Src, m.Target = vip, host }), ether.Claim},
		{"another's announcement", Announce(client, vip)[0], ether.Claim},
		{"another's advertisement from its own address", advertisement(func(*Message) {}), ether.Claim},
		{"another's answer to us", advertisement(func(m *Message) { m.To, m.Dst, m.Solicited = self, host, true }), ether.Claim},
		{"another's advertisement without link address", advertisement(func(m *Message) { m.Link = ether.MAC{} }), ether.Claim},
		{"another's advertisement of its own", advertisement(func(m *Message) { m.Target = host }), ether.Ignored},
		{"solicited to a group", advertisement(func(m *Message) { m.Solicited = true }), ether.Malformed},
		{"advertisement without source", advertisement(func(m *Message) { m.Src = zero }), ether.Malformed},
		{"target is a group", with(func(m *Message) { m.Target = allNodes }), ether.Malformed},
		{"source is a group", with(func(m *Message) { m.Src = allNodes }), ether.Malformed},
		{"source is loopback", with(func(m *Message) { m.Src = netip.IPv6Loopback() }), ether.Malformed},
		{"sender is a group", with(func(m *Message) { m.From = ether.Broadcast }), ether.Malformed},
		{"ethertype", raw(13, 0), ether.Malformed},
		{"version", raw(14, 4<<4), ether.Malformed},
		{"hop-by-hop", raw(NextHeaderOffset, 0), ether.Malformed},
		{"forwarded", raw(NextHeaderOffset+1, 254), ether.Malformed},
		{"payload too short", raw(19, messageLen-1), ether.Malformed},
		{"payload longer than the frame", raw(19, 33), ether.Malformed},
		{"checksum", raw(icmpOffset+3, whole[icmpOffset+3]+1), ether.Malformed},
		{"code", resum(raw(icmpOffset+1, 1)), ether.Malformed},
		{"router solicitation", resum(raw(icmpOffset, 133)), ether.Malformed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := Decide(tt.frame, self, ours)
			if v.Kind != tt.kind {
				_, err := Parse(tt.frame)
				t.Fatalf("%s (%v), want %s", v.Kind, err, tt.kind)
			}
			checkAnswer(t, tt.frame, v)
		})
	}
}

// checkAnswer holds an answer against the question by RFC 4861 section 7.2.4.
func checkAnswer(t *testing.T, frame []byte, v ether.Verdict) {
	t.Helper()
	if (v.Answer != nil) != (v.Kind == ether.Request || v.Kind == ether.Probe) {
		t.Fatalf("%s: answer of %d bytes", v.Kind, len(v.Answer))
	}
	if v.Answer == nil {
		return
	}
	q, err := Parse(frame)
	if err != nil {
		t.Fatal(err)
	}
	if q.Type != Solicitation || q.Target != vip || q.Src == vip || q.From == self || v.VIP != vip {
		t.Fatalf("answered what does not ask for a VIP: %+v", q)
	}
	a, err := Parse(v.Answer)
	if err != nil {
		t.Fatal(err)
	}
	want := Message{From: self, Src: vip, Dst: q.Src, To: v.From, Type: Advertisement, Solicited: true, Override: true, Target: vip, Link: self}
	if v.Kind == ether.Probe {
		want.Dst, want.To, want.Solicited = netip.MustParseAddr("ff02::1"), ether.MAC{0x33, 0x33, 0, 0, 0, 1}, false
	}
	if a != want {
		t.Errorf("answer %+v, want %+v", a, want)
	}
}

// Of two link addresses the first one gets the answer.
func TestTwoLinkAddresses(t *testing.T) {
	m := solicitation()
	m.Link = ether.MAC{2, 0, 0, 0, 0, 8}
	f := append(m.Append(nil), 1, 1, 2, 0, 0, 0, 0, 9)
	f[ether.HeaderLen+5] += 8
	if v := Decide(resum(f), self, ours); v.Kind != ether.Request || v.From != m.Link {
		t.Errorf("%s from %s, want one from %s", v.Kind, v.From, m.Link)
	}
}

func TestGroup(t *testing.T) {
	for a, want := range map[string]string{
		"2001:db8::1:203":       "ff02::1:ff01:203",
		"fe80::abcd:ef01:2345":  "ff02::1:ff01:2345",
		"2001:db8::ffff:ffff":   "ff02::1:ffff:ffff",
		"2001:db8:0:1::7000:0":  "ff02::1:ff00:0",
		"2001:db8::12:3456:789": "ff02::1:ff56:789",
	} {
		if got := Group(netip.MustParseAddr(a)); got != netip.MustParseAddr(want) {
			t.Errorf("group of %s is %s, want %s", a, got, want)
		}
	}
}

func FuzzDecide(f *testing.F) {
	f.Add(solicitation().Append(nil))
	f.Add(Announce(client, vip)[0])
	f.Add(Ask(client, host, vip))
	f.Add(Decide(solicitation().Append(nil), self, ours).Answer)
	f.Fuzz(func(t *testing.T, frame []byte) {
		checkAnswer(t, frame, Decide(frame, self, ours))
		// With the checksum right, more gets through.
		if len(frame) >= Len && icmpOffset+int(binary.BigEndian.Uint16(frame[18:])) <= len(frame) {
			resum(frame)
			checkAnswer(t, frame, Decide(frame, self, ours))
		}
		m, err := Parse(frame)
		if err != nil {
			return
		}
		if again, err := Parse(m.Append(nil)); err != nil || again != m {
			t.Fatalf("parsed %+v (%v), want %+v", again, err, m)
		}
	})
}
