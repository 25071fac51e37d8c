// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/announce"
	"github.com/fairlead/fairlead/announce/bfd"
	"github.com/fairlead/fairlead/announce/bgp"
	"github.com/fairlead/fairlead/controller/api/v1beta1"
	configs "github.com/fairlead/fairlead/controller/config"
)

// peering is what a BGPPeer says of its session: the same on every node, but for
// what is left to the node.
type peering struct {
	peer     bgp.Peer // without next hops, its router id perhaps without value
	internal bool
	created  time.Time
	profile  *bfd.Profile // nil: without BFD
}

// peerings read the BGPPeers. One that cannot be used stays as it was before.
func peerings(o configs.Objects, result configs.Result, namespace string, before map[string]peering) map[string]peering {
	all := map[string]peering{}
	for _, p := range o.BGPPeers {
		if p.Namespace != namespace {
			continue
		}
		if !result.Unused[configs.Ref{Kind: "BGPPeer", Namespace: namespace, Name: p.Name}] {
			all[p.Name] = newPeering(p, o)
		} else if old, known := before[p.Name]; known {
			all[p.Name] = old
		}
	}
	return all
}

// newPeering reads a BGPPeer. What the schema refuses is not looked at again:
// package bgp refuses it, too, with what is wrong.
func newPeering(o *v1beta1.BGPPeer, all configs.Objects) peering {
	s := &o.Spec
	p := peering{created: o.CreationTimestamp.Time}
	p.peer = bgp.Peer{
		Address: addressIn(s.PeerAddress), Port: uint16(s.PeerPort), Source: addressIn(s.SourceAddress), Interface: s.Interface, VRF: s.VRFName,
		LocalASN: uint32(s.MyASN), PeerASN: uint32(s.PeerASN), DynamicASN: s.DynamicASN, RouterID: addressIn(s.RouterID),
		HoldTime: duration(s.HoldTime), KeepaliveTime: duration(s.KeepaliveTime),
		Password: s.Password, MultiHop: s.EBGPMultiHop, DualStack: s.DualStackAddressFamily, GracefulRestart: s.EnableGracefulRestart,
	}
	if s.LocalASN != nil {
		p.peer.LocalASN = uint32(*s.LocalASN)
	}
	if s.ConnectTime != nil {
		p.peer.ConnectTime = s.ConnectTime.Duration
	}
	if secret := all.Secrets[s.PasswordSecret.Name]; secret != nil {
		p.peer.Password = string(secret.Data[corev1.BasicAuthPasswordKey])
	}
	p.internal = p.peer.DynamicASN == "internal" || p.peer.PeerASN != 0 && p.peer.PeerASN == p.peer.LocalASN
	i := slices.IndexFunc(all.BFDProfiles, func(b *v1beta1.BFDProfile) bool { return b.Name == s.BFDProfile && b.Namespace == o.Namespace })
	if i >= 0 {
		profile := newProfile(all.BFDProfiles[i].Spec)
		p.profile = &profile
	}
	return p
}

func newProfile(s v1beta1.BFDProfileSpec) bfd.Profile {
	number := func(n *int32) int32 {
		if n == nil {
			return 0
		}
		return *n
	}
	return bfd.Profile{
		Transmit:   time.Duration(number(s.TransmitInterval)) * time.Millisecond,
		Receive:    time.Duration(number(s.ReceiveInterval)) * time.Millisecond,
		Multiplier: uint8(number(s.DetectMultiplier)), MinimumTTL: uint8(number(s.MinimumTTL)),
		Passive: s.PassiveMode != nil && *s.PassiveMode,
	}
}

// addressIn reads an address; what is none is the zero value.
func addressIn(text string) netip.Addr {
	addr, _ := netip.ParseAddr(text)
	return addr.Unmap()
}

func duration(d *metav1.Duration) *time.Duration {
	if d == nil {
		return nil
	}
	return &d.Duration
}

// sessions are all that a plan wants of BGP and BFD.
type sessions struct {
	bgp   bgp.Desired
	bfd   []bfd.Peer
	names map[netip.AddrPort]string // of BGPPeers
	// refused are BGPPeers that no session can be made for, and why.
	refused map[string]error
}

