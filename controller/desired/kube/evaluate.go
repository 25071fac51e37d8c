// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/fairlead/fairlead/controller/desired"
	"github.com/fairlead/fairlead/lb"
)

// facts are what all Services share.
type facts interface {
	nodeOf(netip.Addr) string // whose own address it is, "" for nobody's
	member(node string) bool  // endpoints on it count
}

// evaluate says what one Service is to the datapath. drains are endpoints that
// no slice has any more while their connections live.
func evaluate(f facts, object *corev1.Service, list []*discoveryv1.EndpointSlice, drains []drainOn) (desired.Service, []Problem) {
	r := &reading{object: object}
	s := r.service(f.nodeOf)
	if len(s.VIPs) == 0 {
		return s, sorted(r.problems)
	}
	families := r.families(s.VIPs)
	for i := range object.Spec.Ports {
		port := &object.Spec.Ports[i]
		proto, ok := r.protocol(port)
		if !ok {
			continue
		}
		p := desired.Port{Name: port.Name, Port: uint16(port.Port), Proto: proto}
		all := r.usable(collect(port, list), s.VIPs)
		members := slices.DeleteFunc(slices.Clone(all), func(e endpoint) bool { return !f.member(e.node) })
		members = addDrains(f, members, port.Name, drains)
		choose(members, s.Policy)
		p.Backends = r.backends(port, members)
		for _, v4 := range families {
			if left := r.leave(f, port, v4, all, members); v4 {
				p.LeftIPv4 = left
			} else {
				p.LeftIPv6 = left
			}
		}
		s.Ports = append(s.Ports, p)
	}
	return s, sorted(r.problems)
}

// families are those of the VIPs, true for IPv4.
func (r *reading) families(vips []netip.Addr) []bool {
	var families []bool
	for _, v4 := range []bool{true, false} {
		if slices.ContainsFunc(vips, func(vip netip.Addr) bool { return vip.Is4() == v4 }) {
			families = append(families, v4)
		}
	}
	r.dual = len(families) == 2
	return families
}

// usable leaves out endpoints of families that no VIP has, and an endpoint that
// is a VIP itself: its packets would come back to us.
func (r *reading) usable(all []endpoint, vips []netip.Addr) []endpoint {
	return slices.DeleteFunc(all, func(e endpoint) bool {
		if slices.Contains(vips, e.addr.Addr()) {
			r.warn(ReasonEndpointConflict, "endpoint %s is not used: it is the Service's own address", e.addr)
			return true
		}
		return !slices.ContainsFunc(vips, func(vip netip.Addr) bool { return vip.Is4() == e.addr.Addr().Is4() })
	})
}

// drainOn is a draining endpoint with its node.
type drainOn struct {
	drain
	node string
}

// addDrains adds endpoints that only drain; what a slice has, it knows better.
func addDrains(f facts, members []endpoint, port string, drains []drainOn) []endpoint {
	n := len(members)
	for _, d := range drains {
		same := func(e endpoint) bool { return e.addr == d.addr }
		if d.port == port && f.member(d.node) && !slices.ContainsFunc(members, same) {
			members = append(members, endpoint{addr: d.addr, node: d.node, rank: never})
		}
	}
	if len(members) > n {
		slices.SortFunc(members, func(a, b endpoint) int { return a.addr.Compare(b.addr) })
	}
	return members
}

// backends are the endpoints as the datapath knows them. No two may have the
// same wire id; chance gives one pair in 2^32 that.
func (r *reading) backends(port *corev1.ServicePort, members []endpoint) []lb.Backend {
	var backends []lb.Backend
	wire := make(map[lb.WireID]netip.AddrPort, len(members))
	for _, e := range members {
		b := lb.Backend{Addr: e.addr, Node: e.node, Weight: 1, Draining: !e.chosen}
		if other, taken := wire[b.WireID()]; taken {
			r.warn(ReasonEndpointConflict, "endpoint %s of port %s is not used: its wire id is that of %s", e.addr, portName(port), other)
			continue
		}
		wire[b.WireID()] = e.addr
		backends = append(backends, b)
	}
	return backends
}

// leave says whether a port is kube-proxy's on VIPs of a family: somebody serves
// it, but nobody on a node whose programs forward.
func (r *reading) leave(f facts, port *corev1.ServicePort, v4 bool, all, members []endpoint) bool {
	family := func(e *endpoint) bool { return e.addr.Addr().Is4() == v4 }
	served := slices.ContainsFunc(members, func(e endpoint) bool { return e.chosen && family(&e) })
	withoutNode, elsewhere := 0, map[string]bool{}
	for i := range all {
		e := &all[i]
		switch {
		case !family(e) || e.rank == never || f.member(e.node):
		case e.node == "":
			withoutNode++
		default:
			elsewhere[e.node] = true
		}
	}
	name := portName(port)
	if r.dual {
		name += map[bool]string{true: " (IPv4)", false: " (IPv6)"}[v4]
	}
	switch {
	case served:
		if withoutNode > 0 {
			r.warn(ReasonWithoutNode, "port %s: %d endpoints without a nodeName get no connections from outside the cluster", name, withoutNode)
		}
		if len(elsewhere) > 0 {
			r.warn(ReasonElsewhere, "port %s: endpoints on %s get no connections from outside the cluster: Fairlead does not forward there", name, names(elsewhere))
		}
		return false
	case len(elsewhere) > 0:
		r.fail(ReasonElsewhere, "port %s is left to kube-proxy: its endpoints are on %s, where Fairlead does not forward", name, names(elsewhere))
		return true
	case withoutNode > 0:
		r.fail(ReasonWithoutNode, "port %s is left to kube-proxy: its endpoints have no nodeName", name)
		return true
	}
	r.fail(ReasonNoEndpoints, "port %s: no endpoint is ready, connections are refused", name)
	return false
}

// names lists nodes, a few of them by name.
func names(nodes map[string]bool) string {
	const shown = 3
	list := make([]string, 0, len(nodes))
	for name := range nodes {
		list = append(list, name)
	}
	slices.Sort(list)
	if len(list) > shown {
		list = append(list[:shown:shown], "…")
	}
	return strings.Join(list, ", ")
}
