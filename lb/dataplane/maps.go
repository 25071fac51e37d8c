// SPDX-License-Identifier: Apache-2.0

// Package dataplane carries a lb.Table into a datapath: it is the end of road B.
// It gives out ids and table regions, keeps the past of slots in transition, and
// writes in an order in which every intermediate state forwards correctly.
package dataplane

import (
	"net/netip"

	"github.com/fairlead/fairlead/lb"
)

// Maps is what a datapath offers. Every call is idempotent: writing what is
// there and deleting what is not both succeed. A call that returns an error may
// have taken effect or not. Implementations: xdp.Maps (BPF maps) and
// forward.Tables (memory).
type Maps interface {
	PutNode(lb.NodeID, NodeEntry) error
	DeleteNode(lb.NodeID) error

	// PutBackend makes the id name the backend; a local one becomes known to
	// the reply path too. DeleteBackend undoes both; flows of it are dead then.
	// Two ids may name one address on different nodes: what concerns one of
	// them leaves the other to the reply path.
	PutBackend(lb.BackendID, BackendEntry) error
	DeleteBackend(lb.BackendID) error

	// PutEndpoint says that the backend belongs to the service port.
	PutEndpoint(lb.ServiceID, lb.WireID, EndpointEntry) error
	DeleteEndpoint(lb.ServiceID, lb.WireID) error

	// WriteTable fills the region that ref names, completely, before it
	// returns. Nothing refers to the region yet.
	WriteTable(ref TableRef, t LookupTable) error
	// ReadTable returns what WriteTable wrote there; ok is false for a region that
	// is not whole any more. The table is the caller's.
	ReadTable(ref TableRef) (t LookupTable, ok bool)

	PutSourceRange(lb.ServiceID, netip.Prefix) error
	DeleteSourceRange(lb.ServiceID, netip.Prefix) error

	// PutService writes the service's record, its table reference with one
	// write, and then makes the key find it. DeleteService undoes that in reverse.
	PutService(lb.ServiceID, ServiceEntry) error
	DeleteService(lb.ServiceID, lb.ServiceKey) error

	// PutVIP makes the address known as a VIP, so that ports without a service
	// are dropped and echo is answered.
	PutVIP(netip.Addr) error
	DeleteVIP(netip.Addr) error

	// Load reads all but lookup tables back, for a start that takes over what is
	// there.
	Load() (State, error)

	// Limits are the sizes that the datapath was made with.
	Limits() Limits
}

// NodeEntry is how a peer node is reached. SelfNode is never written.
type NodeEntry struct {
	Name string // empty when read back from a datapath that does not store it
	// Addr is the outer destination: the node's InternalIP of a family that
	// this node has too.
	Addr netip.Addr
}

// BackendEntry is a backend without the service: one per address, port and node.
type BackendEntry struct {
	Addr netip.AddrPort
	Node lb.NodeID // lb.SelfNode: local
}

// EndpointEntry ties a backend to a service port.
type EndpointEntry struct {
	Backend  lb.BackendID
	Draining bool
}

// ServiceEntry is the record of a service port.
type ServiceEntry struct {
	Key lb.ServiceKey
	// Left is a service that is left to kube-proxy: it has nothing of what follows.
	Left bool
	// Adopted is a service that was taken over from kube-proxy, which may still
	// have connections of it.
	Adopted bool
	// Table is the zero TableRef when there is no candidate for new flows.
	Table TableRef
	Local bool // externalTrafficPolicy: Local
	// Closed: all candidates drain, so that their old flows find them by the
	// table, but a new one is refused, or dropped with Elsewhere.
	Closed bool
	// Elsewhere: under Local there is no candidate on this node but one on
	// another, so packets are dropped, not refused.
	Elsewhere bool
	// AffinityTicks is the affinity timeout in ticks; 0 is off.
	AffinityTicks uint32
	HasRanges     bool
	// PastUntil is the tick at which the past of the table's slots is forgotten; 0: no past.
	PastUntil uint32
}

// TableRef names a lookup table in the flat array: one 64-bit word, so that a
// swap is one write. The zero value is no table.
type TableRef struct {
	Line       uint32 // first line of the region, below 1<<24
	Size       uint8  // index into maglev.Sizes plus 1; 0: no table
	Transition bool   // slots carry their past
	Generation uint32 // in every line of the region; 1 to 1<<18-1
	Hash       uint16 // low bits of the table's content hash; rides on the wire
}

// LookupTable is the content of a region. Slots and Past hold indexes into List.
type LookupTable struct {
	Slots []uint16
	// Past has for each slot up to three earlier backends that still live,
	// latest first, NoBackend where there is none; nil for a service at rest.
	Past [][3]uint16
	List []lb.BackendID
}

// NoBackend in LookupTable.Past marks an unused place.
const NoBackend = 0xffff

// State is all that a datapath holds, keyed by id, but for lookup tables: they are
// large, and each is looked at once, by ReadTable.
type State struct {
	Nodes        map[lb.NodeID]NodeEntry
	Backends     map[lb.BackendID]BackendEntry
	Endpoints    map[EndpointKey]EndpointEntry
	Services     map[lb.ServiceID]ServiceEntry
	SourceRanges map[SourceRangeKey]bool
	VIPs         map[netip.Addr]bool
}

// EndpointKey is the key of an endpoint.
type EndpointKey struct {
	Service lb.ServiceID
	Wire    lb.WireID
}

// SourceRangeKey is the key of a source range.
type SourceRangeKey struct {
	Service lb.ServiceID
	Prefix  netip.Prefix
}

// Limits are the capacities of a datapath. Ids run below them.
type Limits struct {
	Nodes    int
	Backends int
	Services int
	Lines    uint32 // 64-byte lines of the lookup tables' array
}

// Geometry of a region: a line is 64 bytes, 4 of them the generation.
const (
	SlotsPerLine           = 30 // 2 bytes each
	TransitionSlotsPerLine = 7  // 8 bytes each: home and three past
	BackendsPerLine        = 15 // 4 bytes each
)

// SlotLines is how many lines the slots of a table of m slots take.
func SlotLines(m int, transition bool) uint32 {
	per := SlotsPerLine
	if transition {
		per = TransitionSlotsPerLine
	}
	return uint32((m + per - 1) / per)
}

// ListLines is how many lines a list of n backends takes; it follows the slots.
func ListLines(n int) uint32 { return uint32((n + BackendsPerLine - 1) / BackendsPerLine) }
