// SPDX-License-Identifier: Apache-2.0

// Package forwardtest holds the vectors that say what a datapath has to do with
// a packet, and runs them. The same list goes through lb/forward and through
// the BPF programs. The wanted packets are built with packettest, not by the
// code under test.
package forwardtest

import (
	"net/netip"
	"testing"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/dataplane"
	"github.com/fairlead/fairlead/lb/flow"
	"github.com/fairlead/fairlead/lb/forward"
)

// Vector is a story: a node is configured, then packets come.
type Vector struct {
	Name     string
	Settings forward.Settings
	// Tables are synced one after the other before the first step, so that
	// slots have a past.
	Tables []*lb.Table
	// Break, if set, spoils the maps after that.
	Break func(dataplane.Maps) error
	// Adopt is the option of the dataplane.
	Adopt bool
	// Redirects are registered before the first step.
	Redirects []Redirect
	Steps     []Step

	dump *string // wanted at the end; nil: what the golden file has
}

// Redirect is a registered stray.
type Redirect struct {
	Client  string // "address:port"
	Service lb.ServiceKey
	Node    string // the owner
	Until   uint32
}

// Limits are those that every vector fits in.
var Limits = dataplane.Limits{Nodes: 16, Backends: 64, Services: 32, Lines: 4096}

// PastTicks is how long slots keep their past in the vectors.
const PastTicks = 100_000

// Datapath is what a vector runs through: fresh, with the vector's Settings
// and Limits at least.
type Datapath interface {
	Maps() dataplane.Maps
	// Forward gives the packet to the ingress or the egress path. out are all
	// frames that leave, in order: none for pass and drop. Frames that
	// the datapath cannot be given are refused with ok false.
	Forward(way Way, frame []byte, tick uint32) (reason forward.Reason, out [][]byte, ok bool)
	// Records are the flow table's by index. Ticks in it are those given to Forward.
	Records() []flow.Record
	SetRecord(index int, r flow.Record)
	// SetConntrack makes the connections all that conntrack knows.
	SetConntrack([]Connection) error
}

// Twin is the Datapath of lb/forward.
type Twin struct {
	Forwarder   *forward.Forwarder
	tables      *forward.Tables
	connections map[forward.Connection]bool // that conntrack knows
}

// NewTwin makes a fresh one.
func NewTwin(t testing.TB, s forward.Settings) *Twin {
	t.Helper()
	w := &Twin{tables: forward.NewTables(Limits)}
	s.Conntrack = func(c forward.Connection) bool { return w.connections[c] }
	f, err := forward.NewForwarder(s, w.tables)
	if err != nil {
		t.Fatal(err)
	}
	w.Forwarder = f
	return w
}

// Maps implements Datapath.
func (w *Twin) Maps() dataplane.Maps { return w.tables }

// Records implements Datapath.
func (w *Twin) Records() []flow.Record { return w.Forwarder.Flows().Records() }

// SetRecord implements Datapath.
func (w *Twin) SetRecord(index int, r flow.Record) { w.Forwarder.Flows().Records()[index] = r }

// Forward implements Datapath.
func (w *Twin) Forward(way Way, frame []byte, tick uint32) (forward.Reason, [][]byte, bool) {
	var reason forward.Reason
	var out []byte
	if way == In {
		reason, out = w.Forwarder.Ingress(frame, tick, nil)
	} else {
		reason, out = w.Forwarder.Egress(frame, way == OutForwarded, tick, nil)
	}
	if out == nil {
		return reason, nil, true
	}
	frames := [][]byte{out}
	for {
		next, more := w.Forwarder.More(nil)
		if !more {
			return reason, frames, true
		}
		frames = append(frames, next)
	}
}

// Run takes the vector through d and reports every difference, at last in the
// flow table.
func (v Vector) Run(t testing.TB, d Datapath) {
	t.Helper()
	if got, want := v.Records(t, d), v.WantRecords(); got != want {
		t.Errorf("flow table:\n%swant:\n%s", got, want)
	}
}

// Records is Run but for the comparison of the flow table, whose Dump it returns.
func (v Vector) Records(t testing.TB, d Datapath) string {
	t.Helper()
	var tick uint32
	if len(v.Steps) > 0 {
		tick = v.Steps[0].Tick
	}
	plane := v.setUp(t, d, &tick)
	for i, s := range v.Steps {
		tick = s.Tick
		if err := s.prepare(plane, d); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		s.run(t, i, d)
	}
	return Dump(d.Records(), v.names(), tick)
}

func (v Vector) setUp(t testing.TB, d Datapath, tick *uint32) *dataplane.Dataplane {
	t.Helper()
	plane := v.syncAll(t, d.Maps(), tick)
	if v.Break != nil {
		if err := v.Break(d.Maps()); err != nil {
			t.Fatal(err)
		}
	}
	if len(v.Redirects) == 0 {
		return plane
	}
	// The twin chooses the places; SetRecord carries them over.
	twin := NewTwin(t, v.Settings)
	v.syncAll(t, twin.Maps(), tick)
	for _, r := range v.Redirects {
		v.register(t, twin.Forwarder.Flows(), plane, d.Maps(), r, *tick)
	}
	for i, r := range twin.Records() {
		if r.Kind != flow.Free {
			d.SetRecord(i, r)
		}
	}
	return plane
}

func (v Vector) syncAll(t testing.TB, maps dataplane.Maps, tick *uint32) *dataplane.Dataplane {
	t.Helper()
	plane, err := dataplane.New(maps, dataplane.Options{PastTicks: PastTicks, Now: func() uint32 { return *tick }, Adopt: v.Adopt})
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range v.Tables {
		if err := plane.Sync(table); err != nil {
			t.Fatal(err)
		}
	}
	return plane
}

func (v Vector) register(t testing.TB, flows *flow.Table, plane *dataplane.Dataplane, maps dataplane.Maps, r Redirect, tick uint32) {
	t.Helper()
	id, ok := plane.ServiceID(r.Service)
	if !ok {
		t.Fatalf("redirect: service %s is not there", r.Service)
	}
	node, err := NodeID(maps, r.Node)
	if err != nil {
		t.Fatal(err)
	}
	client := netip.MustParseAddrPort(r.Client)
	key := flow.Key{
		Client: client.Addr().As16(), Port: client.Port(), Proto: uint8(r.Service.Proto),
		Service: id, ServiceTag: r.Service.Tag(),
	}
	record := flow.Record{Node: node, Until: r.Until, Slot: flow.SlotUnknown, State: flow.Established}
	if flows.PutRedirect(&key, record, tick) != flow.Inserted {
		t.Fatal("redirect: no place")
	}
}
