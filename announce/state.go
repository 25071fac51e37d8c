// SPDX-License-Identifier: Apache-2.0

package announce

import (
	"net/netip"
	"time"

	"k8s.io/apimachinery/pkg/labels"
)

// LabelExclude is the label, of any value, that keeps a node from announcing.
const LabelExclude = "node.kubernetes.io/exclude-from-external-load-balancers"

// State is what a node knows of the cluster and of itself. Lists of objects are
// in any order; names in one are not there twice. Objects that are not used
// (config.Result.Unused) are left out.
type State struct {
	Nodes    []Node
	Services []Service
	Pools    []Pool
	L2       []L2Advertisement
	BGP      []BGPAdvertisement
	Peers    []Peer
	// Communities are the values of all names that advertisements may use, the
	// well-known ones included.
	Communities map[string]string
	// Held are the VIPs that the tables of the node itself have.
	Held map[netip.Addr]bool
}

// Node is a node of the cluster.
type Node struct {
	Name   string
	Labels labels.Set
	// Addrs are its addresses as a next hop, the first of a family counts.
	Addrs []netip.Addr
	// NetworkUnavailable is the Node's condition of that name.
	NetworkUnavailable bool
	// Attached says that its programs forward, by its NodeState.
	Attached bool
}

// Service is one that has VIPs.
type Service struct {
	Name   string // namespace/name
	Labels labels.Set
	VIPs   []netip.Addr // as Service.status has them: their order counts, see L2.Key
	Local  bool         // externalTrafficPolicy
	// Serving are the names of the nodes with an endpoint that serves.
	Serving []string
}

// Range is From to To, both included.
type Range struct{ From, To netip.Addr }

// Pool is an IPAddressPool. What is in two of them is the older one's.
type Pool struct {
	Name    string
	Created time.Time
	Ranges  []Range
}

// Choice is a list of selectors of which one has to match; an empty one matches
// all. A selector that makes no sense is labels.Nothing().
type Choice []labels.Selector

// Selection says what an advertisement is for.
type Selection struct {
	Name string
	// Pools are the names of those that it is used for (config.Result.Advertised).
	Pools    []string
	Services Choice
	Nodes    Choice
}

// L2Advertisement has addresses answered for by ARP and NDP. One that is for
// some Services alone is not for an address that others share: an answer is for
// all of them.
type L2Advertisement struct {
	Selection
	Preferred  []Preference
	Interfaces []string // names and patterns; empty: all
}

// Preference adds a weight to the nodes that it matches.
type Preference struct {
	Weight int
	Nodes  labels.Selector
}

// BGPAdvertisement has addresses announced to peers.
type BGPAdvertisement struct {
	Selection
	Created time.Time // the older of two that contradict each other counts
	Peers   []string  // names; empty: all
	// Length4 and Length6 are the prefix lengths of routes.
	Length4, Length6 int
	LocalPref        uint32 // 0: none
	Prepend          int    // times that the own AS number is there once more
	Communities      []string
}

// Peer is a BGPPeer.
type Peer struct {
	Name  string
	Nodes Choice
	// Addr is the peer's address; the zero value: the link-local IPv6 address
	// that it has on an interface.
	Addr      netip.Addr
	DualStack bool // routes of both families go over the session
}
