// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/big"
	"net/netip"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
)

// Pool is an IPAddressPool, read.
type Pool struct {
	Name    string
	Created time.Time
	// Ranges are sorted and disjoint. Where two pools overlap, the older one
	// has what is in both; Allocate sees to that.
	Ranges []Range
	// AutoAssign lets Services have an address that do not ask for the pool.
	AutoAssign bool
	AvoidBuggy bool
	// Drain gives out no more addresses.
	Drain bool
	// Priority ranks pools: lower goes first, 0 last.
	Priority int
	// Restricted says that the pool has a serviceAllocation with selectors.
	Restricted bool

	networks   []netip.Prefix // IPv6 prefixes as written: their first addresses are buggy
	namespaces []string       // by name
	byLabel    []labels.Selector
	inSome     bool // namespaces or namespace selectors are given
	services   []labels.Selector
	forSome    bool // Service selectors are given
}

// NewPool reads an IPAddressPool. With an error, which joins all that is wrong,
// it returns the pool without what is wrong, for what Services have of it they
// are to keep.
func NewPool(p *v1beta1.IPAddressPool) (*Pool, error) {
	pool := &Pool{
		Name: p.Name, Created: p.CreationTimestamp.Time,
		AutoAssign: p.Spec.AutoAssign == nil || *p.Spec.AutoAssign,
		AvoidBuggy: p.Spec.AvoidBuggyIPs,
		Drain:      p.Spec.Drain,
	}
	var problems []error
	for i, s := range p.Spec.Addresses {
		r, err := ParseRange(s)
		if err != nil {
			problems = append(problems, fmt.Errorf("spec.addresses[%d]: %q: %w", i, s, err))
			continue
		}
		if prefix, err := netip.ParsePrefix(s); err == nil && prefix.Addr().Is6() && prefix.Bits() < 127 {
			// RFC 6164: a /127 between routers has no such address, nor has a /128.
			pool.networks = append(pool.networks, prefix.Masked())
		}
		free := subtract(r, pool.Ranges)
		if len(free) != 1 || free[0] != r {
			problems = append(problems, fmt.Errorf("spec.addresses[%d]: %q: overlaps another entry", i, s))
		}
		pool.Ranges = append(pool.Ranges, free...)
		sortRanges(pool.Ranges)
	}
	if a := p.Spec.AllocateTo; a != nil {
		problems = append(problems, pool.allocateTo(a)...)
	}
	return pool, errors.Join(problems...)
}

func (p *Pool) allocateTo(a *v1beta1.ServiceAllocation) []error {
	const field = "spec.serviceAllocation."
	p.Priority, p.namespaces = a.Priority, a.Namespaces
	p.inSome = len(a.Namespaces)+len(a.NamespaceSelectors) > 0
	p.forSome = len(a.ServiceSelectors) > 0
	p.Restricted = p.inSome || p.forSome
	var problems []error
	p.byLabel, problems = selectors(field+"namespaceSelectors", a.NamespaceSelectors)
	var more []error
	p.services, more = selectors(field+"serviceSelectors", a.ServiceSelectors)
	return append(problems, more...)
}

func selectors(field string, from []metav1.LabelSelector) (read []labels.Selector, problems []error) {
	for i := range from {
		s, err := metav1.LabelSelectorAsSelector(&from[i])
		if err != nil {
			problems = append(problems, fmt.Errorf("%s[%d]: %w", field, i, err))
			continue
		}
		read = append(read, s)
	}
	return read, problems
}

// isFor says whether a Service may be given addresses of the pool. Selectors
// that match no namespace match no Service.
func (p *Pool) isFor(s *Service, namespaces map[string]labels.Set) bool {
	matches := func(set labels.Set) func(labels.Selector) bool {
		return func(selector labels.Selector) bool { return selector.Matches(set) }
	}
	if p.inSome && !slices.Contains(p.namespaces, s.Namespace) {
		of, known := namespaces[s.Namespace]
		if !known || !slices.ContainsFunc(p.byLabel, matches(of)) {
			return false
		}
	}
	return !p.forSome || slices.ContainsFunc(p.services, matches(s.Labels))
}

// avoids says whether an address is not to be given to who does not ask for it.
func (p *Pool) avoids(a netip.Addr) bool {
	return p.AvoidBuggy && (buggy(a) ||
		slices.ContainsFunc(p.networks, func(n netip.Prefix) bool { return n.Addr() == a }))
}

// available is the number of addresses of a range that are not avoided.
func (p *Pool) available(r Range) *big.Int {
	n := r.size()
	if !p.AvoidBuggy {
		return n
	}
	n.Sub(n, buggyIn(r))
	for i, network := range p.networks {
		a := network.Addr()
		twice := slices.ContainsFunc(p.networks[:i], func(o netip.Prefix) bool { return o.Addr() == a })
		if r.Contains(a) && !buggy(a) && !twice {
			n.Sub(n, big.NewInt(1))
		}
	}
	return n
}

// older orders pools by age, and by name where that is equal.
func older(a, b *Pool) int {
	return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.Name, b.Name))
}

// ranked orders the pools that are for a Service: by priority, then those that
// are not for all Services, then by name.
func ranked(a, b *Pool) int {
	priority := func(p *Pool) int {
		if p.Priority == 0 {
			return math.MaxInt
		}
		return p.Priority
	}
	return cmp.Or(cmp.Compare(priority(a), priority(b)), btoi(b.Restricted)-btoi(a.Restricted), strings.Compare(a.Name, b.Name))
}
