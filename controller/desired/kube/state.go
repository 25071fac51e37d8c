// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
	"github.com/fairlead/fairlead/lb"
)

// DefaultHold is how long endpoints of other nodes drain that vanished without a
// word: time for their agents to say whether their Pods still run.
const DefaultHold = 15 * time.Second

// Options are what a State is for.
type Options struct {
	// Self is the node of the agent; its programs forward, whatever its
	// NodeState says. "": the controller, for which all nodes are alike.
	Self     string
	Class    Class
	Versions Versions
	Hold     time.Duration // 0: DefaultHold
}

// State is what the objects say. Objects that went in belong to it, and are not
// changed any more by anybody. It is for one goroutine at a time.
type State struct {
	options Options

	services map[types.NamespacedName]*service
	dirty    map[*service]bool
	nodes    map[string]*node
	dirtyAll bool // what all Services share changed
	// dirtyNodes says that the nodes of the table may have changed.
	dirtyNodes bool
	owners     map[netip.Addr]string
	draining   map[types.NamespacedName]map[string][]drain // by node
	pods       map[types.UID]pod
	vanished   map[*service]bool // those with endpoints that vanished and drain
	adopted    []adopted

	keys map[lb.ServiceKey][]*service // who claims a service port, the first by right
	vips map[netip.Addr]*vip

	table     map[string]lb.Node // nodes as last given out
	reported  []v1beta1.DrainingEndpoint
	worsened  map[types.NamespacedName]bool // Services whose problems changed
	endpoints int
}

// New returns an empty State.
func New(o Options) *State {
	o.Hold = cmp.Or(o.Hold, DefaultHold)
	return &State{
		options:  o,
		services: map[types.NamespacedName]*service{},
		dirty:    map[*service]bool{},
		nodes:    map[string]*node{},
		owners:   map[netip.Addr]string{},
		draining: map[types.NamespacedName]map[string][]drain{},
		pods:     map[types.UID]pod{},
		vanished: map[*service]bool{},
		keys:     map[lb.ServiceKey][]*service{},
		vips:     map[netip.Addr]*vip{},
		table:    map[string]lb.Node{},
		worsened: map[types.NamespacedName]bool{},
	}
}

// service is a Service with all that is known of it.
type service struct {
	name   types.NamespacedName
	object *corev1.Service // nil: there are slices of it only
	// created is that of the object that claims were made for.
	created time.Time
	slices  []*discoveryv1.EndpointSlice
	// before are the slices of the last Apply, while the service is dirty.
	before []*discoveryv1.EndpointSlice
	kept   []kept // endpoints that vanished and drain

	rows     []lb.Service // wanted, by key
	out      []lb.Service // given out, by key
	serving  []string     // by out, where counted says so
	counted  bool
	own      []Problem // of the Service alone
	problems []Problem // with those that others cause
}

// older orders Services by their right to what two of them claim.
func older(a, b *service) int {
	return cmp.Or(a.created.Compare(b.created),
		cmp.Compare(a.name.Namespace, b.name.Namespace), cmp.Compare(a.name.Name, b.name.Name))
}

func (s *State) service(name types.NamespacedName) *service {
	have := s.services[name]
	if have == nil {
		have = &service{name: name}
		s.services[name] = have
	}
	return have
}

func (s *State) touch(one *service) {
	if !s.dirty[one] {
		s.dirty[one] = true
		one.before = one.slices
	}
}

// PutService takes a Service in, ours or not.
func (s *State) PutService(o *corev1.Service) {
	name := types.NamespacedName{Namespace: o.Namespace, Name: o.Name}
	one := s.services[name]
	switch {
	case s.options.Class.Has(o):
		one = s.service(name)
		one.object = o
	case one == nil || one.object == nil:
		return
	default:
		one.object = nil
	}
	s.touch(one)
}

// DeleteService forgets a Service.
func (s *State) DeleteService(name types.NamespacedName) {
	if one := s.services[name]; one != nil && one.object != nil {
		one.object = nil
		s.touch(one)
	}
}

