// SPDX-License-Identifier: Apache-2.0

// Package flow is the owner node's table of connections (road C): which
// backend a client's packets belong to, and how replies find back. It is the
// readable twin of xdp/bpf/flow.h: given the same operations, both choose the
// same record, and time is an argument. Nothing here allocates per packet.
package flow

import (
	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/packet"
)

// Ways is the number of records of a bucket.
const Ways = 8

// Facts that both twins must agree on; abi.h has the same numbers.
const (
	AckWindow   = 16384  // how far a handshake's ACK may be past the Pod's initial sequence number
	PortTries   = 8      // substitute client ports tried
	SlotUnknown = 0xffff // in Record.Slot
)

// Idle times in ticks; abi.h has the same numbers (enum lb_timeout).
const (
	TimeoutTCPHalfOpen    = 1118
	TimeoutTCPEstablished = 6437301
	TimeoutTCPFin         = 1788
	TimeoutTCPClosed      = 224
	TimeoutUDPHalfOpen    = 894
	TimeoutUDPEstablished = 2682
)

// Kind says what a record is for.
type Kind uint8

// The kinds.
const (
	Free     Kind = iota
	Own           // a connection of a local backend
	Alias         // finds the flow whose substitute port this is
	Redirect      // a registered stray: owned by another node
	Affinity      // a client that is remembered; port and protocol 0
)

// State is how far a connection is.
type State uint8

// The states.
const (
	HalfOpen State = iota
	Established
)

// Flags are facts about a connection.
type Flags uint8

// The flags.
const (
	HasISN     Flags = 1 << iota // Record.ISN is known
	Unverified                   // did not begin with a SYN: the Pod has to confirm it
	ClientFIN
	ClientRST
	PodFIN
	PodRST
)

// Closed says that a TCP connection is over for its Pod.
func (f Flags) Closed() bool {
	const fins = PodFIN | ClientFIN
	return f&PodRST != 0 || f&fins == fins
}

// Record is the owner's record of a connection, 64 bytes like struct lb_flow.
// Numbers are in host order.
type Record struct {
	Seq        uint64 // even; 2 more with every new owner of the place
	Client     packet.Addr
	Port       uint16 // the client's
	Proto      uint8
	Kind       Kind
	Service    lb.ServiceID
	ServiceTag uint32
	Backend    lb.BackendID
	BackendTag uint32
	Seen       uint32 // tick of the last packet
	PodPort    uint16 // the client's port as the Pod sees it; Alias: as the client sees it
	State      State
	Flags      Flags
	ISN        uint32 // the Pod's initial sequence number
	Slot       uint16
	Node       lb.NodeID // Redirect: the owner
	Until      uint32    // Redirect, Affinity: the last tick of their life
}

// idle is the time since the last packet in ticks. It is negative for a moment
// when another CPU has seen the next tick already, and right when ticks wrap.
func (r *Record) idle(now uint32) int32 { return int32(now - r.Seen) }

// timeout is the idle time that the record survives, in ticks.
func (r *Record) timeout() uint32 {
	switch {
	case r.Proto == packet.ProtoUDP && r.State == Established:
		return TimeoutUDPEstablished
	case r.Proto == packet.ProtoUDP:
		return TimeoutUDPHalfOpen
	case r.State == HalfOpen:
		return TimeoutTCPHalfOpen
	case r.Flags.Closed() || r.Flags&ClientRST != 0:
		return TimeoutTCPClosed
	case r.Flags&(ClientFIN|PodFIN) != 0:
		return TimeoutTCPFin
	}
	return TimeoutTCPEstablished
}

// Key is what a search compares, and what a new record is told.
type Key struct {
	Client     packet.Addr
	Port       uint16
	Proto      uint8
	Service    lb.ServiceID
	ServiceTag uint32
	Backend    lb.BackendID
	BackendTag uint32
}

func (k *Key) hasClient(r *Record) bool {
	return r.Port == k.Port && r.Proto == k.Proto && r.Client == k.Client
}

func (k *Key) hasService(r *Record) bool {
	return r.Service == k.Service && r.ServiceTag == k.ServiceTag
}
