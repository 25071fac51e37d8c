// SPDX-License-Identifier: Apache-2.0

package announce

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// bgpAdvertisement is one with what it says of this node.
type bgpAdvertisement struct {
	BGPAdvertisement
	here        bool // is for this node
	communities []string
	unknown     string // community that has no value; "": all have
}

// prepareBGP has the oldest first.
func (w *work) prepareBGP() {
	for _, o := range ordered(w.BGP, func(a, b BGPAdvertisement) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Name, b.Name))
	}) {
		a := bgpAdvertisement{BGPAdvertisement: o, here: w.self >= 0 && o.Nodes.matches(w.Nodes[w.self].Labels)}
		for _, name := range ordered(o.Communities, strings.Compare) {
			value, known := w.Communities[name]
			if !known && !strings.Contains(name, ":") {
				a.unknown = name
			}
			if !known {
				value = name
			}
			a.communities = append(a.communities, value)
		}
		w.bgp = append(w.bgp, a)
	}
}

// route is one with the advertisements that ask for it, by their indices.
type route struct {
	nextHop        netip.Addr
	advertisements map[int]bool
}

// route has the node announce an address to those peers that advertisements name.
func (w *work) route(v *VIP, advertisements []int) {
	var others []string
	var not []Reason
	for _, i := range advertisements {
		a := &w.bgp[i]
		switch {
		case !a.here:
			others = append(others, quoted("BGPAdvertisement", a.Name))
		case a.unknown != "":
			// Without the community the route could go where it must not.
			not = append(not, reason(ProtocolBGP, CodeUnknownCommunity, "BGPAdvertisement %q: no Community object has the name %q", a.Name, a.unknown))
		default:
			not = append(not, w.routeBy(v, i)...)
		}
	}
	if len(others) > 0 {
		not = append(not, reason(ProtocolBGP, CodeNodeNotSelected, "nodeSelectors of %s do not match node %q", strings.Join(sorted(others, strings.Compare), ", "), w.Nodes[w.self].Name))
	}
	v.Peers = sorted(v.Peers, strings.Compare)
	if len(v.Peers) == 0 {
		v.Not = append(v.Not, not...)
	}
}

// routeBy adds an address to the routes that one advertisement asks for, and
// says which of its peers get none.
func (w *work) routeBy(v *VIP, i int) (not []Reason) {
	a := &w.bgp[i]
	length := a.Length4
	if v.Addr.Is6() {
		length = a.Length6
	}
	prefix, err := v.Addr.Prefix(length)
	if err != nil {
		return []Reason{reason(ProtocolBGP, CodeNoFamily, "BGPAdvertisement %q: aggregation length %d: is none of %s", a.Name, length, v.Addr)}
	}
	named := 0
	for _, p := range w.peers {
		if !a.isTo(p.Name) {
			continue
		}
		named++
		nextHop, why := w.nextHop(p, v.Addr)
		if why.Code != "" {
			not = append(not, why)
			continue
		}
		one := w.routes[p.Name][prefix]
		if one == nil {
			one = &route{nextHop, map[int]bool{}}
			w.routes[p.Name][prefix] = one
		}
		one.advertisements[i] = true
		v.Peers = append(v.Peers, p.Name)
	}
	if named == 0 {
		not = append(not, w.noPeer(a))
	}
	return not
}

func (a *BGPAdvertisement) isTo(peer string) bool {
	return len(a.Peers) == 0 || slices.Contains(a.Peers, peer)
}

// noPeer says why none of an advertisement's peers is one of this node.
func (w *work) noPeer(a *bgpAdvertisement) Reason {
	var peers, nowhere, absent []string
	for _, name := range a.Peers {
		if !slices.ContainsFunc(w.Peers, func(p Peer) bool { return p.Name == name }) {
			absent = append(absent, quoted("BGPPeer", name))
		}
	}
	for _, p := range w.Peers {
		if a.isTo(p.Name) {
			peers = append(peers, quoted("BGPPeer", p.Name))
			if !slices.ContainsFunc(w.Nodes, func(n Node) bool { return p.Nodes.matches(n.Labels) }) {
				nowhere = append(nowhere, quoted("BGPPeer", p.Name))
			}
		}
	}
	slices.Sort(absent)
	text := "there is no BGPPeer"
	switch {
	case len(peers) > 0 && len(peers) == len(nowhere):
		text = fmt.Sprintf("nodeSelectors of %s match no node", strings.Join(nowhere, ", "))
	case len(peers) > 0:
		text = fmt.Sprintf("nodeSelectors of %s do not match node %q", strings.Join(peers, ", "), w.Nodes[w.self].Name)
	case len(absent) > 0:
		text = "there is no " + strings.Join(absent, ", ")
	}
	return reason(ProtocolBGP, CodeNoPeer, "BGPAdvertisement %q: %s", a.Name, text)
}

// nextHop is what the routes for an address say to a peer: the session's own
// address where it is of the family, else the node's.
func (w *work) nextHop(p *Peer, vip netip.Addr) (netip.Addr, Reason) {
	family := "IPv6"
	if vip.Is4() {
		family = "IPv4"
	}
	switch own := p.Addr.Is4() == vip.Is4(); {
	case own:
		return netip.Addr{}, Reason{}
	case !p.DualStack:
		return netip.Addr{}, reason(ProtocolBGP, CodeNoFamily, "the session with BGPPeer %q does not carry %s: want dualStackAddressFamily", p.Name, family)
	}
	for _, addr := range w.Nodes[w.self].Addrs {
		if addr.Is4() == vip.Is4() {
			return addr, Reason{}
		}
	}
	return netip.Addr{}, reason(ProtocolBGP, CodeNoNextHop, "node %q has no %s address that a route to BGPPeer %q could have as next hop", w.Nodes[w.self].Name, family, p.Name)
}

// peerPlans are all sessions of the node with their routes.
func (w *work) peerPlans() []PeerPlan {
	var plans []PeerPlan
	for _, p := range w.peers {
		plan := PeerPlan{Name: p.Name}
		for prefix, one := range w.routes[p.Name] {
			plan.Routes = append(plan.Routes, w.attributes(p.Name, prefix, one))
		}
		slices.SortFunc(plan.Routes, func(a, b Route) int { return a.Prefix.Compare(b.Prefix) })
		plans = append(plans, plan)
	}
	return plans
}

// attributes are those that the oldest advertisement says. Communities of others
// add up; one that says other values is not used for the route.
func (w *work) attributes(peer string, prefix netip.Prefix, one *route) Route {
	var asking []int
	for i := range one.advertisements {
		asking = append(asking, i)
	}
	slices.Sort(asking)
	oldest := &w.bgp[asking[0]]
	r := Route{Prefix: prefix, NextHop: one.nextHop, LocalPref: oldest.LocalPref, Prepend: oldest.Prepend}
	for _, i := range asking {
		a := &w.bgp[i]
		if a.LocalPref != r.LocalPref || a.Prepend != r.Prepend {
			w.problems = append(w.problems, Problem{a.Name, fmt.Sprintf(
				"%s to BGPPeer %q: BGPAdvertisement %q, which is older, has localPref %d and asPathPrepend %d, this one %d and %d: the advertisement is not used for the route",
				prefix, peer, oldest.Name, r.LocalPref, r.Prepend, a.LocalPref, a.Prepend)})
			continue
		}
		r.Communities = append(r.Communities, a.communities...)
	}
	r.Communities = sorted(r.Communities, strings.Compare)
	return r
}
