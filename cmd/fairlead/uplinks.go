// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// uplinksOf names the devices that carry the node's addresses.
func uplinksOf(addrs []netip.Addr) ([]string, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list network devices: %w", err)
	}
	at := map[netip.Addr]string{}
	for _, i := range interfaces {
		if i.Flags&net.FlagLoopback != 0 {
			continue // whoever has its address there has several uplinks
		}
		list, err := i.Addrs()
		if err != nil {
			return nil, fmt.Errorf("list addresses of %s: %w", i.Name, err)
		}
		for _, a := range list {
			if prefix, err := netip.ParsePrefix(a.String()); err == nil {
				at[prefix.Addr().Unmap()] = i.Name
			}
		}
	}
	return pickUplinks(addrs, at)
}

// pickUplinks is uplinksOf for what is known of devices.
func pickUplinks(addrs []netip.Addr, at map[netip.Addr]string) ([]string, error) {
	var names []string
	var problems []error
	for _, addr := range addrs {
		name, ok := at[addr]
		if !ok {
			problems = append(problems, fmt.Errorf("interfaces: no device but lo has the node's address %s: name the uplinks in the configuration file", addr))
		} else if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names, errors.Join(problems...)
}
