// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"fmt"
	"net/netip"
	"sync"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/dataplane"
	"github.com/fairlead/fairlead/lb/packet"
)

// Tables is a datapath's memory: what the BPF maps are for the C programs. It
// implements dataplane.Maps. One goroutine may write while others forward.
type Tables struct {
	limits dataplane.Limits

	mu        sync.RWMutex
	nodes     []node    // by NodeID
	nodeIDs   index     // by address
	backends  []backend // by BackendID
	local     index     // of backends, by address and port
	endpoints map[dataplane.EndpointKey]dataplane.EndpointEntry
	services  []service // by ServiceID
	keys      index     // of services, by VIP, port and protocol
	vips      index     // 0 at each address
	ranges    map[lb.ServiceID]*sourceRanges
	regions   []*region // sorted by line, none overlaps another
}

var _ dataplane.Maps = (*Tables)(nil)

type node struct {
	entry   dataplane.NodeEntry
	addr    packet.Addr
	version uint8 // of addr; 0: the entry is free
	path    pathMTU
}

type backend struct {
	addr packet.Addr
	port uint16
	node lb.NodeID
	tag  uint32 // wire id; 0: the entry is free
}

type service struct {
	entry  dataplane.ServiceEntry
	vip    packet.Addr
	tag    uint32  // 0: the entry is free
	region *region // nil: the entry names none that is there
}

// NewTables makes empty tables of the given capacities.
func NewTables(limits dataplane.Limits) *Tables {
	return &Tables{
		limits:    limits,
		nodes:     make([]node, limits.Nodes),
		backends:  make([]backend, limits.Backends),
		endpoints: map[dataplane.EndpointKey]dataplane.EndpointEntry{},
		services:  make([]service, limits.Services),
		ranges:    map[lb.ServiceID]*sourceRanges{},
	}
}

// BackendIsLocal says that the id still names the backend with the wire id, and
// that it runs on this node. It is for those who are called while a packet is
// forwarded, under that packet's lock.
func (t *Tables) BackendIsLocal(id lb.BackendID, tag uint32) bool {
	b := t.backend(id)
	return b.tag == tag && b.node == lb.SelfNode
}

// Limits implements dataplane.Maps.
func (t *Tables) Limits() dataplane.Limits { return t.limits }

func checkID[ID ~uint16 | ~uint32](what string, id ID, first, limit int) error {
	if int(id) < first || int(id) >= limit {
		return fmt.Errorf("%s %d: want %d to %d", what, id, first, limit-1)
	}
	return nil
}

// PutNode implements dataplane.Maps. Under the same address the node keeps the
// path MTU that was learned for it.
func (t *Tables) PutNode(id lb.NodeID, e dataplane.NodeEntry) error {
	if err := checkID("node", id, 1, t.limits.Nodes); err != nil {
		return err
	}
	if !e.Addr.IsValid() || e.Addr.IsUnspecified() || e.Addr.Is4In6() {
		return fmt.Errorf("node %d: %s is not an address of a node", id, e.Addr)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	n, addr := &t.nodes[id], packet.AddrOf(e.Addr)
	if n.version != 0 && n.addr != addr {
		t.dropNode(id)
	}
	n.entry, n.addr, n.version = e, addr, versionOf(e.Addr)
	t.nodeIDs.put(keyAt(&addr, 0, 0), uint32(id))
	return nil
}

// dropNode forgets what is known of the id.
func (t *Tables) dropNode(id lb.NodeID) {
	n := &t.nodes[id]
	t.nodeIDs.deleteOf(keyAt(&n.addr, 0, 0), uint32(id))
	n.entry, n.addr, n.version = dataplane.NodeEntry{}, packet.Addr{}, 0
	n.path.forget()
}

// DeleteNode implements dataplane.Maps.
func (t *Tables) DeleteNode(id lb.NodeID) error {
	if err := checkID("node", id, 1, t.limits.Nodes); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dropNode(id)
	return nil
}

func versionOf(a netip.Addr) uint8 {
	if a.Is4() {
		return 4
	}
	return 6
}

// PutBackend implements dataplane.Maps.
func (t *Tables) PutBackend(id lb.BackendID, e dataplane.BackendEntry) error {
	if err := checkID("backend", id, 1, t.limits.Backends); err != nil {
		return err
	}
	if err := checkID("node", e.Node, 0, t.limits.Nodes); err != nil {
		return fmt.Errorf("backend %d: %w", id, err)
	}
	if !e.Addr.IsValid() || e.Addr.Addr().Is4In6() {
		return fmt.Errorf("backend %d: %s is not an address and port", id, e.Addr)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dropLocal(id)
	b := backend{
		addr: packet.AddrOf(e.Addr.Addr()), port: e.Addr.Port(),
		node: e.Node, tag: uint32(lb.WireIDOf(e.Addr)),
	}
	t.backends[id] = b
	if b.node == lb.SelfNode {
		t.local.put(keyAt(&b.addr, b.port, 0), uint32(id))
	}
	return nil
}

// DeleteBackend implements dataplane.Maps.
func (t *Tables) DeleteBackend(id lb.BackendID) error {
	if err := checkID("backend", id, 1, t.limits.Backends); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dropLocal(id)
	t.backends[id] = backend{}
	return nil
}

// dropLocal forgets the id for replies.
func (t *Tables) dropLocal(id lb.BackendID) {
	b := &t.backends[id]
	t.local.deleteOf(keyAt(&b.addr, b.port, 0), uint32(id))
}

// PutEndpoint implements dataplane.Maps.
func (t *Tables) PutEndpoint(s lb.ServiceID, wire lb.WireID, e dataplane.EndpointEntry) error {
	if err := checkID("service", s, 0, t.limits.Services); err != nil {
		return err
	}
	if err := checkID("backend", e.Backend, 1, t.limits.Backends); err != nil {
		return err
	}
	if wire == 0 {
		return fmt.Errorf("endpoint of service %d: wire id 0", s)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.endpoints[dataplane.EndpointKey{Service: s, Wire: wire}] = e
	return nil
}

// DeleteEndpoint implements dataplane.Maps.
func (t *Tables) DeleteEndpoint(s lb.ServiceID, wire lb.WireID) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.endpoints, dataplane.EndpointKey{Service: s, Wire: wire})
	return nil
}

// PutVIP implements dataplane.Maps.
func (t *Tables) PutVIP(a netip.Addr) error {
	if !a.IsValid() || a.Is4In6() {
		return fmt.Errorf("vip %s: not an address", a)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	vip := packet.AddrOf(a)
	t.vips.put(keyAt(&vip, 0, 0), 0)
	return nil
}

// DeleteVIP implements dataplane.Maps.
func (t *Tables) DeleteVIP(a netip.Addr) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	vip := packet.AddrOf(a)
	t.vips.delete(keyAt(&vip, 0, 0))
	return nil
}

// isVIP says that the address is one.
func (t *Tables) isVIP(a *packet.Addr) bool {
	_, ok := t.vips.get(keyAt(a, 0, 0))
	return ok
}
