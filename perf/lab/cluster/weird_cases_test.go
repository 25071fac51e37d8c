// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/lb/packet"
	"github.com/fairlead/fairlead/lb/packet/packettest"
)

// weirdPackets are frames to a service port of a VIP, of the family that the
// addresses have. accepted is the reason of what the ingress node takes for an
// ordinary packet of the service.
func weirdPackets(client, vip netip.AddrPort, accepted string) []weird {
	m := &maker{client, vip, accepted}
	all := slices.Concat(m.addresses(), m.lengths(), m.tags(), m.icmp())
	if vip.Addr().Is4() {
		return append(all, m.ipv4()...)
	}
	return append(all, m.ipv6()...)
}

// maker makes the frames of one service and family, each from a port of its
// own, so that none belongs to the flow of another.
type maker struct {
	client, vip netip.AddrPort
	accepted    string
}

// name adds the family.
func (m *maker) name(format string, args ...any) string {
	family := 4
	if m.vip.Addr().Is6() {
		family = 6
	}
	return fmt.Sprintf("v%d ", family) + fmt.Sprintf(format, args...)
}

// port moves on to the next one.
func (m *maker) port() string {
	m.client = netip.AddrPortFrom(m.client.Addr(), m.client.Port()+1)
	return m.client.String()
}

func (m *maker) udp(payload string) packettest.Frame {
	return packettest.UDP(m.port(), m.vip.String(), payload)
}

func (m *maker) tcp(flags uint8) packettest.Frame {
	return packettest.TCP(m.port(), m.vip.String(), flags)
}

// wire is the frame from its EtherType on.
func wire(f packettest.Frame) []byte { return f.Bytes()[12:] }

// addresses are martians, land packets and ports that nobody has.
func (m *maker) addresses() []weird {
	sources := []string{"0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.255.254", "224.0.0.1", "240.0.0.1", "255.255.255.255"}
	if m.vip.Addr().Is6() {
		sources = []string{"::", "::1", "ff02::1", "ff0e::5"}
	}
	var all []weird
	for _, source := range append(sources, m.vip.Addr().String()) {
		f := m.udp("martian")
		f.Src = netip.AddrPortFrom(netip.MustParseAddr(source), m.client.Port())
		all = append(all, one(m.name("from %s", source), "martian", wire(f)))
	}
	for _, f := range []packettest.Frame{m.udp("port 0"), m.tcp(packet.SYN)} {
		from, to := f, f
		from.Src = netip.AddrPortFrom(f.Src.Addr(), 0)
		to.Dst = netip.AddrPortFrom(f.Dst.Addr(), 0)
		all = append(all,
			one(m.name("protocol %d from port 0", f.Proto), "martian", wire(from)),
			one(m.name("protocol %d to port 0", f.Proto), "unknown_port", wire(to)))
	}
	return all
}

// lengths are packets that contradict themselves, and the last hop.
func (m *maker) lengths() []weird {
	at := 2 + packet.IPv4Len // the L4 header in a frame without MAC addresses
	ipLength := 2 + 2
	if m.vip.Addr().Is6() {
		at, ipLength = 2+packet.IPv6Len, 2+4
	}
	longer := wire(m.udp("longer than the frame"))
	longer[ipLength] = 4 // a KB
	udp := wire(m.udp("too short for UDP"))
	binary.BigEndian.PutUint16(udp[at+4:], packet.UDPLen-1)
	tcp := wire(m.tcp(packet.SYN))
	tcp[at+12] = 4 << 4
	sctp := m.udp("")
	sctp.Proto, sctp.Payload = 132, make([]byte, 32)
	all := []weird{
		one(m.name("longer than the frame"), "malformed", longer),
		one(m.name("UDP of 7 bytes"), "malformed", udp),
		one(m.name("TCP header of 16 bytes"), "malformed", tcp),
		one(m.name("SCTP"), "proto", wire(sctp)),
	}
	// The owner's kernel takes one hop, and the tunnel another. That kernel's
	// error is one about a flow: it leaves as the VIP's.
	last, enough, spent := uint8(1), uint8(2), counts{m.accepted: 1, "translated": 1}
	if m.accepted == "encap_home" {
		enough, spent = 3, counts{"ttl": 1}
	}
	hops := func(payload string, ttl uint8) []byte {
		f := m.udp(payload)
		f.TTL = ttl
		return wire(f)
	}
	return append(all,
		weird{name: m.name("TTL %d", last), frames: [][]byte{hops("", last)}, want: spent},
		arriving(m.name("TTL %d", enough), m.accepted, func(p string) []byte { return hops(p, enough) }))
}

// tags are VLAN tags. The one of VLAN 0 says no more than a priority.
func (m *maker) tags() []weird {
	tagged := func(payload string, tags ...uint16) []byte {
		var b []byte
		for i, vlan := range tags {
			kind := uint16(0x8100)
			if i < len(tags)-1 {
				kind = 0x88a8
			}
			b = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(b, kind), vlan)
		}
		return append(b, wire(m.udp(payload))...)
	}
	all := []weird{
		arriving(m.name("priority tag"), m.accepted, func(p string) []byte { return tagged(p, 5<<13) }),
		{
			name:   m.name("three tags"), // not_ip, which is background
			frames: [][]byte{tagged("three tags", 7, 8, 9), wire(m.ping())},
			want:   counts{"echo": 1},
		},
	}
	if m.accepted == "encap_home" { // tags do not go through the tunnel
		all = append(all,
			arriving(m.name("one tag"), m.accepted, func(p string) []byte { return tagged(p, 7) }),
			arriving(m.name("two tags"), m.accepted, func(p string) []byte { return tagged(p, 7, 8) }))
	}
	return all
}

func (m *maker) ping() packettest.Frame {
	return packettest.Ping(m.client.Addr().String(), m.vip.Addr().String())
}

// icmp are errors about nothing that is known, and other messages.
func (m *maker) icmp() []weird {
	message := func(kind, code uint8, payload []byte) []byte {
		f := m.ping()
		f.ICMPType, f.ICMPCode, f.ICMPRest, f.Payload = kind, code, [4]byte{}, payload
		return wire(f)
	}
	family := 0
	if m.vip.Addr().Is6() {
		family = 1
	}
	unreachable := portUnreachable[family]
	quote := func(from, to netip.AddrPort) []byte {
		return packettest.UDP(from.String(), to.String(), "nobody sent this").IP()
	}
	orphan := counts{"icmp_orphan": 1}
	if m.accepted == "encap_home" {
		orphan = counts{"encap_home": 1} // the owner is to know
	}
	nobody := netip.AddrPortFrom(m.client.Addr(), 5)
	return []weird{
		one(m.name("echo"), "echo", wire(m.ping())),
		one(m.name("router solicitation or timestamp"), "icmp", message([2]uint8{13, 133}[family], 0, make([]byte, 12))),
		{
			name:   m.name("error about no flow"),
			frames: [][]byte{message(unreachable[0], unreachable[1], quote(m.vip, nobody))}, want: orphan,
		},
		one(m.name("error about an unknown port"), "icmp",
			message(unreachable[0], unreachable[1], quote(netip.AddrPortFrom(m.vip.Addr(), 7), nobody))),
		one(m.name("error about the packet of another"), "icmp",
			message(unreachable[0], unreachable[1], quote(nobody, m.vip))),
		one(m.name("error without ports"), "icmp", message(unreachable[0], unreachable[1], quote(m.vip, nobody)[:packet.IPv4Len+7])),
	}
}
