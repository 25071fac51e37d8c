// SPDX-License-Identifier: Apache-2.0

package main

import "net/netip"

// explainReport is what fairlead explain tells and -o json prints.
type explainReport struct {
	Node     string          `json:"node"`
	Tables   string          `json:"tables"` // synced, waiting or retrying
	Revision string          `json:"revision"`
	Protocol string          `json:"protocol"`
	Client   netip.AddrPort  `json:"client"`
	VIP      netip.AddrPort  `json:"vip"`
	Packets  []packetExplain `json:"packets"`
}

// packetExplain is about one kind of packet. Steps that it does not come to are left out.
type packetExplain struct {
	Packet   string          `json:"packet"` // syn, ack or datagram
	Verdict  string          `json:"verdict"`
	Reason   string          `json:"reason"`
	Meaning  string          `json:"meaning"`
	VIPPorts []string        `json:"vipPorts"` // keys of all service ports of the VIP
	Service  *serviceExplain `json:"service,omitempty"`
	Table    *tableExplain   `json:"table,omitempty"`
	Slot     *slotExplain    `json:"slot,omitempty"`
	Home     *targetExplain  `json:"home,omitempty"`
	Past     []targetExplain `json:"past,omitempty"`
	Flow     *flowExplain    `json:"flow,omitempty"`
	Affinity *flowExplain    `json:"affinity,omitempty"`
	Tunnel   *tunnelExplain  `json:"tunnel,omitempty"`
	NextHop  *hopExplain     `json:"nextHop,omitempty"`
	Deliver  *deliverExplain `json:"deliver,omitempty"`
}

type serviceExplain struct {
	Name string `json:"name"`
	Key  string `json:"key"`
	Left bool   `json:"leftToKubeProxy"` // what follows means nothing then
	// Adopted: it was taken over from kube-proxy, which may still have connections.
	Adopted         bool   `json:"adopted"`
	Policy          string `json:"externalTrafficPolicy"`
	AffinitySeconds int64  `json:"affinitySeconds"`
	// SourceRanges are null where every client is admitted.
	SourceRanges []netip.Prefix `json:"sourceRanges"`
}

type tableExplain struct {
	Slots      int    `json:"slots"` // 0: the service has no backend for new connections
	Backends   int    `json:"backends"`
	Hash       string `json:"hash"`
	Generation uint32 `json:"generation"`
	Transition bool   `json:"transition"` // slots have a past
	// PastSeconds are left until the past is forgotten.
	PastSeconds int64 `json:"pastSeconds"`
	Closed      bool  `json:"closed"`    // all backends drain: no new connections
	Elsewhere   bool  `json:"elsewhere"` // under Local: only other nodes have backends
}

type slotExplain struct {
	Slot uint32 `json:"slot"`
	Hash string `json:"hash"`
	By   string `json:"by"` // "client and ports", or "client" under affinity
}

// targetExplain is a backend that a slot names.
type targetExplain struct {
	Address netip.AddrPort `json:"address"`
	Node    string         `json:"node"`
	State   string         `json:"state"` // ready, draining or gone
	Local   bool           `json:"local"`
}

type flowExplain struct {
	Kind        string         `json:"kind"` // own, redirect or affinity
	State       string         `json:"state,omitempty"`
	Flags       []string       `json:"flags"`
	IdleSeconds int64          `json:"idleSeconds"`
	Backend     netip.AddrPort `json:"backend"` // not of a redirect
	PodPort     uint16         `json:"podPort,omitempty"`
	// Match of an own record: mine, unfit (an ACK that does not show that its
	// sender saw the Pod's SYN-ACK) or foreign (a SYN after the connection's end).
	Match       string `json:"match,omitempty"`
	Node        string `json:"node,omitempty"` // redirect: the owner
	LeftSeconds int64  `json:"leftSeconds,omitempty"`
}

type tunnelExplain struct {
	Node     string         `json:"node"`
	Source   netip.AddrPort `json:"source"`
	Dest     netip.AddrPort `json:"destination"`
	Overhead int            `json:"overhead"`
	MTU      int            `json:"mtu"` // of the way
	// LearnedSeconds are left of an MTU that routers told of, after which the
	// uplink's counts again; null: it is the uplink's.
	LearnedSeconds *int64 `json:"learnedSeconds"`
	// Largest is the longest packet of the client that fits.
	Largest int `json:"largestPacket"`
}

type hopExplain struct {
	Interface  string  `json:"interface"`
	MAC        string  `json:"mac"`
	Fresh      bool    `json:"fresh"`
	AgeSeconds float64 `json:"ageSeconds"` // since it was last confirmed; -1: never
	XDPMode    string  `json:"xdpMode"`    // of the interfaces; only native uses the next hop
}

type deliverExplain struct {
	Pod     netip.AddrPort `json:"pod"`
	PodPort uint16         `json:"podPort"` // the client's port as the Pod sees it
	Record  bool           `json:"record"`  // a record is made
}
