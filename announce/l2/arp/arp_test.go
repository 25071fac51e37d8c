// SPDX-License-Identifier: Apache-2.0

package arp

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/announce/l2/ether"
)

var (
	self   = ether.MAC{2, 0, 0, 0, 0, 1}
	client = ether.MAC{2, 0, 0, 0, 0, 9}
	vip    = netip.MustParseAddr("192.0.2.1")
	vip2   = netip.MustParseAddr("192.0.2.2")
	host   = netip.MustParseAddr("192.0.2.9")
	none   = netip.IPv4Unspecified()
)

func ours(a netip.Addr) bool { return a == vip || a == vip2 }

func mustHex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What Linux sends when it asks for 192.0.2.1, and the answer that it takes.
const (
	linuxRequest = "ffffffffffff 020000000009 0806 0001 0800 06 04 0001 020000000009 c0000209 000000000000 c0000201"
	answer       = "020000000009 020000000001 0806 0001 0800 06 04 0002 020000000001 c0000201 020000000009 c0000209"
)

func TestAnswerBytes(t *testing.T) {
	for _, padding := range []int{0, 18} {
		v := Decide(append(mustHex(t, linuxRequest), make([]byte, padding)...), self, ours)
		want := ether.Verdict{Kind: ether.Request, VIP: vip, From: client, Answer: mustHex(t, answer)}
		if diff := cmp.Diff(want, v, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Errorf("padding of %d bytes (-want +got):\n%s", padding, diff)
		}
	}
}

func TestDecide(t *testing.T) {
	request := Packet{To: ether.Broadcast, From: client, Op: Request, SenderMAC: client, Sender: host, Target: vip}
	with := func(change func(*Packet)) []byte {
		p := request
		change(&p)
		return p.Append(nil)
	}
	raw := func(at int, b byte) []byte {
		f := request.Append(nil)
		f[at] = b
		return f
	}
	for _, tt := range []struct {
		name  string
		frame []byte
		kind  ether.Kind
		vip   netip.Addr
	}{
		{"empty", nil, ether.Malformed, netip.Addr{}},
		{"one byte short", request.Append(nil)[:Len-1], ether.Malformed, netip.Addr{}},
		{"broadcast", request.Append(nil), ether.Request, vip},
		{"to us", with(func(p *Packet) { p.To = self }), ether.Request, vip},
		{"second vip", with(func(p *Packet) { p.Target = vip2 }), ether.Request, vip2},
		{"to another", with(func(p *Packet) { p.To = ether.MAC{2, 0, 0, 0, 0, 7} }), ether.Ignored, netip.Addr{}},
		{"not a vip", with(func(p *Packet) { p.Target = host }), ether.Ignored, netip.Addr{}},
		{"probe", with(func(p *Packet) { p.Sender = none }), ether.Probe, vip},
		{"our own", with(func(p *Packet) { p.From, p.SenderMAC = self, self }), ether.Ignored, netip.Addr{}},
		{"our own announcement come back", Announce(self, vip)[0], ether.Ignored, netip.Addr{}},
		{"another's announcement", Announce(client, vip)[0], ether.Claim, vip},
		{"another's gratuitous reply", Announce(client, vip2)[1], ether.Claim, vip2},
		{"another's announcement of its own", Announce(client, host)[0], ether.Ignored, netip.Addr{}},
		{"question from a vip", with(func(p *Packet) { p.Sender, p.Target = vip, host }), ether.Claim, vip},
		{"question from a vip for a vip", with(func(p *Packet) { p.Sender, p.Target = vip2, vip }), ether.Claim, vip2},
		{"answer from a vip", with(func(p *Packet) { p.Op, p.To, p.Sender, p.Target = Reply, self, vip, none }), ether.Claim, vip},
		{"answer about a host", with(func(p *Packet) { p.Op = Reply }), ether.Ignored, netip.Addr{}},
		{"reverse arp", with(func(p *Packet) { p.Op = 3 }), ether.Malformed, netip.Addr{}},
		{"sender is a group", with(func(p *Packet) { p.SenderMAC = ether.Broadcast }), ether.Malformed, netip.Addr{}},
		{"sender without address", with(func(p *Packet) { p.SenderMAC = ether.MAC{} }), ether.Malformed, netip.Addr{}},
		{"multicast sender", with(func(p *Packet) { p.Sender = netip.MustParseAddr("224.0.0.1") }), ether.Malformed, netip.Addr{}},
		{"broadcast sender", with(func(p *Packet) { p.Sender = netip.MustParseAddr("255.255.255.255") }), ether.Malformed, netip.Addr{}},
		{"ethertype", raw(12, 0x86), ether.Malformed, netip.Addr{}},
		{"hardware type", raw(15, 6), ether.Malformed, netip.Addr{}},
		{"hardware length", raw(18, 8), ether.Malformed, netip.Addr{}},
		{"protocol type", raw(17, 1), ether.Malformed, netip.Addr{}},
		{"protocol length", raw(19, 16), ether.Malformed, netip.Addr{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := Decide(tt.frame, self, ours)
			if v.Kind != tt.kind || v.VIP != tt.vip {
				t.Fatalf("%s for %s, want %s for %s", v.Kind, v.VIP, tt.kind, tt.vip)
			}
			checkAnswer(t, tt.frame, v)
		})
	}
}

