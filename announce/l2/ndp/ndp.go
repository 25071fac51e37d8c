// SPDX-License-Identifier: Apache-2.0

// Package ndp reads, writes and answers neighbor solicitations and
// advertisements over Ethernet (RFC 4861). It is part of the end of road A.
package ndp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/fairlead/fairlead/announce/l2/ether"
	"github.com/fairlead/fairlead/lb/packet"
)

// EtherType is that of IPv6.
const EtherType = uint16(packet.EtherTypeIPv6)

// Len is the length of a frame with a solicitation or an advertisement without
// options, in bytes.
const Len = icmpOffset + messageLen

// Where things are in a frame without extension headers.
const (
	NextHeaderOffset = ether.HeaderLen + 6
	SourceOffset     = ether.HeaderLen + 8
	TypeOffset       = icmpOffset
	TargetOffset     = icmpOffset + 8
)

const (
	icmpOffset = ether.HeaderLen + packet.IPv6Len
	messageLen = 24

	hopLimit       = 255 // RFC 4861 section 7.1: nobody can have forwarded it
	optionUnit     = 8
	sourceLink     = 1
	targetLink     = 2
	flagRouter     = 0x80
	flagSolicited  = 0x40
	flagOverride   = 0x20
	linkOptionUnit = 1 // length of an option with a MAC address
)

// errMalformed is what all errors of Parse wrap.
var errMalformed = errors.New("malformed neighbor discovery packet")

// Type says whether a message asks or answers: the type of ICMPv6.
type Type uint8

// The types.
const (
	Solicitation  Type = 135
	Advertisement Type = 136
)

var (
	allNodes      = netip.MustParseAddr("ff02::1")
	solicitedBase = netip.MustParseAddr("ff02::1:ff00:0").As16()
)

// Group is the solicited-node multicast group of an address (RFC 4291 section
// 2.7.1), where those who look for it ask.
func Group(a netip.Addr) netip.Addr {
	group, b := solicitedBase, a.As16()
	copy(group[13:], b[13:])
	return netip.AddrFrom16(group)
}

// Message is a solicitation or an advertisement with its headers.
type Message struct {
	To, From                    ether.MAC  // of the Ethernet header
	Dst, Src                    netip.Addr // of the IPv6 header
	Type                        Type
	Router, Solicited, Override bool // of an advertisement
	Target                      netip.Addr
	// Link is the MAC address in the source (solicitation) or target
	// (advertisement) link-layer address option; zero: there is none.
	Link ether.MAC
}

// Parse reads a frame and checks it as RFC 4861 sections 7.1.1 and 7.1.2 want.
// A message behind extension headers is an error: nobody sends that, and
// fragments are forbidden (RFC 6980).
func Parse(frame []byte) (Message, error) {
	if len(frame) < Len {
		return Message{}, fmt.Errorf("%w: %d bytes, want at least %d", errMalformed, len(frame), Len)
	}
	ip, icmp := frame[ether.HeaderLen:icmpOffset], frame[icmpOffset:]
	length := int(binary.BigEndian.Uint16(ip[4:]))
	switch {
	case binary.BigEndian.Uint16(frame[ether.HeaderLen-2:]) != EtherType || ip[0]>>4 != 6 || ip[6] != packet.ProtoICMPv6:
		return Message{}, fmt.Errorf("%w: not ICMPv6", errMalformed)
	case ip[7] != hopLimit:
		return Message{}, fmt.Errorf("%w: hop limit %d, want %d", errMalformed, ip[7], hopLimit)
	case length < messageLen || length > len(icmp):
		return Message{}, fmt.Errorf("%w: length %d, want %d to %d", errMalformed, length, messageLen, len(icmp))
	}
	icmp = icmp[:length] // the rest is padding
	m := Message{
		To: ether.MAC(frame), From: ether.MAC(frame[6:]),
		Src: netip.AddrFrom16([16]byte(ip[8:])), Dst: netip.AddrFrom16([16]byte(ip[24:])),
		Type:   Type(icmp[0]),
		Target: netip.AddrFrom16([16]byte(icmp[8:])),
	}
	switch {
	case m.Type != Solicitation && m.Type != Advertisement || icmp[1] != 0:
		return Message{}, fmt.Errorf("%w: type %d with code %d, want a solicitation or an advertisement", errMalformed, m.Type, icmp[1])
	case packet.Fold(packet.Sum(packet.PseudoSum(ip[8:24], ip[24:40], packet.ProtoICMPv6, length), icmp)) != 0xffff:
		return Message{}, fmt.Errorf("%w: wrong checksum %#04x", errMalformed, binary.BigEndian.Uint16(icmp[2:]))
	case m.Target.IsMulticast():
		return Message{}, fmt.Errorf("%w: target %s is a group", errMalformed, m.Target)
	case m.Src.IsMulticast() || m.Src.IsLoopback():
		return Message{}, fmt.Errorf("%w: source %s is no host", errMalformed, m.Src)
	case !m.From.IsStation():
		return Message{}, fmt.Errorf("%w: sender %s is no station", errMalformed, m.From)
	}
	linkOption := byte(sourceLink)
	if m.Type == Advertisement {
		linkOption = targetLink
		m.Router, m.Solicited, m.Override = icmp[4]&flagRouter != 0, icmp[4]&flagSolicited != 0, icmp[4]&flagOverride != 0
	}
	var err error
	if m.Link, err = linkAddress(icmp[messageLen:], linkOption); err != nil {
		return Message{}, err
	}
	return m, m.check()
}

