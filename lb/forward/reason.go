// SPDX-License-Identifier: Apache-2.0

package forward

import "fmt"

// Verdict is what happens to a packet. The order is that of enum lb_verdict.
type Verdict uint8

// The verdicts.
const (
	Continue Verdict = iota // undecided; never a result
	Pass                    // not ours: untouched to the stack
	Drop
	Encap   // Geneve to another node
	Steer   // Geneve already: on to another node
	Deliver // to a local backend: decapsulated, its address as destination
	Answer  // reply from the VIP itself
	Reply   // from a local backend: its source becomes the VIP
)

var verdictNames = [...]string{"continue", "pass", "drop", "encap", "steer", "deliver", "answer", "reply"}

// String returns the name that metrics use.
func (v Verdict) String() string {
	if int(v) < len(verdictNames) {
		return verdictNames[v]
	}
	return fmt.Sprintf("verdict_%d", uint8(v))
}

// Reason is why a packet got its verdict; each belongs to one verdict. The
// order is that of enum lb_reason, where they are explained.
type Reason uint8

// The reasons.
const (
	None Reason = iota // undecided: go on

	NotIP // pass
	OtherMAC
	NotVIP
	Left
	Conntracked
	Neighbor
	ForeignTunnel
	NotReply
	NoFlow

	Malformed // drop
	Headers
	Fragment
	Martian
	Proto
	ICMP
	ICMPOrphan
	TunnelError
	UnknownPort
	SourceRange
	NoLocalBackends
	StaleTable
	TTL
	TooBig
	NoNode
	BadOption
	BadMAC
	Congested
	UnknownService
	NotLocal
	FlowsFull
	FlowsBusy // of the C programs alone
	Ports
	Rate
	NoAgent // of the C programs alone
	Error

	EncapHome // encap
	EncapPast
	EncapOwner

	SteerPast // steer
	SteerHome
	SteerOwner

	Mine // deliver
	New
	Affinity
	Judge
	Related

	Echo // answer
	Refused
	PacketTooBig

	Translated // reply

	// ReasonCount is the number of reasons.
	ReasonCount
)

var reasonNames = [ReasonCount]string{
	"none",
	"not_ip", "other_mac", "not_vip", "left", "conntracked", "neighbor", "foreign_tunnel", "not_reply", "no_flow",
	"malformed", "headers", "fragment", "martian", "proto", "icmp", "icmp_orphan", "tunnel_error",
	"unknown_port", "source_range", "no_local_backends", "stale_table", "ttl", "too_big", "no_node",
	"bad_option", "bad_mac", "congested", "unknown_service", "not_local",
	"flows_full", "flows_busy", "ports", "rate", "no_agent", "error",
	"encap_home", "encap_past", "encap_owner",
	"steer_past", "steer_home", "steer_owner",
	"mine", "new", "affinity", "judge", "related",
	"echo", "refused", "packet_too_big",
	"translated",
}

// String returns the name that metrics use: the one in abi.h without its
// prefix, in lower case.
func (r Reason) String() string {
	if r < ReasonCount {
		return reasonNames[r]
	}
	return fmt.Sprintf("reason_%d", uint8(r))
}

// Verdict is the verdict that the reason belongs to.
func (r Reason) Verdict() Verdict {
	switch {
	case r < NotIP:
		return Continue
	case r < Malformed:
		return Pass
	case r < EncapHome:
		return Drop
	case r < SteerPast:
		return Encap
	case r < Mine:
		return Steer
	case r < Echo:
		return Deliver
	case r < Translated:
		return Answer
	}
	return Reply
}
