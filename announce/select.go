// SPDX-License-Identifier: Apache-2.0

package announce

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"
)

// Select says what a node is to announce. The order of lists in the state makes
// no difference, and nothing in it is changed. The plan shares lists with itself
// and the state: nobody changes it.
func Select(s State, node string) Plan {
	w := newWork(s, node)
	plan := Plan{}
	for _, addr := range w.order {
		plan.VIPs = append(plan.VIPs, w.vip(addr, w.services[addr]))
	}
	plan.Peers = w.peerPlans()
	plan.Problems = sorted(w.problems, Problem.compare)
	return plan
}

// work is a state in order, with what several VIPs need.
type work struct {
	State
	self     int // index in Nodes; -1: unknown
	services map[netip.Addr][]*Service
	order    []netip.Addr
	unfit    []Reason // of each node; without a code: it is fit
	noneFit  bool

	l2       []l2Advertisement
	bgp      []bgpAdvertisement
	peers    []*Peer // that run here
	routes   map[string]map[netip.Prefix]*route
	rankings map[string][]Candidate // by the advertisements that count
	problems []Problem
}

func newWork(s State, node string) *work {
	w := &work{State: s, services: map[netip.Addr][]*Service{}, routes: map[string]map[netip.Prefix]*route{}, rankings: map[string][]Candidate{}}
	w.Nodes = ordered(s.Nodes, func(a, b Node) int { return cmp.Compare(a.Name, b.Name) })
	w.Services = ordered(s.Services, func(a, b Service) int { return cmp.Compare(a.Name, b.Name) })
	w.Pools = ordered(s.Pools, func(a, b Pool) int { return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Name, b.Name)) })
	w.Peers = ordered(s.Peers, func(a, b Peer) int { return cmp.Compare(a.Name, b.Name) })
	w.self = slices.IndexFunc(w.Nodes, func(n Node) bool { return n.Name == node })
	w.noneFit = true
	for _, n := range w.Nodes {
		w.unfit = append(w.unfit, n.unfit())
		w.noneFit = w.noneFit && w.unfit[len(w.unfit)-1].Code != ""
	}
	for i := range w.Services {
		for _, vip := range w.Services[i].VIPs {
			if w.services[vip] == nil {
				w.order = append(w.order, vip)
			}
			w.services[vip] = append(w.services[vip], &w.Services[i])
		}
	}
	slices.SortFunc(w.order, netip.Addr.Compare)
	for i := range w.Peers {
		if p := &w.Peers[i]; w.self >= 0 && p.Nodes.matches(w.Nodes[w.self].Labels) {
			w.peers = append(w.peers, p)
			w.routes[p.Name] = map[netip.Prefix]*route{}
		}
	}
	w.prepareL2()
	w.prepareBGP()
	return w
}

// ordered is a sorted copy.
func ordered[T any](list []T, compare func(T, T) int) []T {
	list = slices.Clone(list)
	slices.SortFunc(list, compare)
	return list
}

func (c Choice) matches(set labels.Set) bool {
	return len(c) == 0 || slices.ContainsFunc(c, func(one labels.Selector) bool { return one.Matches(set) })
}

// unfit says why a node announces nothing.
func (n *Node) unfit() Reason {
	_, excluded := n.Labels[LabelExclude]
	switch {
	case excluded:
		return reason("", CodeNodeExcluded, "node %q has the label %s", n.Name, LabelExclude)
	case n.NetworkUnavailable:
		return reason("", CodeNetworkUnavailable, "node %q has the condition NetworkUnavailable", n.Name)
	case !n.Attached:
		return reason("", CodeNotAttached, "node %q does not forward: its NodeState does not say that the programs are attached", n.Name)
	}
	return Reason{}
}

