// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// ForgetFlows deletes what the node's connection tracking knows about flows
// with this address, as a timeout or a full table would, and returns how many.
func (n *Namespace) ForgetFlows(addr netip.Addr) (int, error) {
	family := netlink.InetFamily(netlink.FAMILY_V4)
	if addr.Is6() {
		family = netlink.FAMILY_V6
	}
	var deleted uint
	err := n.Do(func() (err error) {
		deleted, err = netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, withAddr(addr))
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("delete tracked flows of %s in %s: %w", addr, n.Name, err)
	}
	return int(deleted), nil
}

// withAddr matches flows that have the address at any end.
type withAddr netip.Addr

// MatchConntrackFlow is called for every flow.
func (a withAddr) MatchConntrackFlow(f *netlink.ConntrackFlow) bool {
	ip := netip.Addr(a).AsSlice()
	return f.Forward.SrcIP.Equal(ip) || f.Forward.DstIP.Equal(ip) || f.Reverse.SrcIP.Equal(ip) || f.Reverse.DstIP.Equal(ip)
}