// checkAnswer holds an answer against the question by what RFC 826 says of it.
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
	if q.Op != Request || !ours(q.Target) || ours(q.Sender) || q.SenderMAC == self || v.VIP != q.Target || v.From != q.SenderMAC {
		t.Fatalf("answered what does not ask for a VIP: %+v", q)
	}
	a, err := Parse(v.Answer)
	if err != nil {
		t.Fatal(err)
	}
	want := Packet{To: q.SenderMAC, From: self, Op: Reply, SenderMAC: self, Sender: q.Target, TargetMAC: q.SenderMAC, Target: q.Sender}
	if a != want {
		t.Errorf("answer %+v, want %+v", a, want)
	}
}

func TestAnnouncements(t *testing.T) {
	frames := Announce(self, vip)
	want := []string{
		"ffffffffffff 020000000001 0806 0001 0800 06 04 0001 020000000001 c0000201 000000000000 c0000201",
		"ffffffffffff 020000000001 0806 0001 0800 06 04 0002 020000000001 c0000201 020000000001 c0000201",
	}
	if len(frames) != len(want) {
		t.Fatalf("%d frames, want %d", len(frames), len(want))
	}
	for i, f := range append(frames, Ask(self, vip)) {
		want := append(want, "ffffffffffff 020000000001 0806 0001 0800 06 04 0001 020000000001 00000000 000000000000 c0000201")[i]
		if got := hex.EncodeToString(f); got != strings.ReplaceAll(want, " ", "") {
			t.Errorf("frame %d: %s, want %s", i, got, want)
		}
	}
	// Somebody who has the VIP takes the question for a probe.
	if v := Decide(Ask(client, vip), self, ours); v.Kind != ether.Probe {
		t.Errorf("question is %s, want %s", v.Kind, ether.Probe)
	}
}

func FuzzDecide(f *testing.F) {
	f.Add(mustHex(f, linuxRequest))
	f.Add(mustHex(f, answer))
	f.Add(Announce(client, vip)[1])
	f.Add(Ask(client, vip2))
	f.Fuzz(func(t *testing.T, frame []byte) {
		checkAnswer(t, frame, Decide(frame, self, ours))
		p, err := Parse(frame)
		if err != nil {
			return
		}
		again := p.Append(nil)
		if string(again) != string(frame[:Len]) {
			t.Fatalf("built %x from %x", again, frame)
		}
		if q, err := Parse(again); err != nil || q != p {
			t.Fatalf("parsed %+v (%v), want %+v", q, err, p)
		}
	})
}
