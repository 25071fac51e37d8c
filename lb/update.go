// SPDX-License-Identifier: Apache-2.0

package lb

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Update returns the table that d leads to from t: t.Update(t.Diff(next)) equals
// next. What is gone goes first; of what is put twice, the later counts; gone
// without ever having been there is success. Putting self changes its addresses.
//
// It checks and copies only what d puts and shares the rest with t, so that it
// costs in proportion to d but for one word for each service. It is for a source
// that tells of one thing after another, and so it never refuses the whole and
// the table is never nil: what is wrong is left out, be it one backend or a
// service with an impossible key, and reported, joined, as a *ServiceError where
// it is about a service. Services may disagree on the node of a backend until
// the last of them has been put.
//
// A node that goes while backends are on it takes them along, with a report; to
// look for them costs in proportion to all services.
func (t *Table) Update(d Delta) (*Table, error) {
	next := &Table{self: t.self, selfAddrs: t.selfAddrs, services: t.services}
	problems := next.updateNodes(t.nodes, d)
	known := func(node string) bool { return node == next.self || next.Node(node) != nil }
	put := make(map[ServiceKey]*Service, len(d.PutServices)+len(d.DeleteServices))
	for _, key := range d.DeleteServices {
		put[key] = nil
	}
	for _, s := range d.PutServices {
		own, faults := ownService(s, known)
		problems = append(problems, faults...)
		if own != nil {
			put[s.Key] = own
		}
	}
	if len(d.DeleteNodes) > 0 {
		problems = append(problems, next.bereave(known, put)...)
	}
	next.services = merge(t.services, put, (*Service).key, ServiceKey.Compare)
	return next, errors.Join(problems...)
}

func (t *Table) updateNodes(before []*Node, d Delta) (problems []error) {
	put := make(map[string]*Node, len(d.PutNodes)+len(d.DeleteNodes))
	for _, name := range d.DeleteNodes {
		if name == t.self {
			problems = append(problems, fmt.Errorf("node %q: this node cannot go", name))
			continue
		}
		put[name] = nil
	}
	for _, n := range d.PutNodes {
		n.Addrs = slices.Clone(n.Addrs)
		if n.Name == t.self {
			t.selfAddrs = n.Addrs
		} else {
			put[n.Name] = &n
		}
	}
	t.nodes = merge(before, put, (*Node).key, cmp.Compare[string])
	return problems
}

// bereave adds to put the services, without those there already, that have
// backends on nodes that are gone: without these.
func (t *Table) bereave(known func(node string) bool, put map[ServiceKey]*Service) (problems []error) {
	orphan := func(b Backend) bool { return !known(b.Node) }
	for _, s := range t.services {
		if _, changed := put[s.Key]; changed || !slices.ContainsFunc(s.Backends, orphan) {
			continue
		}
		left, faults := ownService(*s, known)
		problems = append(problems, faults...)
		put[s.Key] = left
	}
	return problems
}

// merge returns a sorted list with what is put, nil for what is gone. It is the
// list itself where nothing is.
func merge[T any, K comparable](list []*T, put map[K]*T, key func(*T) K, compare func(K, K) int) []*T {
	if len(put) == 0 {
		return list
	}
	merged := make([]*T, 0, len(list)+len(put))
	for _, k := range slices.SortedFunc(maps.Keys(put), compare) {
		i, found := slices.BinarySearchFunc(list, k, func(v *T, k K) int { return compare(key(v), k) })
		merged = append(merged, list[:i]...)
		if list = list[i:]; found {
			list = list[1:]
		}
		if v := put[k]; v != nil {
			merged = append(merged, v)
		}
	}
	return append(merged, list...)
}
