// SPDX-License-Identifier: Apache-2.0

package l2

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/fairlead/fairlead/announce/l2/ether"
)

// networks are what is left of an interface's addresses.
func networks(i Interface) Interface {
	i.Index, i.Addrs = 0, slices.Clone(i.Addrs)
	for n, p := range i.Addrs {
		i.Addrs[n] = p.Masked()
	}
	return i
}

var factsOptions = cmp.Options{cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmpopts.EquateEmpty()}

func TestFacts(t *testing.T) {
	down := eth1
	down.Running = false
	down.Addrs = []netip.Prefix{netip.MustParsePrefix("10.0.0.1/0"), netip.MustParsePrefix("2001:db8::1/128"), netip.MustParsePrefix("10.255.1.2/23")}
	long := eth0
	long.Name = "fifteen-letters"
	for _, f := range []Facts{
		{},
		{Ready: true},
		{Ready: true, Interfaces: []Interface{eth0}},
		{Interfaces: []Interface{long, down, eth1}},
	} {
		b, err := f.Append([]byte("x"), 512)
		must(t, err)
		got, err := ParseFacts(b[1:])
		must(t, err)
		want := Facts{Ready: f.Ready}
		for _, i := range f.Interfaces {
			want.Interfaces = append(want.Interfaces, networks(i))
		}
		if diff := cmp.Diff(want, got, factsOptions); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", f, diff)
		}
	}
}

// The size is that of the example, and what does not fit is left out whole.
func TestFactsSize(t *testing.T) {
	f := Facts{Ready: true}
	for range 20 {
		f.Interfaces = append(f.Interfaces, eth0)
	}
	const each = 1 + 4 + 6 + 1 + (2 + 3) + (2 + 8)
	for fit := range 21 {
		b, err := f.Append(nil, 2+fit*each)
		if (err == nil) != (fit == 20) || err != nil && !errors.Is(err, ErrFactsSize) {
			t.Errorf("room for %d: error %v", fit, err)
		}
		if got, err := ParseFacts(b); err != nil || len(got.Interfaces) != fit {
			t.Errorf("room for %d: %d interfaces, %v", fit, len(got.Interfaces), err)
		}
	}
}

func TestAble(t *testing.T) {
	down := eth1
	down.Running = false
	all := []Answer{{VIP: vip4}, {VIP: vip6, Interfaces: []string{"eth*"}}}
	far := netip.MustParseAddr("198.51.100.1")
	for _, tt := range []struct {
		name       string
		ready      bool
		interfaces []Interface
		answer     Answer
		want       bool
	}{
		{"network", true, []Interface{eth0}, Answer{VIP: vip4}, true},
		{"stuck", false, []Interface{eth0}, Answer{VIP: vip4}, false},
		{"another network", true, []Interface{eth0}, Answer{VIP: far}, false},
		{"by name", true, []Interface{eth1}, Answer{VIP: far, Interfaces: []string{"eth1"}}, true},
		{"no link", true, []Interface{eth0, down}, Answer{VIP: far, Interfaces: []string{"eth1"}}, false},
		{"nothing", true, nil, Answer{VIP: vip4}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			here := FactsOf(tt.ready, tt.interfaces, all)
			b, err := here.Append(nil, 512)
			must(t, err)
			there, err := ParseFacts(b)
			must(t, err)
			if here.Able(tt.answer) != tt.want || there.Able(tt.answer) != tt.want {
				t.Errorf("able: here %t, there %t, want %t", here.Able(tt.answer), there.Able(tt.answer), tt.want)
			}
		})
	}
	f := FactsOf(true, []Interface{eth0, eth1}, all[:1])
	if got := f.MACs(); !slices.Equal(got, []ether.MAC{eth0.MAC}) {
		t.Errorf("told of %v, want only what an answer is for", got)
	}
}

func FuzzFacts(f *testing.F) {
	facts := Facts{Ready: true, Interfaces: []Interface{eth0, eth1}}
	whole, err := facts.Append(nil, 512)
	must(f, err)
	for cut := range whole {
		f.Add(whole[:cut])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		facts, err := ParseFacts(b)
		if err != nil {
			return
		}
		again, err := facts.Append(nil, 1<<20)
		must(t, err)
		parsed, err := ParseFacts(again)
		must(t, err)
		if diff := cmp.Diff(networksOf(facts.Interfaces), parsed.Interfaces, factsOptions); diff != "" || parsed.Ready != facts.Ready {
			t.Fatalf("parsed %+v, want %+v", parsed, facts)
		}
	})
}

func networksOf(interfaces []Interface) (all []Interface) {
	for _, i := range interfaces {
		all = append(all, networks(i))
	}
	return all
}
