// SPDX-License-Identifier: Apache-2.0

package announce

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// l2Advertisement is one with what it says of each node.
type l2Advertisement struct {
	L2Advertisement
	nodes   []bool // is for the node
	weights []int
}

func (w *work) prepareL2() {
	for _, o := range ordered(w.L2, func(a, b L2Advertisement) int { return cmp.Compare(a.Name, b.Name) }) {
		a := l2Advertisement{L2Advertisement: o}
		for _, n := range w.Nodes {
			weight := 0
			for _, p := range o.Preferred {
				if p.Nodes.Matches(n.Labels) {
					weight += p.Weight
				}
			}
			a.nodes = append(a.nodes, o.Nodes.matches(n.Labels))
			a.weights = append(a.weights, weight)
		}
		w.l2 = append(w.l2, a)
	}
}

// answer has the node answer for an address, if an advertisement is for it.
func (w *work) answer(v *VIP, services []*Service, advertisements []int) {
	var names []string
	var interfaces []string
	selected, all := false, false
	for _, i := range advertisements {
		a := &w.l2[i]
		names = append(names, quoted("L2Advertisement", a.Name))
		if a.nodes[w.self] {
			selected = true
			all = all || len(a.Interfaces) == 0
			interfaces = append(interfaces, a.Interfaces...)
		}
	}
	if !selected {
		v.Not = append(v.Not, reason(ProtocolL2, CodeNodeNotSelected, "nodeSelectors of %s do not match node %q", strings.Join(names, ", "), w.Nodes[w.self].Name))
		return
	}
	if all {
		interfaces = nil
	}
	v.L2 = &L2{Key: services[0].VIPs[0], Candidates: w.candidates(services, advertisements), Interfaces: sorted(interfaces, strings.Compare)}
}

// candidates are the nodes that may answer for an address, by what every node
// knows: whether another one's tables have it is not in this.
func (w *work) candidates(services []*Service, advertisements []int) []Candidate {
	key := ""
	if !slices.ContainsFunc(services, func(s *Service) bool { return s.Local }) {
		key = fmt.Sprint(advertisements) // equal for every address, once one is served
		if ranking := w.rankings[key]; ranking != nil {
			return ranking
		}
	}
	var list []Candidate
	for n := range w.Nodes {
		if w.unfit[n].Code != "" || !slices.ContainsFunc(services, func(s *Service) bool { return s.servedOn(w.Nodes[n].Name) }) {
			continue
		}
		c, selected := Candidate{Node: w.Nodes[n].Name}, false
		for _, i := range advertisements {
			if w.l2[i].nodes[n] {
				selected = true
				c.Weight += w.l2[i].weights[n]
			}
		}
		if selected {
			list = append(list, c)
		}
	}
	slices.SortStableFunc(list, func(a, b Candidate) int { return cmp.Compare(b.Weight, a.Weight) })
	if key != "" {
		w.rankings[key] = list
	}
	return list
}
