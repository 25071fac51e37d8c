// SPDX-License-Identifier: Apache-2.0

package lb

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func webAt(port uint16, backends ...Backend) Service {
	s := web(backends...)
	s.Key.Port = port
	return s
}

func sameTable(t *testing.T, want, got *Table) {
	t.Helper()
	content := func(t *Table) []any { return []any{t.self, t.selfAddrs, values(t.nodes), values(t.services)} }
	if diff := cmp.Diff(content(want), content(got), compareAddrs); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
}

// randomServices are some of a dozen. A backend's number says its node.
func randomServices(rng *rand.Rand, nodes []Node) []Service {
	var services []Service
	for port := range uint16(12) {
		if rng.IntN(2) == 0 {
			continue
		}
		s := webAt(port)
		for i := range 4 {
			if rng.IntN(2) == 0 {
				b := backend(fmt.Sprintf("10.0.0.%d:80", i), nodes[i%len(nodes)].Name)
				b.Weight, b.Draining = uint16(1+rng.IntN(2)), rng.IntN(3) == 0
				s.Backends = append(s.Backends, b)
			}
		}
		if rng.IntN(3) == 0 {
			s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
		}
		services = append(services, s)
	}
	rng.Shuffle(len(services), func(i, j int) { services[i], services[j] = services[j], services[i] })
	return services
}

// A chain of updates leads where a new table of the same would be.
func TestUpdateEqualsNewTable(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	all := []Node{node("a", "10.9.0.1"), node("b", "10.9.0.2"), node("c", "10.9.0.3"), node("d", "10.9.0.4")}
	chained := mustTable(t, all[:1])
	for range 500 {
		nodes := append([]Node{all[0]}, all[1:1+rng.IntN(4)]...)
		if rng.IntN(4) == 0 {
			nodes[len(nodes)-1] = node(nodes[len(nodes)-1].Name, fmt.Sprintf("10.9.1.%d", rng.IntN(3)))
		}
		want := mustTable(t, nodes, randomServices(rng, nodes)...)
		delta := chained.Diff(want)
		delta.PutNodes = append(delta.PutNodes, nodes[0]) // Diff leaves self to itself
		next, err := chained.Update(delta)
		if err != nil {
			t.Fatal(err)
		}
		sameTable(t, want, next)
		if again := chained.Diff(next); !cmp.Equal(chained.Diff(want), again, compareAddrs) {
			t.Fatalf("Diff to the derived table %+v", again)
		}
		chained = next
	}
}

func TestUpdateSharesWhatItDoesNotChange(t *testing.T) {
	nodes := []Node{node("a", "10.9.0.1"), node("b", "10.9.0.2")}
	before := mustTable(t, nodes, webAt(1), webAt(2, backend("10.0.0.1:80", "b")), webAt(3))
	put := webAt(2, backend("10.0.0.2:80", "b"), backend("10.0.0.1:80", "b"))
	after, err := before.Update(Delta{PutServices: []Service{put}, DeleteServices: []ServiceKey{key("192.0.2.1", 1)}})
	if err != nil {
		t.Fatal(err)
	}
	put.Backends[0].Weight = 9 // the table has its own
	sameTable(t, mustTable(t, nodes, webAt(1), webAt(2, backend("10.0.0.1:80", "b")), webAt(3)), before)
	sameTable(t, mustTable(t, nodes, webAt(2, backend("10.0.0.1:80", "b"), backend("10.0.0.2:80", "b")), webAt(3)), after)
	if after.Service(key("192.0.2.1", 3)) != before.Service(key("192.0.2.1", 3)) || after.Node("b") != before.Node("b") {
		t.Error("what did not change was copied")
	}
	same, err := after.Update(Delta{})
	if err != nil || &same.services[0] != &after.services[0] {
		t.Errorf("an empty delta copies the list; error %v", err)
	}
}

