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

// node is a peer node; its id is its own until it is deleted from the datapath.
type node struct {
	id    lb.NodeID
	name  string // empty until a table's node claims it
	entry held[NodeEntry]
}

// syncNodes does what is dirty; deleting is left to collect.
func (d *Dataplane) syncNodes() []error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(d.dirtyNodes)) {
		if err := d.syncNode(name); err != nil {
			errs = append(errs, fmt.Errorf("node %q: %w", name, err))
		} else {
			delete(d.dirtyNodes, name)
		}
	}
	for _, n := range d.strayNodes { // whoever wants one has claimed it by now
		d.idleNodes[n.id] = n
	}
	clear(d.strayNodes)
	return errs
}

func (d *Dataplane) syncNode(name string) error {
	wanted := d.table.Node(name)
	if wanted == nil {
		if n := d.nodes[name]; n != nil {
			d.idleNodes[n.id] = n
		}
		return nil
	}
	addr, ok := reachable(wanted.Addrs, d.table.SelfAddrs())
	if !ok {
		return errors.New("no address of a family that this node has")
	}
	n, err := d.nodeFor(name, addr)
	if err != nil {
		return err
	}
	delete(d.idleNodes, n.id)
	entry := NodeEntry{Name: name, Addr: addr}
	return n.entry.put(entry, func() error { return d.maps.PutNode(n.id, entry) })
}

// reachable picks the outer destination: IPv4 before IPv6, because its header is
// the shorter one.
func reachable(addrs, self []netip.Addr) (netip.Addr, bool) {
	for _, v4 := range []bool{true, false} {
		family := func(a netip.Addr) bool { return a.Is4() == v4 }
		if i := slices.IndexFunc(addrs, family); i >= 0 && slices.ContainsFunc(self, family) {
			return addrs[i], true
		}
	}
	return netip.Addr{}, false
}

// nodeFor returns the node of that name, one that was taken over with its
// address, or a new one.
func (d *Dataplane) nodeFor(name string, addr netip.Addr) (*node, error) {
	if n := d.nodes[name]; n != nil {
		return n, nil
	}
	n := d.strayNodes[addr]
	if n == nil {
		id, ok := d.nodeIDs.take()
		if !ok {
			return nil, fmt.Errorf("%w: %d nodes, this one included, are the limit", ErrFull, d.limits.Nodes)
		}
		n = &node{id: lb.NodeID(id)}
	}
	delete(d.strayNodes, addr)
	n.name = name
	if n.entry.value.Name == "" {
		n.entry.value.Name = name // the datapath does not store it
	}
	d.nodes[name] = n
	return n, nil
}

// nodeID returns the id of a node that the datapath knows.
func (d *Dataplane) nodeID(name string) (lb.NodeID, error) {
	if name == d.table.Self() {
		return lb.SelfNode, nil
	}
	if n := d.nodes[name]; n != nil && n.entry.state == present && !d.dirtyNodes[name] {
		return n.id, nil
	}
	return 0, fmt.Errorf("node %q is not in the datapath", name)
}

// backend is an address and port on a node. Services claim it before they refer
// to it and give it up after they have ceased to. Its entry never changes: where
// services disagree on the node, as they do for a while when another Pod comes by
// the address, there is one backend for each that they say.
type backend struct {
	id     lb.BackendID
	claims int
	entry  held[BackendEntry]
}

// backendFor returns the backend with that entry, if need be a new one.
func (d *Dataplane) backendFor(entry BackendEntry) (*backend, error) {
	if b := d.backends[entry]; b != nil {
		return b, nil
	}
	id, ok := d.backendIDs.take()
	if !ok {
		return nil, fmt.Errorf("%w: %d backends are the limit", ErrFull, d.limits.Backends-1)
	}
	b := &backend{id: lb.BackendID(id)}
	b.entry.value = entry
	d.backends[entry] = b
	d.idleBackends[b.id] = b
	return b, nil
}

func (d *Dataplane) claim(s *service, b *backend) {
	if !s.claims[b] {
		s.claims[b] = true
		b.claims++
		delete(d.idleBackends, b.id)
	}
}

func (d *Dataplane) unclaim(s *service, b *backend) {
	delete(s.claims, b)
	if b.claims--; b.claims == 0 {
		d.idleBackends[b.id] = b
	}
}

// vip is a VIP with the number of service ports that are on it.
type vip struct {
	users int
	entry held[netip.Addr]
}

func (d *Dataplane) vipFor(addr netip.Addr) *vip {
	v := d.vips[addr]
	if v == nil {
		v = &vip{}
		d.vips[addr] = v
	}
	return v
}
