// SPDX-License-Identifier: Apache-2.0

package dataplanetest

import (
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/dataplane"
	"github.com/fairlead/fairlead/lb/maglev"
)

// Load returns copies. As from BPF maps, it finds services by their keys.
func (m *Maps) Load() (dataplane.State, error) {
	if m.crashed {
		return dataplane.State{}, ErrCrashed
	}
	st := dataplane.State{
		Nodes:        maps.Clone(m.nodes),
		Backends:     maps.Clone(m.backends),
		Endpoints:    maps.Clone(m.endpoints),
		Services:     map[lb.ServiceID]dataplane.ServiceEntry{},
		SourceRanges: maps.Clone(m.ranges),
		VIPs:         maps.Clone(m.vips),
	}
	for _, id := range m.keys {
		st.Services[id] = m.records[id]
	}
	return st, nil
}

// ReadTable returns a copy. As from BPF maps, it finds the length of the list only
// by the highest index in slots and pasts.
func (m *Maps) ReadTable(ref dataplane.TableRef) (dataplane.LookupTable, bool) {
	t, ok := m.table(ref)
	if m.crashed || !ok {
		return dataplane.LookupTable{}, false
	}
	t.Slots, t.Past = slices.Clone(t.Slots), slices.Clone(t.Past)
	t.List = slices.Clone(t.List[:used(t)])
	return t, true
}

func used(t dataplane.LookupTable) int {
	n := 0
	for _, s := range t.Slots {
		n = max(n, int(s)+1)
	}
	for _, past := range t.Past {
		for _, p := range past {
			if p != dataplane.NoBackend {
				n = max(n, int(p)+1)
			}
		}
	}
	return n
}

// table returns the region that ref names; its generation has to agree.
func (m *Maps) table(ref dataplane.TableRef) (dataplane.LookupTable, bool) {
	r, ok := m.regions[ref.Line]
	if !ok || ref.Size == 0 || r.ref.Generation != ref.Generation {
		return dataplane.LookupTable{}, false
	}
	return r.table, true
}

// reachable returns the record of a service whose key finds it.
func (m *Maps) reachable(id lb.ServiceID) dataplane.ServiceEntry {
	e := m.records[id]
	if found, ok := m.keys[e.Key]; ok && found == id {
		return e
	}
	return dataplane.ServiceEntry{}
}

func (m *Maps) checkTable(r region) {
	ref, t := r.ref, r.table
	switch {
	case ref.Size == 0 || int(ref.Size) > len(maglev.Sizes) || len(t.Slots) != maglev.Sizes[ref.Size-1]:
		m.problem("%d slots are not of size %d", len(t.Slots), ref.Size)
	case ref.Generation == 0 || ref.Generation >= 1<<18:
		m.problem("generation %d", ref.Generation)
	case ref.Transition != (t.Past != nil) || ref.Transition && len(t.Past) != len(t.Slots):
		m.problem("transition %v and %d pasts", ref.Transition, len(t.Past))
	case ref.Line+r.lines > m.limits.Lines:
		m.problem("ends at line %d of %d", ref.Line+r.lines, m.limits.Lines)
	case used(t) > len(t.List):
		m.problem("index %d in a list of %d", used(t)-1, len(t.List))
	case used(t) < len(t.List):
		m.problem("list of %d, of which %d are used", len(t.List), used(t))
	default:
		m.checkPast(t)
	}
	for key, id := range m.keys {
		o, ok := m.regions[m.records[id].Table.Line]
		if ok && m.records[id].Table.Size != 0 && ref.Line < o.ref.Line+o.lines && o.ref.Line < ref.Line+r.lines {
			m.problem("overlaps the table of %s", key)
		}
	}
}

