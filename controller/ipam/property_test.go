// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
)

// FuzzAllocate edits a small world at random, and checks after each edit all
// that an allocation promises.
func FuzzAllocate(f *testing.F) {
	for seed := range uint64(300) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		s := &story{world: newWorld(), Rand: rand.New(rand.NewPCG(seed, 1))}
		s.twoPools = s.IntN(3) == 0
		for range 60 {
			s.edit()
			s.check(t)
			if t.Failed() {
				t.Fatalf("seed %d:\n%s", seed, strings.Join(s.log, "\n"))
			}
		}
	})
}

type story struct {
	*world
	*rand.Rand
	log    []string
	edited string // the Service that the last edit was about
	before Result
}

var (
	storyNames  = []string{"a", "b", "c", "d", "e", "f", "g", "h"}
	storyPools  = []string{"p", "q", "r"}
	storyRanges = []string{
		"192.0.2.0/30", "192.0.2.2-192.0.2.6", "192.0.2.254-192.0.3.1", "2001:db8::/126", "2001:db8::2-2001:db8::5", "192.0.2.4/32", "2001:db8::/64",
	}
	storyAddrs = []string{"192.0.2.1", "192.0.2.3", "192.0.2.255", "2001:db8::1", "198.51.100.1", "nonsense", "192.0.2.3,2001:db8::3"}
)

func pickOf[T any](r *rand.Rand, of []T) T { return of[r.IntN(len(of))] }

// edit changes one thing.
func (s *story) edit() {
	s.edited = ""
	name := pickOf(s.Rand, storyNames)
	switch n := s.IntN(20); {
	case n < 3:
		s.log = append(s.log, "remove "+name)
		s.remove(name)
	case n < 12:
		s.edited = "default/" + name
		s.editService(name)
	case n < 14:
		pool := pickOf(s.Rand, storyPools)
		s.log = append(s.log, "delete pool "+pool)
		delete(s.pools, pool)
	case n < 18:
		s.editPool(pickOf(s.Rand, storyPools))
	case n < 19:
		s.now = s.now.Add(time.Duration(s.IntN(40)) * time.Second)
		s.log = append(s.log, fmt.Sprint("time is ", s.now))
	default:
		s.namespaces["default"] = labels.Set{"team": pickOf(s.Rand, []string{"x", "y"})}
	}
}

func (s *story) editService(name string) {
	if s.services["default/"+name] == nil {
		s.service(name)
	}
	s.service(name, pickOf(s.Rand, []func(*corev1.Service){
		func(*corev1.Service) {},
		func(*corev1.Service) {},
		ips(pickOf(s.Rand, storyAddrs)), ips(""), specIP(pickOf(s.Rand, storyAddrs)), specIP(""),
		fromPool(pickOf(s.Rand, storyPools)), fromPool(""),
		key(pickOf(s.Rand, []string{"k", "l"})), key("k"), key(""),
		ports(80), ports(443), ports(80, 443), udp, local("x"), local("y"),
		func(o *corev1.Service) { o.Spec.ExternalTrafficPolicy = "" },
		dual(prefer, v4, v6), dual(require, v6, v4), dual(prefer, v4), dual(corev1.IPFamilyPolicySingleStack, v6),
		labelled("app", pickOf(s.Rand, []string{"x", "y"})),
	}))
	o := s.services["default/"+name]
	r := NewService(o)
	s.log = append(s.log, fmt.Sprintf("service %s: %v %v %v required %t %q %+v", name, o.Labels, r.ports, r.Families, r.Required, r.backend, r.Request))
}

func (s *story) editPool(name string) {
	var ranges []string
	for range 1 + s.IntN(2) {
		ranges = append(ranges, pickOf(s.Rand, storyRanges))
	}
	s.pool(name, strings.Join(ranges, " "), pickOf(s.Rand, []func(*v1beta1.IPAddressPool){
		func(p *v1beta1.IPAddressPool) { p.Spec = v1beta1.IPAddressPoolSpec{Addresses: p.Spec.Addresses} },
		manual, drain, avoiding,
		allocate(v1beta1.ServiceAllocation{Priority: s.IntN(3)}),
		allocate(v1beta1.ServiceAllocation{NamespaceSelectors: byLabel("team", "x")}),
		allocate(v1beta1.ServiceAllocation{ServiceSelectors: byLabel("app", "x")}),
	}))
	s.log = append(s.log, fmt.Sprintf("pool %s: %+v", name, s.pools[name].Spec))
}

