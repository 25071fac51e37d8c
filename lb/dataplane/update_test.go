// SPDX-License-Identifier: Apache-2.0

package dataplane_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/dataplane"
)

// While services disagree on the node of a backend, each gets what it says; what
// nobody says any more is gone, whoever said what last.
func TestServicesDisagreeOnANode(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	w := newWorld(t, roomy)
	tab := table(t, threeNodes)
	for range 400 {
		var d lb.Delta
		for range 1 + rng.IntN(2) {
			port := uint16(80 + rng.IntN(4))
			if rng.IntN(5) == 0 {
				d.DeleteServices = append(d.DeleteServices, key(port))
				continue
			}
			var backends []string
			for i := range 3 {
				if rng.IntN(3) > 0 {
					backends = append(backends, fmt.Sprintf("10.0.0.%d@%c", i, "abc"[rng.IntN(3)]))
				}
			}
			d.PutServices = append(d.PutServices, service(port, backends...))
		}
		var err error
		if tab, err = tab.Update(d); err != nil {
			t.Fatal(err)
		}
		w.now += uint32(rng.IntN(pastTicks))
		if rng.IntN(10) == 0 {
			w.restart()
		}
		w.sync(tab)
		w.agrees(tab)
	}
}

// agrees checks that the endpoints are those that the table has, each on the node
// that its service says, and that there is no other backend.
func (w *world) agrees(tab *lb.Table) {
	w.Helper()
	st, err := w.maps.Load()
	if err != nil {
		w.Fatal(err)
	}
	ids := map[string]lb.NodeID{"a": lb.SelfNode}
	for id, n := range st.Nodes {
		for _, known := range tab.Nodes() {
			if n.Addr == known.Addrs[0] {
				ids[known.Name] = id
			}
		}
	}
	said := map[dataplane.BackendEntry]bool{}
	endpoints := 0
	for id, e := range st.Services {
		want := tab.Service(e.Key)
		if want == nil {
			w.Fatalf("service %s is left over", e.Key)
		}
		for _, b := range want.Backends {
			endpoints++
			entry := dataplane.BackendEntry{Addr: b.Addr, Node: ids[b.Node]}
			said[entry] = true
			got := st.Backends[st.Endpoints[dataplane.EndpointKey{Service: id, Wire: b.WireID()}].Backend]
			if got != entry {
				w.Fatalf("service %s has %+v, says %+v", e.Key, got, entry)
			}
		}
	}
	if len(st.Services) != len(tab.Services()) || len(st.Endpoints) != endpoints || len(st.Backends) != len(said) {
		w.Fatalf("%d services, %d endpoints, %d backends; want %d, %d, %d", len(st.Services), len(st.Endpoints), len(st.Backends),
			len(tab.Services()), endpoints, len(said))
	}
}
