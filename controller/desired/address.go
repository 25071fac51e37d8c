// SPDX-License-Identifier: Apache-2.0

package desired

import "net/netip"

// addr returns a unicast address that can stand in a packet between machines,
// the zero Addr when it is absent or none.
func (v value) addr() netip.Addr {
	const want = "an IP address"
	raw, ok := v.scalar(want)
	if !ok {
		return netip.Addr{}
	}
	addr, err := netip.ParseAddr(raw)
	switch {
	case err != nil:
		v.fail("want %s", want)
	case addr.Zone() != "":
		v.fail("want an address without a zone")
	case addr.Is4In6():
		v.fail("IPv4-mapped address: want %q", addr.Unmap())
	case Unusable(addr) != "":
		v.fail("%s address: want a unicast address that other machines reach", Unusable(addr))
	default:
		return addr
	}
	return netip.Addr{}
}

// Unusable names the kind of an address that no machine can be reached by, or is "".
func Unusable(addr netip.Addr) string {
	switch {
	case addr.IsUnspecified(), addr.Is4() && addr.As4()[0] == 0:
		return "unspecified"
	case addr.IsLoopback():
		return "loopback"
	case addr.IsMulticast():
		return "multicast"
	case addr.IsLinkLocalUnicast():
		return "link-local"
	case addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "broadcast"
	}
	return ""
}

// prefix returns a masked prefix, the zero Prefix when it is absent or none.
func (v value) prefix() netip.Prefix {
	const want = "a prefix such as 192.0.2.0/24"
	raw, ok := v.scalar(want)
	if !ok {
		return netip.Prefix{}
	}
	prefix, err := netip.ParsePrefix(raw)
	switch {
	case err != nil:
		v.fail("want %s", want)
	case prefix.Addr().Is4In6():
		v.fail("IPv4-mapped prefix: want the IPv4 prefix")
	case prefix != prefix.Masked():
		v.fail("bits are set behind the prefix length: want %q", prefix.Masked())
	default:
		return prefix
	}
	return netip.Prefix{}
}

// family names the address family for people.
func family(addr netip.Addr) string {
	if addr.Is4() {
		return "IPv4"
	}
	return "IPv6"
}
