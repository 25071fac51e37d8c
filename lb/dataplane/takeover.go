// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/maglev"
)

// takeOver makes what the datapath holds our own. Everything goes by id, lowest
// first, so that the outcome is the same each time. What is twice there or refers
// to what is not there is kept aside for the first Sync to remove.
func (d *Dataplane) takeOver(st State) {
	d.takeOverNodes(st)
	byID := d.takeOverBackends(st)
	for addr := range st.VIPs {
		v := d.vipFor(addr)
		v.entry = held[netip.Addr]{addr, present}
		d.idleVIPs[addr] = v
	}
	d.takeOverServices(st, byID)
	if len(st.Services) > 0 || len(d.orphans) > 0 {
		d.opts.Logger.Info("took over the datapath's state", "services", len(d.services), "orphans", len(d.orphans),
			"backends", len(byID), "nodes", len(st.Nodes))
	}
}

func (d *Dataplane) takeOverNodes(st State) {
	taken := map[uint32]bool{}
	for _, id := range slices.Sorted(maps.Keys(st.Nodes)) {
		n := &node{id: id, entry: held[NodeEntry]{st.Nodes[id], present}}
		taken[uint32(id)] = true
		if _, twice := d.strayNodes[n.entry.value.Addr]; twice {
			d.idleNodes[id] = n
		} else {
			d.strayNodes[n.entry.value.Addr] = n
		}
	}
	d.nodeIDs = newPool(uint32(lb.SelfNode)+1, d.limits.Nodes, taken)
}

func (d *Dataplane) takeOverBackends(st State) map[lb.BackendID]*backend {
	taken := map[uint32]bool{}
	byID := map[lb.BackendID]*backend{}
	for _, id := range slices.Sorted(maps.Keys(st.Backends)) {
		b := &backend{id: id, entry: held[BackendEntry]{st.Backends[id], present}}
		taken[uint32(id)] = true
		byID[id] = b
		d.idleBackends[id] = b
		if d.backends[b.entry.value] == nil {
			d.backends[b.entry.value] = b
		}
	}
	d.backendIDs = newPool(1, d.limits.Backends, taken)
	return byID
}

func (d *Dataplane) takeOverServices(st State, byID map[lb.BackendID]*backend) {
	taken := map[uint32]bool{}
	all := map[lb.ServiceID]*service{}
	orphan := func(id lb.ServiceID) *service {
		if all[id] == nil {
			all[id] = newService(id, lb.ServiceKey{})
			d.orphans[id] = all[id]
			taken[uint32(id)] = true
		}
		return all[id]
	}
	for _, id := range slices.Sorted(maps.Keys(st.Services)) {
		entry := st.Services[id]
		if d.services[entry.Key] != nil {
			orphan(id) // the key can find only one of them
			continue
		}
		all[id] = newService(id, entry.Key)
		all[id].entry = held[ServiceEntry]{entry, present}
		d.adopt(all[id], entry.Adopted)
		taken[uint32(id)] = true
		d.join(all[id])
		d.pasts.set(all[id], entry.PastUntil)
	}
	for k, e := range st.Endpoints {
		s := orphan(k.Service)
		s.endpoints[k.Wire] = held[EndpointEntry]{e, present}
		if b := byID[e.Backend]; b != nil {
			d.claim(s, b)
		}
	}
	for k := range st.SourceRanges {
		orphan(k.Service).ranges[k.Prefix] = held[struct{}]{state: present}
	}
	d.serviceIDs = newPool(0, d.limits.Services, taken)
	d.takeOverTables(byID)
}

func (d *Dataplane) takeOverTables(byID map[lb.BackendID]*backend) {
	d.regions = newRegions(d.limits.Lines)
	adopted := map[TableRef]*region{}
	var unreadable []*service // they come last: what is known of their places is less
	for _, key := range slices.SortedFunc(maps.Keys(d.services), lb.ServiceKey.Compare) {
		s := d.services[key]
		ref := s.entry.value.Table
		if ref.Size == 0 {
			continue
		}
		if adopted[ref] == nil {
			if t, ok := d.maps.ReadTable(ref); ok && sane(ref, t, byID) {
				adopted[ref] = d.regions.adopt(ref, t)
			}
		}
		if adopted[ref] == nil {
			unreadable = append(unreadable, s)
		} else {
			d.use(s, adopted[ref], byID)
		}
	}
	for _, s := range unreadable {
		d.opts.Logger.Warn("lookup table taken over is not usable: its past is lost", "service", s.key.String())
		ref := s.entry.value.Table
		if adopted[ref] == nil {
			adopted[ref] = d.regions.adoptUnreadable(ref, len(s.endpoints))
		}
		d.use(s, adopted[ref], byID)
	}
}

func (d *Dataplane) use(s *service, r *region, byID map[lb.BackendID]*backend) {
	r.users++
	s.region = r
	for _, id := range r.list {
		d.claim(s, byID[id])
	}
}

// sane says that everything that a table refers to is there.
func sane(ref TableRef, t LookupTable, byID map[lb.BackendID]*backend) bool {
	if int(ref.Size) > len(maglev.Sizes) || len(t.Slots) != maglev.Sizes[ref.Size-1] {
		return false
	}
	if ref.Transition != (t.Past != nil) || ref.Transition && len(t.Past) != len(t.Slots) {
		return false
	}
	for _, id := range t.List {
		if byID[id] == nil {
			return false
		}
	}
	for _, slot := range t.Slots {
		if int(slot) >= len(t.List) {
			return false
		}
	}
	for _, past := range t.Past {
		for _, p := range past {
			if p != NoBackend && int(p) >= len(t.List) {
				return false
			}
		}
	}
	return true
}
