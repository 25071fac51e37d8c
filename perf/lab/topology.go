// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"net/netip"
	"path/filepath"
)

// The lab's addresses. Every lab has the same ones, in namespaces of its own.
var (
	RouterAddr4 = netip.MustParseAddr("10.1.0.1")
	RouterAddr6 = netip.MustParseAddr("fd01::1")
	ClientAddr4 = netip.MustParseAddr("10.2.0.2")
	ClientAddr6 = netip.MustParseAddr("fd02::2")
	ClientNet4  = netip.MustParsePrefix("10.2.0.0/24")
	ClientNet6  = netip.MustParsePrefix("fd02::/64")
	PodNet4     = netip.MustParsePrefix("10.244.0.0/16")
	PodNet6     = netip.MustParsePrefix("fd44::/16")

	clientGateway4 = netip.MustParseAddr("10.2.0.1")
	clientGateway6 = netip.MustParseAddr("fd02::1")
	podGateway6    = netip.MustParseAddr("fe80::1")

	default4 = netip.MustParsePrefix("0.0.0.0/0")
	default6 = netip.MustParsePrefix("::/0")
)

// Names of links: a node's uplink, the router's bridge, a node's Pod bridge.
const (
	Uplink       = "eth0"
	routerBridge = "br0"
	podBridge    = "cni0"
	ClientPort   = "client" // in the router, to the client
)

// Room in the address plan.
const (
	maxNodes = 200
	maxPods  = 250
)

func nodeAddrs(i int) []netip.Addr {
	return []netip.Addr{
		netip.AddrFrom4([4]byte{10, 1, 0, byte(10 + i)}),
		netip.MustParseAddr(fmt.Sprintf("fd01::%d", 10+i)),
	}
}

// PodCIDRs are the node's Pod networks, IPv4 and IPv6.
func (n *Node) PodCIDRs() [2]netip.Prefix {
	return [2]netip.Prefix{
		netip.MustParsePrefix(fmt.Sprintf("10.244.%d.0/24", n.Index)),
		netip.MustParsePrefix(fmt.Sprintf("fd44:%d::/64", n.Index)),
	}
}

// Addr is the node's InternalIP of the family that a has.
func (n *Node) Addr(a netip.Addr) netip.Addr {
	if a.Is4() {
		return n.Addrs[0]
	}
	return n.Addrs[1]
}

var routerSysctls = []sysctl{
	{"ipv4/ip_forward", "1"},
	{"ipv6/conf/all/forwarding", "1"},
	{"ipv6/conf/default/forwarding", "1"},
	{"ipv4/conf/all/send_redirects", "0"},
	{"ipv4/conf/default/send_redirects", "0"},
	// Multipath by ports as well as addresses.
	{"ipv4/fib_multipath_hash_policy", "1"},
	{"ipv6/fib_multipath_hash_policy", "1"},
}

var nodeSysctls = []sysctl{
	{"ipv4/ip_forward", "1"},
	{"ipv6/conf/all/forwarding", "1"},
	{"ipv6/conf/default/forwarding", "1"},
	{"ipv4/conf/all/rp_filter", "1"},
	{"ipv4/conf/default/rp_filter", "1"},
}

