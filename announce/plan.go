// SPDX-License-Identifier: Apache-2.0

package announce

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

// Plan is what one node is to do. All lists are sorted.
type Plan struct {
	Peers []PeerPlan // sessions to run, by name
	VIPs  []VIP      // all that Services have, by address
	// Problems are contradictions that show only with the Services.
	Problems []Problem
}

// PeerPlan is a session, and all that is announced over it.
type PeerPlan struct {
	Name   string
	Routes []Route // by prefix; none: the session is up without
}

// Route is a prefix with its attributes.
type Route struct {
	Prefix netip.Prefix
	// NextHop is an address of the node; the zero value: the session's own one,
	// which is of the family. It is the same for all routes of a peer and family.
	NextHop     netip.Addr
	LocalPref   uint32   // 0: none
	Prepend     int      // times that the own AS number is there once more
	Communities []string // values, "64512:100" or "large:64512:1:2"
}

// VIP is what becomes of an address on this node.
type VIP struct {
	Addr     netip.Addr
	Services []string // that have it
	Pool     string   // "": none
	Peers    []string // that have a route for it
	L2       *L2      // nil: the node does not answer for it
	// Not is why it is not announced: by neither protocol, or by one that an
	// advertisement asks for.
	Not []Reason
}

// L2 says that a node may answer for an address. Who does is decided among the
// candidates that live; every one of them has the same list.
type L2 struct {
	// Key is what the election goes by: the first VIP of the Service, the first
	// one by name of several, so that one node answers for both families.
	Key        netip.Addr
	Candidates []Candidate // the highest weight first, then by name
	Interfaces []string    // names and patterns of this node; nil: all
}

// Candidate is a node that may answer.
type Candidate struct {
	Node   string
	Weight int
}

// Protocol is how an address is announced.
type Protocol string

// The protocols. A Reason without one is for both.
const (
	ProtocolBGP Protocol = "bgp"
	ProtocolL2  Protocol = "l2"
)

// Code is a reason in one word, for conditions and metrics.
type Code string

// Why a node does not announce an address, what the user has to look at first first.
const (
	CodeNoNode             Code = "NoNode"             // the cluster does not know the node
	CodeNoPool             Code = "NoPool"             // the address is in none
	CodeNoAdvertisement    Code = "NoAdvertisement"    // none is for the pool
	CodeServiceNotSelected Code = "ServiceNotSelected" // those for the pool are for others
	CodeAllNodesExcluded   Code = "AllNodesExcluded"
	CodeNodeExcluded       Code = "NodeExcluded"
	CodeNetworkUnavailable Code = "NetworkUnavailable"
	CodeNotAttached        Code = "NotAttached" // the node does not forward
	CodeNoEndpoints        Code = "NoEndpoints"
	CodeNoLocalEndpoint    Code = "NoLocalEndpoint" // none on this node, under Local
	CodeNotProgrammed      Code = "NotProgrammed"   // the tables do not have it yet
	CodeNodeNotSelected    Code = "NodeNotSelected"
	CodeUnknownCommunity   Code = "UnknownCommunity"
	CodeNoPeer             Code = "NoPeer"    // none of the named ones is for this node
	CodeNoFamily           Code = "NoFamily"  // the sessions do not carry it
	CodeNoNextHop          Code = "NoNextHop" // the node has no address of the family
)

// Reason says why not, for a person.
type Reason struct {
	Protocol Protocol
	Code     Code
	Text     string
}

func reason(p Protocol, code Code, format string, args ...any) Reason {
	return Reason{p, code, fmt.Sprintf(format, args...)}
}

func (r Reason) compare(o Reason) int {
	return cmp.Or(cmp.Compare(r.Protocol, o.Protocol), cmp.Compare(r.Code, o.Code), cmp.Compare(r.Text, o.Text))
}

// Problem is a contradiction of an advertisement.
type Problem struct{ Advertisement, Text string }

func (p Problem) compare(o Problem) int {
	return cmp.Or(cmp.Compare(p.Advertisement, o.Advertisement), cmp.Compare(p.Text, o.Text))
}

// sorted returns a list in order, each value once.
func sorted[T any](list []T, compare func(T, T) int) []T {
	slices.SortFunc(list, compare)
	return slices.CompactFunc(list, func(a, b T) bool { return compare(a, b) == 0 })
}
