// SPDX-License-Identifier: Apache-2.0

// Package bgp announces prefixes to routers, on road A: whole sets in, sessions
// and routes out. All of gobgp is in engine.go, and it never speaks with a
// router itself:
//
//	router ══ TCP: address, port, MD5, TTL ══ session ── loopback, own key ── engine
//	                                          guard: what a router may say
//
// Every peer has an engine of its own, so that AS number, router id, next hops
// and attributes are a peer's, and no peer's change touches another.
package bgp

import (
	"net/netip"
	"time"

	"github.com/fairlead/fairlead/announce/bgp/guard"
)

// Desired is everything that is to be announced, and to whom.
type Desired struct {
	Peers  []Peer
	Routes []Route
	// Shutdown marks all routes with the community GRACEFUL_SHUTDOWN and gives
	// them the lowest preference (RFC 8326): routers turn to other nodes before
	// the routes go.
	Shutdown bool
}

// Peer is a router to announce to.
type Peer struct {
	// Address and Port name the peer; port 0 is 179. A link-local address has
	// its zone.
	Address netip.Addr
	Port    uint16
	// Source is the own address of the session. Zero: that of the kernel's route.
	Source netip.Addr
	// Interface and VRF are refused: a peer has an address, in the default VRF.
	Interface, VRF string

	// LocalASN is the own AS number that this peer is told.
	LocalASN uint32
	// PeerASN is the router's AS number. 0: what it says, if that is the own one
	// (DynamicASN "internal") or any other ("external").
	PeerASN    uint32
	DynamicASN string
	// RouterID is the own BGP identifier, written as an IPv4 address.
	RouterID netip.Addr

	// HoldTime and KeepaliveTime are whole seconds, at most 65535. Nil: one from
	// the other, 3 to 1, or 90 s and 30 s. A hold time of 0 is for ever.
	// Others than the session has count with the next one.
	HoldTime, KeepaliveTime *time.Duration
	// ConnectTime is the longest time between two attempts to connect. 0: 5 s.
	// Attempts soon after a loss are closer.
	ConnectTime time.Duration

	// Password signs TCP segments (RFC 2385), at most 80 bytes.
	Password string
	// MultiHop says that an external peer is more than one hop away.
	MultiHop bool
	// TTL of sent packets. 0: 1 for an external peer without MultiHop, else 255.
	TTL uint8
	// MinTTL drops received packets with less, and sends with 255 (RFC 5082). 0:
	// none are dropped.
	MinTTL uint8

	// DualStack announces both families; else only that of Address.
	DualStack bool
	// NextHop4 and NextHop6 are the next hops of routes, by family. Zero: the own
	// address of the session, also if that is link-local, as the router is then on
	// the link. That of IPv4 routes may be an IPv6 address if the router says so
	// (RFC 8950). A family without a next hop is not announced.
	NextHop4, NextHop6 netip.Addr

	// GracefulRestart asks the router to keep routes for RestartTime (0: 120 s)
	// after the connection broke (RFC 4724).
	GracefulRestart bool
	RestartTime     time.Duration
}

// Name is what the peer is known by.
func (p Peer) Name() netip.AddrPort {
	if p.Port == 0 {
		return netip.AddrPortFrom(p.Address, defaultPort)
	}
	return netip.AddrPortFrom(p.Address, p.Port)
}

// Route is a prefix with its attributes. A prefix may have other attributes
// for other peers.
type Route struct {
	Prefix netip.Prefix
	// Peers to announce to, by name. Nil: all.
	Peers []netip.AddrPort
	// LocalPref is what internal peers are told. 0: the default, 100.
	LocalPref uint32
	// Communities (RFC 1997), high 16 bits first, and large ones (RFC 8092).
	Communities      []uint32
	LargeCommunities [][3]uint32
	// Prepend is how often the own AS number is in front of the path once more,
	// for external peers: an internal one would take the route for a loop.
	Prepend int
}

// State is how far the session with a peer is.
type State string

// The states.
const (
	// StateIdle: the next attempt to connect waits.
	StateIdle State = "idle"
	// StateConnecting: TCP connects.
	StateConnecting State = "connecting"
	// StateOpening: OPENs are exchanged.
	StateOpening State = "opening"
	// StateEstablished: routes are announced.
	StateEstablished State = "established"
)

// PeerReport is what is known of a peer.
type PeerReport struct {
	Peer  netip.AddrPort
	State State
	Since time.Time
	// Error is why the last session or attempt ended, and when. Empty: none did.
	Error   string
	ErrorAt time.Time
	// Sessions is how many were established.
	Sessions uint64

	// Of the session, if there is one. Source is its own address.
	Source netip.Addr
	// RouterID, ASN and HoldTime (the lower of both, 0: for ever) are of the
	// router's OPEN, zero before it.
	RouterID netip.Addr
	ASN      uint32
	HoldTime time.Duration
	// Prefixes are announced: 0 unless established.
	Prefixes int
	// Unannounced are routes for the peer that the session has no family or no
	// next hop for, while it is established.
	Unannounced int

	// Received counts messages of the router by what the guard took them for.
	Received [guard.Reasons]uint64
}
