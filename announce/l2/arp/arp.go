// SPDX-License-Identifier: Apache-2.0

// Package arp reads, writes and answers ARP packets for IPv4 over Ethernet (RFC
// 826, RFC 5227). It is part of the end of road A.
package arp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/fairlead/fairlead/announce/l2/ether"
)

// EtherType is that of ARP.
const EtherType = 0x0806

// Len is the length of a frame with an ARP packet, without padding, in bytes.
const Len = ether.HeaderLen + packetLen

// Where the addresses are in a frame.
const (
	SenderOffset = ether.HeaderLen + 14
	TargetOffset = ether.HeaderLen + 24
)

const (
	packetLen    = 28
	hardwareType = 1 // Ethernet
	protocolType = 0x0800
	opRequest    = 1
	opReply      = 2
)

// errMalformed is what all errors of Parse wrap.
var errMalformed = errors.New("malformed ARP packet")

// Op says whether a packet asks or answers.
type Op uint16

// The operations.
const (
	Request Op = opRequest
	Reply   Op = opReply
)

// Packet is an ARP packet with its Ethernet header.
type Packet struct {
	To, From             ether.MAC // of the Ethernet header
	Op                   Op
	SenderMAC, TargetMAC ether.MAC
	Sender, Target       netip.Addr // IPv4
}

// Parse reads a frame. What follows the packet is padding.
func Parse(frame []byte) (Packet, error) {
	if len(frame) < Len {
		return Packet{}, fmt.Errorf("%w: %d bytes, want %d", errMalformed, len(frame), Len)
	}
	word := func(at int) uint16 { return binary.BigEndian.Uint16(frame[at:]) }
	switch b := frame[ether.HeaderLen:]; {
	case word(ether.HeaderLen-2) != EtherType:
		return Packet{}, fmt.Errorf("%w: EtherType %#04x, want %#04x", errMalformed, word(ether.HeaderLen-2), EtherType)
	case word(ether.HeaderLen) != hardwareType || b[4] != 6:
		return Packet{}, fmt.Errorf("%w: hardware type %d with addresses of %d bytes, want Ethernet", errMalformed, word(ether.HeaderLen), b[4])
	case word(ether.HeaderLen+2) != protocolType || b[5] != 4:
		return Packet{}, fmt.Errorf("%w: protocol type %#04x with addresses of %d bytes, want IPv4", errMalformed, word(ether.HeaderLen+2), b[5])
	}
	p := Packet{
		To: ether.MAC(frame), From: ether.MAC(frame[6:]),
		Op:        Op(word(ether.HeaderLen + 6)),
		SenderMAC: ether.MAC(frame[SenderOffset-6:]), Sender: netip.AddrFrom4([4]byte(frame[SenderOffset:])),
		TargetMAC: ether.MAC(frame[TargetOffset-6:]), Target: netip.AddrFrom4([4]byte(frame[TargetOffset:])),
	}
	if p.Op != Request && p.Op != Reply {
		return Packet{}, fmt.Errorf("%w: operation %d, want request or reply", errMalformed, p.Op)
	}
	if !p.SenderMAC.IsStation() {
		return Packet{}, fmt.Errorf("%w: sender %s is no station", errMalformed, p.SenderMAC)
	}
	if p.Sender.IsMulticast() || p.Sender.As4() == [4]byte{255, 255, 255, 255} {
		return Packet{}, fmt.Errorf("%w: sender %s is no host", errMalformed, p.Sender)
	}
	return p, nil
}

// Append appends the packet's frame. The addresses are IPv4.
func (p Packet) Append(b []byte) []byte {
	b = ether.AppendHeader(b, p.To, p.From, EtherType)
	b = append(b, 0, hardwareType, protocolType>>8, protocolType&0xff, 6, 4)
	b = binary.BigEndian.AppendUint16(b, uint16(p.Op))
	sender, target := p.Sender.As4(), p.Target.As4()
	b = append(append(b, p.SenderMAC[:]...), sender[:]...)
	return append(append(b, p.TargetMAC[:]...), target[:]...)
}

// Decide says what a frame means to the station self that answers for the
// addresses of which ours is true.
func Decide(frame []byte, self ether.MAC, ours func(netip.Addr) bool) ether.Verdict {
	p, err := Parse(frame)
	switch {
	case err != nil:
		return ether.Verdict{Kind: ether.Malformed}
	case p.SenderMAC == self || p.From == self:
		return ether.Verdict{}
	case ours(p.Sender): // of either operation: RFC 5227 section 2.4
		return ether.Verdict{Kind: ether.Claim, VIP: p.Sender, From: p.SenderMAC}
	case p.Op != Request || p.To != self && p.To != ether.Broadcast || !ours(p.Target):
		return ether.Verdict{}
	}
	v := ether.Verdict{Kind: ether.Request, VIP: p.Target, From: p.SenderMAC}
	if p.Sender.IsUnspecified() {
		v.Kind = ether.Probe
	}
	v.Answer = Packet{
		To: p.SenderMAC, From: self, Op: Reply,
		SenderMAC: self, Sender: p.Target, TargetMAC: p.SenderMAC, Target: p.Sender,
	}.Append(nil)
	return v
}

// Announce returns the frames that tell everybody that self has the VIP: a
// request as RFC 5227 section 2.3 has it, and a reply for those who only learn
// from replies. Its target is self, or Linux would not take it within a second
// of another change.
func Announce(self ether.MAC, vip netip.Addr) [][]byte {
	p := Packet{To: ether.Broadcast, From: self, Op: Request, SenderMAC: self, Sender: vip, Target: vip}
	request := p.Append(nil)
	p.Op, p.TargetMAC = Reply, self
	return [][]byte{request, p.Append(nil)}
}

// Ask returns the frame that asks whether anybody else has the VIP (RFC 5227
// section 2.1.1). It changes nobody's cache, and the answer comes to self alone.
func Ask(self ether.MAC, vip netip.Addr) []byte {
	p := Packet{To: ether.Broadcast, From: self, Op: Request, SenderMAC: self, Sender: netip.IPv4Unspecified(), Target: vip}
	return p.Append(nil)
}
