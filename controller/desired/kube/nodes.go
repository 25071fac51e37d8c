// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
	"github.com/fairlead/fairlead/lb"
)

func (s *State) node(name string) *node {
	n := s.nodes[name]
	if n == nil {
		n = &node{name: name}
		s.nodes[name] = n
	}
	return n
}

// changeNode notes what a change of a node means to Services.
func (s *State) changeNode(name string, change func(*node)) {
	n := s.node(name)
	before, member := *n, s.member(name)
	change(n)
	if member != s.member(name) || !slices.Equal(before.all, n.all) || !slices.Equal(before.addrs, n.addrs) {
		s.dirtyAll, s.dirtyNodes = true, true
	}
	for service := range before.drains {
		if n.drains[service] == nil {
			s.setDrains(service, name, nil)
		}
	}
	for service, drains := range n.drains {
		if !slices.Equal(before.drains[service], drains) {
			s.setDrains(service, name, drains)
		}
	}
	if !n.known && n.stateIn == "" {
		delete(s.nodes, name)
	}
}

func (s *State) setDrains(service types.NamespacedName, node string, drains []drain) {
	byNode := s.draining[service]
	switch {
	case len(drains) > 0 && byNode == nil:
		s.draining[service] = map[string][]drain{node: drains}
	case len(drains) > 0:
		byNode[node] = drains
	default:
		if delete(byNode, node); len(byNode) == 0 {
			delete(s.draining, service)
		}
	}
	if one := s.services[service]; one != nil && one.object != nil {
		s.touch(one)
	}
}

// PutNode takes a Node in.
func (s *State) PutNode(o *corev1.Node) { s.changeNode(o.Name, func(n *node) { n.setNode(o) }) }

// DeleteNode forgets a Node.
func (s *State) DeleteNode(name string) {
	s.changeNode(name, func(n *node) { n.known, n.boot, n.addrs, n.all = false, "", nil, nil })
}

// PutNodeState takes in what a node's agent says.
func (s *State) PutNodeState(o *v1beta1.NodeState) {
	s.changeNode(o.Name, func(n *node) { n.setState(o) })
}

// DeleteNodeState forgets it.
func (s *State) DeleteNodeState(name string) {
	s.changeNode(name, func(n *node) { n.setState(&v1beta1.NodeState{}) })
}

// member says that endpoints on the node count.
func (s *State) member(name string) bool {
	n := s.nodes[name]
	if n == nil {
		return false
	}
	if name == s.options.Self {
		return n.known && len(n.addrs) > 0
	}
	return n.member(s.options.Versions)
}

// Attached says that a node's programs forward, whatever their versions are:
// packets from clients reach it all the same. It goes by what all nodes see, also
// of this one. known says that it has an agent that took part, whether the node
// runs or not.
func (s *State) Attached(name string) (attached, known bool) {
	n := s.nodes[name]
	if n == nil || !n.known {
		return false, false
	}
	return n.attached && n.boot != "" && n.stateIn == n.boot, n.attached
}

// nodeOf is whose own address it is.
func (s *State) nodeOf(addr netip.Addr) string { return s.owners[addr] }

// SelfAddrs are the InternalIPs of this node, none while they are not known.
func (s *State) SelfAddrs() []netip.Addr {
	if n := s.nodes[s.options.Self]; n != nil {
		return n.addrs
	}
	return nil
}

// Keys are the fingerprints of the wire keys that each other member accepts.
func (s *State) Keys() map[string][]string {
	keys := map[string][]string{}
	for name, n := range s.nodes {
		if name != s.options.Self && s.member(name) {
			keys[name] = n.keys
		}
	}
	return keys
}

// shareNodes finds out anew whose every address is; of two nodes the first by
// name has it.
func (s *State) shareNodes() {
	clear(s.owners)
	for _, name := range slices.Sorted(maps.Keys(s.nodes)) {
		for _, addr := range s.nodes[name].all {
			if s.owners[addr] == "" {
				s.owners[addr] = name
			}
		}
	}
}

// nodesDelta tells of nodes of the table that changed since it was last asked.
func (s *State) nodesDelta() (put []lb.Node, gone []string) {
	if !s.dirtyNodes {
		return nil, nil
	}
	s.dirtyNodes = false
	for _, name := range slices.Sorted(maps.Keys(s.nodes)) {
		if addrs := s.nodes[name].addrs; s.member(name) && !slices.Equal(s.table[name].Addrs, addrs) {
			s.table[name] = lb.Node{Name: name, Addrs: addrs}
			put = append(put, s.table[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.table)) {
		// This node stays in its own table: the last that was known of it holds.
		if !s.member(name) && name != s.options.Self {
			delete(s.table, name)
			gone = append(gone, name)
		}
	}
	return put, gone
}