func (s *story) check(t *testing.T) {
	st := s.state()
	r := Allocate(st)
	s.checkOrder(t, st, r)
	s.checkUnique(t, st, r)
	for _, o := range st.Services {
		s.checkStable(t, st, o, r)
		s.checkNew(t, st, o, r)
	}
	s.checkCounts(t, st, r)
	s.apply(st, r)
	s.before = r
	for _, o := range st.Services {
		s.log = append(s.log, fmt.Sprintf("    %s: %s", o.Name, r.Assignments[o.UID].Message))
	}

	// Nothing changes without a change, except that withdrawn claims free addresses.
	again := Allocate(s.state())
	for uid, a := range again.Assignments {
		if was := r.Assignments[uid]; was.Complete && !reflect.DeepEqual(a.Addrs, was.Addrs) && len(a.Addrs) <= len(was.Addrs) {
			t.Errorf("%s: %v became %v without a change", uid, was.Addrs, a.Addrs)
		}
	}
}

// checkOrder: the order of lists says nothing.
func (s *story) checkOrder(t *testing.T, st *State, r Result) {
	other := *st
	other.Services, other.Pools = slices.Clone(st.Services), slices.Clone(st.Pools)
	other.Claims, other.Freed = slices.Clone(st.Claims), slices.Clone(st.Freed)
	s.Shuffle(len(other.Services), func(i, j int) { other.Services[i], other.Services[j] = other.Services[j], other.Services[i] })
	s.Shuffle(len(other.Pools), func(i, j int) { other.Pools[i], other.Pools[j] = other.Pools[j], other.Pools[i] })
	s.Shuffle(len(other.Claims), func(i, j int) { other.Claims[i], other.Claims[j] = other.Claims[j], other.Claims[i] })
	s.Shuffle(len(other.Freed), func(i, j int) { other.Freed[i], other.Freed[j] = other.Freed[j], other.Freed[i] })
	if q := Allocate(&other); !reflect.DeepEqual(r, q) {
		t.Errorf("order matters:\n%+v\n%+v", r, q)
	}
}

// checkUnique: no two Services have one address, unless both may share it, and
// none has what another one has a claim on.
func (s *story) checkUnique(t *testing.T, st *State, r Result) {
	for i, o := range st.Services {
		for _, p := range st.Services[:i] {
			for _, a := range r.Assignments[o.UID].Addrs {
				if slices.Contains(r.Assignments[p.UID].Addrs, a) && canShare(o, p) != nil {
					t.Errorf("%s and %s both have %s: %v", o.Name, p.Name, a, canShare(o, p))
				}
			}
		}
	}
	for _, o := range st.Services {
		for _, a := range r.Assignments[o.UID].Addrs {
			if claims(st, a, o.UID) {
				continue
			}
			for _, c := range st.Claims {
				if c.Addr == a && !slices.Contains(r.Assignments[c.UID].Addrs, a) {
					t.Errorf("%s gets %s, which %s still has a claim on", o.Name, a, c.UID)
				}
			}
		}
	}
}

func claims(st *State, a netip.Addr, uid string) bool {
	return slices.ContainsFunc(st.Claims, func(c Claim) bool { return c.Addr == a && c.UID == uid })
}

func inRanges(ranges []Range, a netip.Addr) bool {
	return slices.ContainsFunc(ranges, func(r Range) bool { return r.Contains(a) })
}

// poolFor is the oldest pool that has the address.
func poolFor(st *State, a netip.Addr) *Pool {
	for _, p := range slices.SortedFunc(slices.Values(st.Pools), older) {
		if inRanges(p.Ranges, a) {
			return p
		}
	}
	return nil
}

// checkStable: who had all that it asked for and was not edited keeps what a
// pool still has.
func (s *story) checkStable(t *testing.T, st *State, o *Service, r Result) {
	was := s.before.Assignments[o.UID]
	if !was.Complete || o.Name == s.edited {
		return
	}
	for _, a := range was.Addrs {
		p := poolFor(st, a)
		if o.Request.Pool != "" {
			i := slices.IndexFunc(st.Pools, func(p *Pool) bool { return p.Name == o.Request.Pool })
			if i >= 0 && !inRanges(st.Pools[i].Ranges, a) {
				continue // taken out of the pool that it asks for
			}
		}
		if p != nil && !slices.Contains(r.Assignments[o.UID].Addrs, a) {
			t.Errorf("%s lost %s, which pool %s has: now %+v", o.Name, a, p.Name, r.Assignments[o.UID])
		}
	}
}

