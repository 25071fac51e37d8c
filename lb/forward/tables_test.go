// SPDX-License-Identifier: Apache-2.0

package forward_test

import (
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/dataplane"
	"github.com/fairlead/fairlead/lb/forward"
	"github.com/fairlead/fairlead/lb/forward/forwardtest"
	"github.com/fairlead/fairlead/lb/maglev"
	"github.com/fairlead/fairlead/lb/packet"
	"github.com/fairlead/fairlead/lb/packet/packettest"
)

var limits = dataplane.Limits{Nodes: 4, Backends: 8, Services: 4, Lines: 100}

func slots(past bool) dataplane.LookupTable {
	t := dataplane.LookupTable{Slots: make([]uint16, maglev.Sizes[0]), List: []lb.BackendID{1, 2}}
	if past {
		t.Past = make([][3]uint16, maglev.Sizes[0])
	}
	return t
}

func TestTablesRefuse(t *testing.T) {
	ap, addr := netip.MustParseAddrPort, netip.MustParseAddr
	web := lb.ServiceKey{VIP: addr("192.0.2.1"), Port: 80, Proto: lb.TCP}
	ref := dataplane.TableRef{Size: 1, Generation: 1}
	edited := func(edit func(*dataplane.LookupTable)) dataplane.LookupTable {
		table := slots(false)
		edit(&table)
		return table
	}
	for _, tt := range []struct {
		name string
		call func(*forward.Tables) error
		want string
	}{
		{"node 0", func(m *forward.Tables) error { return m.PutNode(0, dataplane.NodeEntry{Addr: addr("10.0.0.1")}) }, "node 0: want 1 to 3"},
		{"node 4", func(m *forward.Tables) error { return m.PutNode(4, dataplane.NodeEntry{Addr: addr("10.0.0.1")}) }, "node 4: want 1 to 3"},
		{"node without an address", func(m *forward.Tables) error { return m.PutNode(1, dataplane.NodeEntry{}) }, "not an address"},
		{"delete node 9", func(m *forward.Tables) error { return m.DeleteNode(9) }, "node 9"},
		{"backend 0", func(m *forward.Tables) error { return m.PutBackend(0, dataplane.BackendEntry{Addr: ap("10.1.1.1:1")}) }, "backend 0: want 1 to 7"},
		{"backend of node 4", func(m *forward.Tables) error {
			return m.PutBackend(1, dataplane.BackendEntry{Addr: ap("10.1.1.1:1"), Node: 4})
		}, "node 4"},
		{"backend without an address", func(m *forward.Tables) error { return m.PutBackend(1, dataplane.BackendEntry{}) }, "not an address"},
		{"delete backend 8", func(m *forward.Tables) error { return m.DeleteBackend(8) }, "backend 8"},
		{"endpoint of service 4", func(m *forward.Tables) error { return m.PutEndpoint(4, 1, dataplane.EndpointEntry{Backend: 1}) }, "service 4"},
		{"endpoint with wire id 0", func(m *forward.Tables) error { return m.PutEndpoint(1, 0, dataplane.EndpointEntry{Backend: 1}) }, "wire id 0"},
		{"service 4", func(m *forward.Tables) error { return m.PutService(4, dataplane.ServiceEntry{Key: web}) }, "service 4: want 0 to 3"},
		{"service with a bad table", func(m *forward.Tables) error {
			return m.PutService(1, dataplane.ServiceEntry{Key: web, Table: dataplane.TableRef{Size: 1}})
		}, "generation 0"},
		{"mapped VIP", func(m *forward.Tables) error { return m.PutVIP(addr("::ffff:1.2.3.4")) }, "not an address"},
		{"source range of service 4", func(m *forward.Tables) error { return m.PutSourceRange(4, netip.MustParsePrefix("10.0.0.0/8")) }, "service 4"},
		{"no source range", func(m *forward.Tables) error { return m.PutSourceRange(1, netip.Prefix{}) }, "not a prefix"},
		{"table size 0", func(m *forward.Tables) error {
			return m.WriteTable(dataplane.TableRef{Generation: 1}, slots(false))
		}, "size 0"},
		{"table of another size", func(m *forward.Tables) error {
			return m.WriteTable(dataplane.TableRef{Size: 2, Generation: 1}, slots(false))
		}, "251 slots: want 509"},
		{"past at rest", func(m *forward.Tables) error { return m.WriteTable(ref, slots(true)) }, "transition false"},
		{"transition without past", func(m *forward.Tables) error {
			return m.WriteTable(dataplane.TableRef{Size: 1, Generation: 1, Transition: true}, slots(false))
		}, "transition true"},
		{"beyond the last line", func(m *forward.Tables) error {
			return m.WriteTable(dataplane.TableRef{Size: 1, Generation: 1, Line: 91}, slots(false))
		}, "needs lines up to 101 of 100"},
		{"slot beyond the list", func(m *forward.Tables) error {
			return m.WriteTable(ref, edited(func(t *dataplane.LookupTable) { t.Slots[7] = 2 }))
		}, "slot 7: backend 2 of 2"},
		{"backend beyond the limit", func(m *forward.Tables) error {
			return m.WriteTable(ref, edited(func(t *dataplane.LookupTable) { t.List[1] = 8 }))
		}, "backend 8"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.call(forward.NewTables(limits)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

// What is put comes back from Load, what is deleted does not; both may be
// repeated.
func TestTablesLoad(t *testing.T) {
	m := forward.NewTables(limits)
	addr := netip.MustParseAddr
	web := lb.ServiceKey{VIP: addr("2001:db8::1"), Port: 80, Proto: lb.TCP}
	ref := dataplane.TableRef{Line: 3, Size: 1, Generation: 7, Hash: 9, Transition: true}
	node := dataplane.NodeEntry{Name: "b", Addr: addr("10.0.0.2")}
	pod := dataplane.BackendEntry{Addr: netip.MustParseAddrPort("10.1.1.1:8080"), Node: 2}
	service := dataplane.ServiceEntry{Key: web, Table: ref, AffinityTicks: 3, HasRanges: true}
	v4, v6 := netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::/0")
	want := dataplane.State{
		Nodes:        map[lb.NodeID]dataplane.NodeEntry{2: node},
		Backends:     map[lb.BackendID]dataplane.BackendEntry{5: pod},
		Endpoints:    map[dataplane.EndpointKey]dataplane.EndpointEntry{{Service: 1, Wire: 77}: {Backend: 5, Draining: true}},
		Services:     map[lb.ServiceID]dataplane.ServiceEntry{1: service},
		SourceRanges: map[dataplane.SourceRangeKey]bool{{Service: 1, Prefix: v4}: true, {Service: 1, Prefix: v6}: true},
		VIPs:         map[netip.Addr]bool{web.VIP: true, addr("192.0.2.1"): true},
	}
	must := func(errs ...error) {
		t.Helper()
		for _, err := range errs {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	load := func() dataplane.State {
		t.Helper()
		s, err := m.Load()
		must(err)
		return s
	}
	for range 2 {
		must(m.PutNode(2, node), m.PutBackend(5, pod),
			m.PutEndpoint(1, 77, dataplane.EndpointEntry{Backend: 5, Draining: true}),
			m.WriteTable(ref, slots(true)), m.PutSourceRange(1, v4), m.PutSourceRange(1, v6),
			m.PutService(1, service), m.PutVIP(web.VIP), m.PutVIP(addr("192.0.2.1")))
		if got := load(); !reflect.DeepEqual(got, want) {
			t.Errorf("loaded %+v\nwant %+v", got, want)
		}
		if got, ok := m.ReadTable(ref); !ok || !reflect.DeepEqual(got, slots(true)) {
			t.Errorf("read %v %+v\nwant %+v", ok, got, slots(true))
		}
	}
	for range 2 {
		must(m.DeleteService(1, web), m.DeleteVIP(web.VIP), m.DeleteVIP(addr("192.0.2.1")),
			m.DeleteSourceRange(1, v4), m.DeleteSourceRange(1, v6), m.DeleteEndpoint(1, 77),
			m.DeleteBackend(5), m.DeleteNode(2))
		got := load()
		if n := len(got.Nodes) + len(got.Backends) + len(got.Endpoints) + len(got.Services) +
			len(got.SourceRanges) + len(got.VIPs); n != 0 {
			t.Errorf("left over: %+v", got)
		}
	}
}

// A region is gone as soon as another one lies upon any of its lines.
func TestRegionsOverlap(t *testing.T) {
	web := lb.ServiceKey{VIP: netip.MustParseAddr("192.0.2.1"), Port: 80, Proto: lb.TCP}
	first := dataplane.TableRef{Line: 20, Size: 1, Generation: 1} // 10 lines
	for _, tt := range []struct {
		line uint32
		gone bool
	}{{10, false}, {11, true}, {20, true}, {29, true}, {30, false}} {
		m := forward.NewTables(limits)
		other := dataplane.TableRef{Line: tt.line, Size: 1, Generation: 2}
		for _, err := range []error{
			m.WriteTable(first, slots(false)),
			m.PutService(1, dataplane.ServiceEntry{Key: web, Table: first}),
			m.WriteTable(other, slots(false)),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		if _, there := m.ReadTable(first); there == tt.gone {
			t.Errorf("with another region at line %d: there %t", tt.line, there)
		}
	}
}

// Tables are written while packets are forwarded; for the race detector.
func TestWriteWhileForwarding(t *testing.T) {
	twin := fuzzTwin(t)
	plane, err := dataplane.New(twin.Maps(), dataplane.Options{Now: func() uint32 { return 1000 }})
	if err != nil {
		t.Fatal(err)
	}
	var writer sync.WaitGroup
	writer.Go(func() {
		for i := range 50 {
			pods := []string{"10.1.1.1:8080", "10.1.2.1:8080"}[i%2:]
			if err := plane.Sync(forwardtest.TableOf("a", forwardtest.Service(lb.TCP, vip, pods...))); err != nil {
				t.Error(err)
			}
		}
	})
	frame := packettest.TCP("198.51.100.7:40000", vip, packet.SYN).Bytes()
	for range 500 {
		switch reason, _, _ := twin.Forward(forwardtest.In, frame, 1000); reason.Verdict() {
		case forward.Deliver, forward.Encap:
		default:
			t.Fatalf("in the middle of a change: %s", reason)
		}
	}
	writer.Wait()
}
