// SPDX-License-Identifier: Apache-2.0

package members

import (
	"net/netip"
	"time"
)

// Member is a node that takes part.
type Member struct {
	Name  string
	Addr  netip.AddrPort
	Meta  []byte // what it tells of itself
	Since time.Time
}

// Report is the state of the membership. The caller owns it.
type Report struct {
	Members []Member // all that are alive to this node, itself included, by name
	// Gone are nodes that exist and were members, as they were last: what they
	// told of themselves still says who they are.
	Gone   []Member
	Seen   []string // as Set has them
	Quorum bool
	// Joined and Lost count members that came and went, this node left out.
	Joined, Lost uint64
	// Joins and JoinErrors count attempts to join a node that is missing.
	Joins, JoinErrors uint64
	// NameConflicts counts messages of another node with a name that is taken.
	NameConflicts uint64
	// LastAck is when a member answered last; zero: never.
	LastAck time.Time
}
