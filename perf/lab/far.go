// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"net/netip"
)

// The far node's network, and the link between the routers.
var (
	farGateway4 = netip.MustParseAddr("10.3.0.1")
	farGateway6 = netip.MustParseAddr("fd03::1")
	farNet4     = netip.MustParsePrefix("10.3.0.0/24")
	farNet6     = netip.MustParsePrefix("fd03::/64")

	hopGateway4 = netip.MustParseAddr("10.4.0.1")
	hopGateway6 = netip.MustParseAddr("fd04::1")
	hopAddr4    = netip.MustParseAddr("10.4.0.2")
	hopAddr6    = netip.MustParseAddr("fd04::2")
)

const hopPort = "hop" // in the router, to the far node's router

// isFar says that the node is the one behind a router of its own.
func (l *Lab) isFar(n *Node) bool { return l.hop != nil && n.Index == l.options.Nodes }

// hopAddr is the far router's address on the link between the routers, of the
// family that a has.
func hopAddr(a netip.Addr) netip.Addr {
	if a.Is4() {
		return hopAddr4
	}
	return hopAddr6
}

func farAddrs(i int) []netip.Addr {
	return []netip.Addr{
		netip.AddrFrom4([4]byte{10, 3, 0, byte(10 + i)}),
		netip.MustParseAddr(fmt.Sprintf("fd03::%d", 10+i)),
	}
}

// buildHop makes the far node's router and connects it to the other one.
func (l *Lab) buildHop() (err error) {
	if l.hop, err = l.newNamespace("hop"); err != nil {
		return err
	}
	r, h := l.Router, l.hop
	return steps(
		func() error { return h.setSysctls(routerSysctls) },
		func() error { return r.addVeth(hopPort, h, Uplink, l.options.FarMTU) },
		func() error {
			return r.AddAddrs(hopPort, netip.PrefixFrom(hopGateway4, 24), netip.PrefixFrom(hopGateway6, 64))
		},
		func() error {
			return h.AddAddrs(Uplink, netip.PrefixFrom(hopAddr4, 24), netip.PrefixFrom(hopAddr6, 64))
		},
		func() error { return r.linkUp(hopPort) },
		func() error { return h.linkUp(Uplink) },
		func() error { return h.setDefaults(hopGateway4, hopGateway6) },
		func() error { return r.SetRoute(Route{Dst: farNet4, Gateways: []netip.Addr{hopAddr4}}) },
		func() error { return r.SetRoute(Route{Dst: farNet6, Gateways: []netip.Addr{hopAddr6}}) },
	)
}

// addFarUplink connects the node to a router of its own.
func (l *Lab) addFarUplink(n *Node) error {
	h := l.hop
	return steps(
		func() error { return n.addVeth(Uplink, h, n.Host, l.options.FarUplinkMTU) },
		func() error {
			return h.AddAddrs(n.Host, netip.PrefixFrom(farGateway4, 24), netip.PrefixFrom(farGateway6, 64))
		},
		func() error {
			return n.AddAddrs(Uplink, netip.PrefixFrom(n.Addrs[0], 24), netip.PrefixFrom(n.Addrs[1], 64))
		},
		func() error { return h.linkUp(n.Host) },
		func() error { return n.linkUp(Uplink) },
		func() error { return n.setDefaults(farGateway4, farGateway6) },
		func() error { return l.preparePort(h, n) },
	)
}
