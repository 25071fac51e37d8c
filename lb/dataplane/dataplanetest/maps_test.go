// SPDX-License-Identifier: Apache-2.0

package dataplanetest

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/dataplane"
)

var (
	limits = dataplane.Limits{Nodes: 4, Backends: 4, Services: 4, Lines: 60}
	vip    = netip.MustParseAddr("192.0.2.1")
	key    = lb.ServiceKey{VIP: vip, Port: 80, Proto: lb.TCP}
	node   = dataplane.NodeEntry{Name: "b", Addr: netip.MustParseAddr("10.9.0.2")}
	first  = dataplane.BackendEntry{Addr: netip.MustParseAddrPort("10.0.0.1:80"), Node: lb.SelfNode}
	second = dataplane.BackendEntry{Addr: netip.MustParseAddrPort("10.0.0.2:80"), Node: 1}
	ref    = dataplane.TableRef{Line: 0, Size: 1, Generation: 1}
	wire1  = lb.WireIDOf(first.Addr)
	wire2  = lb.WireIDOf(second.Addr)
)

// slots is a table of 251 slots, in turn of each backend.
func slots(list ...lb.BackendID) dataplane.LookupTable {
	t := dataplane.LookupTable{Slots: make([]uint16, 251), List: list}
	for i := range t.Slots {
		t.Slots[i] = uint16(i % len(list))
	}
	return t
}

