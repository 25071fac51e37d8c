// SPDX-License-Identifier: Apache-2.0

package bfd

import (
	"encoding/binary"
	"time"
)

// Facts of the wire (RFC 5880 section 4.1).
const (
	version    = 1
	packetSize = 24 // without authentication, which is not offered
	authSize   = 26 // the least with it
)

// Flags beside the state, in the second byte.
const (
	flagPoll = 1 << (5 - iota)
	flagFinal
	flagIndependent
	flagAuthentication
	flagDemand
	flagMultipoint
)

// State is the state of a session (RFC 5880 section 4.1).
type State uint8

// The states, with their values on the wire.
const (
	AdminDown State = iota
	Down
	Init
	Up
)

func (s State) String() string { return [...]string{"admin-down", "down", "init", "up"}[s&3] }

// Diag says why a session left the state Up last (RFC 5880 section 4.1).
type Diag uint8

// The codes that are sent here; the others are only read.
const (
	DiagNone      Diag = 0
	DiagExpired   Diag = 1 // control detection time expired
	DiagSignaled  Diag = 3 // neighbor signaled session down
	DiagAdminDown Diag = 7 // administratively down
)

var diagNames = [...]string{
	"none", "detection time expired", "echo failed", "peer signaled down", "forwarding plane reset",
	"path down", "concatenated path down", "administratively down", "reverse concatenated path down",
}

func (d Diag) String() string {
	if int(d) < len(diagNames) {
		return diagNames[d]
	}
	return "reserved"
}

// Drop is why a received packet counts for nothing. It is an error, and the
// label of a counter.
type Drop string

func (d Drop) Error() string { return "bfd packet dropped: " + string(d) }

// Why a packet is dropped (RFC 5880 section 6.8.6 in its order, then RFC 5881
// and 5883 section 5).
const (
	DropShort          Drop = "short"          // fewer bytes than a packet has
	DropVersion        Drop = "version"        // not 1
	DropLength         Drop = "length"         // says fewer bytes than there must be, or more than there are
	DropMultiplier     Drop = "multiplier"     // 0
	DropMultipoint     Drop = "multipoint"     // the flag is set
	DropDiscriminator  Drop = "discriminator"  // the sender's own is 0, or ours is in a state that knows it
	DropAuthentication Drop = "authentication" // not in use here
	DropSession        Drop = "session"        // of no session, or not from the session's peer
	DropTTL            Drop = "ttl"            // came over more hops than it may
	DropAdminDown      Drop = "admin-down"     // the session is given up
)

// Packet is a control packet without authentication (RFC 5880 section 4.1).
// Intervals are whole microseconds on the wire.
type Packet struct {
	Diag                  Diag
	State                 State
	Poll, Final           bool
	Independent, Demand   bool
	Multiplier            uint8
	Mine, Yours           uint32 // discriminators, of the sender and of the receiver
	DesiredTx, RequiredRx time.Duration
	RequiredEchoRx        time.Duration
}

// Parse reads a packet, and checks all that can be seen in it alone. Its errors
// are of type Drop.
func Parse(b []byte) (Packet, error) {
	if len(b) < packetSize {
		return Packet{}, DropShort
	}
	flags, length := b[1], int(b[3])
	least := packetSize
	if flags&flagAuthentication != 0 {
		least = authSize
	}
	p := Packet{
		Diag: Diag(b[0] & 31), State: State(flags >> 6),
		Poll: flags&flagPoll != 0, Final: flags&flagFinal != 0,
		Independent: flags&flagIndependent != 0, Demand: flags&flagDemand != 0,
		Multiplier: b[2],
		Mine:       binary.BigEndian.Uint32(b[4:]), Yours: binary.BigEndian.Uint32(b[8:]),
		DesiredTx: interval(b[12:]), RequiredRx: interval(b[16:]), RequiredEchoRx: interval(b[20:]),
	}
	switch {
	case b[0]>>5 != version:
		return Packet{}, DropVersion
	case length < least || length > len(b):
		return Packet{}, DropLength
	case p.Multiplier == 0:
		return Packet{}, DropMultiplier
	case flags&flagMultipoint != 0:
		return Packet{}, DropMultipoint
	case p.Mine == 0 || p.Yours == 0 && p.State != Down && p.State != AdminDown:
		return Packet{}, DropDiscriminator
	case flags&flagAuthentication != 0:
		return Packet{}, DropAuthentication
	}
	return p, nil
}

func interval(b []byte) time.Duration {
	return time.Duration(binary.BigEndian.Uint32(b)) * time.Microsecond
}

// Append appends the packet's 24 bytes.
func (p Packet) Append(b []byte) []byte {
	flags := byte(p.State) << 6
	flags |= flag(flagPoll, p.Poll) | flag(flagFinal, p.Final) | flag(flagIndependent, p.Independent) | flag(flagDemand, p.Demand)
	b = append(b, version<<5|byte(p.Diag), flags, p.Multiplier, packetSize)
	b = binary.BigEndian.AppendUint32(b, p.Mine)
	b = binary.BigEndian.AppendUint32(b, p.Yours)
	for _, d := range []time.Duration{p.DesiredTx, p.RequiredRx, p.RequiredEchoRx} {
		b = binary.BigEndian.AppendUint32(b, uint32(d/time.Microsecond))
	}
	return b
}

func flag(bit byte, set bool) byte {
	if set {
		return bit
	}
	return 0
}
