// SPDX-License-Identifier: Apache-2.0

// Package lb is the vocabulary that roads B and C share: what a service, a
// backend and a node are, and the immutable Table that says what a node has to
// do. It knows nothing of Kubernetes and nothing of eBPF.
package lb

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"net/netip"
	"time"
)

// Proto is an IP protocol number (IANA "Assigned Internet Protocol Numbers").
type Proto uint8

// The protocols that a service port can have.
const (
	TCP Proto = 6
	UDP Proto = 17
)

// String returns the lower-case name, or "proto-N" for one that no service has.
func (p Proto) String() string {
	switch p {
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	}
	return fmt.Sprintf("proto-%d", uint8(p))
}

// ParseProto accepts "TCP", "tcp", "UDP" and "udp".
func ParseProto(s string) (Proto, error) {
	switch s {
	case "tcp", "TCP":
		return TCP, nil
	case "udp", "UDP":
		return UDP, nil
	}
	return 0, fmt.Errorf("unknown protocol %q: want TCP or UDP", s)
}

// Numbers that must not mix. All of them are indexes into this node's own
// arrays and mean nothing to another node, except WireID.
type (
	// ServiceID is the index of a service port.
	ServiceID uint32
	// BackendID is the index of a backend. 0 is never used, so that it can say "none".
	BackendID uint32
	// NodeID is the index of a node. SelfNode is this one.
	NodeID uint16
	// WireID names a backend to every node of the cluster; see Backend.WireID.
	WireID uint32
	// Slot is an index into a lookup table.
	Slot uint32
)

// SelfNode is the NodeID of the node that the Table is for.
const SelfNode NodeID = 0

// Policy is the externalTrafficPolicy of a service.
type Policy uint8

// Cluster lets every backend serve, Local only those of the ingress node.
const (
	Cluster Policy = iota
	Local
)

// String returns Kubernetes' spelling.
func (p Policy) String() string {
	if p == Local {
		return "Local"
	}
	return "Cluster"
}

// Backend is a Pod address and port that receives packets of one service port.
type Backend struct {
	Addr netip.AddrPort // the Pod's address and target port
	Node string         // the node that runs the Pod; never empty
	// Weight is the share of new flows relative to the other backends, 1 at least.
	Weight uint16
	// Draining keeps old flows and gets no new ones, even if all others drain.
	Draining bool
}

// WireID is the cluster-stable name of a backend in the Geneve option: FNV-1a
// over the 16-byte address and the big-endian port, never 0.
func (b Backend) WireID() WireID { return WireIDOf(b.Addr) }

// WireIDOf is Backend.WireID for a bare address and port.
func WireIDOf(ap netip.AddrPort) WireID {
	addr := ap.Addr().As16()
	h := fnv.New32a()
	h.Write(addr[:])
	h.Write(binary.BigEndian.AppendUint16(nil, ap.Port()))
	if id := WireID(h.Sum32()); id != 0 {
		return id
	}
	return 1
}

// ServiceKey identifies a service port: what a client's packet is matched by.
type ServiceKey struct {
	VIP   netip.Addr // unmapped
	Port  uint16
	Proto Proto
}

// String returns "tcp/192.0.2.1:80".
func (k ServiceKey) String() string {
	return k.Proto.String() + "/" + netip.AddrPortFrom(k.VIP, k.Port).String()
}

// Tag is a 32-bit fingerprint of the key, never 0, by which a flow record
// notices that its ServiceID was given to another service port.
func (k ServiceKey) Tag() uint32 {
	addr := k.VIP.As16()
	h := fnv.New32a()
	h.Write(addr[:])
	h.Write(binary.BigEndian.AppendUint16(nil, k.Port))
	h.Write([]byte{byte(k.Proto)})
	if tag := h.Sum32(); tag != 0 {
		return tag
	}
	return 1
}

// Compare orders keys by address, port and protocol.
func (k ServiceKey) Compare(o ServiceKey) int {
	if c := k.VIP.Compare(o.VIP); c != 0 {
		return c
	}
	if c := int(k.Port) - int(o.Port); c != 0 {
		return c
	}
	return int(k.Proto) - int(o.Proto)
}

// Service is one service port with everything that decides about its packets.
type Service struct {
	Key  ServiceKey
	Name string // "namespace/name:port" or what the operator wrote; for people only
	// Policy says which backends get new flows on the ingress node.
	Policy Policy
	// Affinity keeps a client on its backend for so long after its last new
	// flow (sessionAffinity ClientIP); 0 is off.
	Affinity time.Duration
	// SourceRanges are the only clients admitted, unmapped and masked; nil admits all.
	SourceRanges []netip.Prefix
	// TableSize is the number of slots, one of maglev.Sizes.
	TableSize int
	// Backends are sorted by address and have no two with the same one.
	Backends []Backend
	// Left says that the port is kube-proxy's, though the VIP is ours too: its
	// packets pass untouched. It has no Backends, and the rest means nothing.
	Left bool
}

// Node is a node of the cluster as its peers reach it.
type Node struct {
	Name string
	// Addrs are the node's InternalIPs, at most one of each family.
	Addrs []netip.Addr
}
