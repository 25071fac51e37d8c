// SPDX-License-Identifier: Apache-2.0

// Package dataplanetest has Maps in memory for tests. They hold real state, check
// at every write that what it refers to is there, and can fail or crash at any one.
package dataplanetest

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/dataplane"
)

// ErrInjected is what an operation returns that Fail has chosen.
var ErrInjected = errors.New("injected failure")

// ErrCrashed is what every operation returns from a crash until Restart.
var ErrCrashed = errors.New("crashed")

// Failure says how far a failing operation gets.
type Failure int

// The failures. Torn is half of the effect, for the operations that are more
// than one write: PutService (the record without the key), DeleteService (the key
// without the record) and WriteTable (nothing readable); others do nothing then.
const (
	Before Failure = iota
	After
	Torn
)

// String names the failure for the names of subtests.
func (f Failure) String() string { return [...]string{"before", "after", "torn"}[f] }

type region struct {
	ref   dataplane.TableRef
	table dataplane.LookupTable
	lines uint32
}

// Maps are dataplane.Maps in memory.
type Maps struct {
	limits    dataplane.Limits
	nodes     map[lb.NodeID]dataplane.NodeEntry
	backends  map[lb.BackendID]dataplane.BackendEntry
	endpoints map[dataplane.EndpointKey]dataplane.EndpointEntry
	records   map[lb.ServiceID]dataplane.ServiceEntry
	keys      map[lb.ServiceKey]lb.ServiceID
	regions   map[uint32]region // by first line
	ranges    map[dataplane.SourceRangeKey]bool
	vips      map[netip.Addr]bool

	ops       []string
	problems  []string
	countdown int // the operation that brings it to 0 fails
	failure   Failure
	crash     bool // the failing operation is the last one
	crashed   bool
}

var _ dataplane.Maps = (*Maps)(nil)

// New returns empty Maps of that size.
func New(limits dataplane.Limits) *Maps {
	return &Maps{
		limits:    limits,
		nodes:     map[lb.NodeID]dataplane.NodeEntry{},
		backends:  map[lb.BackendID]dataplane.BackendEntry{},
		endpoints: map[dataplane.EndpointKey]dataplane.EndpointEntry{},
		records:   map[lb.ServiceID]dataplane.ServiceEntry{},
		keys:      map[lb.ServiceKey]lb.ServiceID{},
		regions:   map[uint32]region{},
		ranges:    map[dataplane.SourceRangeKey]bool{},
		vips:      map[netip.Addr]bool{},
	}
}

// Fail makes the n-th write from now fail once, counted from 1.
func (m *Maps) Fail(n int, how Failure) { m.countdown, m.failure, m.crash = n, how, false }

// Crash makes the n-th write from now, counted from 1, fail and every call after
// it, until Restart.
func (m *Maps) Crash(n int, how Failure) { m.countdown, m.failure, m.crash = n, how, true }

// Crashed says that a crash has happened.
func (m *Maps) Crashed() bool { return m.crashed }

// Restart ends a crash and forgets failures that have not happened.
func (m *Maps) Restart() { m.countdown, m.crashed = 0, false }

// Ops returns the writes since the last call, also the failed ones, and forgets them.
func (m *Maps) Ops() []string {
	ops := m.ops
	m.ops = nil
	return ops
}

// Problems are the writes that left something referring to what is not there.
func (m *Maps) Problems() []string { return m.problems }

func (m *Maps) problem(format string, args ...any) {
	m.problems = append(m.problems, fmt.Sprintf("write %d, %s: ", len(m.ops), m.ops[len(m.ops)-1])+fmt.Sprintf(format, args...))
}

// op does one write, or as much of it as the chosen failure leaves.
func (m *Maps) op(name string, check, effect, torn func()) error {
	if m.crashed {
		return ErrCrashed
	}
	m.ops = append(m.ops, name)
	check()
	if m.countdown > 0 {
		m.countdown--
		if m.countdown == 0 {
			return m.fail(effect, torn)
		}
	}
	effect()
	return nil
}

func (m *Maps) fail(effect, torn func()) error {
	switch m.failure {
	case After:
		effect()
	case Torn:
		torn()
	}
	if m.crash {
		m.crashed = true
		return ErrCrashed
	}
	return ErrInjected
}

func nothing() {}

// PutNode writes a node; its name is not stored, as in BPF maps.
func (m *Maps) PutNode(id lb.NodeID, e dataplane.NodeEntry) error {
	check := func() {
		if id == lb.SelfNode || int(id) >= m.limits.Nodes {
			m.problem("id is out of range")
		}
		if !e.Addr.IsValid() {
			m.problem("no address")
		}
	}
	name := fmt.Sprintf("put node %d %s", id, e.Addr)
	return m.op(name, check, func() { m.nodes[id] = dataplane.NodeEntry{Addr: e.Addr} }, nothing)
}

// DeleteNode deletes a node.
func (m *Maps) DeleteNode(id lb.NodeID) error {
	check := func() {
		for b, e := range m.backends {
			if e.Node == id {
				m.problem("backend %d is on it", b)
			}
		}
	}
	return m.op(fmt.Sprintf("delete node %d", id), check, func() { delete(m.nodes, id) }, nothing)
}

