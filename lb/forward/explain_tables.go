// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/packet"
)

// PathMTU is what routers said about the way to a node.
type PathMTU struct {
	MTU   int    // bytes; 0: nothing
	Until uint32 // the last tick at which it counts
}

// PathMTU is what was learned about the way to a node, even if its time is
// over. Any goroutine may ask.
func (t *Tables) PathMTU(id lb.NodeID) PathMTU {
	if int(id) >= len(t.nodes) {
		return PathMTU{}
	}
	word := t.nodes[id].path.word.Load()
	return PathMTU{MTU: int(word & 0xffff), Until: uint32(word >> 32)}
}

func (p *pathMTU) set(m PathMTU) {
	if m.MTU == 0 {
		p.forget()
		return
	}
	p.word.Store(uint64(m.Until)<<32 | uint64(m.MTU&0xffff))
}

func (t *Tables) target(service lb.ServiceID, id lb.BackendID) Target {
	b := t.backend(id)
	if b.tag == 0 {
		return Target{}
	}
	endpoint, ok := t.endpoint(service, b.tag)
	addr := netip.AddrPortFrom(netip.AddrFrom16(b.addr).Unmap(), b.port)
	return Target{Addr: addr, Node: b.node, Endpoint: ok, Draining: endpoint.Draining}
}

// portsOf are the service ports of a VIP.
func (t *Tables) portsOf(vip packet.Addr) []lb.ServiceKey {
	var ports []lb.ServiceKey
	for i := range t.services {
		if s := &t.services[i]; s.tag != 0 && s.vip == vip {
			ports = append(ports, s.entry.Key)
		}
	}
	slices.SortFunc(ports, lb.ServiceKey.Compare)
	return ports
}

// list is never nil: with no range, nobody is admitted.
func (r *sourceRanges) list() []netip.Prefix {
	prefixes := []netip.Prefix{}
	if r == nil {
		return prefixes
	}
	for key := range r.prefixes {
		prefixes = append(prefixes, key.prefix())
	}
	slices.SortFunc(prefixes, netip.Prefix.Compare)
	return prefixes
}