// serviceOf is the Service that a slice is of.
func serviceOf(o *discoveryv1.EndpointSlice) types.NamespacedName {
	return types.NamespacedName{Namespace: o.Namespace, Name: o.Labels[discoveryv1.LabelServiceName]}
}

// PutSlice takes an EndpointSlice in. One that changes its Service has to be
// deleted with what it was before.
func (s *State) PutSlice(o *discoveryv1.EndpointSlice) {
	if o.Labels[discoveryv1.LabelServiceName] == "" {
		return
	}
	one := s.service(serviceOf(o))
	if one.object != nil {
		s.touch(one)
	}
	i := slices.IndexFunc(one.slices, func(other *discoveryv1.EndpointSlice) bool { return other.Name == o.Name })
	one.slices = slices.Clone(one.slices) // before shares it
	if i < 0 {
		one.slices = append(one.slices, o)
	} else {
		s.endpoints -= len(one.slices[i].Endpoints)
		one.slices[i] = o
	}
	s.endpoints += len(o.Endpoints)
}

// DeleteSlice forgets an EndpointSlice.
func (s *State) DeleteSlice(o *discoveryv1.EndpointSlice) {
	one := s.services[serviceOf(o)]
	if one == nil {
		return
	}
	i := slices.IndexFunc(one.slices, func(other *discoveryv1.EndpointSlice) bool { return other.Name == o.Name })
	if i < 0 {
		return
	}
	if one.object != nil {
		s.touch(one)
	}
	s.endpoints -= len(one.slices[i].Endpoints)
	if one.slices = slices.Delete(slices.Clone(one.slices), i, i+1); len(one.slices) == 0 && !s.dirty[one] && one.object == nil {
		delete(s.services, one.name)
	}
}

// Dirty says that Apply has something to do.
func (s *State) Dirty() bool { return s.dirtyAll || len(s.dirty) > 0 || s.adopted != nil }

// Counts are the sizes of what a State holds.
type Counts struct{ Services, Slices, Endpoints, Nodes, Members, Draining int }

// Counts returns how much there is; Services are ours, the rest is all.
func (s *State) Counts() Counts {
	c := Counts{Endpoints: s.endpoints, Nodes: len(s.nodes), Draining: len(s.reported)}
	for _, one := range s.services {
		c.Slices += len(one.slices)
		if one.object != nil {
			c.Services++
		}
	}
	for name := range s.nodes {
		if s.member(name) {
			c.Members++
		}
	}
	return c
}

// Serving is a Service of ours, with the nodes that have an endpoint which gets
// new connections: the same ones that are in tables, so kube-proxy's choice.
type Serving struct {
	Object *corev1.Service
	Nodes  []string // sorted, as of the last Apply
}

// Serving returns all Services of ours, in no order. Nobody changes what is in it.
func (s *State) Serving() []Serving {
	all := make([]Serving, 0, len(s.services))
	for _, one := range s.services {
		if one.object == nil {
			continue
		}
		if !one.counted {
			one.serving, one.counted = servingNodes(one.out), true
		}
		all = append(all, Serving{one.object, one.serving})
	}
	return all
}

func servingNodes(rows []lb.Service) []string {
	nodes := map[string]bool{}
	for i := range rows {
		for j := range rows[i].Backends {
			if b := &rows[i].Backends[j]; !b.Draining {
				nodes[b.Node] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(nodes))
}

// Problems are what is wrong with a Service as of the last Apply; worst first.
func (s *State) Problems(name types.NamespacedName) []Problem {
	if one := s.services[name]; one != nil {
		return one.problems
	}
	return nil
}

// Worsened returns the Services whose problems the calls of Apply changed since
// it was last asked, sorted.
func (s *State) Worsened() []types.NamespacedName {
	names := slices.SortedFunc(maps.Keys(s.worsened), func(a, b types.NamespacedName) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	clear(s.worsened)
	return names
}
