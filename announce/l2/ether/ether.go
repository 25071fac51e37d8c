// SPDX-License-Identifier: Apache-2.0

// Package ether holds what ARP and NDP have in common: MAC addresses, Ethernet
// headers, and what a frame means to one who answers for VIPs. It is part of
// the end of road A.
package ether

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// HeaderLen is the length of an Ethernet header without tags, in bytes.
const HeaderLen = 14

// MAC is an Ethernet address.
type MAC [6]byte

// Broadcast is everybody's address.
var Broadcast = MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// MACFrom takes an address of six bytes; false says that it is none.
func MACFrom(b []byte) (MAC, bool) {
	if len(b) != len(MAC{}) {
		return MAC{}, false
	}
	return MAC(b), true
}

// Multicast is the address of frames to an IPv6 multicast group (RFC 2464
// section 7).
func Multicast(group netip.Addr) MAC {
	b := group.As16()
	return MAC{0x33, 0x33, b[12], b[13], b[14], b[15]}
}

// IsGroup says that the address is that of several stations.
func (m MAC) IsGroup() bool { return m[0]&1 != 0 }

// IsStation says that one station can have the address.
func (m MAC) IsStation() bool { return !m.IsGroup() && m != MAC{} }

func (m MAC) String() string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

// AppendHeader appends an Ethernet header.
func AppendHeader(b []byte, to, from MAC, etherType uint16) []byte {
	b = append(b, to[:]...)
	b = append(b, from[:]...)
	return binary.BigEndian.AppendUint16(b, etherType)
}

// Kind says what a frame means to one who answers for VIPs.
type Kind uint8

// The kinds.
const (
	// Ignored frames are not about a VIP, not for us, or our own.
	Ignored Kind = iota
	// Request asks who has a VIP, Probe whether anybody has it (RFC 5227
	// section 2.1.1, RFC 4862 section 5.4.2). Both have an answer.
	Request
	Probe
	// Claim says that somebody else has a VIP: an announcement, an answer, or
	// a question that comes from it.
	Claim
	// Malformed frames break the rules of their protocol.
	Malformed
)

func (k Kind) String() string {
	if int(k) < len(kinds) {
		return kinds[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

var kinds = [...]string{Ignored: "ignored", Request: "request", Probe: "probe", Claim: "claim", Malformed: "malformed"}

// Verdict is what a frame means, and the frame that answers it.
type Verdict struct {
	Kind   Kind
	VIP    netip.Addr // of Request, Probe and Claim
	From   MAC        // who sent it, of Request, Probe and Claim
	Answer []byte     // of Request and Probe
}
