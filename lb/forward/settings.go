// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"errors"
	"fmt"
	"math"
	"net/netip"

	"github.com/fairlead/fairlead/lb/packet"
)

// Settings is what a node's datapath is told apart from its tables.
type Settings struct {
	// InternalIPs are this node's own, at most one of each family.
	InternalIPs []netip.Addr
	GenevePort  uint16
	// MAC is the uplink's; frames for another one are not for this node. Zero
	// takes every frame.
	MAC [6]byte
	// Keys authenticate the wire: the first signs, both are accepted. One or two.
	Keys [][16]byte
	MTU  int // of the uplink
	// CompleteChecksums: frames come from a device like veth, where a sender's
	// kernel leaves the L4 checksum to a device that never computes it.
	CompleteChecksums bool
	// MSSClampV4 and V6 bound the MSS that a Pod announces; see MSSClamps.
	MSSClampV4, MSSClampV6 uint16
	FlowBuckets            int      // a power of two
	FlowKey                [16]byte // this node's secret
	// Conntrack is asked about connections to services that were taken over from
	// kube-proxy; nil: no connection is known.
	Conntrack Conntrack
}

// Conntrack says that the kernel's connection tracking knows the connection by
// its client's address and port and the VIP's, and sends its packets on to
// somebody else. A TCP connection that ended does not count. It is called under
// the lock of the Tables.
type Conntrack func(c Connection) bool

// Connection is one from a client to a VIP.
type Connection struct {
	Client, VIP             packet.Addr
	ClientPort, ServicePort uint16
	Proto                   uint8
}

const (
	minMTU  = 1280 // RFC 8200: what IPv6 asks of every link
	maxKeys = 2
)

// MSSClamps are the largest MSS of TCP over IPv4 and IPv6 with which segments
// fit through the tunnel of nodes with such InternalIPs and uplink MTU.
func MSSClamps(mtu int, internalIPs []netip.Addr) (v4, v6 uint16) {
	overhead := packet.EncapLenV4
	for _, a := range internalIPs {
		if a.Is6() {
			overhead = packet.EncapLenV6
		}
	}
	room := min(max(mtu-overhead-packet.TCPLen, packet.IPv6Len), math.MaxUint16)
	return uint16(room - packet.IPv4Len), uint16(room - packet.IPv6Len)
}

// check reports every problem.
func (s Settings) check() error {
	var problems []error
	seen := map[bool]bool{}
	for _, a := range s.InternalIPs {
		if !a.IsValid() || a.Is4In6() || a.IsUnspecified() {
			problems = append(problems, fmt.Errorf("internal IP %s: not an address of a node", a))
		}
		if seen[a.Is4()] {
			problems = append(problems, fmt.Errorf("internal IP %s: second of its family", a))
		}
		seen[a.Is4()] = true
	}
	if len(s.InternalIPs) == 0 {
		problems = append(problems, errors.New("no internal IP"))
	}
	if s.GenevePort == 0 {
		problems = append(problems, errors.New("geneve port 0"))
	}
	if len(s.Keys) < 1 || len(s.Keys) > maxKeys {
		problems = append(problems, fmt.Errorf("%d wire keys: want 1 or 2", len(s.Keys)))
	}
	if s.MTU < minMTU || s.MTU > math.MaxUint16 {
		problems = append(problems, fmt.Errorf("mtu %d: want %d to %d", s.MTU, minMTU, math.MaxUint16))
	}
	if s.MSSClampV4 == 0 || s.MSSClampV6 == 0 {
		problems = append(problems, fmt.Errorf("mss clamps %d and %d: want both", s.MSSClampV4, s.MSSClampV6))
	}
	return errors.Join(problems...)
}

// self is the node's own address of each family; zero where it has none.
type self struct{ v4, v6 packet.Addr }

func selfOf(addrs []netip.Addr) self {
	var s self
	for _, a := range addrs {
		if a.Is4() {
			s.v4 = packet.AddrOf(a)
		} else {
			s.v6 = packet.AddrOf(a)
		}
	}
	return s
}

// of returns the own address of an IP version; ok is false when there is none.
func (s *self) of(version uint8) (addr packet.Addr, ok bool) {
	addr = s.v6
	if version == 4 {
		addr = s.v4
	}
	return addr, addr != packet.Addr{}
}
