// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/maglev"
)

// service is what the datapath holds for a service port.
type service struct {
	id     lb.ServiceID
	key    lb.ServiceKey
	entry  held[ServiceEntry]
	region *region // of the table that entry names; nil: none
	// former are regions that the datapath's record may still name, because
	// writes of later ones failed.
	former    []*region
	endpoints mirror[lb.WireID, EndpointEntry]
	ranges    mirror[netip.Prefix, struct{}]
	claims    map[*backend]bool
	vip       *vip // nil for the remains of a service whose key is gone
	// pastUntil is entry's PastUntil, and pastPlace where the service is in pasts
	// if that is not 0.
	pastUntil uint32
	pastPlace int
}

func newService(id lb.ServiceID, key lb.ServiceKey) *service {
	return &service{
		id:        id,
		key:       key,
		endpoints: mirror[lb.WireID, EndpointEntry]{},
		ranges:    mirror[netip.Prefix, struct{}]{},
		claims:    map[*backend]bool{},
	}
}

// serviceFor returns the service with that key, if need be a new one.
func (d *Dataplane) serviceFor(key lb.ServiceKey) (*service, error) {
	if s := d.services[key]; s != nil {
		return s, nil
	}
	id, ok := d.serviceIDs.take()
	if !ok {
		return nil, fmt.Errorf("%w: %d services are the limit", ErrFull, d.limits.Services)
	}
	s := newService(lb.ServiceID(id), key)
	d.adopt(s, d.opts.Adopt)
	d.join(s)
	return s, nil
}

// join enters the service and counts it as a user of its VIP.
func (d *Dataplane) join(s *service) {
	d.services[s.key] = s
	s.vip = d.vipFor(s.key.VIP)
	s.vip.users++
	delete(d.idleVIPs, s.key.VIP)
}

// applyService brings one service port to what is wanted. Up to the write of the
// service's record nothing is taken away that the old table may refer to, so
// that forwarding is right wherever it stops.
func (d *Dataplane) applyService(want *lb.Service, now uint32) error {
	s, err := d.serviceFor(want.Key)
	if err != nil {
		return err
	}
	if s.entry.value.Left && !want.Left {
		d.adopt(s, d.opts.Adopt)
	}
	live, err := d.putBackends(s, want)
	if err != nil {
		return err
	}
	if err := d.putEndpoints(s, want, live); err != nil {
		return err
	}
	for _, p := range want.SourceRanges {
		if err := s.ranges.put(p, struct{}{}, func() error { return d.maps.PutSourceRange(s.id, p) }); err != nil {
			return fmt.Errorf("put source range %s: %w", p, err)
		}
	}
	if err := d.putTable(s, want, live, now); err != nil {
		return err
	}
	if want.Left {
		d.adopt(s, false)
	}
	if err := s.vip.entry.put(s.key.VIP, func() error { return d.maps.PutVIP(s.key.VIP) }); err != nil {
		return fmt.Errorf("put VIP: %w", err)
	}
	return d.prune(s, want, live)
}

// putBackends returns the wanted backends in their order.
func (d *Dataplane) putBackends(s *service, want *lb.Service) ([]*backend, error) {
	if n := len(want.Backends); n > NoBackend {
		return nil, fmt.Errorf("%d backends: %d are the limit of a service", n, NoBackend)
	}
	live := make([]*backend, len(want.Backends))
	for i, w := range want.Backends {
		node, err := d.nodeID(w.Node)
		if err != nil {
			return nil, fmt.Errorf("backend %s: %w", w.Addr, err)
		}
		entry := BackendEntry{Addr: w.Addr, Node: node}
		b, err := d.backendFor(entry)
		if err != nil {
			return nil, fmt.Errorf("backend %s: %w", w.Addr, err)
		}
		d.claim(s, b)
		if err := b.entry.put(entry, func() error { return d.maps.PutBackend(b.id, entry) }); err != nil {
			return nil, fmt.Errorf("put backend %s: %w", w.Addr, err)
		}
		live[i] = b
	}
	return live, nil
}

func (d *Dataplane) putEndpoints(s *service, want *lb.Service, live []*backend) error {
	for i, w := range want.Backends {
		wire, entry := w.WireID(), EndpointEntry{Backend: live[i].id, Draining: w.Draining}
		if err := s.endpoints.put(wire, entry, func() error { return d.maps.PutEndpoint(s.id, wire, entry) }); err != nil {
			return fmt.Errorf("put endpoint %s: %w", w.Addr, err)
		}
	}
	return nil
}

// putTable writes the lookup table, if it is new, and then the service's record,
// which swaps it in, if that is new.
func (d *Dataplane) putTable(s *service, want *lb.Service, live []*backend, now uint32) error {
	c, entry, err := d.plan(s, want, live, now)
	if err != nil {
		return err
	}
	var r *region
	if c.table.Slots != nil {
		if r, err = d.place(c); err != nil {
			return err
		}
		entry.Table = r.ref
	}
	if s.region == r {
		d.regions.release(r) // s is its user already
	} else {
		s.former = append(s.former, s.region)
		s.region = r
	}
	d.pasts.set(s, entry.PastUntil)
	if err := s.entry.put(entry, func() error { return d.maps.PutService(s.id, entry) }); err != nil {
		return fmt.Errorf("put service: %w", err)
	}
	for _, f := range s.former {
		d.regions.release(f)
	}
	s.former = nil
	return nil
}

