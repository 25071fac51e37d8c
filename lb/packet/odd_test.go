// SPDX-License-Identifier: Apache-2.0

package packet_test

import (
	"testing"

	"github.com/fairlead/fairlead/lb/packet"
	"github.com/fairlead/fairlead/lb/packet/packettest"
)

func TestParseFragment(t *testing.T) {
	f := packettest.UDP(clientV6, vipV6, "a datagram in two pieces")
	f.Extensions = []packettest.Extension{packettest.HopByHop(8)}
	for i, piece := range f.Fragments(0xdeadbeef, 16) {
		var p packet.Packet
		if !p.Parse(piece.Bytes()) || p.ID != 0xdeadbeef || p.Proto != packet.ProtoUDP || p.L4 != 14+40+8+8 {
			t.Fatalf("fragment %d: %+v", i, p)
		}
		if known := p.HasPorts(); known != (i == 0) {
			t.Errorf("fragment %d: ports known %t", i, known)
		}
		p.Follow(40000, 80)
		if !p.HasPorts() || p.SrcPort != 40000 || p.DstPort != 80 {
			t.Errorf("fragment %d does not follow: %+v", i, p)
		}
	}
}

// An error is described like the packet that would answer the quoted one.
func TestParseRelated(t *testing.T) {
	for _, tt := range []struct {
		name    string
		quoted  packettest.Frame
		router  string
		kind    uint8
		code    uint8
		mtu     uint32
		wantMTU uint16
	}{
		{"too big v4", packettest.UDP(vipV4, clientV4, "x"), "192.0.2.9", 3, 4, 0x0001_0578, 0x578},
		{"unreachable v4", packettest.TCP(vipV4, clientV4, packet.ACK), "192.0.2.9", 3, 1, 1400, 0},
		{"too big v6", packettest.UDP(vipV6, clientV6, "x"), "2001:db8::9", 2, 0, 1400, 1400},
		{"too big v6 for nobody", packettest.UDP(vipV6, clientV6, "x"), "2001:db8::9", 2, 0, 1 << 20, 65535},
		{"time exceeded v6", packettest.TCP(vipV6, clientV6, packet.ACK), "2001:db8::9", 3, 0, 1400, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var p packet.Packet
			if !p.Parse(packettest.ICMPError(tt.router, tt.quoted, tt.kind, tt.code, 8).WithMTU(tt.mtu).Bytes()) || !p.Related {
				t.Fatalf("not related: %+v", p)
			}
			src, dst := tt.quoted.Dst, tt.quoted.Src
			if p.Src != src.Addr().As16() || p.Dst != dst.Addr().As16() || p.SrcPort != src.Port() || p.DstPort != dst.Port() ||
				p.Proto != tt.quoted.Proto || p.Flags != 0 || p.MTU != tt.wantMTU || !p.HasPorts() || p.IsICMP() {
				t.Errorf("parsed %+v", p)
			}
		})
	}
}