// linkAddress finds the option with a MAC address. Of several the first one
// counts, as in Linux. Every step goes over eight bytes or more.
func linkAddress(options []byte, want byte) (found ether.MAC, err error) {
	for len(options) > 0 {
		if len(options) < optionUnit || options[1] == 0 || int(options[1])*optionUnit > len(options) {
			return ether.MAC{}, fmt.Errorf("%w: options of %d bytes end inside one", errMalformed, len(options))
		}
		if options[0] == want && found == (ether.MAC{}) {
			found = ether.MAC(options[2:])
			if options[1] != linkOptionUnit || !found.IsStation() {
				return ether.MAC{}, fmt.Errorf("%w: link-layer address option of %d bytes with %s", errMalformed, int(options[1])*optionUnit, found)
			}
		}
		options = options[int(options[1])*optionUnit:]
	}
	return found, nil
}

// check is for what concerns several fields.
func (m *Message) check() error {
	switch {
	case m.Type == Advertisement && m.Dst.IsMulticast() && m.Solicited:
		return fmt.Errorf("%w: solicited advertisement to the group %s", errMalformed, m.Dst)
	case m.Type == Advertisement && m.Src.IsUnspecified():
		return fmt.Errorf("%w: advertisement without source", errMalformed)
	case m.Type == Solicitation && m.Src.IsUnspecified() && (m.Dst != Group(m.Dst) || m.Link != ether.MAC{}):
		return fmt.Errorf("%w: probe to %s with link-layer address %s", errMalformed, m.Dst, m.Link)
	}
	return nil
}

// Append appends the message's frame. The addresses are IPv6.
func (m Message) Append(b []byte) []byte {
	start := len(b)
	length, option := messageLen, byte(sourceLink)
	if m.Type == Advertisement {
		option = targetLink
	}
	if m.Link != (ether.MAC{}) {
		length += optionUnit
	}
	src, dst, target := m.Src.As16(), m.Dst.As16(), m.Target.As16()
	b = ether.AppendHeader(b, m.To, m.From, EtherType)
	b = append(b, 6<<4, 0, 0, 0, 0, byte(length), packet.ProtoICMPv6, hopLimit)
	b = append(append(b, src[:]...), dst[:]...)
	b = append(b, byte(m.Type), 0, 0, 0, m.flags(), 0, 0, 0)
	b = append(b, target[:]...)
	if m.Link != (ether.MAC{}) {
		b = append(append(b, option, linkOptionUnit), m.Link[:]...)
	}
	icmp := b[start+icmpOffset:]
	binary.BigEndian.PutUint16(icmp[2:], packet.L4Checksum(src[:], dst[:], packet.ProtoICMPv6, icmp))
	return b
}

func (m *Message) flags() (flags byte) {
	if m.Router {
		flags |= flagRouter
	}
	if m.Solicited {
		flags |= flagSolicited
	}
	if m.Override {
		flags |= flagOverride
	}
	return flags
}

// sender is the MAC address that the message speaks for.
func (m *Message) sender() ether.MAC {
	if m.Link != (ether.MAC{}) {
		return m.Link
	}
	return m.From
}

// Decide says what a frame means to the station self that answers for the
// addresses of which ours is true.
func Decide(frame []byte, self ether.MAC, ours func(netip.Addr) bool) ether.Verdict {
	m, err := Parse(frame)
	switch {
	case err != nil:
		return ether.Verdict{Kind: ether.Malformed}
	case m.From == self || m.sender() == self:
		return ether.Verdict{}
	case ours(m.Src):
		return ether.Verdict{Kind: ether.Claim, VIP: m.Src, From: m.sender()}
	case !ours(m.Target):
		return ether.Verdict{}
	case m.Type == Advertisement:
		return ether.Verdict{Kind: ether.Claim, VIP: m.Target, From: m.sender()}
	case m.To != self && !m.To.IsGroup():
		return ether.Verdict{}
	}
	// RFC 4861 section 7.2.4. Override, because another node may have had the VIP.
	v := ether.Verdict{Kind: ether.Request, VIP: m.Target, From: m.sender()}
	answer := Message{
		To: m.sender(), From: self, Dst: m.Src, Src: m.Target,
		Type: Advertisement, Solicited: true, Override: true, Target: m.Target, Link: self,
	}
	if m.Src.IsUnspecified() {
		v.Kind = ether.Probe
		answer.To, answer.Dst, answer.Solicited = ether.Multicast(allNodes), allNodes, false
	}
	v.Answer = answer.Append(nil)
	return v
}

// Announce returns the frame that tells everybody that self has the VIP: an
// unsolicited advertisement (RFC 4861 section 7.2.6).
func Announce(self ether.MAC, vip netip.Addr) [][]byte {
	return [][]byte{Message{
		To: ether.Multicast(allNodes), From: self, Dst: allNodes, Src: vip,
		Type: Advertisement, Override: true, Target: vip, Link: self,
	}.Append(nil)}
}

// Ask returns the frame that asks whether anybody else has the VIP. It comes
// from an address of self, so that the answer comes to self alone: to one
// without a source everybody would listen.
func Ask(self ether.MAC, from, vip netip.Addr) []byte {
	group := Group(vip)
	return Message{
		To: ether.Multicast(group), From: self, Dst: group, Src: from, Type: Solicitation, Target: vip, Link: self,
	}.Append(nil)
}
