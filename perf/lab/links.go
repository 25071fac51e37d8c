// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// sysctl is a file below /proc/sys/net and its value.
type sysctl struct{ path, value string }

// baseSysctls hold in every namespace. Without DAD an address is usable at once.
var baseSysctls = []sysctl{
	{"ipv6/conf/all/disable_ipv6", "0"},
	{"ipv6/conf/default/disable_ipv6", "0"},
	{"ipv6/conf/all/accept_dad", "0"},
	{"ipv6/conf/default/accept_dad", "0"},
	{"ipv6/conf/default/dad_transmits", "0"},
	{"ipv6/conf/default/accept_ra", "0"},
	{"ipv6/conf/default/router_solicitations", "0"},
}

// setSysctls writes to /proc/sys, which shows the namespace of the calling thread.
func (n *Namespace) setSysctls(sysctls []sysctl) error {
	return n.Do(func() error {
		for _, s := range sysctls {
			if err := os.WriteFile(filepath.Join("/proc/sys/net", s.path), []byte(s.value), 0); err != nil {
				return fmt.Errorf("set sysctl %s to %s in %s: %w", s.path, s.value, n.Name, err)
			}
		}
		return nil
	})
}

// addVeth makes a pair with one end here and the other in peer, both down.
func (n *Namespace) addVeth(name string, peer *Namespace, peerName string, mtu int) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = name, mtu
	veth := netlink.NewVeth(attrs)
	veth.PeerName, veth.PeerMTU = peerName, uint32(mtu)
	veth.PeerNamespace = netlink.NsFd(peer.FD())
	if err := n.nl.LinkAdd(veth); err != nil {
		return fmt.Errorf("add veth %s in %s to %s in %s: %w", name, n.Name, peerName, peer.Name, err)
	}
	return nil
}

// addBridge makes a bridge and sets it up. It does not snoop: neighbor
// solicitations must reach every port from the first moment. As a hub it
// learns no addresses, so that every frame goes out of every port.
func (n *Namespace) addBridge(name string, mtu int, hub bool) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = name, mtu
	snooping := false
	bridge := &netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snooping}
	if hub {
		bridge.AgeingTime = new(uint32)
	}
	if err := n.nl.LinkAdd(bridge); err != nil {
		return fmt.Errorf("add bridge %s in %s: %w", name, n.Name, err)
	}
	return n.linkUp(name)
}

// link finds a link by name.
func (n *Namespace) link(name string) (netlink.Link, error) {
	link, err := n.nl.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("find link %s in %s: %w", name, n.Name, err)
	}
	return link, nil
}

func (n *Namespace) linkUp(name string) error {
	link, err := n.link(name)
	if err != nil {
		return err
	}
	if err := n.nl.LinkSetUp(link); err != nil {
		return fmt.Errorf("set link %s up in %s: %w", name, n.Name, err)
	}
	return nil
}

// enslave makes a link a port of the bridge and sets it up.
func (n *Namespace) enslave(name, bridge string) error {
	link, err := n.link(name)
	if err != nil {
		return err
	}
	master, err := n.link(bridge)
	if err != nil {
		return err
	}
	if err := n.nl.LinkSetMaster(link, master); err != nil {
		return fmt.Errorf("add %s to bridge %s in %s: %w", name, bridge, n.Name, err)
	}
	return n.linkUp(name)
}

// AddAddrs gives the link addresses, usable at once.
func (n *Namespace) AddAddrs(name string, prefixes ...netip.Prefix) error {
	link, err := n.link(name)
	if err != nil {
		return err
	}
	for _, p := range prefixes {
		a := &netlink.Addr{IPNet: ipNet(p)}
		if p.Addr().Is6() {
			a.Flags = unix.IFA_F_NODAD
		}
		if err := n.nl.AddrReplace(link, a); err != nil {
			return fmt.Errorf("add address %s to %s in %s: %w", p, name, n.Name, err)
		}
	}
	return nil
}

// Route is a route by way of a link, or of the links that its gateways are on.
// Without a gateway the destination is on the link; several gateways share it
// by flow.
type Route struct {
	Dst      netip.Prefix
	Gateways []netip.Addr
	Link     string // "": those of the gateways
}

// SetRoute adds or replaces the route to the destination.
func (n *Namespace) SetRoute(r Route) error {
	route := &netlink.Route{Dst: ipNet(r.Dst)}
	if r.Link != "" {
		link, err := n.link(r.Link)
		if err != nil {
			return err
		}
		route.LinkIndex = link.Attrs().Index
	}
	switch len(r.Gateways) {
	case 0:
		route.Scope = netlink.SCOPE_LINK
	case 1:
		route.Gw = r.Gateways[0].AsSlice()
	default:
		for _, gw := range r.Gateways {
			hop := &netlink.NexthopInfo{LinkIndex: route.LinkIndex, Gw: gw.AsSlice()}
			route.MultiPath = append(route.MultiPath, hop)
		}
		route.LinkIndex = 0
	}
	if err := n.nl.RouteReplace(route); err != nil {
		return fmt.Errorf("set route %s via %v in %s: %w", r.Dst, r.Gateways, n.Name, err)
	}
	return nil
}

// DeleteRoute removes the route to the destination; an absent one is success.
func (n *Namespace) DeleteRoute(dst netip.Prefix) error {
	err := n.nl.RouteDel(&netlink.Route{Dst: ipNet(dst)})
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("delete route %s in %s: %w", dst, n.Name, err)
	}
	return nil
}

// readyTimeout bounds how long links take to come up; one second is usual
// where the kernel delays link events.
const readyTimeout = 10 * time.Second

// waitReady waits until every link of the lab runs.
func (l *Lab) waitReady() error {
	for _, n := range l.namespaces {
		var down string
		err := Poll(context.Background(), readyTimeout, func() bool {
			links, err := n.nl.LinkList()
			down = fmt.Sprint(err)
			for _, link := range links {
				if a := link.Attrs(); !running(a) {
					down = a.Name
					return false
				}
			}
			return err == nil
		})
		if err != nil {
			return fmt.Errorf("wait for link %s in %s: %w", down, n.Name, err)
		}
	}
	return nil
}

// running accepts loopback and TUN, which have no operational state, and an empty bridge.
func running(a *netlink.LinkAttrs) bool {
	return a.OperState == netlink.OperUp || a.Flags&net.FlagLoopback != 0 || a.Name == podBridge || a.Name == delayLink
}

// ipNet is the prefix in netlink's terms, with the host bits kept.
func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// PathMTU is what the namespace's kernel takes for the MTU of the path to an
// address: that of the link, or a smaller one that an ICMP error told.
func (n *Namespace) PathMTU(to netip.Addr) (int, error) {
	routes, err := n.nl.RouteGet(to.AsSlice())
	if err != nil {
		return 0, fmt.Errorf("find route to %s in %s: %w", to, n.Name, err)
	}
	if mtu := routes[0].MTU; mtu != 0 {
		return mtu, nil
	}
	link, err := n.nl.LinkByIndex(routes[0].LinkIndex)
	if err != nil {
		return 0, fmt.Errorf("find link %d in %s: %w", routes[0].LinkIndex, n.Name, err)
	}
	return link.Attrs().MTU, nil
}
