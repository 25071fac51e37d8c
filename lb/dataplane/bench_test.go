// SPDX-License-Identifier: Apache-2.0

package dataplane_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/dataplane"
)

// thousand has 1,000 services with 10 backends each on 2 nodes.
func thousand(t testing.TB, change func(i int, s *lb.Service)) *lb.Table {
	t.Helper()
	return many(t, 1000, change)
}

func many(t testing.TB, n int, change func(i int, s *lb.Service)) *lb.Table {
	t.Helper()
	services := make([]lb.Service, n)
	for i := range services {
		var backends []string
		for k := range 10 {
			backends = append(backends, fmt.Sprintf("10.%d.%d.%d@%c", 1+i/250, i%250, k, "abc"[k%3]))
		}
		services[i] = service(uint16(1000+i), backends...)
		services[i].TableSize = 4093
		change(i, &services[i])
	}
	return table(t, threeNodes, services...)
}

func unchanged(int, *lb.Service) {}

func oneDrains(i int, s *lb.Service) {
	if i == 500 {
		s.Backends[3].Draining = true
	}
}

func TestOneChangeAmongAThousandServices(t *testing.T) {
	w := newWorld(t, dataplane.Limits{Nodes: 64, Backends: 20000, Services: 2048, Lines: 1 << 20})
	w.sync(thousand(t, unchanged))
	if diff := cmp.Diff([]string{"put endpoint", "write table", "put service"}, verbs(w.sync(thousand(t, oneDrains)))); diff != "" {
		t.Errorf("one drains (-want +got):\n%s", diff)
	}
	ops := w.sync(thousand(t, func(i int, s *lb.Service) {
		if i == 500 {
			s.Backends = slices.Delete(s.Backends, 3, 4)
		}
	}))
	if len(ops) != 4 { // table and service without it in a past, its endpoint, the backend
		t.Errorf("one goes: %d writes %q, want 4", len(ops), ops)
	}
}

// sink takes every write and keeps only tables, for which it is asked, so that a
// benchmark sees the Dataplane alone.
type sink struct {
	tables map[dataplane.TableRef]dataplane.LookupTable
}

func (sink) PutNode(lb.NodeID, dataplane.NodeEntry) error                       { return nil }
func (sink) DeleteNode(lb.NodeID) error                                         { return nil }
func (sink) PutBackend(lb.BackendID, dataplane.BackendEntry) error              { return nil }
func (sink) DeleteBackend(lb.BackendID) error                                   { return nil }
func (sink) PutEndpoint(lb.ServiceID, lb.WireID, dataplane.EndpointEntry) error { return nil }
func (sink) DeleteEndpoint(lb.ServiceID, lb.WireID) error                       { return nil }
func (sink) PutSourceRange(lb.ServiceID, netip.Prefix) error                    { return nil }
func (sink) DeleteSourceRange(lb.ServiceID, netip.Prefix) error                 { return nil }
func (sink) PutService(lb.ServiceID, dataplane.ServiceEntry) error              { return nil }
func (sink) DeleteService(lb.ServiceID, lb.ServiceKey) error                    { return nil }
func (sink) PutVIP(netip.Addr) error                                            { return nil }
func (sink) DeleteVIP(netip.Addr) error                                         { return nil }
func (sink) Load() (dataplane.State, error)                                     { return dataplane.State{}, nil }
func (sink) Limits() dataplane.Limits {
	return dataplane.Limits{Nodes: 64, Backends: 200000, Services: 20000, Lines: 1 << 23}
}

func (s sink) WriteTable(ref dataplane.TableRef, t dataplane.LookupTable) error {
	s.tables[ref] = t
	return nil
}

func (s sink) ReadTable(ref dataplane.TableRef) (dataplane.LookupTable, bool) {
	t, ok := s.tables[ref]
	delete(s.tables, ref) // it is asked for when the next one is made
	return t, ok
}

func newOverSink(b *testing.B) *dataplane.Dataplane {
	b.Helper()
	dp, err := dataplane.New(sink{map[dataplane.TableRef]dataplane.LookupTable{}}, dataplane.Options{PastTicks: pastTicks, Now: func() uint32 { return 1 }})
	if err != nil {
		b.Fatal(err)
	}
	return dp
}

func sync(b *testing.B, dp *dataplane.Dataplane, t *lb.Table) {
	b.Helper()
	if err := dp.Sync(t); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkSync(b *testing.B) {
	before, same, after := thousand(b, unchanged), thousand(b, unchanged), thousand(b, oneDrains)
	b.Run("1000-services", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			sync(b, newOverSink(b), before)
		}
	})
	for name, next := range map[string]*lb.Table{"one-change-of-1000": after, "no-change-of-1000": same} {
		b.Run(name, func(b *testing.B) {
			dp := newOverSink(b)
			sync(b, dp, before)
			b.ReportAllocs()
			for i := 1; b.Loop(); i++ {
				sync(b, dp, []*lb.Table{before, next}[i%2])
			}
		})
	}
}

// BenchmarkOneChange is what a change of one endpoint costs among many services:
// the table, what lies between, and all of it.
func BenchmarkOneChange(b *testing.B) {
	for _, n := range []int{10, 1000, 10000} {
		before := many(b, n, unchanged)
		put := *before.Services()[n/2]
		drained := put
		drained.Backends = slices.Clone(put.Backends)
		drained.Backends[3].Draining = true
		puts := []lb.Delta{{PutServices: []lb.Service{drained}}, {PutServices: []lb.Service{put}}}
		update := func(b *testing.B, t *lb.Table, i int) *lb.Table {
			next, err := t.Update(puts[i%2])
			if err != nil {
				b.Fatal(err)
			}
			return next
		}
		b.Run(fmt.Sprintf("update/services=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				update(b, before, i)
			}
		})
		b.Run(fmt.Sprintf("diff/services=%d", n), func(b *testing.B) {
			next := update(b, before, 0)
			b.ReportAllocs()
			for b.Loop() {
				before.Diff(next)
			}
		})
		b.Run(fmt.Sprintf("update-and-sync/services=%d", n), func(b *testing.B) {
			dp, t := newOverSink(b), before
			sync(b, dp, t)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				t = update(b, t, i)
				sync(b, dp, t)
				dp.NextExpiry()
			}
		})
	}
}
