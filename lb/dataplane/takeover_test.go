// SPDX-License-Identifier: Apache-2.0

package dataplane_test

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/dataplane"
	"github.com/fairlead/fairlead/lb/dataplane/dataplanetest"
)

// busy is a datapath with something of everything, and its table.
func busy(t testing.TB) (*world, *lb.Table) {
	w := newWorld(t, roomy)
	ranged := with(service(81, a1, b1), func(s *lb.Service) {
		s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
		s.Affinity = 5 * dataplane.Tick
	})
	w.sync(table(t, threeNodes, service(79, c1), service(80, a1, b1), ranged))
	tab := table(t, threeNodes, service(80, a1, b1+"!", c1), ranged, with(service(82, b1), local), service(83))
	w.sync(tab)
	return w, tab
}

func TestRestartWritesNothing(t *testing.T) {
	w, tab := busy(t)
	before := w.maps.Dump()
	w.restart()
	w.verify()
	if _, ok := w.dp.NextExpiry(); ok {
		t.Error("NextExpiry before the first Sync")
	}
	w.expire(w.now + 2*pastTicks)
	if ops := w.maps.Ops(); len(ops) > 0 {
		t.Errorf("New and Expire before the first Sync write %q", ops)
	}
	if ops := w.sync(tab); len(ops) > 0 {
		t.Errorf("Sync with the same table writes %q", ops)
	}
	if diff := cmp.Diff(before, w.maps.Dump()); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
	if tick, ok := w.dp.NextExpiry(); !ok || tick != w.now+pastTicks {
		t.Errorf("NextExpiry = %d, %v; want %d", tick, ok, w.now+pastTicks)
	}
}

func TestRestartKeepsIDs(t *testing.T) {
	w, tab := busy(t)
	want, _ := w.dp.ServiceID(key(82))
	w.restart()
	if got, ok := w.dp.ServiceID(key(82)); !ok || got != want {
		t.Errorf("ServiceID before the first Sync = %d, %v; want %d", got, ok, want)
	}
	w.sync(tab)
	ops := w.sync(table(t, threeNodes, append(servicesOf(tab), service(90, "10.0.7.7@b"))...))
	if want := "put backend 4 10.0.7.7:8080 on node 1"; ops[0] != want {
		t.Errorf("first write %q, want %q", ops[0], want)
	}
}

func TestFirstSyncPrunes(t *testing.T) {
	w, _ := busy(t)
	w.restart()
	w.sync(table(t, nodes()))
	if dump := w.maps.Dump(); dump != "" {
		t.Errorf("left behind:\n%s", dump)
	}
}

// History goes on over a restart in the middle of a change of the table.
func TestRestartWithAnotherTable(t *testing.T) {
	run := func(restart bool) string {
		w, _ := busy(t)
		w.now += 10
		if restart {
			w.restart()
		}
		w.sync(table(t, threeNodes, service(80, a1+"!", b1+"!", c1), service(82, b1)))
		return w.maps.Dump()
	}
	if diff := cmp.Diff(run(false), run(true)); diff != "" {
		t.Errorf("(-without restart +with):\n%s", diff)
	}
}