// PutBackend writes a backend.
func (m *Maps) PutBackend(id lb.BackendID, e dataplane.BackendEntry) error {
	check := func() {
		if id == 0 || int(id) >= m.limits.Backends {
			m.problem("id is out of range")
		}
		if _, ok := m.nodes[e.Node]; !ok && e.Node != lb.SelfNode {
			m.problem("node %d is not there", e.Node)
		}
		for other, o := range m.backends {
			if other != id && o == e {
				m.problem("backend %d is the same", other)
			}
		}
	}
	name := fmt.Sprintf("put backend %d %s on node %d", id, e.Addr, e.Node)
	return m.op(name, check, func() { m.backends[id] = e }, nothing)
}

// DeleteBackend deletes a backend.
func (m *Maps) DeleteBackend(id lb.BackendID) error {
	check := func() {
		for k, e := range m.endpoints {
			if e.Backend == id {
				m.problem("endpoint %#x of service %d refers to it", uint32(k.Wire), k.Service)
			}
		}
		for key, service := range m.keys {
			if t, ok := m.table(m.records[service].Table); ok && slices.Contains(t.List, id) {
				m.problem("the table of %s lists it", key)
			}
		}
	}
	return m.op(fmt.Sprintf("delete backend %d", id), check, func() { delete(m.backends, id) }, nothing)
}

// PutEndpoint writes an endpoint.
func (m *Maps) PutEndpoint(id lb.ServiceID, wire lb.WireID, e dataplane.EndpointEntry) error {
	check := func() {
		if b, ok := m.backends[e.Backend]; !ok {
			m.problem("backend %d is not there", e.Backend)
		} else if lb.WireIDOf(b.Addr) != wire {
			m.problem("backend %d is %s, whose wire id is another", e.Backend, b.Addr)
		}
	}
	k := dataplane.EndpointKey{Service: id, Wire: wire}
	name := fmt.Sprintf("put endpoint %d/%#x backend %d draining %v", id, uint32(wire), e.Backend, e.Draining)
	return m.op(name, check, func() { m.endpoints[k] = e }, nothing)
}

// DeleteEndpoint deletes an endpoint.
func (m *Maps) DeleteEndpoint(id lb.ServiceID, wire lb.WireID) error {
	k := dataplane.EndpointKey{Service: id, Wire: wire}
	check := func() {
		t, _ := m.table(m.reachable(id).Table)
		if e, ok := m.endpoints[k]; ok && slices.Contains(t.List, e.Backend) {
			m.problem("the service's table lists backend %d", e.Backend)
		}
	}
	return m.op(fmt.Sprintf("delete endpoint %d/%#x", id, uint32(wire)), check, func() { delete(m.endpoints, k) }, nothing)
}

// WriteTable fills a region and destroys what overlaps it.
func (m *Maps) WriteTable(ref dataplane.TableRef, t dataplane.LookupTable) error {
	r := region{ref: ref, lines: dataplane.SlotLines(len(t.Slots), ref.Transition) + dataplane.ListLines(len(t.List))}
	r.table = dataplane.LookupTable{Slots: slices.Clone(t.Slots), Past: slices.Clone(t.Past), List: slices.Clone(t.List)}
	destroy := func() {
		maps.DeleteFunc(m.regions, func(line uint32, o region) bool { return line < ref.Line+r.lines && ref.Line < line+o.lines })
	}
	effect := func() {
		destroy()
		m.regions[ref.Line] = r
	}
	name := fmt.Sprintf("write table line %d size %d transition %v", ref.Line, ref.Size, ref.Transition)
	return m.op(name, func() { m.checkTable(r) }, effect, destroy)
}

// PutSourceRange writes a source range.
func (m *Maps) PutSourceRange(id lb.ServiceID, p netip.Prefix) error {
	k := dataplane.SourceRangeKey{Service: id, Prefix: p}
	return m.op(fmt.Sprintf("put source range %d %s", id, p), nothing, func() { m.ranges[k] = true }, nothing)
}

// DeleteSourceRange deletes a source range.
func (m *Maps) DeleteSourceRange(id lb.ServiceID, p netip.Prefix) error {
	k := dataplane.SourceRangeKey{Service: id, Prefix: p}
	return m.op(fmt.Sprintf("delete source range %d %s", id, p), nothing, func() { delete(m.ranges, k) }, nothing)
}

// PutService writes the record and then the key.
func (m *Maps) PutService(id lb.ServiceID, e dataplane.ServiceEntry) error {
	record := func() { m.records[id] = e }
	effect := func() {
		record()
		m.keys[e.Key] = id
	}
	name := fmt.Sprintf("put service %d %s", id, e.Key)
	return m.op(name, func() { m.checkService(id, e) }, effect, record)
}

// DeleteService deletes the key and then the record.
func (m *Maps) DeleteService(id lb.ServiceID, key lb.ServiceKey) error {
	check := func() {
		if other, ok := m.keys[key]; ok && other != id {
			m.problem("the key is service %d's", other)
		}
	}
	unkey := func() { delete(m.keys, key) }
	effect := func() {
		unkey()
		delete(m.records, id)
	}
	return m.op(fmt.Sprintf("delete service %d %s", id, key), check, effect, unkey)
}

// PutVIP writes a VIP.
func (m *Maps) PutVIP(a netip.Addr) error {
	return m.op("put VIP "+a.String(), nothing, func() { m.vips[a] = true }, nothing)
}

// DeleteVIP deletes a VIP.
func (m *Maps) DeleteVIP(a netip.Addr) error {
	check := func() {
		for k := range m.keys {
			if k.VIP == a {
				m.problem("%s is on it", k)
			}
		}
	}
	return m.op("delete VIP "+a.String(), check, func() { delete(m.vips, a) }, nothing)
}

// Limits returns what New was given.
func (m *Maps) Limits() dataplane.Limits { return m.limits }
