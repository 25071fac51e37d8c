// SPDX-License-Identifier: Apache-2.0

package dataplane_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/dataplane"
	"github.com/fairlead/fairlead/lb/dataplane/dataplanetest"
)

var roomy = dataplane.Limits{Nodes: 64, Backends: 4096, Services: 2048, Lines: 1 << 20}

const pastTicks = 100

// world is a datapath with its Dataplane and clock, and node "a" for self.
type world struct {
	testing.TB
	maps *dataplanetest.Maps
	dp   *dataplane.Dataplane
	now  uint32

	adopts bool // dataplane.Options.Adopt
}

func newWorld(t testing.TB, limits dataplane.Limits) *world {
	w := &world{TB: t, maps: dataplanetest.New(limits), now: 1000}
	w.restart()
	return w
}

// restart is a new Dataplane over the same Maps.
func (w *world) restart() {
	w.Helper()
	dp, err := dataplane.New(w.maps, dataplane.Options{PastTicks: pastTicks, Now: func() uint32 { return w.now }, Adopt: w.adopts})
	if err != nil {
		w.Fatal(err)
	}
	w.dp = dp
}

// sync syncs without error and returns the writes.
func (w *world) sync(t *lb.Table) []string {
	w.Helper()
	if err := w.dp.Sync(t); err != nil {
		w.Fatalf("Sync: %v", err)
	}
	w.verify()
	return w.maps.Ops()
}

// verify checks all invariants.
func (w *world) verify() {
	w.Helper()
	for _, p := range w.maps.Problems() {
		w.Fatal(p)
	}
	for _, p := range w.dp.Check() {
		w.Fatal(p)
	}
}

func nodes(addrs ...string) []lb.Node {
	list := []lb.Node{{Name: "a", Addrs: []netip.Addr{netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("fd09::1")}}}
	for i, a := range addrs {
		list = append(list, lb.Node{Name: string(rune('b' + i)), Addrs: []netip.Addr{netip.MustParseAddr(a)}})
	}
	return list
}

var threeNodes = nodes("10.9.0.2", "10.9.0.3")

func table(t testing.TB, nodes []lb.Node, services ...lb.Service) *lb.Table {
	t.Helper()
	tab, err := lb.NewTable("a", nodes, services)
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

// looseTable is a table whose services may disagree on the node of a backend.
func looseTable(t testing.TB, nodes []lb.Node, services ...lb.Service) *lb.Table {
	t.Helper()
	tab, err := table(t, nodes).Update(lb.Delta{PutServices: services})
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

func servicesOf(t *lb.Table) (services []lb.Service) {
	for _, s := range t.Services() {
		services = append(services, *s)
	}
	return services
}

// service is a TCP service on 192.0.2.1 with that port
// and backends like "10.0.0.1@b", with "!" behind for draining. Port 8080.
func service(port uint16, backends ...string) lb.Service {
	s := lb.Service{Key: key(port), Name: fmt.Sprint("service-", port), TableSize: 251}
	for _, text := range backends {
		text, draining := strings.CutSuffix(text, "!")
		addr, node, _ := strings.Cut(text, "@")
		s.Backends = append(s.Backends, lb.Backend{
			Addr: netip.AddrPortFrom(netip.MustParseAddr(addr), 8080), Node: node, Weight: 1, Draining: draining,
		})
	}
	return s
}

func key(port uint16) lb.ServiceKey {
	return lb.ServiceKey{VIP: netip.MustParseAddr("192.0.2.1"), Port: port, Proto: lb.TCP}
}

func with(s lb.Service, change func(*lb.Service)) lb.Service {
	change(&s)
	return s
}

func local(s *lb.Service) { s.Policy = lb.Local }

// loaded is a service as the datapath holds it.
type loaded struct {
	dataplane.ServiceEntry
	list  []string   // addresses
	homes []string   // of each slot
	pasts [][]string // of each slot, latest first; nil at rest
}

func (w *world) load(k lb.ServiceKey) loaded {
	w.Helper()
	st, err := w.maps.Load()
	if err != nil {
		w.Fatal(err)
	}
	for _, e := range st.Services {
		if e.Key != k {
			continue
		}
		l := loaded{ServiceEntry: e}
		t, _ := w.maps.ReadTable(e.Table)
		for _, id := range t.List {
			l.list = append(l.list, st.Backends[id].Addr.Addr().String())
		}
		for i, s := range t.Slots {
			l.homes = append(l.homes, l.list[s])
			if t.Past != nil {
				var past []string
				for _, p := range t.Past[i] {
					if p != dataplane.NoBackend {
						past = append(past, l.list[p])
					}
				}
				l.pasts = append(l.pasts, past)
			}
		}
		return l
	}
	w.Fatalf("service %s is not in the datapath", k)
	return loaded{}
}

// set returns the distinct values, sorted.
func set(values ...[]string) []string {
	all := slices.Concat(values...)
	slices.Sort(all)
	return slices.Compact(all)
}

// verbs are the first words of writes, in runs.
func verbs(ops []string) []string {
	var out []string
	for _, op := range ops {
		words := strings.Fields(op)
		if words[1] == "source" {
			words[1] = "range"
		}
		out = append(out, words[0]+" "+words[1])
	}
	return slices.Compact(out)
}
