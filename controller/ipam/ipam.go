// SPDX-License-Identifier: Apache-2.0

// Package ipam gives addresses of pools to Services. It stands on road A and is
// pure: a whole State goes in, a whole Result comes out, and equal input gives
// equal output, whatever the order of its lists.
//
// What a Service has, it keeps: first every Service takes over the addresses
// that its status or a claim says are its own, and only then are others looked
// for. An address leaves its Service when no pool has it any more, when the
// Service asks for another one and that one is to be had, when a Service that
// shares it changed so that both cannot, or with the Service itself. Then it
// rests for the Delay before another Service gets it.
package ipam

import (
	"net/netip"
	"time"

	"k8s.io/apimachinery/pkg/labels"
)

// State is all that an allocation is made from. Allocate only reads it.
type State struct {
	Services []*Service
	Pools    []*Pool
	// Namespaces are the labels of each namespace by its name.
	Namespaces map[string]labels.Set
	// Claims are the addresses that are recorded as a Service's own, whether
	// or not its status shows them yet. A claimed address is nobody else's,
	// even where its Service is gone, until the claim is withdrawn.
	Claims []Claim
	Freed  []Freed
	Now    time.Time
	// Delay is how long a freed address rests.
	Delay time.Duration
	// TwoPools lets a dual-stack Service have its addresses from two pools.
	TwoPools bool
}

// Claim says that an address is a Service's own.
type Claim struct {
	Addr netip.Addr
	UID  string
	// Terms are Service.Terms as they were when the claim was made.
	Terms string
}

// Freed says when an address was last taken from a Service.
type Freed struct {
	Addr netip.Addr
	// By is the name of that Service. One of this name gets the address back
	// without delay.
	By string
	At time.Time
}

// Result is who has what.
type Result struct {
	// Assignments are those of all Services, by UID.
	Assignments map[string]Assignment
	// Counts are those of all pools, by name.
	Counts map[string]Counts
	// Again is when the next freed address has rested; zero where none rests.
	Again time.Time
}

// Assignment is what a Service gets.
type Assignment struct {
	// Addrs are at most one of each family, the Service's first family first.
	Addrs []netip.Addr
	// Pools are the names of the pools that Addrs are from.
	Pools []string
	// Complete says that these are the addresses that the Service asks for.
	Complete bool
	// Reason is one word, Message what a user can do about it.
	Reason, Message string
}

// Reasons of assignments.
const (
	ReasonAllocated        = "Allocated"
	ReasonInvalidRequest   = "InvalidRequest"
	ReasonNoPool           = "NoPool"           // no pool is for the Service
	ReasonPoolNotFound     = "PoolNotFound"     // no pool has the name asked for
	ReasonPoolNotForIt     = "PoolNotAllowed"   // the pool is for other Services
	ReasonPoolDraining     = "PoolDraining"     // the pool gives out no more
	ReasonPoolExhausted    = "PoolExhausted"    // no address is free
	ReasonFamilyMissing    = "FamilyMissing"    // a pool has no address of a family
	ReasonAddressNotInPool = "AddressNotInPool" // no pool has the address asked for
	ReasonAddressInUse     = "AddressInUse"     // another Service has it
	ReasonAddressResting   = "AddressResting"   // another Service had it a moment ago
)

// Family is 4 or 6.
type Family int

// The families of IP.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// FamilyOf returns the family of an address that is no IPv4 one inside of IPv6.
func FamilyOf(a netip.Addr) Family {
	if a.Is4() {
		return IPv4
	}
	return IPv6
}

// String returns "IPv4" or "IPv6".
func (f Family) String() string {
	if f == IPv4 {
		return "IPv4"
	}
	return "IPv6"
}
