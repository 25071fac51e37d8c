// SPDX-License-Identifier: Apache-2.0

package packet_test

import (
	"net/netip"
	"testing"

	"github.com/fairlead/fairlead/lb/packet"
	"github.com/fairlead/fairlead/lb/packet/packettest"
)

func TestGeneveAgainstHandBuilt(t *testing.T) {
	key := [16]byte{1, 2, 3}
	for _, f := range []packettest.Frame{
		packettest.TCP(clientV4, vipV4, packet.SYN), packettest.UDP(clientV6, vipV6, "hello"),
	} {
		tunnel := packettest.Encap("10.0.0.1", "10.0.0.2", 7471, key, f)
		tunnel.TOS, tunnel.Position, tunnel.TableHash, tunnel.Tags = 0xb9, 2, 0xabcd, [4]uint32{1, 2, 3, 4}
		frame := tunnel.Bytes()
		g, ok := packet.ParseGeneve(frame[packettest.GeneveOffsetV4:])
		if !ok {
			t.Fatal("ParseGeneve refuses what another node sends")
		}
		var inner packet.Packet
		if !inner.ParseIP(frame, packettest.GeneveOffsetV4+packet.GeneveLen, len(frame), g.Inner) {
			t.Fatal("inner packet not found")
		}
		if got := g.Option.Sign(packet.KeyOf(key), &inner); got != g.Option.MAC {
			t.Errorf("Sign = %#x, want %#x", got, g.Option.MAC)
		}
		want := packet.Option{Version: 1, Position: 2, TableHash: 0xabcd, Tags: packet.Tags{1, 2, 3, 4}, MAC: g.Option.MAC}
		if g.Option != want {
			t.Errorf("option %+v, want %+v", g.Option, want)
		}
		out := packet.Tunnel{
			Src: packet.AddrOf(tunnel.Src), Dst: packet.AddrOf(tunnel.Dst), SrcPort: tunnel.SrcPort, DstPort: tunnel.Port,
			Version: 4, TOS: tunnel.TOS, Inner: g.Inner, Option: &want,
		}
		packettest.Equal(t, out.AppendTo(nil, len(tunnel.Inner)), frame[packet.EthernetLen:packettest.GeneveOffsetV4+packet.GeneveLen])
		tunnel.Src, tunnel.Dst = netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2")
		out.Src, out.Dst, out.Version = packet.AddrOf(tunnel.Src), packet.AddrOf(tunnel.Dst), 6
		packettest.Equal(t, out.AppendTo(nil, len(tunnel.Inner)), tunnel.Bytes()[packet.EthernetLen:packettest.GeneveOffsetV6+packet.GeneveLen])
	}
}

func TestParseGeneve(t *testing.T) {
	good := (&packet.Tunnel{Version: 4, Inner: packet.EtherTypeIPv4, Option: &packet.Option{Version: 1, Position: 5}}).
		AppendTo(nil, 0)[packet.IPv4Len+packet.UDPLen:]
	const foreign, bad, ours = "foreign", "bad", "ours"
	for _, tt := range []struct {
		name string
		b    []byte
		want string
	}{
		{"empty", nil, foreign},
		{"a byte short", good[:39], foreign},
		{"version 1", with(good, 0, 0x48), foreign},
		{"longer options", with(good, 0, 9), foreign},
		{"no options", with(good, 0, 0), foreign},
		{"other class", with(good, 9, 0x1c), foreign},
		{"other inner protocol", with(good, 2, 0x65, 0x58), bad},
		{"other type", with(good, 10, 0x01), bad},
		{"other option length", with(good, 11, 6), bad},
		{"option version 2", with(good, 12, 2), bad},
		{"position 6", with(good, 13, 6), bad},
		{"position 5", good, ours},
		{"v6 inside", with(good, 2, 0x86, 0xdd), ours},
		{"OAM bit and VNI are not looked at", with(good, 1, 0xc0, 0x08, 0, 1, 2, 3), ours},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := foreign
			if packet.IsOurGeneve(tt.b) {
				got = bad
			}
			if _, ok := packet.ParseGeneve(tt.b); ok {
				got = ours
			}
			if got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

func FuzzOption(f *testing.F) {
	f.Add(packet.Option{Version: 1, Position: 3, TableHash: 9, Tags: packet.Tags{1, 2}, MAC: 7}.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		o, ok := packet.ParseOption(b)
		if !ok {
			return
		}
		again := o.Append(nil)
		packettest.Equal(t, again, b[:len(again)])
		if twice, ok := packet.ParseOption(again); !ok || twice != o {
			t.Fatalf("decoded %+v, encoded and decoded %+v", o, twice)
		}
	})
}
