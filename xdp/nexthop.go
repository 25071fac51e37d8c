// SPDX-License-Identifier: Apache-2.0

package xdp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/lb"
)

// How often next hops are looked at without being asked: well within the 30 s
// after which the programs leave a packet to the stack.
const nextHopInterval = 5 * time.Second

// A neighbour in one of these states is known to answer.
const confirmedStates = netlink.NUD_REACHABLE | netlink.NUD_PERMANENT | netlink.NUD_NOARP

// Run keeps the peers' next hops fresh and the programs on their interfaces
// until ctx ends. It follows links, routes and neighbours as the kernel has
// them, and asks the kernel to confirm a neighbour that it has not heard of
// lately.
func (d *Datapath) Run(ctx context.Context) error {
	changes := make(chan struct{}, 1)
	done := make(chan struct{})
	defer close(done)
	if err := watchRoutes(changes, done); err != nil {
		return err
	}
	ticker := time.NewTicker(nextHopInterval)
	defer ticker.Stop()
	for {
		if err := d.followDevices(); err != nil {
			d.log.Warn("follow interfaces", "err", err)
		}
		if err := d.refreshNextHops(); err != nil {
			d.log.Warn("refresh next hops", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case <-changes:
		case <-d.maps.nodesChanged:
		}
	}
}

// watchRoutes signals when a link, a neighbour or a route changed.
func watchRoutes(changes chan<- struct{}, done <-chan struct{}) error {
	neighbours := make(chan netlink.NeighUpdate)
	routes := make(chan netlink.RouteUpdate)
	links := make(chan netlink.LinkUpdate)
	if err := netlink.NeighSubscribe(neighbours, done); err != nil {
		return fmt.Errorf("watch neighbours: %w", err)
	}
	if err := netlink.RouteSubscribe(routes, done); err != nil {
		return fmt.Errorf("watch routes: %w", err)
	}
	if err := netlink.LinkSubscribe(links, done); err != nil {
		return fmt.Errorf("watch links: %w", err)
	}
	go func() {
		for neighbours != nil || routes != nil || links != nil {
			var ok bool
			select {
			case _, ok = <-neighbours:
				if !ok {
					neighbours = nil
				}
			case _, ok = <-routes:
				if !ok {
					routes = nil
				}
			case _, ok = <-links:
				if !ok {
					links = nil
				}
			}
			select {
			case changes <- struct{}{}:
			default:
			}
		}
	}()
	return nil
}

func (d *Datapath) refreshNextHops() error {
	peers := map[lb.NodeID]netip.Addr{}
	if err := eachNode(d.maps, func(id lb.NodeID, n bpfLbNode) { peers[id] = toAddr(n.Addr) }); err != nil {
		return fmt.Errorf("read nodes: %w", err)
	}
	var errs []error
	for id, addr := range peers {
		hop, err := findNextHop(d.netlink, addr)
		if err != nil {
			errs = append(errs, fmt.Errorf("node %s: %w", addr, err))
			continue
		}
		errs = append(errs, d.maps.putNextHop(id, addr, hop))
	}
	return errors.Join(errs...)
}

// nextHop is how a peer is reached. Unconfirmed, it only tells the interface.
type nextHop struct {
	ifindex    int
	dmac, smac [6]byte
	confirmed  bool
}

func findNextHop(h *netlink.Handle, addr netip.Addr) (nextHop, error) {
	routes, err := h.RouteGet(net.IP(addr.AsSlice()))
	if err != nil {
		return nextHop{}, fmt.Errorf("find route: %w", err)
	}
	if len(routes) == 0 {
		return nextHop{}, errors.New("find route: none")
	}
	route := routes[0]
	via := route.Gw
	if via == nil {
		via = addr.AsSlice()
	}
	hop := nextHop{ifindex: route.LinkIndex}
	link, err := h.LinkByIndex(route.LinkIndex)
	if err != nil {
		return nextHop{}, fmt.Errorf("find link %d: %w", route.LinkIndex, err)
	}
	copy(hop.smac[:], link.Attrs().HardwareAddr)
	family := netlink.FAMILY_V4
	if addr.Is6() {
		family = netlink.FAMILY_V6
	}
	neighbours, err := h.NeighList(route.LinkIndex, family)
	if err != nil {
		return nextHop{}, fmt.Errorf("list neighbours: %w", err)
	}
	// What the kernel is asked for where it is not confirmed: to resolve the
	// neighbour, as traffic would, or to ask the one that it knows.
	ask := netlink.Neigh{LinkIndex: route.LinkIndex, Family: family, IP: via, Flags: unix.NTF_USE, State: netlink.NUD_NONE}
	for _, n := range neighbours {
		if n.IP.Equal(via) && len(n.HardwareAddr) == 6 {
			copy(hop.dmac[:], n.HardwareAddr)
			hop.confirmed = n.State&confirmedStates != 0
			ask.Flags, ask.State, ask.HardwareAddr = 0, netlink.NUD_PROBE, n.HardwareAddr
		}
	}
	if !hop.confirmed {
		_ = h.NeighSet(&ask) // what comes of it, the next look tells
	}
	return hop, nil
}

// putNextHop keeps the time of the last confirmation of a hop that is not
// confirmed now, unless it changed. A node that changed meanwhile is left alone.
func (m *Maps) putNextHop(id lb.NodeID, addr netip.Addr, hop nextHop) error {
	m.nodesMu.Lock()
	defer m.nodesMu.Unlock()
	nodes := m.byName[bpfMapNodes]
	var n bpfLbNode
	if err := nodes.Lookup(uint32(id), &n); err != nil {
		return fmt.Errorf("read node %d: %w", id, err)
	}
	if toAddr(n.Addr) != addr {
		return nil
	}
	next := n
	next.Ifindex, next.Dmac, next.Smac, next.Confirmed = uint32(hop.ifindex), hop.dmac, hop.smac, 0
	switch {
	case hop.confirmed:
		next.Confirmed = NowTick()
	case next.Ifindex == n.Ifindex && next.Dmac == n.Dmac && next.Smac == n.Smac:
		next.Confirmed = n.Confirmed
	}
	if next == n {
		return nil
	}
	if err := nodes.Put(uint32(id), &next); err != nil {
		return fmt.Errorf("put next hop of node %d: %w", id, err)
	}
	return nil
}
