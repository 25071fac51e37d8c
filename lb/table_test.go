// SPDX-License-Identifier: Apache-2.0

package lb

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var compareAddrs = cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{})

func key(vip string, port uint16) ServiceKey {
	return ServiceKey{VIP: netip.MustParseAddr(vip), Port: port, Proto: TCP}
}

func backend(addr, node string) Backend {
	return Backend{Addr: netip.MustParseAddrPort(addr), Node: node, Weight: 1}
}

func node(name string, addrs ...string) Node {
	n := Node{Name: name}
	for _, a := range addrs {
		n.Addrs = append(n.Addrs, netip.MustParseAddr(a))
	}
	return n
}

func web(backends ...Backend) Service {
	return Service{Key: key("192.0.2.1", 80), Name: "web", TableSize: 251, Backends: backends}
}

func left(s Service) Service {
	s.Left = true
	return s
}

func mustTable(t testing.TB, nodes []Node, services ...Service) *Table {
	t.Helper()
	table, err := NewTable("a", nodes, services)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func values[T any](list []*T) []T {
	var out []T
	for _, p := range list {
		out = append(out, *p)
	}
	return out
}

// collision finds two backends with one wire id.
func collision() (Backend, Backend) {
	seen := map[WireID]netip.AddrPort{}
	for i := uint32(0); ; i++ {
		addr := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		ap := netip.AddrPortFrom(addr, uint16(i*40503))
		if other, ok := seen[WireIDOf(ap)]; ok {
			return Backend{Addr: other, Node: "a", Weight: 1}, Backend{Addr: ap, Node: "a", Weight: 1}
		}
		seen[WireIDOf(ap)] = ap
	}
}

func TestNewTableProblems(t *testing.T) {
	nodes := []Node{node("a", "10.9.0.1"), node("b", "10.9.0.2")}
	c1, c2 := collision()
	if c2.Addr.Compare(c1.Addr) < 0 {
		c1, c2 = c2, c1
	}
	light := backend("10.0.0.1:80", "a")
	light.Weight = 0
	other := web(backend("10.0.0.1:80", "b"))
	other.Key.Port = 81
	const web80 = "service tcp/192.0.2.1:80: "
	tests := []struct {
		name     string
		nodes    []Node
		services []Service
		want     []string
	}{
		{"no nodes", nil, nil, []string{`node "a": this node is not among the nodes`}},
		{"self is missing", nodes[1:], nil, []string{`node "a": this node is not among the nodes`}},
		{"node twice", append(nodes, nodes[1]), nil, []string{`node "b": listed twice`}},
		{"self twice", append(nodes, nodes[0]), nil, []string{`node "a": listed twice`}},
		{"service twice", nodes, []Service{web(), web()}, []string{web80 + "listed twice"}},
		{"backend twice", nodes, []Service{web(backend("10.0.0.1:80", "a"), backend("10.0.0.1:80", "a"))},
			[]string{web80 + "backend 10.0.0.1:80: listed twice"}},
		{"same wire id", nodes, []Service{web(c2, c1)},
			[]string{fmt.Sprintf(web80+"backend %s: has the same wire id as %s", c2.Addr, c1.Addr)}},
		{"weight 0", nodes, []Service{web(light)}, []string{web80 + "backend 10.0.0.1:80: weight 0: want 1 at least"}},
		{"unknown node", nodes, []Service{web(backend("10.0.0.1:80", "c"))},
			[]string{web80 + `backend 10.0.0.1:80: unknown node "c"`}},
		{"v6 backend of a v4 VIP", nodes, []Service{web(backend("[fd00::1]:80", "a"))},
			[]string{web80 + "backend [fd00::1]:80: not of the VIP's address family"}},
		{"mapped backend", nodes, []Service{web(backend("[::ffff:10.0.0.1]:80", "a"))},
			[]string{web80 + "backend [::ffff:10.0.0.1]:80: not of the VIP's address family"}},
		{"mapped VIP", nodes, []Service{{Key: key("::ffff:192.0.2.1", 80)}},
			[]string{`service tcp/[::ffff:192.0.2.1]:80: VIP "::ffff:192.0.2.1": want an IPv6 or an unmapped IPv4 address`}},
		{"no VIP", nodes, []Service{{Key: ServiceKey{Port: 80, Proto: TCP}}},
			[]string{`service tcp/invalid AddrPort: VIP "invalid IP": want an IPv6 or an unmapped IPv4 address`}},
		{"backend of a service that is left", nodes, []Service{left(web(backend("10.0.0.1:80", "a")))},
			[]string{web80 + "left to kube-proxy, but has 1 backends"}},
		{"two nodes for one backend", nodes, []Service{web(backend("10.0.0.1:80", "a")), other},
			[]string{`service tcp/192.0.2.1:81: backend 10.0.0.1:80: on node "b" here, on node "a" elsewhere`}},
		{"all of them", nodes[1:], []Service{web(light, backend("[fd00::1]:80", "c"))}, []string{
			`node "a": this node is not among the nodes`,
			web80 + "backend 10.0.0.1:80: weight 0: want 1 at least",
			web80 + `backend 10.0.0.1:80: unknown node "a"`,
			web80 + `backend [fd00::1]:80: unknown node "c"`,
			web80 + "backend [fd00::1]:80: not of the VIP's address family",
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			table, err := NewTable("a", tt.nodes, tt.services)
			if table != nil || err == nil {
				t.Fatalf("NewTable = %v, %v; want only an error", table, err)
			}
			if diff := cmp.Diff(tt.want, strings.Split(err.Error(), "\n")); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNewTableSortsCopiesAndKeepsSelfApart(t *testing.T) {
	nodes := []Node{node("c", "10.9.0.3"), node("a", "10.9.0.1", "fd00::1"), node("b", "10.9.0.2")}
	s1 := web(backend("10.0.0.2:80", "b"), backend("10.0.0.1:80", "a"))
	s1.SourceRanges = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	s2 := Service{Key: key("192.0.2.1", 79)}
	table := mustTable(t, nodes, s1, s2)

	s1.Backends[0].Weight = 9
	s1.SourceRanges[0] = netip.Prefix{}
	nodes[0].Addrs[0] = netip.Addr{}
	nodes[1].Addrs[0] = netip.Addr{}

	want := web(backend("10.0.0.1:80", "a"), backend("10.0.0.2:80", "b"))
	want.SourceRanges = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	if diff := cmp.Diff([]Service{s2, want}, values(table.Services()), compareAddrs); diff != "" {
		t.Errorf("services (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]Node{node("b", "10.9.0.2"), node("c", "10.9.0.3")}, values(table.Nodes()), compareAddrs); diff != "" {
		t.Errorf("nodes (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(node("a", "10.9.0.1", "fd00::1").Addrs, table.SelfAddrs(), compareAddrs); table.Self() != "a" || diff != "" {
		t.Errorf("self %q (-want +got):\n%s", table.Self(), diff)
	}
}

func TestDiff(t *testing.T) {
	nodes := []Node{node("a", "10.9.0.1"), node("b", "10.9.0.2"), node("c", "10.9.0.3")}
	moved := []Node{nodes[0], node("b", "10.9.9.9"), nodes[2]}
	svc := func(port uint16, change ...func(*Service)) Service {
		s := web(backend("10.0.0.1:80", "a"), backend("10.0.0.2:80", "a"))
		s.Key.Port = port
		for _, f := range change {
			f(&s)
		}
		return s
	}
	changed := func(f func(*Service)) (from, to []Service, want Delta) {
		return []Service{svc(1), svc(2), svc(3)}, []Service{svc(1), svc(2, f), svc(3)}, Delta{PutServices: []Service{svc(2, f)}}
	}
	type row struct {
		name               string
		fromNodes, toNodes []Node
		from, to           []Service
		want               Delta
	}
	rows := []row{
		{"empty to empty", nodes[:1], nodes[:1], nil, nil, Delta{}},
		{"equal", nodes, nodes, []Service{svc(1), svc(2)}, []Service{svc(2), svc(1)}, Delta{}},
		{"everything new", nodes[:1], nodes, nil, []Service{svc(1), svc(2)}, Delta{PutNodes: nodes[1:], PutServices: []Service{svc(1), svc(2)}}},
		{"everything gone", nodes, nodes[:1], []Service{svc(1), svc(2)}, nil,
			Delta{DeleteNodes: []string{"b", "c"}, DeleteServices: []ServiceKey{svc(1).Key, svc(2).Key}}},
		{"first gone", nodes, nodes, []Service{svc(1), svc(2)}, []Service{svc(2)}, Delta{DeleteServices: []ServiceKey{svc(1).Key}}},
		{"last gone", nodes, nodes, []Service{svc(1), svc(2)}, []Service{svc(1)}, Delta{DeleteServices: []ServiceKey{svc(2).Key}}},
		{"first new", nodes, nodes, []Service{svc(2)}, []Service{svc(1), svc(2)}, Delta{PutServices: []Service{svc(1)}}},
		{"last new", nodes, nodes, []Service{svc(1)}, []Service{svc(1), svc(2)}, Delta{PutServices: []Service{svc(2)}}},
		{"replaced", nodes, nodes, []Service{svc(1)}, []Service{svc(2)}, Delta{PutServices: []Service{svc(2)}, DeleteServices: []ServiceKey{svc(1).Key}}},
		{"node moved", nodes, moved, []Service{svc(1)}, []Service{svc(1)}, Delta{PutNodes: moved[1:2]}},
		{"node gone", nodes, nodes[:2], nil, nil, Delta{DeleteNodes: []string{"c"}}},
	}
	for name, f := range map[string]func(*Service){
		"name":            func(s *Service) { s.Name = "other" },
		"policy":          func(s *Service) { s.Policy = Local },
		"affinity":        func(s *Service) { s.Affinity = time.Second },
		"table size":      func(s *Service) { s.TableSize = 509 },
		"no clients":      func(s *Service) { s.SourceRanges = []netip.Prefix{} },
		"source ranges":   func(s *Service) { s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} },
		"no backends":     func(s *Service) { s.Backends = nil },
		"one backend":     func(s *Service) { s.Backends = s.Backends[:1] },
		"weight":          func(s *Service) { s.Backends[1].Weight = 2 },
		"draining":        func(s *Service) { s.Backends[1].Draining = true },
		"backend's node":  func(s *Service) { s.Backends[0].Node, s.Backends[1].Node = "b", "b" },
		"backend's port":  func(s *Service) { s.Backends[1] = backend("10.0.0.2:81", "a") },
		"another backend": func(s *Service) { s.Backends = append(s.Backends, backend("10.0.0.3:80", "a")) },
	} {
		from, to, want := changed(f)
		if name == "backend's node" { // all services must agree
			from, to = from[1:2], to[1:2]
		}
		rows = append(rows, row{name, nodes, nodes, from, to, want})
	}
	for _, tt := range rows {
		t.Run(tt.name, func(t *testing.T) {
			from, to := mustTable(t, tt.fromNodes, tt.from...), mustTable(t, tt.toNodes, tt.to...)
			got := from.Diff(to)
			if diff := cmp.Diff(tt.want, got, compareAddrs); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if empty := reflect.DeepEqual(tt.want, Delta{}); got.Empty() != empty {
				t.Errorf("Empty = %v, want %v", got.Empty(), empty)
			}
		})
	}
}

func TestDiffOfNilIsTheWholeTable(t *testing.T) {
	table := mustTable(t, []Node{node("a", "10.9.0.1"), node("b", "10.9.0.2")}, web(backend("10.0.0.1:80", "b")))
	want := Delta{PutNodes: values(table.Nodes()), PutServices: values(table.Services())}
	if diff := cmp.Diff(want, (*Table)(nil).Diff(table), compareAddrs); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A delta applied to where it came from gives where it leads to.
func TestDiffApplied(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	nodes := []Node{node("a", "10.9.0.1")}
	random := func() *Table {
		var services []Service
		for port := range uint16(12) {
			if rng.IntN(2) == 0 {
				s := web(backend("10.0.0.1:80", "a"))
				s.Key.Port, s.Backends[0].Weight = port, uint16(1+rng.IntN(2))
				services = append(services, s)
			}
		}
		return mustTable(t, nodes, services...)
	}
	for range 200 {
		from, to := random(), random()
		state := map[ServiceKey]Service{}
		for _, s := range from.Services() {
			state[s.Key] = *s
		}
		delta := from.Diff(to)
		for _, k := range delta.DeleteServices {
			delete(state, k)
		}
		for _, s := range delta.PutServices {
			state[s.Key] = s
		}
		want := map[ServiceKey]Service{}
		for _, s := range to.Services() {
			want[s.Key] = *s
		}
		if diff := cmp.Diff(want, state, compareAddrs); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	}
}

// equal must look at every field: one that is added and forgotten there would
// never reach the datapath.
func TestEqualKnowsEveryField(t *testing.T) {
	for name, want := range map[string]int{"Service": 8, "Node": 2} {
		got := map[string]int{"Service": reflect.TypeFor[Service]().NumField(), "Node": reflect.TypeFor[Node]().NumField()}[name]
		if got != want {
			t.Errorf("%s has %d fields, equal compares %d", name, got, want)
		}
	}
}