// place returns a region with that content and makes the caller its user.
func (d *Dataplane) place(c content) (*region, error) {
	if r := d.regions.find(c); r != nil {
		r.users++
		return r, nil
	}
	r, err := d.regions.take(c)
	if err != nil {
		return nil, err
	}
	if err := d.maps.WriteTable(r.ref, c.table); err != nil {
		d.regions.release(r)
		return nil, fmt.Errorf("write lookup table: %w", err)
	}
	d.regions.markWritten(r)
	return r, nil
}

// plan says what the lookup table and the record of the service have to be; the
// place of the table is left open. No slots: no table.
func (d *Dataplane) plan(s *service, want *lb.Service, live []*backend, now uint32) (content, ServiceEntry, error) {
	if want.Left {
		return content{}, ServiceEntry{Key: want.Key, Left: true}, nil
	}
	size := slices.Index(maglev.Sizes, want.TableSize)
	if size < 0 {
		return content{}, ServiceEntry{}, fmt.Errorf("table size %d: want one of %v", want.TableSize, maglev.Sizes)
	}
	entry := ServiceEntry{
		Key:           want.Key,
		Adopted:       d.adopted[s.key],
		Local:         want.Policy == lb.Local,
		AffinityTicks: ticks(want.Affinity),
		HasRanges:     want.SourceRanges != nil,
	}
	candidates := want.Backends
	if entry.Local {
		self := d.table.Self()
		candidates = slices.DeleteFunc(slices.Clone(candidates), func(b lb.Backend) bool { return b.Node != self })
	}
	takesNew := func(b lb.Backend) bool { return !b.Draining }
	if !slices.ContainsFunc(candidates, takesNew) {
		entry.Closed = len(candidates) > 0
		entry.Elsewhere = slices.ContainsFunc(want.Backends, takesNew)
	}
	built := maglev.Build(want.TableSize, candidates)
	if built.Slots == nil {
		return content{}, entry, nil
	}
	home, others := split(built, want.Backends, live)
	c := content{size: uint8(size + 1), hash: uint16(built.Hash), table: LookupTable{Slots: built.Slots, List: home}}
	if !entry.Local && (s.region == nil || d.regions.find(c) != s.region) { // else it rests as it did
		entry.PastUntil = d.remember(s, &c.table, others, now)
	}
	return c, entry, nil
}

// split returns the ids of the backends that have slots and those of the others
// that live, both sorted by address.
func split(t maglev.Table, all []lb.Backend, live []*backend) (home, others []lb.BackendID) {
	set := t.Backends
	for i, b := range all {
		if len(set) > 0 && set[0].Addr == b.Addr && len(home) < len(t.Slots) {
			home = append(home, live[i].id)
			set = set[1:]
		} else {
			others = append(others, live[i].id)
		}
	}
	return home, others
}

// remember adds the past to a table at rest and returns when it is over, 0 if
// there is none.
func (d *Dataplane) remember(s *service, t *LookupTable, others []lb.BackendID, now uint32) uint32 {
	if s.region == nil || !s.region.readable || d.opts.PastTicks == 0 {
		return 0
	}
	before, ok := d.maps.ReadTable(s.region.ref)
	if !ok { // somebody else wrote there
		return 0
	}
	until := s.entry.value.PastUntil
	keep := until != 0 && !reached(now, until)
	next, changed := withPast(*t, before, keep, others)
	*t = next
	switch {
	case t.Past == nil:
		return 0
	case changed:
		return max(now+d.opts.PastTicks, 1) // 0 would say that there is no past
	}
	return until
}

// prune removes what the service does not want any more and no table of it
// refers to.
func (d *Dataplane) prune(s *service, want *lb.Service, live []*backend) error {
	wires := make(map[lb.WireID]bool, len(want.Backends))
	for _, w := range want.Backends {
		wires[w.WireID()] = true
	}
	if err := d.dropEndpoints(s, wires); err != nil {
		return err
	}
	if err := d.dropRanges(s, want.SourceRanges); err != nil {
		return err
	}
	if len(s.claims) == len(live) {
		return nil
	}
	kept := make(map[*backend]bool, len(live))
	for _, b := range live {
		kept[b] = true
	}
	for b := range s.claims {
		if !kept[b] {
			d.unclaim(s, b)
		}
	}
	return nil
}

func (d *Dataplane) dropEndpoints(s *service, keep map[lb.WireID]bool) error {
	if len(s.endpoints) == len(keep) {
		return nil // what is to be kept is there
	}
	for _, wire := range slices.Sorted(maps.Keys(s.endpoints)) {
		if keep[wire] {
			continue
		}
		if err := s.endpoints.drop(wire, func() error { return d.maps.DeleteEndpoint(s.id, wire) }); err != nil {
			return fmt.Errorf("delete endpoint %#x: %w", uint32(wire), err)
		}
	}
	return nil
}

func (d *Dataplane) dropRanges(s *service, keep []netip.Prefix) error {
	kept := make(map[netip.Prefix]bool, len(keep))
	for _, p := range keep {
		kept[p] = true
	}
	for _, p := range slices.SortedFunc(maps.Keys(s.ranges), netip.Prefix.Compare) {
		if kept[p] {
			continue
		}
		if err := s.ranges.drop(p, func() error { return d.maps.DeleteSourceRange(s.id, p) }); err != nil {
			return fmt.Errorf("delete source range %s: %w", p, err)
		}
	}
	return nil
}

// ticks rounds up: an affinity is never shorter than asked for.
func ticks(d time.Duration) uint32 {
	return uint32(min((d+Tick-1)/Tick, math.MaxUint32))
}
