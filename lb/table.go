// SPDX-License-Identifier: Apache-2.0

package lb

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// Table is the whole desired state of one node. It never changes: a new state
// is a new Table, made by NewTable or, where little differs, by Update, and Diff
// says what lies between two.
type Table struct {
	self      string
	selfAddrs []netip.Addr
	// What equal pointers point to is equal: Tables share what does not differ.
	nodes    []*Node    // sorted by name, without self
	services []*Service // sorted by key
}

// ServiceError is what is wrong about one service port.
type ServiceError struct {
	Key ServiceKey
	Err error
}

// Error names the service port.
func (e *ServiceError) Error() string { return fmt.Sprintf("service %s: %s", e.Key, e.Err) }

// Unwrap returns what is wrong.
func (e *ServiceError) Unwrap() error { return e.Err }

func serviceErrorf(key ServiceKey, format string, args ...any) error {
	return &ServiceError{key, fmt.Errorf(format, args...)}
}

// NewTable checks, copies and sorts. Every problem is reported, joined, those of
// a service as a *ServiceError; on an error there is no Table. self must be the
// name of one of nodes. All services must agree on the node of a backend.
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
			t.nodes = append(t.nodes, &n)
		}
	}
	if !known[self] {
		problems = append(problems, fmt.Errorf("node %q: this node is not among the nodes", self))
	}
	nodeOf := map[netip.AddrPort]string{}
	for _, s := range services {
		own, faults := ownService(s, func(node string) bool { return known[node] })
		problems = append(problems, faults...)
		problems = append(problems, checkNodes(s, nodeOf)...)
		if own != nil {
			t.services = append(t.services, own)
		}
	}
	slices.SortFunc(t.nodes, compareNodes)
	slices.SortFunc(t.services, compareServices)
	for i := 1; i < len(t.services); i++ {
		if t.services[i].Key == t.services[i-1].Key {
			problems = append(problems, serviceErrorf(t.services[i].Key, "listed twice"))
		}
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return t, nil
}

// ownService returns a sorted copy without the backends that are not usable, nil
// if the service is not, and what is wrong about it.
func ownService(s Service, known func(node string) bool) (*Service, []error) {
	var problems []error
	usable := unmapped(s.Key.VIP)
	if !usable {
		problems = append(problems, serviceErrorf(s.Key, "VIP %q: want an IPv6 or an unmapped IPv4 address", s.Key.VIP))
	}
	s.SourceRanges = slices.Clone(s.SourceRanges)
	s.Backends = slices.Clone(s.Backends)
	slices.SortFunc(s.Backends, func(a, b Backend) int { return a.Addr.Compare(b.Addr) })
	if s.Left && len(s.Backends) > 0 {
		problems = append(problems, serviceErrorf(s.Key, "left to kube-proxy, but has %d backends", len(s.Backends)))
		s.Backends = nil
	}
	good, faults := checkBackends(s, known)
	problems = append(problems, faults...)
	if !usable {
		return nil, problems
	}
	s.Backends = good
	return &s, problems
}

// checkBackends returns the usable backends. Of two with the same wire id that is
// the one with the lower address, on every node. It overwrites s.Backends if
// some are not usable.
func checkBackends(s Service, known func(node string) bool) (good []Backend, problems []error) {
	wire := make(map[WireID]netip.AddrPort, len(s.Backends))
	good = s.Backends[:0]
	for _, b := range s.Backends {
		before := len(problems)
		fault := func(format string, args ...any) {
			problems = append(problems, serviceErrorf(s.Key, "backend %s: "+format, append([]any{b.Addr}, args...)...))
		}
		switch other, taken := wire[b.WireID()]; {
		case taken && other == b.Addr:
			fault("listed twice")
		case taken:
			fault("has the same wire id as %s", other)
		default:
			wire[b.WireID()] = b.Addr
		}
		if b.Weight == 0 {
			fault("weight 0: want 1 at least")
		}
		if !known(b.Node) {
			fault("unknown node %q", b.Node)
		}
		if !unmapped(b.Addr.Addr()) || b.Addr.Addr().Is4() != s.Key.VIP.Is4() {
			fault("not of the VIP's address family")
		}
		if len(problems) == before {
			good = append(good, b)
		}
	}
	return good, problems
}

// checkNodes makes sure that all services agree where a backend is. nodeOf
// carries what the earlier ones said.
func checkNodes(s Service, nodeOf map[netip.AddrPort]string) []error {
	var problems []error
	for _, b := range s.Backends {
		node, seen := nodeOf[b.Addr]
		if seen && node != b.Node {
			problems = append(problems, serviceErrorf(s.Key, "backend %s: on node %q here, on node %q elsewhere", b.Addr, b.Node, node))
		}
		nodeOf[b.Addr] = b.Node
	}
	return problems
}

func unmapped(a netip.Addr) bool { return a.IsValid() && !a.Is4In6() }

func compareNodes(a, b *Node) int { return cmp.Compare(a.Name, b.Name) }

func compareServices(a, b *Service) int { return a.Key.Compare(b.Key) }

// Self is the name of the node that the table is for.
func (t *Table) Self() string { return t.self }

// SelfAddrs are the InternalIPs of this node. The caller must not change them.
func (t *Table) SelfAddrs() []netip.Addr { return t.selfAddrs }

// Nodes are all nodes but self, sorted by name. The caller must not change them.
func (t *Table) Nodes() []*Node { return t.nodes }

// Node returns the node of that name, nil if there is none or it is self.
func (t *Table) Node(name string) *Node {
	i, ok := t.findNode(name)
	if !ok {
		return nil
	}
	return t.nodes[i]
}

func (t *Table) findNode(name string) (int, bool) {
	return slices.BinarySearchFunc(t.nodes, name, func(n *Node, name string) int { return cmp.Compare(n.Name, name) })
}

// Services are sorted by key. The caller must not change them.
func (t *Table) Services() []*Service { return t.services }

// Service returns the service port with that key, nil if there is none.
func (t *Table) Service(key ServiceKey) *Service {
	i, ok := t.findService(key)
	if !ok {
		return nil
	}
	return t.services[i]
}

func (t *Table) findService(key ServiceKey) (int, bool) {
	return slices.BinarySearchFunc(t.services, key, func(s *Service, k ServiceKey) int { return s.Key.Compare(k) })
}
