// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"net/netip"
)

// Machine is a host beside the nodes, on the router's bridge: for what is not
// of the cluster's nodes, such as its control plane.
type Machine struct {
	*Namespace
	Host  string
	Addrs []netip.Addr // IPv4, IPv6
}

// maxMachines is the room below the nodes' addresses.
const maxMachines = 8

// AddMachine makes a machine of this name.
func (l *Lab) AddMachine(host string) (*Machine, error) {
	if l.machines == maxMachines {
		return nil, fmt.Errorf("add machine %s: no address left", host)
	}
	ns, err := l.newNamespace(host)
	if err != nil {
		return nil, err
	}
	l.machines++
	m := &Machine{Namespace: ns, Host: host, Addrs: []netip.Addr{
		netip.AddrFrom4([4]byte{10, 1, 0, byte(1 + l.machines)}),
		netip.MustParseAddr(fmt.Sprintf("fd01::%d", 1+l.machines)),
	}}
	err = steps(
		func() error { return m.addVeth(Uplink, l.Router, host, l.options.MTU) },
		func() error {
			return m.AddAddrs(Uplink, netip.PrefixFrom(m.Addrs[0], 24), netip.PrefixFrom(m.Addrs[1], 64))
		},
		func() error { return m.linkUp(Uplink) },
		func() error { return l.Router.enslave(host, routerBridge) },
		func() error { return m.setDefaults(RouterAddr4, RouterAddr6) },
		l.waitReady,
	)
	return m, err
}