// steps runs what builds on each other, up to the first error.
func steps(all ...func() error) error {
	for _, step := range all {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// buildRouter makes the router and the client.
func (l *Lab) buildRouter() (err error) {
	if l.Router, err = l.newNamespace("router"); err != nil {
		return err
	}
	if l.Client, err = l.newNamespace("client"); err != nil {
		return err
	}
	r, c := l.Router, l.Client
	return steps(
		func() error { return r.setSysctls(routerSysctls) },
		func() error { return r.addBridge(routerBridge, l.options.MTU, l.options.Hub) },
		func() error {
			return r.AddAddrs(routerBridge, netip.PrefixFrom(RouterAddr4, 24), netip.PrefixFrom(RouterAddr6, 64))
		},
		func() error { return r.addVeth(ClientPort, c, Uplink, l.options.ClientMTU) },
		func() error {
			return r.AddAddrs(ClientPort, netip.PrefixFrom(clientGateway4, 24), netip.PrefixFrom(clientGateway6, 64))
		},
		func() error {
			return c.AddAddrs(Uplink, netip.PrefixFrom(ClientAddr4, 24), netip.PrefixFrom(ClientAddr6, 64))
		},
		func() error { return r.linkUp(ClientPort) },
		func() error { return c.linkUp(Uplink) },
		l.connectClient,
		func() error { return r.soften(ClientPort, l.options.SoftHop != SoftHopNone) },
	)
}

// setDefaults sets the default routes of both families by way of Uplink.
func (n *Namespace) setDefaults(gw4, gw6 netip.Addr) error {
	if err := n.SetRoute(Route{Dst: default4, Gateways: []netip.Addr{gw4}, Link: Uplink}); err != nil {
		return err
	}
	return n.SetRoute(Route{Dst: default6, Gateways: []netip.Addr{gw6}, Link: Uplink})
}

// addNode makes node i with its uplink to the router's bridge.
func (l *Lab) addNode(i int) error {
	host := fmt.Sprintf("node%d", i)
	ns, err := l.newNamespace(host)
	if err != nil {
		return err
	}
	n := &Node{Namespace: ns, Index: i, Host: host, Addrs: nodeAddrs(i), Dir: filepath.Join(l.Dir, host)}
	addUplink := l.addUplink
	if l.isFar(n) {
		n.Addrs, addUplink = farAddrs(i), l.addFarUplink
	}
	l.Nodes = append(l.Nodes, n)
	return steps(
		n.mountBPF,
		func() error { return n.setSysctls(nodeSysctls) },
		func() error { return addUplink(n) },
		func() error { return l.addPodGateway(n) },
		func() error {
			if l.options.NoFirewall {
				return nil
			}
			return n.setFirewall()
		},
	)
}

// addPodGateway gives the node the first address of its Pod networks: on the
// Pods' bridge, or on lo where every Pod has a link of its own.
func (l *Lab) addPodGateway(n *Node) error {
	cidrs := n.PodCIDRs()
	gateway4, gateway6 := cidrs[0].Addr().Next(), cidrs[1].Addr().Next()
	if !l.options.Bridged {
		return n.AddAddrs("lo", netip.PrefixFrom(gateway4, 32), netip.PrefixFrom(gateway6, 128))
	}
	return steps(
		func() error { return n.addBridge(podBridge, l.options.MTU, false) },
		func() error {
			return n.AddAddrs(podBridge, netip.PrefixFrom(gateway4, 24), netip.PrefixFrom(gateway6, 64))
		},
	)
}

// addUplink connects the node to the router's bridge.
func (l *Lab) addUplink(n *Node) error {
	return steps(
		func() error { return n.addVeth(Uplink, l.Router, n.Host, l.options.MTU) },
		func() error {
			return n.AddAddrs(Uplink, netip.PrefixFrom(n.Addrs[0], 24), netip.PrefixFrom(n.Addrs[1], 64))
		},
		func() error { return n.linkUp(Uplink) },
		func() error { return l.Router.enslave(n.Host, routerBridge) },
		func() error { return n.setDefaults(RouterAddr4, RouterAddr6) },
		func() error { return l.preparePort(l.Router, n) },
	)
}

// preparePort makes a router's port to the node what the options say.
func (l *Lab) preparePort(router *Namespace, n *Node) error {
	if err := router.soften(n.Host, l.options.SoftHop.covers(n.Index)); err != nil {
		return err
	}
	if !l.options.Native {
		return nil
	}
	return router.attachPass(n.Host)
}

// routePods makes the node's Pods reachable from the routers and other nodes. To
// and from a far node, default routes by way of the routers do.
func (l *Lab) routePods(n *Node) error {
	for _, cidr := range n.PodCIDRs() {
		if err := l.routeTo(cidr, n); err != nil {
			return err
		}
		for _, other := range l.Nodes {
			if other == n || l.isFar(n) || l.isFar(other) {
				continue
			}
			via := []netip.Addr{n.Addr(cidr.Addr())}
			if err := other.SetRoute(Route{Dst: cidr, Gateways: via, Link: Uplink}); err != nil {
				return err
			}
		}
	}
	return nil
}

// SetVIPRoute makes the router send the VIP's packets to the nodes, shared by
// a hash of addresses and ports. Without nodes the route goes.
func (l *Lab) SetVIPRoute(vip netip.Addr, nodes ...*Node) error {
	dst := netip.PrefixFrom(vip, vip.BitLen())
	if len(nodes) == 0 {
		return l.Router.DeleteRoute(dst)
	}
	return l.routeTo(dst, nodes...)
}

// RouteNet makes the router send what is for the prefix to the nodes, as
// SetVIPRoute does for one address, whose own route counts for more.
func (l *Lab) RouteNet(dst netip.Prefix, nodes ...*Node) error { return l.routeTo(dst, nodes...) }

// routeTo makes the routers send what is for dst to the nodes.
func (l *Lab) routeTo(dst netip.Prefix, nodes ...*Node) error {
	var via []netip.Addr
	for _, n := range nodes {
		gateway := n.Addr(dst.Addr())
		if l.isFar(n) {
			if err := l.hop.SetRoute(Route{Dst: dst, Gateways: []netip.Addr{gateway}}); err != nil {
				return err
			}
			gateway = hopAddr(dst.Addr())
		}
		via = append(via, gateway)
	}
	return l.Router.SetRoute(Route{Dst: dst, Gateways: via})
}
