// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func testPeer() Peer {
	return Peer{Address: netip.MustParseAddr("192.0.2.1"), LocalASN: 65001, PeerASN: 65000, RouterID: netip.MustParseAddr("192.0.2.11")}
}

func TestPeerProblems(t *testing.T) {
	addr := netip.MustParseAddr
	time := func(d time.Duration) *time.Duration { return &d }
	for _, tc := range []struct {
		name   string
		change func(*Peer)
		want   string // part of the error
	}{
		{"no address", func(p *Peer) { p.Address = netip.Addr{} }, `Address "": want the address`},
		{"multicast address", func(p *Peer) { p.Address = addr("224.0.0.1") }, "Address 224.0.0.1: want the address"},
		{"mapped address", func(p *Peer) { p.Address = addr("::ffff:192.0.2.1") }, "Address ::ffff:192.0.2.1"},
		{"link-local without zone", func(p *Peer) { p.Address = addr("fe80::1") }, "Address fe80::1: is link-local"},
		{"source of other family", func(p *Peer) { p.Source = addr("2001:db8::1") }, "Source 2001:db8::1"},
		{"interface", func(p *Peer) { p.Interface = "eth1" }, `Interface "eth1": sessions without`},
		{"vrf", func(p *Peer) { p.VRF = "red" }, `VRF "red": sessions are in the default VRF`},
		{"no own AS", func(p *Peer) { p.LocalASN = 0 }, "LocalASN 0"},
		{"no peer AS", func(p *Peer) { p.PeerASN = 0 }, `DynamicASN "": want`},
		{"unknown dynamic AS", func(p *Peer) { p.PeerASN, p.DynamicASN = 0, "any" }, `DynamicASN "any": want`},
		{"both", func(p *Peer) { p.DynamicASN = "external" }, `DynamicASN "external": contradicts PeerASN 65000`},
		{"no router id", func(p *Peer) { p.RouterID = netip.Addr{} }, `RouterID "": want`},
		{"IPv6 router id", func(p *Peer) { p.RouterID = addr("::1") }, "RouterID ::1: want"},
		{"long password", func(p *Peer) { p.Password = strings.Repeat("x", 81) }, "Password of 81 bytes: want at most 80"},
		{"multihop inside", func(p *Peer) { p.PeerASN, p.MultiHop = 65001, true }, "MultiHop true: is for external"},
		{"both TTLs", func(p *Peer) { p.TTL, p.MinTTL = 64, 254 }, "TTL 64: want 255 beside MinTTL 254"},
		{"link-local next hop of IPv4", func(p *Peer) { p.NextHop4 = addr("fe80::1%eth0") }, "NextHop4 fe80::1%eth0"},
		{"IPv4 next hop of IPv6", func(p *Peer) { p.NextHop6 = addr("192.0.2.1") }, "NextHop6 192.0.2.1"},
		{"link-local next hop", func(p *Peer) { p.NextHop6 = addr("fe80::1%eth0") }, "NextHop6 fe80::1%eth0"},
		{"hold time 1", func(p *Peer) { p.HoldTime = time(1e9) }, "HoldTime 1s"},
		{"hold time in parts", func(p *Peer) { p.HoldTime = time(35e8) }, "HoldTime 3.5s"},
		{"keepalive above hold", func(p *Peer) { p.HoldTime, p.KeepaliveTime = time(9e9), time(10e9) }, "KeepaliveTime 10s: want whole seconds up to the hold time 9s"},
		{"keepalive 0", func(p *Peer) { p.HoldTime, p.KeepaliveTime = time(9e9), time(0) }, "KeepaliveTime 0s"},
		{"connect below 0", func(p *Peer) { p.ConnectTime = -1 }, "ConnectTime -1ns"},
		{"restart too long", func(p *Peer) { p.RestartTime = 4096e9 }, "RestartTime 1h8m16s"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := testPeer()
			tc.change(&p)
			_, _, err := p.check()
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "peer "+p.Name().String()) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
	p := testPeer()
	p.VRF, p.Interface = "red", "eth1"
	if _, _, err := p.check(); err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("want both problems, got %v", err)
	}
}

func TestSettings(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*Peer)
		ttl    uint8
	}{
		{"external", func(*Peer) {}, 1},
		{"external behind hops", func(p *Peer) { p.MultiHop = true }, 255},
		{"internal", func(p *Peer) { p.PeerASN = 65001 }, 255},
		{"internal, any", func(p *Peer) { p.PeerASN, p.DynamicASN = 0, "internal" }, 255},
		{"given", func(p *Peer) { p.TTL = 7 }, 7},
		{"guarded", func(p *Peer) { p.MinTTL = 254 }, 255},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := testPeer()
			tc.change(&p)
			s, _, err := p.check()
			if err != nil || s.ttl != tc.ttl || s.name.Port() != 179 {
				t.Errorf("got ttl %d, port %d, %v, want ttl %d, port 179", s.ttl, s.name.Port(), err, tc.ttl)
			}
		})
	}
}

func TestRouteProblems(t *testing.T) {
	peer := testPeer()
	prefix := netip.MustParsePrefix("198.51.100.1/32")
	for _, tc := range []struct {
		name   string
		routes []Route
		want   string
	}{
		{"none", nil, ""},
		{"no prefix", []Route{{}}, "Prefix"},
		{"bits behind", []Route{{Prefix: netip.MustParsePrefix("198.51.100.1/24")}}, "want 198.51.100.0/24"},
		{"prepend", []Route{{Prefix: prefix, Prepend: 51}}, "Prepend 51: want 0 to 50"},
		{"twice, the same", []Route{{Prefix: prefix}, {Prefix: prefix}}, ""},
		{"twice", []Route{{Prefix: prefix}, {Prefix: prefix, LocalPref: 5}}, "is there twice for peer 192.0.2.1:179"},
		{"for different peers", []Route{{Prefix: prefix}, {Prefix: prefix, LocalPref: 5, Peers: []netip.AddrPort{}}}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := routesByPeer(Desired{Peers: []Peer{peer}, Routes: tc.routes})
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if tc.want == "" && len(tc.routes) > 0 && len(got[peer.Name()]) != 1 {
				t.Errorf("got routes %v", got)
			}
		})
	}
}

// TestInvalidKeepsValid wants a peer that turned invalid to keep its session.
func TestInvalidKeepsValid(t *testing.T) {
	s := newScripted(t)
	speaker := s.speaker(Options{})
	p := s.peer()
	s.sync(speaker, nil, p)
	s.accept()
	s.establish()
	s.eventually(speaker, func(r PeerReport) bool { return r.State == StateEstablished })
	p.VRF = "red"
	other := p
	other.Port++
	err := speaker.Sync(t.Context(), Desired{Peers: []Peer{p, other}, Routes: []Route{{Prefix: vip4}}})
	if err == nil || errors.Is(err, ErrClosed) || strings.Count(err.Error(), `VRF "red"`) != 2 {
		t.Errorf("got %v, want the VRF of both peers refused", err)
	}
	s.receive(2) // the route, in the same session
	if got := speaker.Report(); len(got) != 1 || got[0].Sessions != 1 || got[0].State != StateEstablished {
		t.Errorf("got %+v", got)
	}
}
