// SPDX-License-Identifier: Apache-2.0

package config

import (
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
	"github.com/fairlead/fairlead/controller/ipam"
)

func (c *checker) checkL2(pools []*pool) {
	for _, o := range c.L2Advertisements {
		c.choice(o, "spec.serviceSelectors", o.Spec.ServiceSelectors)
		c.choice(o, "spec.nodeSelectors", o.Spec.NodeSelectors)
		for i := range o.Spec.PreferredNodeSelectors {
			if _, err := metav1.LabelSelectorAsSelector(&o.Spec.PreferredNodeSelectors[i].Preference); err != nil {
				c.report(o, ReasonInvalid, "spec.preferredNodeSelectors[%d].preference: %v: matches nothing", i, err)
			}
		}
		c.result.Advertised[refOf(o)] = names(c.selected(o, o.Spec.Selection, pools))
	}
}

func names(pools []*pool) []string {
	list := make([]string, len(pools))
	for i, p := range pools {
		list[i] = p.name
	}
	slices.Sort(list)
	return list
}

// selected returns the pools that an advertisement is for. One that names
// pools which do not exist is for the others that it names, and never for all.
func (c *checker) selected(o metav1.Object, s v1beta1.Selection, pools []*pool) []*pool {
	byLabel := c.choice(o, "spec.ipAddressPoolSelectors", s.IPAddressPoolSelectors)
	for i, name := range s.IPAddressPools {
		if !slices.ContainsFunc(pools, func(p *pool) bool { return p.name == name }) {
			c.report(o, ReasonNotFound, "spec.ipAddressPools[%d]: no IPAddressPool %q: the advertisement waits for it", i, name)
		}
	}
	if len(s.IPAddressPools) == 0 && !byLabel.given {
		return slices.Clone(pools)
	}
	var chosen []*pool
	for _, p := range pools {
		if slices.Contains(s.IPAddressPools, p.name) || byLabel.matches(p.labels) {
			chosen = append(chosen, p)
		}
	}
	return chosen
}

// advertisement is a BGPAdvertisement that is used so far.
type advertisement struct {
	object *v1beta1.BGPAdvertisement
	nodes  choice
	pools  []*pool
	// lengths are the prefix lengths of the routes by family.
	lengths map[ipam.Family]int
}

func (c *checker) checkBGP(pools []*pool) {
	var all []*advertisement
	for _, o := range c.BGPAdvertisements {
		c.choice(o, "spec.serviceSelectors", o.Spec.ServiceSelectors)
		a := &advertisement{
			object: o,
			nodes:  c.choice(o, "spec.nodeSelectors", o.Spec.NodeSelectors),
			pools:  c.selected(o, o.Spec.Selection, pools),
			lengths: map[ipam.Family]int{
				ipam.IPv4: length(o.Spec.AggregationLength, 32),
				ipam.IPv6: length(o.Spec.AggregationLengthV6, 128),
			},
		}
		for i, name := range o.Spec.Peers {
			if c.peer(name) == nil {
				c.report(o, ReasonNotFound, "spec.peers[%d]: no BGPPeer %q: the advertisement waits for it", i, name)
			}
		}
		c.checkNames(a)
		a.pools = slices.DeleteFunc(a.pools, func(p *pool) bool { return !c.lengthFits(a, p) || c.contradicted(a, p, all) })
		all = append(all, a)
		c.result.Advertised[refOf(o)] = names(a.pools)
		if c.result.Unused[refOf(o)] {
			c.result.Advertised[refOf(o)] = nil
		}
	}
}

func length(given *int32, otherwise int) int {
	if given == nil {
		return otherwise
	}
	return int(*given)
}

func (c *checker) peer(name string) *v1beta1.BGPPeer {
	if i := slices.IndexFunc(c.BGPPeers, func(p *v1beta1.BGPPeer) bool { return p.Name == name }); i >= 0 {
		return c.BGPPeers[i]
	}
	return nil
}

// checkNames wants a value for every name. A route without the community could
// go where it must not, so without one there is no route.
func (c *checker) checkNames(a *advertisement) {
	for i, community := range a.object.Spec.Communities {
		_, known := c.result.Communities[community]
		_, wellKnown := WellKnown[community]
		if !known && !wellKnown && !strings.Contains(community, ":") {
			c.report(a.object, ReasonNotFound, "spec.communities[%d]: no Community object has the name %q: the advertisement waits for it", i, community)
			c.result.Unused[refOf(a.object)] = true
		}
	}
}

// lengthFits wants routes that do not cover much more than the pool has: every
// entry fills a route at least.
func (c *checker) lengthFits(a *advertisement, p *pool) bool {
	for _, entry := range p.entries {
		path, have := "spec.aggregationLength", a.lengths[entry.Family()]
		if entry.Family() == ipam.IPv6 {
			path = "spec.aggregationLengthV6"
		}
		if want := largestBlock(entry); have < want {
			c.report(a.object, ReasonInvalid, "%s: a route of length %d is more than %s of IPAddressPool %q: want %d or more: the advertisement is not used for this pool",
				path, have, entry, p.name, want)
			return false
		}
	}
	return true
}

// contradicted says whether an older advertisement gives the same routes other
// attributes. Where one is for some Services alone, that shows only with the
// Services.
func (c *checker) contradicted(a *advertisement, p *pool, older []*advertisement) bool {
	for _, other := range older {
		path := difference(a, other)
		if path == "" || len(a.object.Spec.ServiceSelectors)+len(other.object.Spec.ServiceSelectors) > 0 || !slices.Contains(other.pools, p) {
			continue
		}
		if !slices.ContainsFunc(p.entries, func(e ipam.Range) bool { return a.lengths[e.Family()] == other.lengths[e.Family()] }) {
			continue
		}
		if name := c.sharedPeer(a, other); name != "" {
			c.report(a.object, ReasonConflict, "%s: BGPAdvertisement %q, which is older, has another for the same routes of IPAddressPool %q to BGPPeer %q: the advertisement is not used for this pool",
				path, other.object.Name, p.name, name)
			return true
		}
	}
	return false
}

// difference is the path of an attribute of which a route has only one.
func difference(a, b *advertisement) string {
	switch {
	case a.object.Spec.LocalPref != b.object.Spec.LocalPref:
		return "spec.localPref"
	case length(a.object.Spec.ASPathPrepend, 0) != length(b.object.Spec.ASPathPrepend, 0):
		return "spec.asPathPrepend"
	}
	return ""
}

// sharedPeer is the name of the first peer that both announce to from the same
// node, "" if there is none.
func (c *checker) sharedPeer(a, b *advertisement) string {
	for _, p := range c.peers {
		if to(a, p.object) && to(b, p.object) && c.shared(a.nodes, b.nodes, p.nodes) != "" {
			return p.object.Name
		}
	}
	return ""
}

func to(a *advertisement, p *v1beta1.BGPPeer) bool {
	return len(a.object.Spec.Peers) == 0 || slices.Contains(a.object.Spec.Peers, p.Name)
}
