// SPDX-License-Identifier: Apache-2.0

package lb

import (
	"cmp"
	"slices"
)

// Delta is what lies between two Tables. As Diff returns it, everything is sorted.
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

// Diff returns what leads from t to next, but for this node's own addresses. A
// nil t is the empty table. What the two share costs one comparison of pointers.
func (t *Table) Diff(next *Table) Delta {
	if t == nil {
		t = &Table{}
	}
	var d Delta
	d.PutNodes, d.DeleteNodes = diff(t.nodes, next.nodes, (*Node).key, cmp.Compare[string], (*Node).equal)
	d.PutServices, d.DeleteServices = diff(t.services, next.services, (*Service).key, ServiceKey.Compare, (*Service).equal)
	return d
}

func (n *Node) key() string { return n.Name }

func (n *Node) equal(o *Node) bool { return n.Name == o.Name && slices.Equal(n.Addrs, o.Addrs) }

func (s *Service) key() ServiceKey { return s.Key }

// equal is reflect.DeepEqual, which a Diff of 10,000 services is too slow with.
func (s *Service) equal(o *Service) bool {
	return s.Key == o.Key && s.Name == o.Name && s.Left == o.Left && s.Policy == o.Policy && s.Affinity == o.Affinity &&
		s.TableSize == o.TableSize && slices.Equal(s.Backends, o.Backends) &&
		(s.SourceRanges == nil) == (o.SourceRanges == nil) && slices.Equal(s.SourceRanges, o.SourceRanges)
}

// diff merges two lists sorted by key.
func diff[T, K any](from, to []*T, key func(*T) K, compare func(K, K) int, equal func(a, b *T) bool) (put []T, gone []K) {
	for len(from) > 0 || len(to) > 0 {
		order := 0
		switch {
		case len(from) == 0:
			order = 1
		case len(to) == 0:
			order = -1
		case from[0] != to[0]:
			order = compare(key(from[0]), key(to[0]))
		}
		switch {
		case order < 0:
			gone = append(gone, key(from[0]))
			from = from[1:]
		case order > 0:
			put = append(put, *to[0])
			to = to[1:]
		default:
			if from[0] != to[0] && !equal(from[0], to[0]) {
				put = append(put, *to[0])
			}
			from, to = from[1:], to[1:]
		}
	}
	return put, gone
}