// built is one service with a table of two backends, and everything around it.
func built(t testing.TB) *Maps {
	t.Helper()
	m := New(limits)
	prefix := netip.MustParsePrefix("10.0.0.0/8")
	must(t, m.PutNode(1, node), m.PutBackend(1, first), m.PutBackend(2, second),
		m.PutEndpoint(0, wire1, dataplane.EndpointEntry{Backend: 1}), m.PutEndpoint(0, wire2, dataplane.EndpointEntry{Backend: 2}),
		m.PutSourceRange(0, prefix), m.WriteTable(ref, slots(1, 2)),
		m.PutService(0, dataplane.ServiceEntry{Key: key, Table: ref, HasRanges: true}), m.PutVIP(vip))
	if p := m.Problems(); len(p) > 0 {
		t.Fatal(p)
	}
	m.Ops()
	return m
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func TestLoadAndDump(t *testing.T) {
	m := built(t)
	got, err := m.Load()
	must(t, err)
	want := dataplane.State{
		Nodes:        map[lb.NodeID]dataplane.NodeEntry{1: {Addr: node.Addr}}, // names are not stored
		Backends:     map[lb.BackendID]dataplane.BackendEntry{1: first, 2: second},
		Endpoints:    map[dataplane.EndpointKey]dataplane.EndpointEntry{{Wire: wire1}: {Backend: 1}, {Wire: wire2}: {Backend: 2}},
		Services:     map[lb.ServiceID]dataplane.ServiceEntry{0: {Key: key, Table: ref, HasRanges: true}},
		SourceRanges: map[dataplane.SourceRangeKey]bool{{Prefix: netip.MustParsePrefix("10.0.0.0/8")}: true},
		VIPs:         map[netip.Addr]bool{vip: true},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got, ok := m.ReadTable(ref); !ok || !cmp.Equal(got, slots(1, 2)) {
		t.Errorf("table %v, %v", got, ok)
	}
	wantDump := `backend 10.0.0.1:80 on self
backend 10.0.0.2:80 on 10.9.0.2
node 10.9.0.2
tcp/192.0.2.1:80: endpoint 10.0.0.1:80 draining false
tcp/192.0.2.1:80: endpoint 10.0.0.2:80 draining false
tcp/192.0.2.1:80: left false adopted false local false closed false elsewhere false affinity 0 ranges true
tcp/192.0.2.1:80: source range 10.0.0.0/8
tcp/192.0.2.1:80: table of 251, hash 0000, 0 pasts, content 4ba5217a7baa3be8, past until 0
vip 192.0.2.1`
	if diff := cmp.Diff(wantDump, m.Dump()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDeletingTwiceIsSuccess(t *testing.T) {
	m := built(t)
	for range 2 {
		must(t, m.DeleteService(0, key), m.DeleteEndpoint(0, wire1), m.DeleteEndpoint(0, wire2),
			m.DeleteSourceRange(0, netip.MustParsePrefix("10.0.0.0/8")), m.DeleteVIP(vip),
			m.DeleteBackend(1), m.DeleteBackend(2), m.DeleteNode(1))
	}
	if p := m.Problems(); len(p) > 0 || m.Dump() != "" {
		t.Errorf("problems %q, left:\n%s", p, m.Dump())
	}
}

func TestProblems(t *testing.T) {
	entry := dataplane.ServiceEntry{Key: key, Table: ref}
	past := func(change func([][3]uint16)) dataplane.LookupTable {
		t := slots(1, 2)
		t.Past = make([][3]uint16, 251)
		for i := range t.Past {
			t.Past[i] = [3]uint16{uint16((i + 1) % 2), dataplane.NoBackend, dataplane.NoBackend}
		}
		change(t.Past)
		return t
	}
	transition := dataplane.TableRef{Line: 10, Size: 1, Generation: 2, Transition: true}
	elsewhere := dataplane.TableRef{Line: 10, Size: 1, Generation: 2}
	outOfRange := slots(1, 2)
	outOfRange.Slots[7] = 2
	tests := []struct {
		name  string
		write func(m *Maps) error
		want  string
	}{
		{"self is written", func(m *Maps) error { return m.PutNode(0, node) }, "id is out of range"},
		{"node id", func(m *Maps) error { return m.PutNode(4, node) }, "id is out of range"},
		{"node without address", func(m *Maps) error { return m.PutNode(2, dataplane.NodeEntry{}) }, "no address"},
		{"node in use", func(m *Maps) error { return m.DeleteNode(1) }, "backend 2 is on it"},
		{"backend id 0", func(m *Maps) error { return m.PutBackend(0, first) }, "id is out of range"},
		{"backend id", func(m *Maps) error { return m.PutBackend(4, first) }, "id is out of range"},
		{"backend without node", func(m *Maps) error { return m.PutBackend(2, dataplane.BackendEntry{Addr: second.Addr, Node: 3}) }, "node 3 is not there"},
		{"backend twice", func(m *Maps) error { return m.PutBackend(3, first) }, "backend 1 is the same"},
		{"backend in a table", func(m *Maps) error { return m.DeleteBackend(1) }, "the table of tcp/192.0.2.1:80 lists it"},
		{"backend of an endpoint", func(m *Maps) error { return m.DeleteBackend(1) }, "endpoint 0xf931ae3e of service 0 refers to it"},
		{"endpoint without backend", func(m *Maps) error { return m.PutEndpoint(0, wire1, dataplane.EndpointEntry{Backend: 3}) }, "backend 3 is not there"},
		{"endpoint of another", func(m *Maps) error { return m.PutEndpoint(0, wire1, dataplane.EndpointEntry{Backend: 2}) }, "backend 2 is 10.0.0.2:80, whose wire id is another"},
		{"endpoint in a table", func(m *Maps) error { return m.DeleteEndpoint(0, wire1) }, "the service's table lists backend 1"},
		{"table over another", func(m *Maps) error {
			return m.WriteTable(dataplane.TableRef{Line: 9, Size: 1, Generation: 2}, slots(1, 2))
		}, "overlaps the table of tcp/192.0.2.1:80"},
		{"table too long", func(m *Maps) error {
			return m.WriteTable(dataplane.TableRef{Line: 51, Size: 1, Generation: 2}, slots(1, 2))
		}, "ends at line 61 of 60"},
		{"generation 0", func(m *Maps) error { return m.WriteTable(dataplane.TableRef{Line: 10, Size: 1}, slots(1, 2)) }, "generation 0"},
		{"wrong size", func(m *Maps) error {
			return m.WriteTable(dataplane.TableRef{Line: 10, Size: 2, Generation: 2}, slots(1, 2))
		}, "251 slots are not of size 2"},
		{"slot out of range", func(m *Maps) error { return m.WriteTable(elsewhere, outOfRange) }, "index 2 in a list of 2"},
		{"unused list", func(m *Maps) error {
			t := slots(1)
			t.List = []lb.BackendID{1, 2}
			return m.WriteTable(elsewhere, t)
		}, "list of 2, of which 1 are used"},
		{"no past", func(m *Maps) error { return m.WriteTable(transition, slots(1, 2)) }, "transition true and 0 pasts"},
		{"home in past", func(m *Maps) error {
			return m.WriteTable(transition, past(func(p [][3]uint16) { p[7][0] = 1 }))
		}, "slot 7: 1 is twice in home 1 and past [1 65535 65535]"},
		{"twice in past", func(m *Maps) error {
			return m.WriteTable(transition, past(func(p [][3]uint16) { p[7][1] = 0 }))
		}, "slot 7: 0 is twice in home 1 and past [0 0 65535]"},
		{"gap in past", func(m *Maps) error {
			return m.WriteTable(transition, past(func(p [][3]uint16) { p[7] = [3]uint16{0xffff, 0, 0xffff} }))
		}, "slot 7: past [65535 0 65535] has a gap"},
		{"service id", func(m *Maps) error { return m.PutService(4, dataplane.ServiceEntry{}) }, "id is out of range"},
		{"key of another", func(m *Maps) error { return m.PutService(1, dataplane.ServiceEntry{Key: key}) }, "the key is service 0's"},
		{"table is not there", func(m *Maps) error {
			return m.PutService(0, dataplane.ServiceEntry{Key: key, Table: elsewhere})
		}, "its table is not there"},
		{"rest with an end", func(m *Maps) error {
			return m.PutService(0, dataplane.ServiceEntry{Key: key, Table: ref, PastUntil: 5})
		}, "past until 5, transition false"},
		{"table without endpoints", func(m *Maps) error {
			return m.PutService(1, dataplane.ServiceEntry{Key: lb.ServiceKey{VIP: vip}, Table: ref})
		}, "backend 1 has no endpoint"},
		{"draining home", func(m *Maps) error {
			return errors.Join(m.PutEndpoint(0, wire1, dataplane.EndpointEntry{Backend: 1, Draining: true}), m.PutService(0, entry))
		}, "backend 1 is draining and has slots beside one that is not"},
		{"delete with another id", func(m *Maps) error { return m.DeleteService(1, key) }, "the key is service 0's"},
		{"VIP in use", func(m *Maps) error { return m.DeleteVIP(vip) }, "tcp/192.0.2.1:80 is on it"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := built(t)
			must(t, tt.write(m))
			if !slices.ContainsFunc(m.Problems(), func(p string) bool { return strings.HasSuffix(p, ": "+tt.want) }) {
				t.Errorf("problems %q, want one with %q", m.Problems(), tt.want)
			}
		})
	}
}

func TestFailures(t *testing.T) {
	entry := dataplane.ServiceEntry{Key: lb.ServiceKey{VIP: vip, Port: 81, Proto: lb.TCP}}
	tests := []struct {
		how    Failure
		record bool
		found  bool
	}{{Before, false, false}, {After, true, true}, {Torn, true, false}}
	for _, tt := range tests {
		t.Run(tt.how.String(), func(t *testing.T) {
			m := built(t)
			m.Fail(2, tt.how)
			must(t, m.PutVIP(vip))
			if err := m.PutService(1, entry); !errors.Is(err, ErrInjected) {
				t.Fatalf("error %v", err)
			}
			_, record := m.records[1]
			_, found := m.keys[entry.Key]
			if record != tt.record || found != tt.found {
				t.Errorf("record %v, key %v; want %v, %v", record, found, tt.record, tt.found)
			}
			must(t, m.PutService(1, entry)) // once only
			if ops := m.Ops(); len(ops) != 3 {
				t.Errorf("ops %q, want the failed one among 3", ops)
			}
		})
	}
}

func TestTornWriteDestroysTheTable(t *testing.T) {
	m := built(t)
	m.Fail(1, Torn)
	if err := m.WriteTable(ref, slots(1, 2)); !errors.Is(err, ErrInjected) {
		t.Fatalf("error %v", err)
	}
	if _, ok := m.ReadTable(ref); ok {
		t.Error("the table is readable")
	}
}

func TestTornDelete(t *testing.T) {
	m := built(t)
	m.Fail(1, Torn)
	if err := m.DeleteService(0, key); !errors.Is(err, ErrInjected) {
		t.Fatalf("error %v", err)
	}
	st, err := m.Load()
	if len(st.Services) != 0 || len(m.records) != 1 || err != nil {
		t.Errorf("services %v, records %v, %v: want the key gone and the record there", st.Services, m.records, err)
	}
}

func TestCrash(t *testing.T) {
	m := built(t)
	m.Crash(1, After)
	other := netip.MustParseAddr("192.0.2.2")
	if err := m.PutVIP(other); !errors.Is(err, ErrCrashed) || !m.Crashed() {
		t.Fatalf("error %v", err)
	}
	if err := m.DeleteVIP(other); !errors.Is(err, ErrCrashed) {
		t.Errorf("a write after the crash: %v", err)
	}
	if _, err := m.Load(); !errors.Is(err, ErrCrashed) {
		t.Errorf("Load after the crash: %v", err)
	}
	m.Restart()
	st, err := m.Load()
	if !st.VIPs[other] || err != nil {
		t.Errorf("VIPs %v, %v: want the one of the crash", st.VIPs, err)
	}
}