// vip decides about one address.
func (w *work) vip(addr netip.Addr, services []*Service) VIP {
	v := VIP{Addr: addr, Pool: w.poolOf(addr)}
	for _, s := range services {
		v.Services = append(v.Services, s.Name)
	}
	l2, bgp, why := w.advertised(&v, services)
	if why.Code == "" {
		why = w.refused(addr, services)
	}
	if why.Code != "" {
		v.Not = []Reason{why}
		return v
	}
	if len(l2) > 0 {
		w.answer(&v, services, l2)
	}
	if len(bgp) > 0 {
		w.route(&v, bgp)
	}
	v.Not = sorted(v.Not, Reason.compare)
	return v
}

func (w *work) poolOf(addr netip.Addr) string {
	for i := range w.Pools {
		for _, r := range w.Pools[i].Ranges {
			if addr.Compare(r.From) >= 0 && addr.Compare(r.To) <= 0 {
				return w.Pools[i].Name
			}
		}
	}
	return ""
}

// advertised returns the advertisements that are for an address, by their
// indices, or why there is none.
func (w *work) advertised(v *VIP, services []*Service) (l2, bgp []int, why Reason) {
	if v.Pool == "" {
		return nil, nil, reason("", CodeNoPool, "no IPAddressPool has %s", v.Addr)
	}
	var others []string
	for i := range w.l2 {
		if a := &w.l2[i]; slices.Contains(a.Pools, v.Pool) {
			if a.forAll(services) {
				l2 = append(l2, i)
			} else {
				others = append(others, quoted("L2Advertisement", a.Name))
			}
		}
	}
	for i := range w.bgp {
		if a := &w.bgp[i]; slices.Contains(a.Pools, v.Pool) {
			if a.forAny(services) {
				bgp = append(bgp, i)
			} else {
				others = append(others, quoted("BGPAdvertisement", a.Name))
			}
		}
	}
	switch {
	case len(l2)+len(bgp) > 0:
		return l2, bgp, Reason{}
	case len(others) > 0:
		slices.Sort(others)
		return nil, nil, reason("", CodeServiceNotSelected, "serviceSelectors of %s do not match every Service that has the address: %s",
			strings.Join(others, ", "), strings.Join(v.Services, ", "))
	}
	return nil, nil, reason("", CodeNoAdvertisement, "no L2Advertisement or BGPAdvertisement is for IPAddressPool %q", v.Pool)
}

func quoted(kind, name string) string { return kind + ` "` + name + `"` }

func (s *Selection) forAny(services []*Service) bool {
	return slices.ContainsFunc(services, func(one *Service) bool { return s.Services.matches(one.Labels) })
}

func (s *Selection) forAll(services []*Service) bool {
	return !slices.ContainsFunc(services, func(one *Service) bool { return !s.Services.matches(one.Labels) })
}

// refused says why this node may not announce an address, by whatever protocol.
func (w *work) refused(addr netip.Addr, services []*Service) Reason {
	switch {
	case w.self < 0:
		return reason("", CodeNoNode, "the cluster has no Node object of this node")
	case w.noneFit:
		return reason("", CodeAllNodesExcluded, "no node of the cluster may announce: here %s", w.unfit[w.self].Text)
	case w.unfit[w.self].Code != "":
		return w.unfit[w.self]
	}
	node := w.Nodes[w.self].Name
	serving := func(s *Service) bool { return len(s.Serving) > 0 }
	switch {
	case !slices.ContainsFunc(services, serving):
		return reason("", CodeNoEndpoints, "no endpoint serves")
	case !slices.ContainsFunc(services, func(s *Service) bool { return s.servedOn(node) }):
		return reason("", CodeNoLocalEndpoint, "externalTrafficPolicy is Local, and no endpoint on node %q serves", node)
	case !w.Held[addr]:
		return reason("", CodeNotProgrammed, "the tables of node %q do not have the address yet", node)
	}
	return Reason{}
}

// servedOn says whether packets that a node receives reach an endpoint.
func (s *Service) servedOn(node string) bool {
	if !s.Local {
		return len(s.Serving) > 0
	}
	return slices.Contains(s.Serving, node)
}