// checkNew: a new address is of a pool that may give it to the Service, and
// where there is none, there is really none.
func (s *story) checkNew(t *testing.T, st *State, o *Service, r Result) {
	as := r.Assignments[o.UID]
	for _, a := range as.Addrs {
		p := poolFor(st, a)
		if p == nil {
			t.Errorf("%s has %s of no pool", o.Name, a)
			continue
		}
		if claims(st, a, o.UID) || slices.Contains(o.Status, a) {
			continue
		}
		asked := slices.Contains(o.Request.Addrs, a)
		f, freed := s.freed[a]
		freed = freed && !slices.ContainsFunc(st.Services, func(other *Service) bool { // shared with who had it
			return other.Name == f.By && slices.Contains(r.Assignments[other.UID].Addrs, a)
		})
		switch {
		case p.Drain, !p.isFor(o, st.Namespaces):
			t.Errorf("%s has %s of pool %s, which does not give it", o.Name, a, p.Name)
		case !asked && o.Request.Pool == "" && !p.AutoAssign && len(as.Addrs) == 1:
			t.Errorf("%s has %s of pool %s without autoAssign", o.Name, a, p.Name)
		case o.Request.Pool != "" && o.Request.Pool != p.Name:
			t.Errorf("%s has %s of pool %s, and asks for %s", o.Name, a, p.Name, o.Request.Pool)
		case freed && f.By != o.Name && s.now.Before(f.At.Add(s.delay)):
			t.Errorf("%s has %s, which rests", o.Name, a)
		case !asked && p.AvoidBuggy && a.As16()[15] == 0 && o.Request.Key == "":
			t.Errorf("%s has %s, which pool %s avoids", o.Name, a, p.Name)
		}
	}
	if len(as.Addrs) > 0 || o.Problem != nil || len(o.Request.Addrs) > 0 || o.Required {
		return
	}
	for _, text := range storyRanges {
		ra, _ := ParseRange(text)
		for a, n := ra.From, 0; a.Compare(ra.To) <= 0 && n < 10; a, n = a.Next(), n+1 {
			if p := poolFor(st, a); p != nil && s.couldHave(st, o, p, a, r) {
				t.Errorf("%s has nothing and could have %s: %s", o.Name, a, as.Message)
			}
		}
	}
}

// couldHave says slowly whether an address is free for a Service in the end.
func (s *story) couldHave(st *State, o *Service, p *Pool, a netip.Addr, r Result) bool {
	f, freed := s.freed[a]
	switch {
	case !slices.Contains(o.Families, FamilyOf(a)), p.Drain, !p.isFor(o, st.Namespaces), p.avoids(a),
		o.Request.Pool == "" && !p.AutoAssign, o.Request.Pool != "" && o.Request.Pool != p.Name,
		freed && f.By != o.Name && s.now.Before(f.At.Add(s.delay)),
		slices.ContainsFunc(st.Claims, func(c Claim) bool { return c.Addr == a }):
		return false
	}
	for _, other := range st.Services {
		if slices.Contains(r.Assignments[other.UID].Addrs, a) || slices.Contains(other.Status, a) {
			return false
		}
	}
	return true
}

// checkCounts counts small pools address by address.
func (s *story) checkCounts(t *testing.T, st *State, r Result) {
	held := map[netip.Addr]bool{}
	for _, a := range r.Assignments {
		for _, a := range a.Addrs {
			held[a] = true
		}
	}
	for _, p := range st.Pools {
		var want Counts
		for _, ra := range p.Ranges {
			if n := ra.size(); !n.IsInt64() || n.Int64() > 100 {
				return
			}
			for a := ra.From; a.Compare(ra.To) <= 0; a = a.Next() {
				if poolFor(st, a) != p {
					continue
				}
				assigned, available := &want.AssignedIPv4, &want.AvailableIPv4
				if a.Is6() {
					assigned, available = &want.AssignedIPv6, &want.AvailableIPv6
				}
				f, freed := s.freed[a]
				resting := freed && s.now.Before(f.At.Add(s.delay))
				switch {
				case held[a]:
					*assigned++
				case resting, p.avoids(a), slices.ContainsFunc(st.Claims, func(c Claim) bool { return c.Addr == a }):
				default:
					*available++
				}
			}
		}
		if r.Counts[p.Name] != want {
			t.Errorf("pool %s: %+v, want %+v", p.Name, r.Counts[p.Name], want)
		}
	}
}

// BenchmarkAllocate has 10,000 Services with an address each, and one without.
func BenchmarkAllocate(b *testing.B) {
	for _, n := range []int{100, 1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			w := newWorld()
			w.pool("a", "10.0.0.0/16")
			w.pool("b", "10.1.0.0/16")
			for i := range n {
				w.service(fmt.Sprintf("s%d", i))
			}
			st := w.state()
			w.apply(st, Allocate(st))
			w.service("new")
			st = w.state()
			b.ResetTimer()
			for b.Loop() {
				Allocate(st)
			}
		})
	}
}

// TestMany gives 10,000 Services of one key and port their addresses at once.
func TestMany(t *testing.T) {
	w := newWorld()
	w.pool("a", "10.0.0.0/16 2001:db8::/64")
	for i := range 10000 {
		w.service(fmt.Sprintf("s%d", i), key("k"), dual(require, v4, v6))
	}
	r := Allocate(w.state())
	seen := map[netip.Addr]bool{}
	for _, uid := range slices.Sorted(maps.Keys(r.Assignments)) {
		for _, a := range r.Assignments[uid].Addrs {
			if seen[a] {
				t.Fatalf("%s given twice", a)
			}
			seen[a] = true
		}
	}
	if len(seen) != 20000 {
		t.Errorf("%d addresses, want 20000", len(seen))
	}
}
