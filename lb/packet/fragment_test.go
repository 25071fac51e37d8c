// SPDX-License-Identifier: Apache-2.0

package packet_test

import (
	"bytes"
	"testing"

	"github.com/fairlead/fairlead/lb/packet"
	"github.com/fairlead/fairlead/lb/packet/packettest"
)

func mustParse(t *testing.T, frame []byte) *packet.Packet {
	t.Helper()
	p := new(packet.Packet)
	if !p.Parse(frame) || p.Malformed {
		t.Fatalf("does not parse: %x", frame)
	}
	return p
}

func TestMayFragment(t *testing.T) {
	f := packettest.UDP(clientV4, vipV4, "hello")
	df, options, noSum, later := f, f, f, f
	df.Fragment, options.IPOptions, noSum.NoChecksum, later.Fragment = 0x4000, []byte{1, 1, 1, 0}, true, 0x2001
	first := f
	first.Fragment = 0x2000
	tcp := packettest.TCP(clientV4, vipV4, packet.ACK)
	related := packettest.ICMPError("192.0.2.9", packettest.UDP(vipV4, clientV4, "hello"), 3, 4, 8)
	for _, tt := range []struct {
		name  string
		frame []byte
		want  bool
	}{
		{"udp", f.Bytes(), true}, {"tcp", tcp.Bytes(), true}, {"df", df.Bytes(), false}, {"options", options.Bytes(), false},
		{"no checksum", noSum.Bytes(), true}, {"wrong checksum", with(f.Bytes(), 40, 1, 2), true},
		{"first fragment", first.Bytes(), true}, {"later fragment", later.Bytes(), true},
		{"later fragment with df", with(later.Bytes(), 20, 0x60), false},
		{"v6", packettest.UDP(clientV6, vipV6, "hello").Bytes(), false}, {"an error", related.Bytes(), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := mustParse(t, tt.frame).MayFragment(); got != tt.want {
				t.Errorf("%t, want %t", got, tt.want)
			}
		})
	}
}

// Whatever the sizes, the fragments carry all of the payload at the right places.
func TestAppendFragment(t *testing.T) {
	rnd := seeded(t)
	for range 500 {
		f := packettest.UDP(clientV4, vipV4, "")
		f.Payload, f.ID, f.TTL = randomBytes(rnd, rnd.IntN(3000)), rnd.Uint32()&0xffff, 2+uint8(rnd.IntN(200))
		if rnd.IntN(2) == 0 {
			f.Fragment = 0x2000 | uint16(rnd.IntN(0x1000))
		}
		p := mustParse(t, f.Bytes())
		size := 8 * (1 + rnd.IntN(200))
		var cuts []int
		var got [][]byte
		for at := 0; at < p.End-p.L4; at += size {
			if at > 0 {
				cuts = append(cuts, at)
			}
			got = append(got, p.AppendFragment(nil, at, size))
		}
		f.TTL--
		for i, want := range f.Fragments(f.ID, cuts...) {
			if !bytes.Equal(got[i], want.IP()) {
				t.Fatalf("fragment %d of %d:\n got %x\nwant %x", i, len(got), got[i], want.IP())
			}
		}
	}
}

func TestSetECN(t *testing.T) {
	for _, f := range []packettest.Frame{packettest.UDP(clientV4, vipV4, "x"), packettest.UDP(clientV6, vipV6, "x")} {
		for from := range uint8(4) {
			for to := range uint8(4) {
				f.TOS = 0xb8 | from
				frame := f.Bytes()
				p := mustParse(t, frame)
				p.SetECN(to)
				f.TOS = 0xb8 | to
				packettest.Equal(t, frame, f.Bytes())
				if p.ECN() != to || p.TOS != f.TOS {
					t.Errorf("ECN %d, TOS %#x", p.ECN(), p.TOS)
				}
			}
		}
	}
}
