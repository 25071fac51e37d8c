// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"math"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
	"github.com/fairlead/fairlead/controller/config"
)

func (c *converter) selection(s *v1beta1.Selection) {
	s.IPAddressPools = once(c, "spec.ipAddressPools", s.IPAddressPools)
}

func (c *converter) l2(a *v1beta1.L2Advertisement) {
	c.selection(&a.Spec.Selection)
	a.Spec.Interfaces = once(c, "spec.interfaces", a.Spec.Interfaces)
	atMost(c, "spec.interfaces", len(a.Spec.Interfaces), 100)
	for i, name := range a.Spec.Interfaces {
		switch {
		case name == "": // told of by once
		case len(name) > maxInterface, strings.ContainsAny(name, "/: "):
			c.note(Error, "spec.interfaces[%d]: %q is no name of a network interface: remove it", i, name)
		case strings.ContainsAny(name, "*?"):
			c.note(Warning, "spec.interfaces[%d]: %q is a pattern here, and a plain name for MetalLB", i, name)
		}
	}
	for i, preferred := range a.Spec.PreferredNodeSelectors {
		if preferred.Weight < 1 || preferred.Weight > 100 {
			c.note(Error, "spec.preferredNodeSelectors[%d].weight: %d: want 1 to 100", i, preferred.Weight)
		}
	}
}

const maxInterface = 15 // IFNAMSIZ with its final zero

func (c *converter) bgp(a *v1beta1.BGPAdvertisement, u *unstructured.Unstructured) {
	s := &a.Spec
	// MetalLB's is signed.
	if n, _, _ := unstructured.NestedInt64(u.Object, "spec", "localPref"); n < 0 || n > math.MaxUint32 {
		c.note(Error, "spec.localPref: %d: want 0 to %d: left out", n, uint32(math.MaxUint32))
		s.LocalPref = 0
	}
	c.selection(&s.Selection)
	s.Peers = once(c, "spec.peers", s.Peers)
	s.Communities = once(c, "spec.communities", s.Communities)
	for i, community := range s.Communities {
		if strings.Contains(community, ":") && !valid(community) {
			c.note(Error, "spec.communities[%d]: %q is no community: want two numbers up to 65535 such as 64512:100, or three up to 4294967295 such as large:64512:1:2", i, community)
		}
	}
	atMost(c, "spec.communities", len(s.Communities), 100)
	within(c, "spec.aggregationLength", s.AggregationLength, 1, 32)
	within(c, "spec.aggregationLengthV6", s.AggregationLengthV6, 1, 128)
	within(c, "spec.asPathPrepend", s.ASPathPrepend, 1, 10)
	aggregate := func(length *int32, all int32) bool { return length != nil && *length != all }
	if len(s.ServiceSelectors) > 0 && (aggregate(s.AggregationLength, 32) || aggregate(s.AggregationLengthV6, 128)) {
		c.note(Error, "spec.serviceSelectors: a route for many addresses cannot be for some Services alone: remove the aggregation lengths or the selectors")
	}
}

func valid(community string) bool {
	_, ok := config.ParseCommunity(community)
	return ok
}

// within tells of a number that the schema refuses.
func within(c *converter, path string, n *int32, least, most int32) {
	if n != nil && (*n < least || *n > most) {
		c.note(Error, "%s: %d: want %d to %d", path, *n, least, most)
	}
}

// atMost tells of a list that is longer than the schema allows.
func atMost(c *converter, path string, have, most int) {
	if have > most {
		c.note(Error, "%s: %d entries: want %d at most", path, have, most)
	}
}

func (c *converter) profile(o *v1beta1.BFDProfile) {
	within(c, "spec.receiveInterval", o.Spec.ReceiveInterval, 10, 60000)
	within(c, "spec.transmitInterval", o.Spec.TransmitInterval, 10, 60000)
	within(c, "spec.detectMultiplier", o.Spec.DetectMultiplier, 2, 255)
	within(c, "spec.echoInterval", o.Spec.EchoInterval, 10, 60000)
	within(c, "spec.minimumTtl", o.Spec.MinimumTTL, 1, 254)
}

// community leaves out what MetalLB cannot use either.
func (c *converter) community(o *v1beta1.Community) {
	names := map[string]bool{}
	atMost(c, "spec.communities", len(o.Spec.Communities), 500)
	list := o.Spec.Communities
	for i, alias := range list {
		switch {
		case alias.Name == "":
			c.note(Warning, "spec.communities[%d]: has no name: left out", i)
		case names[alias.Name]:
			c.note(Error, "spec.communities[%d].name: %q is there twice: remove one", i, alias.Name)
		case len(alias.Name) > maxName:
			c.note(Error, "spec.communities[%d].name: %d bytes: want 1 to %d", i, len(alias.Name), maxName)
		case strings.Contains(alias.Name, ":"):
			c.note(Error, "spec.communities[%d].name: %q looks like a value: write it without colons, there and in BGPAdvertisements", i, alias.Name)
		case !valid(alias.Value):
			c.note(Error, "spec.communities[%d].value: %q is no community: want two numbers up to 65535 such as 64512:100, or three up to 4294967295 such as large:64512:1:2", i, alias.Value)
		}
		names[alias.Name] = true
	}
	o.Spec.Communities = slices.DeleteFunc(list, func(a v1beta1.CommunityAlias) bool { return a.Name == "" })
}
