// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead/fairlead/announce/bgp/guard"
)

// Protocol facts.
const (
	defaultPort      = 179
	maxPassword      = 80   // TCP_MD5SIG_MAXKEYLEN
	maxRestartTime   = 4095 // seconds, 12 bits: RFC 4724 section 3
	gracefulShutdown = 0xffff0000
	minHoldTime      = 3 * time.Second
	defaultHoldTime  = 90 * time.Second
)

// Tuning.
const (
	defaultConnectTime = 5 * time.Second
	defaultRestartTime = 120 * time.Second
	maxPrepend         = 50
)

// settings are what a session is made with: another value needs another one.
type settings struct {
	name              netip.AddrPort
	source            netip.Addr
	localASN, peerASN uint32
	dynamicASN        string
	routerID          netip.Addr
	password          string
	ttl, minTTL       uint8
	dualStack         bool
	restart           time.Duration // 0: no graceful restart
}

// timers may change while a session lives.
type timers struct {
	hold, keepalive, connect time.Duration
}

// check returns what the peer asks for, or every reason why it cannot be had.
func (p Peer) check() (settings, timers, error) {
	var errs []error
	refuse := func(field string, value any, format string, args ...any) {
		errs = append(errs, fmt.Errorf("peer %s: %s %v: %s", p.Name(), field, value, fmt.Sprintf(format, args...)))
	}
	if !machine(p.Address) {
		refuse("Address", quote(p.Address), "want the address of a router")
	}
	if p.Address.IsLinkLocalUnicast() && p.Address.Is6() && p.Address.Zone() == "" {
		refuse("Address", p.Address, "is link-local: want its zone")
	}
	if p.Source.IsValid() && (!machine(p.Source) || p.Source.Is4() != p.Address.Is4()) {
		refuse("Source", p.Source, "want an address of this node, of the family of %s", p.Address)
	}
	if p.Interface != "" {
		refuse("Interface", fmt.Sprintf("%q", p.Interface), "sessions without the peer's address are not possible: want Address, with a zone if it is link-local")
	}
	if p.VRF != "" {
		refuse("VRF", fmt.Sprintf("%q", p.VRF), "sessions are in the default VRF alone")
	}
	errs = append(errs, p.checkASNs())
	if !p.RouterID.Is4() || p.RouterID.IsUnspecified() {
		refuse("RouterID", quote(p.RouterID), "want a number written as an IPv4 address")
	}
	if len(p.Password) > maxPassword {
		refuse("Password", fmt.Sprintf("of %d bytes", len(p.Password)), "want at most %d", maxPassword)
	}
	if p.MultiHop && p.internal() {
		refuse("MultiHop", true, "is for external peers")
	}
	if p.MinTTL != 0 && p.TTL != 0 && p.TTL != math.MaxUint8 {
		refuse("TTL", p.TTL, "want 255 beside MinTTL %d", p.MinTTL)
	}
	if p.NextHop4.IsValid() && (!machine(p.NextHop4) || p.NextHop4.IsLinkLocalUnicast()) {
		refuse("NextHop4", p.NextHop4, "want an address of this node that is not link-local")
	}
	if p.NextHop6.IsValid() && (!machine(p.NextHop6) || p.NextHop6.Is4() || p.NextHop6.IsLinkLocalUnicast()) {
		refuse("NextHop6", p.NextHop6, "want an IPv6 address of this node that is not link-local")
	}
	if p.RestartTime != 0 && (!wholeSeconds(p.RestartTime) || p.RestartTime > maxRestartTime*time.Second) {
		refuse("RestartTime", p.RestartTime, "want whole seconds up to %d", maxRestartTime)
	}
	t, err := p.timers()
	if err := errors.Join(append(errs, err)...); err != nil {
		return settings{}, timers{}, err
	}
	return p.settings(), t, nil
}

func (p Peer) settings() settings {
	s := settings{
		name: p.Name(), source: p.Source, localASN: p.LocalASN, peerASN: p.PeerASN, dynamicASN: p.DynamicASN,
		routerID: p.RouterID, password: p.Password, minTTL: p.MinTTL, dualStack: p.DualStack,
	}
	s.ttl = cmp.Or(p.TTL, math.MaxUint8)
	if p.TTL == 0 && p.MinTTL == 0 && !p.internal() && !p.MultiHop {
		s.ttl = 1
	}
	if p.GracefulRestart {
		s.restart = cmp.Or(p.RestartTime, defaultRestartTime)
	}
	return s
}

func (p Peer) internal() bool {
	return p.PeerASN == p.LocalASN && p.PeerASN != 0 || p.DynamicASN == "internal"
}