func TestUpdateProblems(t *testing.T) {
	nodes := []Node{node("a", "10.9.0.1"), node("b", "10.9.0.2")}
	c1, c2 := collision()
	if c2.Addr.Compare(c1.Addr) < 0 {
		c1, c2 = c2, c1
	}
	light := backend("10.0.0.3:80", "a")
	light.Weight = 0
	good := backend("10.0.0.1:80", "a")
	gone := backend("10.0.0.2:80", "b")
	mapped := Service{Key: key("::ffff:192.0.2.1", 80)}
	const web1 = "service tcp/192.0.2.1:1: "
	tests := []struct {
		name   string
		delta  Delta
		want   []Service
		errors []string
	}{
		{"one bad service does not refuse the others", Delta{PutServices: []Service{mapped, webAt(3, good)}},
			[]Service{webAt(1, good, gone), webAt(3, good)},
			[]string{`service tcp/[::ffff:192.0.2.1]:80: VIP "::ffff:192.0.2.1": want an IPv6 or an unmapped IPv4 address`}},
		{"one bad backend does not refuse the service", Delta{PutServices: []Service{webAt(1, light, good)}},
			[]Service{webAt(1, good)}, []string{web1 + "backend 10.0.0.3:80: weight 0: want 1 at least"}},
		{"of two with one wire id the first stays", Delta{PutServices: []Service{webAt(1, c2, c1)}},
			[]Service{webAt(1, c1)}, []string{fmt.Sprintf(web1+"backend %s: has the same wire id as %s", c2.Addr, c1.Addr)}},
		{"twice", Delta{PutServices: []Service{webAt(1, good, good)}},
			[]Service{webAt(1, good)}, []string{web1 + "backend 10.0.0.1:80: listed twice"}},
		{"unknown node", Delta{PutServices: []Service{webAt(1, good, backend("10.0.0.2:80", "c"))}},
			[]Service{webAt(1, good)}, []string{web1 + `backend 10.0.0.2:80: unknown node "c"`}},
		{"a node takes its backends along", Delta{DeleteNodes: []string{"b"}},
			[]Service{webAt(1, good)}, []string{web1 + `backend 10.0.0.2:80: unknown node "b"`}},
		{"a node goes after its backends", Delta{DeleteNodes: []string{"b"}, PutServices: []Service{webAt(1, good)}},
			[]Service{webAt(1, good)}, nil},
		{"a node goes and returns", Delta{DeleteNodes: []string{"b"}, PutNodes: nodes[1:]}, []Service{webAt(1, good, gone)}, nil},
		{"self cannot go", Delta{DeleteNodes: []string{"a"}}, []Service{webAt(1, good, gone)}, []string{`node "a": this node cannot go`}},
		{"services disagree", Delta{PutServices: []Service{webAt(2, backend("10.0.0.2:80", "a"))}},
			[]Service{webAt(1, good, gone), webAt(2, backend("10.0.0.2:80", "a"))}, nil},
		{"put twice and deleted", Delta{DeleteServices: []ServiceKey{key("192.0.2.1", 1), key("192.0.2.1", 9)},
			PutServices: []Service{webAt(1, good), webAt(1)}}, []Service{webAt(1)}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			after, err := mustTable(t, nodes, webAt(1, good, gone)).Update(tt.delta)
			var got []string
			if err != nil {
				got = strings.Split(err.Error(), "\n")
			}
			if diff := cmp.Diff(tt.errors, got); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
			if len(tt.errors) > 0 && strings.HasPrefix(tt.errors[0], web1) {
				var about *ServiceError
				if !errors.As(err, &about) || about.Key != key("192.0.2.1", 1) {
					t.Errorf("%v is no *ServiceError about %s", err, web1)
				}
			}
			if diff := cmp.Diff(tt.want, values(after.Services()), compareAddrs); diff != "" {
				t.Errorf("services (-want +got):\n%s", diff)
			}
		})
	}
}
