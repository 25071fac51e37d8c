// SPDX-License-Identifier: Apache-2.0

package forward_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/lb/forward"
	"github.com/fairlead/fairlead/lb/forward/forwardtest"
	"github.com/fairlead/fairlead/lb/packet"
)

func TestMSSClamps(t *testing.T) {
	v4, v6 := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")
	for _, tt := range []struct {
		mtu            int
		addrs          []netip.Addr
		wantV4, wantV6 uint16
	}{
		{1500, []netip.Addr{v4}, 1392, 1372},
		{1500, []netip.Addr{v6}, 1372, 1352},
		{1500, []netip.Addr{v4, v6}, 1372, 1352},
		{9000, []netip.Addr{v4}, 8892, 8872},
	} {
		if got4, got6 := forward.MSSClamps(tt.mtu, tt.addrs); got4 != tt.wantV4 || got6 != tt.wantV6 {
			t.Errorf("mtu %d, %v: %d and %d, want %d and %d", tt.mtu, tt.addrs, got4, got6, tt.wantV4, tt.wantV6)
		}
	}
}

func TestSettingsRefused(t *testing.T) {
	addr := netip.MustParseAddr
	for _, tt := range []struct {
		name string
		edit func(*forward.Settings)
		want string
	}{
		{"no address", func(s *forward.Settings) { s.InternalIPs = nil }, "no internal IP"},
		{"mapped address", func(s *forward.Settings) { s.InternalIPs = []netip.Addr{addr("::ffff:10.0.0.1")} }, "not an address of a node"},
		{"two of a family", func(s *forward.Settings) { s.InternalIPs = append(s.InternalIPs, addr("10.0.0.9")) }, "10.0.0.9: second of its family"},
		{"no port", func(s *forward.Settings) { s.GenevePort = 0 }, "geneve port 0"},
		{"no key", func(s *forward.Settings) { s.Keys = nil }, "0 wire keys"},
		{"three keys", func(s *forward.Settings) { s.Keys = make([][16]byte, 3) }, "3 wire keys"},
		{"small mtu", func(s *forward.Settings) { s.MTU = 1279 }, "mtu 1279"},
		{"no clamp", func(s *forward.Settings) { s.MSSClampV6 = 0 }, "mss clamps"},
		{"odd flow table", func(s *forward.Settings) { s.FlowBuckets = 3 }, "3 buckets"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := forwardtest.SettingsOf(forwardtest.Nodes()[0])
			tt.edit(&s)
			_, err := forward.NewForwarder(s, forward.NewTables(forwardtest.Limits))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

// Computed by another program; all nodes of a cluster have to agree.
func TestFlowHash(t *testing.T) {
	v4, v6 := packet.AddrOf(netip.MustParseAddr("198.51.100.7")), packet.AddrOf(netip.MustParseAddr("2001:db8:1::7"))
	for _, tt := range []struct {
		client packet.Addr
		ports  uint64
		want   uint64
	}{
		{v4, forward.PortsWord(40000, 80, packet.ProtoTCP), 0x65d8c40a02f67b76},
		{v6, forward.PortsWord(40000, 80, packet.ProtoTCP), 0xb4663696a70a1c55},
		{v4, forward.PortsWord(40000, 53, packet.ProtoUDP), 0x68c10a544cca1fe0},
		{v4, 0, 0x2fad416d97a47623},
	} {
		if got := forward.FlowHash(tt.client, tt.ports); got != tt.want {
			t.Errorf("hash of %v, %#x = %#x, want %#x", tt.client, tt.ports, got, tt.want)
		}
	}
	if first, last := forward.SlotOf(0, 251), forward.SlotOf(1<<64-1, 251); first != 0 || last != 250 {
		t.Errorf("slots from %d to %d, want 0 to 250", first, last)
	}
}

func TestReasons(t *testing.T) {
	seen := map[string]bool{}
	for r := range forward.ReasonCount {
		if name := r.String(); name == "" || seen[name] {
			t.Errorf("reason %d is named %q", r, name)
		} else {
			seen[name] = true
		}
	}
	for reason, want := range map[forward.Reason]forward.Verdict{
		forward.None: forward.Continue, forward.NotIP: forward.Pass, forward.NoFlow: forward.Pass,
		forward.Malformed: forward.Drop, forward.Error: forward.Drop, forward.EncapHome: forward.Encap,
		forward.EncapOwner: forward.Encap, forward.SteerPast: forward.Steer, forward.SteerOwner: forward.Steer,
		forward.Mine: forward.Deliver, forward.Judge: forward.Deliver, forward.Echo: forward.Answer,
		forward.Refused: forward.Answer, forward.Translated: forward.Reply,
	} {
		if got := reason.Verdict(); got != want {
			t.Errorf("%s: %s, want %s", reason, got, want)
		}
	}
}
