// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"net/netip"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
)

// peer makes a BGPPeer of either version.
func (c *converter) peer(p *v1beta1.BGPPeer, u *unstructured.Unstructured, version string) {
	s := &p.Spec
	if version == "v1beta1" {
		c.note(Info, "is of MetalLB's version v1beta1: written with the fields of v1beta2")
		// There 0 means that it is not given.
		s.HoldTime, s.KeepaliveTime = unlessZero(s.HoldTime), unlessZero(s.KeepaliveTime)
	}
	c.secret(p, u.GetNamespace())
	c.lengths(s)
	c.numbers(s)
	c.timers(s)
	c.addresses(s)
	if (s.PeerAddress != "") == (s.Interface != "") {
		c.note(Error, "spec: want either peerAddress or interface")
	}
	if (s.PeerASN != 0) == (s.DynamicASN != "") {
		c.note(Error, "spec: want either peerASN or dynamicASN")
	}
	if s.DisableMP && s.DualStackAddressFamily {
		c.note(Warning, "spec.disableMP: contradicts dualStackAddressFamily: left out")
		s.DisableMP = false
	}
	c.multiHop(s)
}

func unlessZero(d *metav1.Duration) *metav1.Duration {
	if d == nil || d.Duration == 0 {
		return nil
	}
	return d
}

// secret moves the reference along with the peer. Secrets themselves are not
// read: they are for the operator to copy.
func (c *converter) secret(p *v1beta1.BGPPeer, from string) {
	s := &p.Spec
	if s.PasswordSecret.Name == "" {
		s.PasswordSecret.Namespace = ""
		return
	}
	if s.Password != "" {
		c.note(Warning, "spec.password: given beside passwordSecret: left out")
		s.Password = ""
	}
	if s.PasswordSecret.Namespace != "" {
		c.note(Info, "spec.passwordSecret.namespace: left out: the Secret is read from the namespace of the BGPPeer, as MetalLB does it")
		s.PasswordSecret.Namespace = ""
	}
	if p.Namespace != from {
		c.note(Warning, "spec.passwordSecret: copy Secret %q to namespace %q: it is not read here", s.PasswordSecret.Name, p.Namespace)
	}
}

// lengths tells of texts that are longer than the schema allows.
func (c *converter) lengths(s *v1beta1.BGPPeerSpec) {
	for _, one := range []struct {
		path, text string
		most       int
	}{
		{"spec.password", s.Password, 80}, // TCP_MD5SIG_MAXKEYLEN
		{"spec.bfdProfile", s.BFDProfile, maxName},
		{"spec.vrf", s.VRFName, maxInterface},
		{"spec.peerAddress", s.PeerAddress, maxAddress},
		{"spec.sourceAddress", s.SourceAddress, maxAddress},
		{"spec.routerID", s.RouterID, maxAddress},
	} {
		if len(one.text) > one.most {
			c.note(Error, "%s: %d bytes: want %d at most", one.path, len(one.text), one.most)
		}
	}
}

const maxAddress = 64

const maxASN = 1<<32 - 1

func (c *converter) numbers(s *v1beta1.BGPPeerSpec) {
	asn := func(path string, n, least int64) {
		if n < least || n > maxASN {
			c.note(Error, "%s: %d: want %d to %d", path, n, least, maxASN)
		}
	}
	asn("spec.myASN", s.MyASN, 1)
	asn("spec.peerASN", s.PeerASN, 0)
	if s.LocalASN != nil {
		asn("spec.localASN", *s.LocalASN, 1)
	}
	if s.DynamicASN != "" && s.DynamicASN != "internal" && s.DynamicASN != "external" {
		c.note(Error, "spec.dynamicASN: %q: want internal or external", s.DynamicASN)
	}
	if s.PeerPort < 0 || s.PeerPort > 65535 {
		c.note(Error, "spec.peerPort: %d: want 1 to 65535", s.PeerPort)
	}
}

// Bounds of the schema.
const (
	minHold      = 3 * time.Second
	maxHold      = 65535 * time.Second
	maxKeepalive = maxHold / 3
)

