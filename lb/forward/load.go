// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"maps"
	"net/netip"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/dataplane"
)

// Load implements dataplane.Maps. The State is the caller's.
func (t *Tables) Load() (dataplane.State, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	s := dataplane.State{
		Nodes:        map[lb.NodeID]dataplane.NodeEntry{},
		Backends:     map[lb.BackendID]dataplane.BackendEntry{},
		Endpoints:    maps.Clone(t.endpoints),
		Services:     map[lb.ServiceID]dataplane.ServiceEntry{},
		SourceRanges: map[dataplane.SourceRangeKey]bool{},
		VIPs:         map[netip.Addr]bool{},
	}
	for id := range t.nodes {
		if n := &t.nodes[id]; n.version != 0 {
			s.Nodes[lb.NodeID(id)] = n.entry
		}
	}
	for id, b := range t.backends {
		if b.tag != 0 {
			addr := netip.AddrPortFrom(netip.AddrFrom16(b.addr).Unmap(), b.port)
			s.Backends[lb.BackendID(id)] = dataplane.BackendEntry{Addr: addr, Node: b.node}
		}
	}
	for key := range t.vips.all {
		s.VIPs[netip.AddrFrom16(key.addr()).Unmap()] = true
	}
	t.loadServices(&s)
	return s, nil
}

func (t *Tables) loadServices(s *dataplane.State) {
	for id, svc := range t.services {
		if svc.tag == 0 {
			continue
		}
		s.Services[lb.ServiceID(id)] = svc.entry
	}
	for id, r := range t.ranges {
		for key := range r.prefixes {
			s.SourceRanges[dataplane.SourceRangeKey{Service: id, Prefix: key.prefix()}] = true
		}
	}
}

func (k rangeKey) prefix() netip.Prefix {
	addr, bits := netip.AddrFrom16(k.addr), int(k.bits)
	if addr.Is4In6() && bits >= 96 {
		return netip.PrefixFrom(addr.Unmap(), bits-96)
	}
	return netip.PrefixFrom(addr, bits)
}