func TestPastIsOverWhenTheAgentComesBack(t *testing.T) {
	w, tab := busy(t)
	w.now += pastTicks
	w.restart()
	if diff := cmp.Diff([]string{"write table", "put service"}, verbs(w.sync(tab))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if l := w.load(key(80)); l.pasts != nil {
		t.Errorf("until %d, want a table at rest", l.PastUntil)
	}
}

func TestTablesAreSharedAfterARestart(t *testing.T) {
	w := newWorld(t, roomy)
	both := table(t, threeNodes, service(80, a1, b1), service(81, a1, b1))
	w.sync(both)
	ref := w.load(key(80)).Table
	w.restart()
	ops := w.sync(table(t, threeNodes, service(80, a1, b1), service(81, a1, c1), service(82, a1, b1)))
	if got := w.load(key(82)).Table; got != ref {
		t.Errorf("table %+v, want the one that was there: %+v; writes %q", got, ref, ops)
	}
}

func TestGenerationsGoOnAfterARestart(t *testing.T) {
	w, tab := busy(t)
	highest := uint32(0)
	st, _ := w.maps.Load()
	for _, e := range st.Services {
		highest = max(highest, e.Table.Generation)
	}
	w.restart()
	w.sync(table(t, threeNodes, append(servicesOf(tab), service(90, "10.0.7.7@b"))...))
	if got := w.load(key(90)).Table.Generation; got != highest+1 {
		t.Errorf("generation %d, want %d", got, highest+1)
	}
}

// corrupt is Maps whose state is not what a Dataplane has left there.
type corrupt struct {
	*dataplanetest.Maps
	spoil func(*dataplane.State)
	table func(*dataplane.LookupTable) // of service 80
	err   error
}

func (c corrupt) ReadTable(ref dataplane.TableRef) (dataplane.LookupTable, bool) {
	st, err := c.Maps.Load()
	t, ok := c.Maps.ReadTable(ref)
	for _, e := range st.Services {
		if c.table != nil && e.Key == key(80) && e.Table == ref {
			c.table(&t)
		}
	}
	return t, ok && err == nil && len(t.Slots) > 0
}

func (c corrupt) Load() (dataplane.State, error) {
	st, err := c.Maps.Load()
	if c.spoil != nil {
		c.spoil(&st)
	}
	return st, errors.Join(err, c.err)
}

func TestTakeoverOfDamagedState(t *testing.T) {
	tables := map[string]func(*dataplane.LookupTable){
		"table missing":     func(t *dataplane.LookupTable) { t.Slots = nil },
		"too few slots":     func(t *dataplane.LookupTable) { t.Slots = t.Slots[1:] },
		"slot out of range": func(t *dataplane.LookupTable) { t.Slots[9] = 99 },
		"past out of range": func(t *dataplane.LookupTable) { t.Past[9][0] = 99 },
		"past missing":      func(t *dataplane.LookupTable) { t.Past = nil },
		"unknown backend":   func(t *dataplane.LookupTable) { t.List[0] = 99 },
	}
	states := map[string]func(*dataplane.State){
		"VIP missing":       func(st *dataplane.State) { clear(st.VIPs) },
		"endpoints missing": func(st *dataplane.State) { clear(st.Endpoints) },
		"ranges missing":    func(st *dataplane.State) { clear(st.SourceRanges) },
		"foreign VIP":       func(st *dataplane.State) { st.VIPs[netip.MustParseAddr("198.51.100.1")] = true },
		"endpoint of no one": func(st *dataplane.State) {
			st.Endpoints[dataplane.EndpointKey{Service: 9, Wire: 1}] = dataplane.EndpointEntry{}
		},
		"range of no one":     func(st *dataplane.State) { st.SourceRanges[dataplane.SourceRangeKey{Service: 9}] = true },
		"node of no one":      func(st *dataplane.State) { st.Nodes[7] = dataplane.NodeEntry{Addr: netip.MustParseAddr("10.9.9.9")} },
		"node twice":          func(st *dataplane.State) { st.Nodes[7] = st.Nodes[1] },
		"backend twice":       func(st *dataplane.State) { st.Backends[7] = st.Backends[1] },
		"key twice":           func(st *dataplane.State) { st.Services[9] = st.Services[1] },
		"table size too high": func(st *dataplane.State) { e := st.Services[1]; e.Table.Size = 31; st.Services[1] = e },
	}
	for name := range tables {
		states[name] = func(*dataplane.State) {}
	}
	for name, spoil := range states {
		t.Run(name, func(t *testing.T) {
			w, tab := busy(t)
			w.now += 2 * pastTicks
			w.expire(w.now)
			want := w.maps.Dump()
			if name == "past out of range" || name == "past missing" {
				w.now -= 2 * pastTicks
				w, tab = busy(t)
			}
			dp, err := dataplane.New(corrupt{Maps: w.maps, spoil: spoil, table: tables[name]}, dataplane.Options{PastTicks: pastTicks, Now: func() uint32 { return w.now }})
			if err != nil {
				t.Fatal(err)
			}
			w.dp = dp
			for _, p := range dp.Check() {
				t.Fatal(p)
			}
			w.sync(tab)
			if diff := cmp.Diff(want, w.maps.Dump()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestLoadFails(t *testing.T) {
	broken := errors.New("no such map")
	_, err := dataplane.New(corrupt{Maps: dataplanetest.New(roomy), err: broken}, dataplane.Options{})
	if !errors.Is(err, broken) || err.Error() != "load the datapath's state: no such map" {
		t.Errorf("error %v", err)
	}
}

// This node gets another name: what was local is not any more.
func TestSelfChanges(t *testing.T) {
	w := newWorld(t, roomy)
	services := []lb.Service{service(80, a1, b1)}
	w.sync(table(t, threeNodes, services...))
	other, err := lb.NewTable("b", threeNodes, services)
	if err != nil {
		t.Fatal(err)
	}
	w.sync(other)
	st, _ := w.maps.Load()
	local := map[string]bool{}
	for _, e := range st.Backends {
		local[e.Addr.Addr().String()] = e.Node == lb.SelfNode
	}
	if want := map[string]bool{p1: false, p3: true}; !cmp.Equal(local, want) {
		t.Errorf("local: %v, want %v", local, want)
	}
	var addrs []string
	for _, n := range st.Nodes {
		addrs = append(addrs, n.Addr.String())
	}
	slices.Sort(addrs)
	if want := []string{"10.9.0.1", "10.9.0.3"}; !slices.Equal(addrs, want) {
		t.Errorf("nodes %v, want %v", addrs, want)
	}
}