// timers cuts durations down to whole seconds, as MetalLB does.
func (c *converter) timers(s *v1beta1.BGPPeerSpec) {
	c.whole("spec.holdTime", s.HoldTime)
	c.whole("spec.keepaliveTime", s.KeepaliveTime)
	c.whole("spec.connectTime", s.ConnectTime)
	hold, keepalive := s.HoldTime, s.KeepaliveTime
	if hold != nil && hold.Duration != 0 && (hold.Duration < minHold || hold.Duration > maxHold) {
		c.note(Error, "spec.holdTime: %s: want 0, or 3s to 65535s", hold.Duration)
	}
	if keepalive != nil && keepalive.Duration == 0 && hold != nil && hold.Duration != 0 {
		c.note(Warning, "spec.keepaliveTime: 0 beside a holdTime of %s: left out, which means a third of that", hold.Duration)
		s.KeepaliveTime = nil
		return
	}
	switch {
	case keepalive == nil:
	case keepalive.Duration < 0 || keepalive.Duration > maxKeepalive:
		c.note(Error, "spec.keepaliveTime: %s: want 0, or 1s to 21845s", keepalive.Duration)
	case hold != nil && keepalive.Duration > hold.Duration:
		c.note(Error, "spec.keepaliveTime: %s is longer than holdTime %s", keepalive.Duration, hold.Duration)
	}
	if t := s.ConnectTime; t != nil && (t.Duration < time.Second || t.Duration > maxHold) {
		c.note(Error, "spec.connectTime: %s: want 1s to 65535s", t.Duration)
	}
}

func (c *converter) whole(path string, d *metav1.Duration) {
	if d == nil || d.Duration%time.Second == 0 {
		return
	}
	cut := max(d.Truncate(time.Second), time.Second)
	c.note(Info, "%s: %s is written %s: whole seconds count", path, d.Duration, cut)
	d.Duration = cut
}

// addresses tells of those that no machine has.
func (c *converter) addresses(s *v1beta1.BGPPeerSpec) {
	peer := c.machine("spec.peerAddress", s.PeerAddress)
	if peer.Is6() && peer.IsLinkLocalUnicast() {
		c.note(Error, "spec.peerAddress: %q is link-local and does not say on which link: want interface instead of peerAddress", s.PeerAddress)
	}
	source := c.machine("spec.sourceAddress", s.SourceAddress)
	if peer.IsValid() && source.IsValid() && peer.Is4() != source.Is4() {
		c.note(Error, "spec.sourceAddress: %s is of another family than peerAddress %s", source, peer)
	}
	if id := c.machine("spec.routerID", s.RouterID); id.Is6() {
		c.note(Error, "spec.routerID: %q: want a number written as an IPv4 address, such as 192.0.2.1", s.RouterID)
	}
	if len(s.Interface) > maxInterface || strings.ContainsAny(s.Interface, "/: ") {
		c.note(Error, "spec.interface: %q is no name of a network interface", s.Interface)
	}
}

// machine reads the address of a machine, the zero Addr where it is none.
func (c *converter) machine(path, text string) netip.Addr {
	if text == "" {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" || a.Is4In6() || a.IsUnspecified() || a.IsMulticast() {
		c.note(Error, "%s: %q: want the IP address of a machine, such as 192.0.2.1 or 2001:db8::1", path, text)
		return netip.Addr{}
	}
	return a
}

// multiHop is for external peers behind a router.
func (c *converter) multiHop(s *v1beta1.BGPPeerSpec) {
	switch {
	case !s.EBGPMultiHop:
	case s.PeerASN == s.MyASN:
		c.note(Error, "spec.ebgpMultiHop: is for external peers, and peerASN is myASN")
	case s.DynamicASN == "internal":
		c.note(Error, "spec.ebgpMultiHop: is for external peers, and dynamicASN is internal")
	case s.Interface != "":
		c.note(Warning, "spec.ebgpMultiHop: the peer of an interface is on its link: left out")
		s.EBGPMultiHop = false
	}
}
