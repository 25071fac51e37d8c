// SPDX-License-Identifier: Apache-2.0

package l2

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/announce/l2/ether"
)

// Interface is a network interface of Ethernet that can be answered on: not
// loopback, and no part of a bond or bridge, which is one itself.
type Interface struct {
	Name  string
	Index int
	MAC   ether.MAC
	// Running: it is up and has its link.
	Running bool
	// Addrs are its addresses with the networks that they are in.
	Addrs []netip.Prefix
}

func (i Interface) equal(j Interface) bool {
	return i.Name == j.Name && i.Index == j.Index && i.MAC == j.MAC && i.Running == j.Running && slices.Equal(i.Addrs, j.Addrs)
}

// hasNetwork says that the address is in one of the interface's networks.
func (i *Interface) hasNetwork(a netip.Addr) bool {
	return slices.ContainsFunc(i.Addrs, func(p netip.Prefix) bool { return p.Contains(a) })
}

// addr6 is an IPv6 address to ask from, link-local if there is one; false: none.
func (i *Interface) addr6() (found netip.Addr, ok bool) {
	for _, p := range i.Addrs {
		if a := p.Addr(); a.Is6() && (!found.IsValid() || a.IsLinkLocalUnicast()) {
			found = a
		}
	}
	return found, found.IsValid()
}

// matches says that an answer is for the interface: by name or pattern, or,
// without any, because the interface has the VIP's network.
func (a *Answer) matches(i *Interface) bool {
	if len(a.Interfaces) == 0 {
		return i.hasNetwork(a.VIP)
	}
	return slices.ContainsFunc(a.Interfaces, func(pattern string) bool { return matchName(pattern, i.Name) })
}

// matchName matches a name against a pattern in which only * and ? are special.
func matchName(pattern, name string) bool {
	ok, err := path.Match(escape.Replace(pattern), name)
	return err == nil && ok
}

// escape takes their meaning from what else is special to path.Match.
var escape = strings.NewReplacer(`\`, `\\`, `[`, `\[`)

// validate says what is wrong with an answer.
func (a *Answer) validate() error {
	switch {
	case !a.VIP.IsValid() || a.VIP.Is4In6() || a.VIP.Zone() != "":
		return fmt.Errorf("vip %q: want an IPv4 or IPv6 address", a.VIP)
	case a.VIP.IsUnspecified() || a.VIP.IsLoopback() || a.VIP.IsMulticast():
		return fmt.Errorf("vip %s: want the address of a host", a.VIP)
	case slices.Contains(a.Interfaces, ""):
		return fmt.Errorf("vip %s: interfaces %q: want names or patterns", a.VIP, a.Interfaces)
	}
	return nil
}
