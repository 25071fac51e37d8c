// SPDX-License-Identifier: Apache-2.0

package l2

import (
	"net/netip"
	"time"

	"github.com/fairlead/fairlead/announce/l2/ether"
)

// Counters count since the responder was opened.
type Counters struct {
	Requests      uint64 // for VIPs that are answered for
	Probes        uint64 // whether anybody has one of them
	Replies       uint64 // sent, to both
	Announcements uint64 // sent unasked: gratuitous ARP, unsolicited advertisements
	Questions     uint64 // sent, whether anybody else has a VIP
	Conflicts     uint64 // claims of strangers
	FellowClaims  uint64 // claims of other nodes
	Malformed     uint64
	SendErrors    uint64
}

// Conflict is a stranger's claim to a VIP.
type Conflict struct {
	MAC       ether.MAC // the last one that claimed it
	Interface string
	First     time.Time
	Last      time.Time
}

// VIPReport is what became of one answer.
type VIPReport struct {
	VIP netip.Addr
	// Interfaces are where the VIP is answered for; without any, Reason says why.
	Interfaces []string
	Reason     string
	Since      time.Time // on the first of the interfaces; zero without any
	Yielding   bool      // another node is to take it
	// Conflict is there as long as a stranger claims the VIP: after
	// ConflictDelay, until it was not heard for ConflictHold.
	Conflict *Conflict
}

// Report is the state of a responder. The caller owns it.
type Report struct {
	VIPs       []VIPReport // in order of the addresses
	Interfaces []Interface // those that can be answered on, in order of their index
	ARP, NDP   Counters
	Takeovers  uint64 // VIPs that this node began to answer for on an interface
	// Lapsed: the last set is older than the lease, and counts no more.
	Lapsed bool
	// Trouble says why some questions are not heard; "": all are.
	Trouble string
}