func (p Peer) checkASNs() error {
	fail := func(field string, value any, want string) error {
		return fmt.Errorf("peer %s: %s %v: %s", p.Name(), field, value, want)
	}
	switch {
	case p.LocalASN == 0:
		return fail("LocalASN", 0, "want an AS number")
	case p.PeerASN == 0 && p.DynamicASN != "internal" && p.DynamicASN != "external":
		return fail("DynamicASN", fmt.Sprintf("%q", p.DynamicASN), `want "internal" or "external", or PeerASN`)
	case p.PeerASN != 0 && p.DynamicASN != "":
		return fail("DynamicASN", fmt.Sprintf("%q", p.DynamicASN), fmt.Sprintf("contradicts PeerASN %d", p.PeerASN))
	}
	return nil
}

// timers resolves the timers' defaults.
func (p Peer) timers() (timers, error) {
	t := timers{hold: defaultHoldTime, connect: cmp.Or(p.ConnectTime, defaultConnectTime)}
	switch {
	case p.HoldTime != nil:
		t.hold = *p.HoldTime
	case p.KeepaliveTime != nil && *p.KeepaliveTime > 0:
		t.hold = min(3**p.KeepaliveTime, math.MaxUint16*time.Second)
	case p.KeepaliveTime != nil:
		t.hold = 0
	}
	t.keepalive = t.hold.Truncate(3*time.Second) / 3
	if p.KeepaliveTime != nil {
		t.keepalive = *p.KeepaliveTime
	}
	fail := func(field string, value time.Duration, want string) (timers, error) {
		return timers{}, fmt.Errorf("peer %s: %s %v: want %s", p.Name(), field, value, want)
	}
	switch {
	case t.hold != 0 && (t.hold < minHoldTime || t.hold > math.MaxUint16*time.Second || !wholeSeconds(t.hold)):
		return fail("HoldTime", t.hold, "0, or whole seconds from 3 to 65535")
	case t.keepalive < 0 || t.keepalive > t.hold || !wholeSeconds(t.keepalive) || (t.keepalive == 0) != (t.hold == 0):
		return fail("KeepaliveTime", t.keepalive, fmt.Sprintf("whole seconds up to the hold time %v, 0 only with 0", t.hold))
	case t.connect < 0:
		return fail("ConnectTime", t.connect, "more than 0")
	}
	return t, nil
}

func wholeSeconds(d time.Duration) bool { return d%time.Second == 0 }

// machine says whether the address can be that of one machine.
func machine(a netip.Addr) bool {
	return a.IsValid() && !a.Is4In6() && !a.IsUnspecified() && !a.IsMulticast()
}

// quote writes an address that may not be one.
func quote(a netip.Addr) string {
	if !a.IsValid() {
		return `""`
	}
	return a.String()
}

// families that the session is for, that of its own addresses first.
func (s settings) families() []guard.Family {
	own, other := guard.IPv4, guard.IPv6
	if s.name.Addr().Is6() {
		own, other = other, own
	}
	if s.dualStack {
		return []guard.Family{own, other}
	}
	return []guard.Family{own}
}

// accepts returns what is wrong with the router's AS number.
func (s settings) accepts(asn uint32) error {
	switch {
	case s.peerASN != 0 && asn != s.peerASN:
		return fmt.Errorf("router's AS number is %d, want %d", asn, s.peerASN)
	case s.dynamicASN == "internal" && asn != s.localASN:
		return fmt.Errorf("router's AS number is %d, want the own, %d", asn, s.localASN)
	case s.dynamicASN == "external" && asn == s.localASN:
		return fmt.Errorf("router's AS number is %d, the own: want another", asn)
	}
	return nil
}

// internal says whether the peer is of the own AS.
func (s settings) internal() bool {
	return s.peerASN == s.localASN || s.dynamicASN == "internal"
}

// check returns what is wrong with the route.
func (r Route) check() error {
	fail := func(field string, value any, want string) error {
		return fmt.Errorf("route %s: %s %v: %s", r.Prefix, field, value, want)
	}
	switch {
	case !r.Prefix.IsValid() || r.Prefix.Addr().Is4In6():
		return fail("Prefix", r.Prefix, "want an IPv4 or IPv6 prefix")
	case r.Prefix != r.Prefix.Masked():
		return fail("Prefix", r.Prefix, fmt.Sprintf("has bits behind its length: want %s", r.Prefix.Masked()))
	case r.Prepend < 0 || r.Prepend > maxPrepend:
		return fail("Prepend", r.Prepend, fmt.Sprintf("want 0 to %d", maxPrepend))
	}
	return nil
}

// family is that of a prefix.
func family(p netip.Prefix) guard.Family {
	if p.Addr().Is4() {
		return guard.IPv4
	}
	return guard.IPv6
}

// equal compares what a peer is told.
func (r Route) equal(o Route) bool {
	return r.Prefix == o.Prefix && r.LocalPref == o.LocalPref && r.Prepend == o.Prepend &&
		slices.Equal(r.Communities, o.Communities) && slices.Equal(r.LargeCommunities, o.LargeCommunities)
}

// isFor says whether the route goes to the peer.
func (r Route) isFor(peer netip.AddrPort) bool {
	return r.Peers == nil || slices.Contains(r.Peers, peer)
}
