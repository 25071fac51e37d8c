// SPDX-License-Identifier: Apache-2.0

package l2

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/announce/l2/ether"
)

// watch has the interfaces looked at whenever something about them changes,
// also after messages were lost.
func (r *Responder) watch() {
	for {
		_, _, err := r.changes.Receive()
		if err != nil && r.closed() {
			return
		}
		signal(r.look)
	}
}

// list brings the book in line with the interfaces.
func (r *Responder) list() error {
	interfaces, err := listInterfaces(r.links)
	if err != nil {
		return err
	}
	r.change(func(now time.Time) { r.book.setInterfaces(now, interfaces) })
	return nil
}

func listInterfaces(h *netlink.Handle) ([]Interface, error) {
	links, err := h.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	addrs, err := h.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	prefixes := map[int][]netip.Prefix{}
	for _, a := range addrs {
		if addr, ok := netip.AddrFromSlice(a.IP); ok {
			ones, _ := a.Mask.Size()
			prefixes[a.LinkIndex] = append(prefixes[a.LinkIndex], netip.PrefixFrom(addr.Unmap(), ones))
		}
	}
	kinds := map[int]string{}
	for _, l := range links {
		kinds[l.Attrs().Index] = l.Type()
	}
	var interfaces []Interface
	for _, l := range links {
		a := l.Attrs()
		mac, ok := ether.MACFrom(a.HardwareAddr)
		// Of masters only a VRF leaves its parts what they were.
		if !ok || !mac.IsStation() || a.RawFlags&(unix.IFF_LOOPBACK|unix.IFF_NOARP) != 0 ||
			a.MasterIndex != 0 && kinds[a.MasterIndex] != "vrf" {
			continue
		}
		own := prefixes[a.Index]
		slices.SortFunc(own, netip.Prefix.Compare)
		interfaces = append(interfaces, Interface{
			Name: a.Name, Index: a.Index, MAC: mac, Addrs: own,
			Running: a.Flags&net.FlagUp != 0 && a.RawFlags&unix.IFF_RUNNING != 0,
		})
	}
	return interfaces, nil
}
