// SPDX-License-Identifier: Apache-2.0

package lb

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// Table is the whole desired state of one node. It never changes after
// NewTable: a new state is a new Table, and Diff says what lies between.
type Table struct {
	self      string
	selfAddrs []netip.Addr
	nodes     []Node    // sorted by name, without self
	services  []Service // sorted by key
}

// NewTable checks, copies and sorts. Every problem is reported, joined; on an
// error there is no Table. self must be the name of one of nodes.
func NewTable(self string, nodes []Node, services []Service) (*Table, error) {
	t := &Table{self: self}
	var problems []error
	known := map[string]bool{}
	for _, n := range nodes {
		if known[n.Name] {
			problems = append(problems, fmt.Errorf("node %q: listed twice", n.Name))
		}
		known[n.Name] = true
		n.Addrs = slices.Clone(n.Addrs)
		if n.Name == self {
			t.selfAddrs = n.Addrs
		} else {
			t.nodes = append(t.nodes, n)
		}
	}
	if !known[self] {
		problems = append(problems, fmt.Errorf("node %q: this node is not among the nodes", self))
	}
	nodeOf := map[netip.AddrPort]string{}
	for _, s := range services {
		s.SourceRanges = slices.Clone(s.SourceRanges)
		s.Backends = slices.Clone(s.Backends)
		slices.SortFunc(s.Backends, func(a, b Backend) int { return a.Addr.Compare(b.Addr) })
		if !unmapped(s.Key.VIP) {
			problems = append(problems, fmt.Errorf("service %s: VIP %q: want an IPv6 or an unmapped IPv4 address", s.Key, s.Key.VIP))
		}
		problems = append(problems, checkBackends(s, known)...)
		problems = append(problems, checkNodes(s, nodeOf)...)
		t.services = append(t.services, s)
	}
	slices.SortFunc(t.nodes, func(a, b Node) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(t.services, func(a, b Service) int { return a.Key.Compare(b.Key) })
	for i := 1; i < len(t.services); i++ {
		if t.services[i].Key == t.services[i-1].Key {
			problems = append(problems, fmt.Errorf("service %s: listed twice", t.services[i].Key))
		}
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return t, nil
}

func checkBackends(s Service, nodes map[string]bool) []error {
	var problems []error
	wire := map[WireID]netip.AddrPort{}
	for _, b := range s.Backends {
		switch other, taken := wire[b.WireID()]; {
		case taken && other == b.Addr:
			problems = append(problems, fmt.Errorf("service %s: backend %s: listed twice", s.Key, b.Addr))
		case taken:
			problems = append(problems, fmt.Errorf("service %s: backend %s: has the same wire id as %s", s.Key, b.Addr, other))
		}
		wire[b.WireID()] = b.Addr
		if b.Weight == 0 {
			problems = append(problems, fmt.Errorf("service %s: backend %s: weight 0: want 1 at least", s.Key, b.Addr))
		}
		if !nodes[b.Node] {
			problems = append(problems, fmt.Errorf("service %s: backend %s: unknown node %q", s.Key, b.Addr, b.Node))
		}
		if !unmapped(b.Addr.Addr()) || b.Addr.Addr().Is4() != s.Key.VIP.Is4() {
			problems = append(problems, fmt.Errorf("service %s: backend %s: not of the VIP's address family", s.Key, b.Addr))
		}
	}
	return problems
}

// checkNodes makes sure that all services agree where a backend is. nodeOf
// carries what the earlier ones said.
func checkNodes(s Service, nodeOf map[netip.AddrPort]string) []error {
	var problems []error
	for _, b := range s.Backends {
		node, seen := nodeOf[b.Addr]
		if seen && node != b.Node {
			problems = append(problems, fmt.Errorf("service %s: backend %s: on node %q here, on node %q elsewhere", s.Key, b.Addr, b.Node, node))
		}
		nodeOf[b.Addr] = b.Node
	}
	return problems
}

func unmapped(a netip.Addr) bool { return a.IsValid() && !a.Is4In6() }

// Self is the name of the node that the table is for.
func (t *Table) Self() string { return t.self }

// SelfAddrs are the InternalIPs of this node. The caller must not change them.
func (t *Table) SelfAddrs() []netip.Addr { return t.selfAddrs }

// Nodes are all nodes but self, sorted by name. The caller must not change them.
func (t *Table) Nodes() []Node { return t.nodes }

// Services are sorted by key. The caller must not change them.
func (t *Table) Services() []Service { return t.services }

// Delta is what lies between two Tables. Everything is sorted.
type Delta struct {
	PutNodes       []Node       // new or with another address
	DeleteNodes    []string     // gone
	PutServices    []Service    // new or different in anything
	DeleteServices []ServiceKey // gone
}

// Empty says that there is nothing to do.
func (d Delta) Empty() bool {
	return len(d.PutNodes)+len(d.DeleteNodes)+len(d.PutServices)+len(d.DeleteServices) == 0
}

// Diff returns what leads from t to next. A nil t is the empty table.
func (t *Table) Diff(next *Table) Delta {
	if t == nil {
		t = &Table{}
	}
	var d Delta
	d.PutNodes, d.DeleteNodes = diff(t.nodes, next.nodes, Node.key, cmp.Compare[string], Node.equal)
	d.PutServices, d.DeleteServices = diff(t.services, next.services, Service.key, ServiceKey.Compare, Service.equal)
	return d
}

func (n Node) key() string { return n.Name }

func (n Node) equal(o Node) bool { return n.Name == o.Name && slices.Equal(n.Addrs, o.Addrs) }

func (s Service) key() ServiceKey { return s.Key }

// equal is reflect.DeepEqual, which a Diff of 10,000 services is too slow with.
func (s Service) equal(o Service) bool {
	return s.Key == o.Key && s.Name == o.Name && s.Policy == o.Policy && s.Affinity == o.Affinity &&
		s.TableSize == o.TableSize && slices.Equal(s.Backends, o.Backends) &&
		(s.SourceRanges == nil) == (o.SourceRanges == nil) && slices.Equal(s.SourceRanges, o.SourceRanges)
}

// diff merges two lists sorted by key.
func diff[T, K any](from, to []T, key func(T) K, compare func(K, K) int, equal func(T, T) bool) (put []T, gone []K) {
	for len(from) > 0 || len(to) > 0 {
		order := 0
		switch {
		case len(from) == 0:
			order = 1
		case len(to) == 0:
			order = -1
		default:
			order = compare(key(from[0]), key(to[0]))
		}
		switch {
		case order < 0:
			gone = append(gone, key(from[0]))
			from = from[1:]
		case order > 0:
			put = append(put, to[0])
			to = to[1:]
		default:
			if !equal(from[0], to[0]) {
				put = append(put, to[0])
			}
			from, to = from[1:], to[1:]
		}
	}
	return put, gone
}
