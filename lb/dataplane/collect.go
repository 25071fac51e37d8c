// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/lb"
)

// removeService removes a service port that no table wants. What it shares with
// others, backends and the VIP, is left to collect.
func (d *Dataplane) removeService(key lb.ServiceKey) error {
	s := d.services[key]
	if s == nil {
		return nil
	}
	if err := s.entry.drop(func() error { return d.maps.DeleteService(s.id, key) }); err != nil {
		return fmt.Errorf("delete service: %w", err)
	}
	d.pasts.set(s, 0)
	for _, r := range append(s.former, s.region) {
		d.regions.release(r)
	}
	s.former, s.region = nil, nil
	if err := d.clearService(s); err != nil {
		return err
	}
	delete(d.services, key)
	d.adopt(s, false)
	if s.vip.users--; s.vip.users == 0 {
		d.idleVIPs[key.VIP] = s.vip
	}
	return nil
}

// clearService removes what lies around a service's record and frees its id.
func (d *Dataplane) clearService(s *service) error {
	if err := d.dropEndpoints(s, nil); err != nil {
		return err
	}
	if err := d.dropRanges(s, nil); err != nil {
		return err
	}
	for b := range s.claims {
		d.unclaim(s, b)
	}
	d.serviceIDs.give(uint32(s.id))
	return nil
}

// collect deletes what no service uses: VIPs, remains that were taken over,
// backends, and then nodes, which backends refer to. freed says that there is
// room again. What fails is tried again by the next call.
func (d *Dataplane) collect() (freed bool, errs []error) {
	for _, addr := range slices.SortedFunc(maps.Keys(d.idleVIPs), netip.Addr.Compare) {
		if err := d.vips[addr].entry.drop(func() error { return d.maps.DeleteVIP(addr) }); err != nil {
			errs = append(errs, fmt.Errorf("delete VIP %s: %w", addr, err))
			continue
		}
		delete(d.vips, addr)
		delete(d.idleVIPs, addr)
	}
	for _, id := range slices.Sorted(maps.Keys(d.orphans)) {
		if err := d.clearService(d.orphans[id]); err != nil {
			errs = append(errs, fmt.Errorf("service id %d, without a key: %w", id, err))
			continue
		}
		delete(d.orphans, id)
		freed = true
	}
	backends, err := d.collectBackends()
	nodes, err2 := d.collectNodes()
	if err := errors.Join(err, err2); err != nil {
		errs = append(errs, err)
	}
	return freed || backends || nodes, errs
}

func (d *Dataplane) collectBackends() (freed bool, err error) {
	var errs []error
	for _, id := range slices.Sorted(maps.Keys(d.idleBackends)) {
		b := d.idleBackends[id]
		entry := b.entry.value
		if err := b.entry.drop(func() error { return d.maps.DeleteBackend(id) }); err != nil {
			errs = append(errs, fmt.Errorf("delete backend %s: %w", entry.Addr, err))
			continue
		}
		delete(d.idleBackends, id)
		if d.backends[entry] == b {
			delete(d.backends, entry)
		}
		d.backendIDs.give(uint32(id))
		freed = true
	}
	return freed, errors.Join(errs...)
}

func (d *Dataplane) collectNodes() (freed bool, err error) {
	if len(d.idleNodes) == 0 {
		return false, nil
	}
	used := map[lb.NodeID]bool{}
	for entry := range d.backends {
		used[entry.Node] = true
	}
	for _, b := range d.idleBackends { // also those that were taken over twice
		used[b.entry.value.Node] = true
	}
	var errs []error
	for _, id := range slices.Sorted(maps.Keys(d.idleNodes)) {
		n := d.idleNodes[id]
		if used[id] {
			continue
		}
		if err := n.entry.drop(func() error { return d.maps.DeleteNode(id) }); err != nil {
			errs = append(errs, fmt.Errorf("delete node %q: %w", n.name, err))
			continue
		}
		delete(d.idleNodes, id)
		if d.nodes[n.name] == n {
			delete(d.nodes, n.name)
		}
		d.nodeIDs.give(uint32(id))
		freed = true
	}
	return freed, errors.Join(errs...)
}