// newSessions completes what BGPPeers say by what is the node's own. onLink says
// whether an address is in a network of the node.
func newSessions(plan announce.Plan, peers map[string]peering, self announce.Node, onLink func(netip.Addr) bool) sessions {
	s := sessions{names: map[netip.AddrPort]string{}, refused: map[string]error{}}
	id := routerID(plan, peers, self)
	for _, planned := range plan.Peers {
		p, known := peers[planned.Name]
		if !known {
			continue // it never was valid
		}
		if p.peer.Interface != "" {
			s.refused[planned.Name] = fmt.Errorf("spec.interface: %q: sessions without the peer's address are not possible: want peerAddress", p.peer.Interface)
			continue
		}
		peer := p.peer
		peer.RouterID = id
		for _, r := range planned.Routes {
			route, err := newRoute(r, peer.Name())
			if err != nil {
				s.refused[planned.Name] = errors.Join(s.refused[planned.Name], err)
				continue
			}
			s.bgp.Routes = append(s.bgp.Routes, route)
			switch {
			case !r.NextHop.IsValid():
			case r.Prefix.Addr().Is4():
				peer.NextHop4 = r.NextHop
			default:
				peer.NextHop6 = r.NextHop
			}
		}
		s.bgp.Peers = append(s.bgp.Peers, peer)
		s.names[peer.Name()] = planned.Name
		if p.profile != nil {
			// An internal peer may be on the link or behind routers (RFC 5882 section 4.3).
			multihop := peer.MultiHop || p.internal && !onLink(peer.Address)
			path := bfd.Path{Addr: peer.Address, Source: peer.Source, Multihop: multihop}
			// Two peers may be two ports of one router.
			if !slices.ContainsFunc(s.bfd, func(o bfd.Peer) bool { return o.Path == path }) {
				s.bfd = append(s.bfd, bfd.Peer{Path: path, Profile: *p.profile})
			}
		}
	}
	return s
}

// restarts says that all routers keep routes while an agent restarts.
func (s *sessions) restarts() bool {
	return !slices.ContainsFunc(s.bgp.Peers, func(p bgp.Peer) bool { return !p.GracefulRestart })
}

// routerID is that of the node, the same for all of its peers: what the oldest
// BGPPeer says that says one, else its IPv4 address, else a number by its name.
func routerID(plan announce.Plan, peers map[string]peering, self announce.Node) netip.Addr {
	var oldest *peering
	for _, planned := range plan.Peers { // by name
		p, known := peers[planned.Name]
		if known && p.peer.RouterID.IsValid() && (oldest == nil || p.created.Before(oldest.created)) {
			oldest = &p
		}
	}
	if oldest != nil {
		return oldest.peer.RouterID
	}
	for _, addr := range self.Addrs {
		if addr.Is4() {
			return addr
		}
	}
	sum := sha256.Sum256([]byte(self.Name))
	return netip.AddrFrom4([4]byte{1 + sum[0]%223, sum[1], sum[2], sum[3]})
}

func newRoute(r announce.Route, peer netip.AddrPort) (bgp.Route, error) {
	route := bgp.Route{Prefix: r.Prefix, Peers: []netip.AddrPort{peer}, LocalPref: r.LocalPref, Prepend: r.Prepend}
	for _, text := range r.Communities {
		numbers, large, err := parseCommunity(text)
		if err != nil {
			// Without the community the route could go where it must not.
			return bgp.Route{}, fmt.Errorf("route %s: %w", r.Prefix, err)
		}
		if large {
			route.LargeCommunities = append(route.LargeCommunities, numbers)
		} else {
			route.Communities = append(route.Communities, numbers[0]<<16|numbers[1])
		}
	}
	return route, nil
}

// parseCommunity reads "64512:100" (RFC 1997) or "large:64512:1:2" (RFC 8092).
func parseCommunity(text string) (numbers [3]uint32, large bool, err error) {
	rest, large := strings.CutPrefix(text, "large:")
	count, bits := 2, 16
	if large {
		count, bits = 3, 32
	}
	words := strings.Split(rest, ":")
	if len(words) != count {
		return numbers, large, fmt.Errorf("community %q: want such as 64512:100 or large:64512:1:2", text)
	}
	for i, word := range words {
		n, err := strconv.ParseUint(word, 10, bits)
		if err != nil {
			return numbers, large, fmt.Errorf("community %q: %q is no number of %d bits", text, word, bits)
		}
		numbers[i] = uint32(n)
	}
	return numbers, large, nil
}
