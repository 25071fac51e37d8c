// SPDX-License-Identifier: Apache-2.0

package config

import (
	"cmp"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
)

func (c *checker) checkProfiles() {
	for _, o := range c.BFDProfiles {
		if echo := o.Spec.EchoMode; echo != nil && *echo {
			c.report(o, ReasonUnsupported, "spec.echoMode: true: Fairlead has no echo mode: the profile is used without")
		}
	}
}

// peer is a peer that is used so far.
type peer struct {
	object *v1beta1.BGPPeer
	nodes  choice
}

func (c *checker) checkPeers() {
	for _, o := range c.BGPPeers {
		p := peer{o, c.choice(o, "spec.nodeSelectors", o.Spec.NodeSelectors)}
		if o.Spec.VRFName != "" {
			c.report(o, ReasonUnsupported, "spec.vrf: %q: Fairlead has sessions in the default VRF alone: the peer is not used", o.Spec.VRFName)
			c.result.Unused[refOf(o)] = true
		}
		c.checkProfileOf(o)
		c.checkPassword(o)
		c.checkSamePeer(p)
		if !c.result.Unused[refOf(o)] {
			c.checkRouterID(p)
			c.peers = append(c.peers, p)
		}
	}
}

func (c *checker) checkProfileOf(o *v1beta1.BGPPeer) {
	name := o.Spec.BFDProfile
	known := slices.ContainsFunc(c.BFDProfiles, func(p *v1beta1.BFDProfile) bool { return p.Name == name })
	if name != "" && !known {
		c.report(o, ReasonNotFound, "spec.bfdProfile: no BFDProfile %q: the peer is used without BFD until there is one", name)
	}
}

// checkPassword wants the password to be there: without it the peer would
// refuse the session.
func (c *checker) checkPassword(o *v1beta1.BGPPeer) {
	ref := o.Spec.PasswordSecret
	if ref.Namespace != "" && ref.Namespace != o.Namespace {
		c.report(o, ReasonInvalid, "spec.passwordSecret.namespace: %q: the Secret is read from %q, the namespace of the BGPPeer", ref.Namespace, o.Namespace)
	}
	if ref.Name == "" || !c.SecretsKnown {
		return
	}
	secret := c.Secrets[ref.Name]
	switch {
	case secret == nil:
		c.report(o, ReasonNotFound, "spec.passwordSecret.name: no Secret %q: the peer waits for it", ref.Name)
	case secret.Type != corev1.SecretTypeBasicAuth:
		c.report(o, ReasonInvalid, "spec.passwordSecret.name: Secret %q is of type %q, want %q: the peer waits for it", ref.Name, secret.Type, corev1.SecretTypeBasicAuth)
	case len(secret.Data[corev1.BasicAuthPasswordKey]) == 0:
		c.report(o, ReasonInvalid, "spec.passwordSecret.name: Secret %q has nothing under %q: the peer waits for it", ref.Name, corev1.BasicAuthPasswordKey)
	default:
		return
	}
	c.result.Unused[refOf(o)] = true
}

// checkSamePeer wants one session between a node and a peer.
func (c *checker) checkSamePeer(p peer) {
	for _, other := range c.peers {
		path := "spec.peerAddress"
		switch {
		case sameAddress(p.object.Spec, other.object.Spec):
		case p.object.Spec.Interface != "" && p.object.Spec.Interface == other.object.Spec.Interface:
			path = "spec.interface"
		default:
			continue
		}
		if node := c.shared(p.nodes, other.nodes); node != "" {
			c.report(p.object, ReasonConflict, "%s: %q is that of BGPPeer %q too, which is older, on node %q: the peer is not used",
				path, p.object.Spec.PeerAddress+p.object.Spec.Interface, other.object.Name, node)
			c.result.Unused[refOf(p.object)] = true
			return
		}
	}
}

// sameAddress compares addresses, which may be written in several ways, and ports.
func sameAddress(a, b v1beta1.BGPPeerSpec) bool {
	x, errX := netip.ParseAddr(a.PeerAddress)
	y, errY := netip.ParseAddr(b.PeerAddress)
	return errX == nil && errY == nil && x == y && cmp.Or(a.PeerPort, bgpPort) == cmp.Or(b.PeerPort, bgpPort)
}

// bgpPort is the TCP port of BGP, the default of the schema.
const bgpPort = 179

// checkRouterID wants one BGP identifier for a node.
func (c *checker) checkRouterID(p peer) {
	if p.object.Spec.RouterID == "" {
		return
	}
	for _, other := range c.peers {
		if other.object.Spec.RouterID == "" || other.object.Spec.RouterID == p.object.Spec.RouterID {
			continue
		}
		if node := c.shared(p.nodes, other.nodes); node != "" {
			c.report(p.object, ReasonConflict, "spec.routerID: %s, but BGPPeer %q, which is older, has %s for node %q: that one is used there",
				p.object.Spec.RouterID, other.object.Name, other.object.Spec.RouterID, node)
			return
		}
	}
}

func (c *checker) checkCommunities() {
	from := map[string]string{}
	for _, o := range c.Communities {
		for i, alias := range o.Spec.Communities {
			if other, taken := from[alias.Name]; taken {
				c.report(o, ReasonConflict, "spec.communities[%d].name: %q is in Community %q too, which is older: that one is used", i, alias.Name, other)
				continue
			}
			from[alias.Name] = o.Name
			c.result.Communities[alias.Name] = alias.Value
		}
	}
}
