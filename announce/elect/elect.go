// SPDX-License-Identifier: Apache-2.0

// Package elect chooses the node that answers for a VIP: a pure function, that
// every agent calls with the same facts. It is part of the end of road A.
package elect

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"fmt"
	"net/netip"
	"slices"
)

// Node is what counts of a node for one VIP.
type Node struct {
	Name string
	// Live: the members see it, itself included.
	Live bool
	// Excluded by its label, its conditions, or because no advertisement of
	// the VIP selects it.
	Excluded bool
	// Serving: it may take the VIP's traffic. Under externalTrafficPolicy Local
	// it has a serving endpoint; under Cluster any node has one.
	Serving bool
	// Able: its datapath holds the VIP, and an interface for it has its link.
	Able bool
	// Weight is the sum of the preferences that match the node.
	Weight int64
}

// Reason says why a node does not answer for a VIP.
type Reason uint8

// The reasons, the first that holds counts.
const (
	None       Reason = iota // it answers
	NotLive                  // no member
	Excluded                 // by label, condition or selector
	NotServing               // without a serving endpoint
	NotAble                  // without datapath or link
	Outranked                // another node goes first
)

func (r Reason) String() string {
	if int(r) < len(reasons) {
		return reasons[r]
	}
	return fmt.Sprintf("reason %d", uint8(r))
}

var reasons = [...]string{
	None: "answers", NotLive: "is no live member", Excluded: "is excluded", NotServing: "has no serving endpoint",
	NotAble: "has no datapath or link for it", Outranked: "goes after another node",
}

// Standing is a node's place in an election.
type Standing struct {
	Node   string
	Reason Reason
}

// Elect puts the nodes in order: the first one answers if its Reason is None,
// and those that are Outranked would follow. The others come last, by name.
//
// Larger weights go first. Of equals the one goes first whose sha256 of "name#key" is the least,
// which is MetalLB's order (speaker/layer2_controller.go, ShouldAnnounce): a
// migrated cluster keeps its announcers. Like there, the key of all addresses
// of a Service is its first one, so that both families are on one node. Services
// that share an address want the same key.
func Elect(key netip.Addr, nodes []Node) []Standing {
	type candidate struct {
		Standing
		weight int64
		hash   [sha256.Size]byte
	}
	text := key.Unmap().String()
	candidates := make([]candidate, len(nodes))
	for i, n := range nodes {
		candidates[i] = candidate{Standing{n.Name, n.refused()}, n.Weight, sha256.Sum256([]byte(n.Name + "#" + text))}
	}
	slices.SortFunc(candidates, func(a, b candidate) int {
		switch aOut, bOut := a.Reason != None, b.Reason != None; {
		case aOut && bOut:
			return cmp.Compare(a.Node, b.Node)
		case aOut:
			return 1
		case bOut:
			return -1
		}
		return cmp.Or(cmp.Compare(b.weight, a.weight), bytes.Compare(a.hash[:], b.hash[:]))
	})
	standings := make([]Standing, len(candidates))
	for i, c := range candidates {
		standings[i] = c.Standing
		if i > 0 && c.Reason == None {
			standings[i].Reason = Outranked
		}
	}
	return standings
}

func (n *Node) refused() Reason {
	switch {
	case !n.Live:
		return NotLive
	case n.Excluded:
		return Excluded
	case !n.Serving:
		return NotServing
	case !n.Able:
		return NotAble
	}
	return None
}

// Winner is the node that answers; false says that there is none.
func Winner(standings []Standing) (string, bool) {
	if len(standings) == 0 || standings[0].Reason != None {
		return "", false
	}
	return standings[0].Node, true
}