func (m *Maps) checkPast(t dataplane.LookupTable) {
	for i, past := range t.Past {
		for k, p := range past {
			if p != dataplane.NoBackend && (p == t.Slots[i] || slices.Contains(past[:k], p)) {
				m.problem("slot %d: %d is twice in home %d and past %v", i, p, t.Slots[i], past)
				return
			}
			if p != dataplane.NoBackend && k > 0 && past[k-1] == dataplane.NoBackend {
				m.problem("slot %d: past %v has a gap", i, past)
				return
			}
		}
	}
}

func (m *Maps) checkService(id lb.ServiceID, e dataplane.ServiceEntry) {
	if int(id) >= m.limits.Services {
		m.problem("id is out of range")
	}
	if other, ok := m.keys[e.Key]; ok && other != id {
		m.problem("the key is service %d's", other)
	}
	if e.Table.Size == 0 {
		return
	}
	t, ok := m.table(e.Table)
	if !ok {
		m.problem("its table is not there")
		return
	}
	if (e.PastUntil != 0) != e.Table.Transition {
		m.problem("past until %d, transition %v", e.PastUntil, e.Table.Transition)
	}
	draining, ready := lb.BackendID(0), false // that have slots
	for i, b := range t.List {
		entry, ok := m.backends[b]
		if !ok {
			m.problem("backend %d is not there", b)
			continue
		}
		endpoint, ok := m.endpoints[dataplane.EndpointKey{Service: id, Wire: lb.WireIDOf(entry.Addr)}]
		if !ok || endpoint.Backend != b {
			m.problem("backend %d has no endpoint", b)
		} else if slices.Contains(t.Slots, uint16(i)) {
			if endpoint.Draining {
				draining = b
			}
			ready = ready || !endpoint.Draining
		}
	}
	if draining != 0 && ready {
		m.problem("backend %d is draining and has slots beside one that is not", draining)
	}
}

// Dump writes everything that forwarding depends on by names instead of ids and
// places, sorted: two datapaths with equal dumps forward alike.
func (m *Maps) Dump() string {
	var lines []string
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	for _, e := range m.nodes {
		add("node %s", e.Addr)
	}
	for _, e := range m.backends {
		add("backend %s on %s", e.Addr, m.nodeName(e.Node))
	}
	for vip := range m.vips {
		add("vip %s", vip)
	}
	for k, e := range m.endpoints {
		add("%s: endpoint %s draining %v", m.serviceName(k.Service), m.backends[e.Backend].Addr, e.Draining)
	}
	for k := range m.ranges {
		add("%s: source range %s", m.serviceName(k.Service), k.Prefix)
	}
	for key, id := range m.keys {
		e := m.records[id]
		add("%s: left %v adopted %v local %v closed %v elsewhere %v affinity %d ranges %v", key, e.Left, e.Adopted, e.Local, e.Closed, e.Elsewhere, e.AffinityTicks, e.HasRanges)
		add("%s: %s, past until %d", key, m.tableText(e.Table), e.PastUntil)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func (m *Maps) nodeName(id lb.NodeID) string {
	if id == lb.SelfNode {
		return "self"
	}
	return m.nodes[id].Addr.String()
}

func (m *Maps) serviceName(id lb.ServiceID) string {
	if e := m.reachable(id); e.Key.VIP.IsValid() {
		return e.Key.String()
	}
	return "no service"
}

func (m *Maps) tableText(ref dataplane.TableRef) string {
	if ref.Size == 0 {
		return "no table"
	}
	t, ok := m.table(ref)
	if !ok {
		return "stale table"
	}
	h, pasts := fnv.New64a(), 0
	for i, s := range t.Slots {
		fmt.Fprint(h, m.backends[t.List[s]].Addr)
		if t.Past == nil {
			continue
		}
		for _, p := range t.Past[i] {
			if p != dataplane.NoBackend {
				pasts++
				fmt.Fprint(h, " ", m.backends[t.List[p]].Addr)
			}
		}
	}
	return fmt.Sprintf("table of %d, hash %04x, %d pasts, content %016x", len(t.Slots), ref.Hash, pasts, h.Sum64())
}
