// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/dataplane"
	"github.com/fairlead/fairlead/lb/flow"
	"github.com/fairlead/fairlead/lb/packet"
)

// Question is a packet of a client to a VIP, as the network would bring it.
type Question struct {
	Proto       lb.Proto
	Client, VIP netip.AddrPort // of one family, unmapped
	// Flags of TCP. An ACK acknowledges what the Pod sent, as far as the
	// connection's record knows that.
	Flags uint8
}

// Explanation is what Ingress would do with a packet, and all that it looks at
// on the way. What it does not come to is nil or zero.
type Explanation struct {
	Reason Reason

	VIP       bool                    // the destination is one
	Ports     []lb.ServiceKey         // service ports of the VIP, sorted
	Service   *dataplane.ServiceEntry // nil: no service has this port
	ServiceID lb.ServiceID
	Ranges    []netip.Prefix // the clients that are admitted; nil: all

	Slot *SlotChoice
	// Flow is the connection's record on this node, also where the packet's
	// home is another one; Match says how the packet relates to an Own record.
	Flow  *flow.Record
	Match flow.Match
	// Remembered is the record of the client under affinity.
	Remembered *flow.Record
	// Made is the record that the packet would make.
	Made *flow.Record

	// Pod and PodPort, the client's port as the Pod sees it, are of the verdict deliver.
	Pod     netip.AddrPort
	PodPort uint16

	Node   lb.NodeID // another node that was chosen
	Tunnel *Tunnel   // of the verdict encap
	MTU    int       // of the uplink; of the way to Node, where there is a Tunnel
	// Learned is of the way to Node, as far as it counts: it is MTU then.
	Learned PathMTU
}

// SlotChoice is how the lookup table chooses the packet's home.
type SlotChoice struct {
	Slot     uint32
	Slots    int
	Backends int    // that new connections go to
	Hash     uint64 // that chooses: of client and ports, under affinity of the client alone
	Home     Target
	Past     []Target // latest first
}

// Target is a backend that a slot names.
type Target struct {
	Addr     netip.AddrPort // invalid: the backend is gone
	Node     lb.NodeID
	Endpoint bool // still belongs to the service
	Draining bool
}

// Tunnel is what is put around a packet for another node.
type Tunnel struct {
	Src, Dst netip.AddrPort
	Overhead int // bytes
	Position packet.Position
}

// Explainer answers Questions about one VIP on copies of a node's tables and of
// the flow records that matter; nothing is written anywhere.
type Explainer struct {
	settings Settings
	tables   *Tables
	flows    FlowReader
}

// Sources are what an explanation reads beside the state.
type Sources struct {
	Tables TableReader
	Flows  FlowReader
	Paths  PathReader // nil: nothing was learned of any path
}

// TableReader is dataplane.Maps.ReadTable.
type TableReader func(dataplane.TableRef) (dataplane.LookupTable, bool)

// FlowReader copies the records of a client's address and port from the node's
// flow table. index is the bucket's among Settings.FlowBuckets, under Settings.FlowKey.
type FlowReader func(client netip.Addr, port uint16) (index int, records [flow.Ways]flow.Record)

// PathReader tells what was learned about the way to a node.
type PathReader func(lb.NodeID) PathMTU

// NewExplainer copies from state what concerns the VIP, and what was learned of
// paths. s are the settings of the node whose state and flow table it is; its
// MAC is not looked at.
func NewExplainer(s Settings, limits dataplane.Limits, state dataplane.State, vip netip.Addr, from Sources) (*Explainer, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	tables, err := tablesOf(vip, limits, state, from.Tables)
	if err != nil {
		return nil, err
	}
	if from.Paths != nil {
		for id := range state.Nodes {
			tables.nodes[id].path.set(from.Paths(id))
		}
	}
	s.MAC = [6]byte{}
	return &Explainer{settings: s, tables: tables, flows: from.Flows}, nil
}

// Explain says what would become of the packet at tick now.
func (x *Explainer) Explain(q Question, now uint32) (Explanation, error) {
	copied := flowCopy{index: map[uint16]int{}, buckets: map[int][flow.Ways]flow.Record{}}
	ports := []uint16{q.Client.Port(), affinityPort}
	for {
		copied.add(x.flows, q.Client.Addr(), ports)
		f, err := copied.forwarder(x.settings, x.tables)
		if err != nil {
			return Explanation{}, err
		}
		// Whether a record leads elsewhere, or a port is free to be a
		// substitute, shows only when the packet has come there.
		var e Explanation
		if e, ports = f.explain(q, now); copied.has(ports) {
			return e, nil
		}
	}
}

// explain decides on f, which is left as it was but for its counters. ports are
// those whose buckets the answer depends on.
func (f *Forwarder) explain(q Question, now uint32) (e Explanation, ports []uint16) {
	frame := q.frame(f.expectedAck(q, now))
	before := slices.Clone(f.flows.Records())
	var d decision
	d.reset(frame, now)
	f.decide(&d)
	copy(f.flows.Records(), before)
	e = f.facts(&d)
	if d.svc != nil {
		if d.svc.entry.HasRanges {
			e.Ranges = f.tables.ranges[d.service].list()
		}
		ports = f.recordFacts(&d, &e)
	}
	reason, out := f.Ingress(frame, now, nil)
	e.Reason, e.Made = reason, made(before, f.flows.Records())
	copy(f.flows.Records(), before)
	switch reason.Verdict() {
	case Encap:
		e.Tunnel, e.MTU = tunnelOf(out, len(out)-len(frame), d.option.Position), f.d.way.mtu
		if e.MTU < f.mtu {
			e.Learned = f.tables.PathMTU(f.d.node)
		}
	case Deliver:
		e.Pod, e.PodPort = f.tables.target(d.service, d.backend).Addr, d.podPort
		ports = append(ports, d.podPort)
	}
	return e, ports
}

// facts are what the tables say, as far as d went. The order is decide's.
func (f *Forwarder) facts(d *decision) Explanation {
	e := Explanation{VIP: f.tables.isVIP(&d.pkt.Dst), Ports: f.tables.portsOf(d.pkt.Dst), Node: d.node, MTU: f.mtu}
	if d.svc == nil {
		return e
	}
	entry := d.svc.entry
	e.Service, e.ServiceID = &entry, d.service
	if d.option.Tags[0] == 0 { // no slot was selected
		return e
	}
	table := &d.svc.region.table
	hash := d.slotHash()
	c := &SlotChoice{Slot: SlotOf(hash, len(table.Slots)), Slots: len(table.Slots), Hash: hash, Backends: int(slices.Max(table.Slots)) + 1}
	c.Home = f.tables.target(d.service, table.List[table.Slots[c.Slot]])
	if entry.Table.Transition {
		for _, index := range table.Past[c.Slot] {
			if index != dataplane.NoBackend {
				c.Past = append(c.Past, f.tables.target(d.service, table.List[index]))
			}
		}
	}
	e.Slot = c
	return e
}

// recordFacts finds the records of connection and client, and returns the
// ports that these lead to.
func (f *Forwarder) recordFacts(d *decision, e *Explanation) (ports []uint16) {
	key := flow.Key{
		Client: d.pkt.Src, Port: d.pkt.SrcPort, Proto: d.pkt.Proto, Service: d.service, ServiceTag: d.svc.tag,
	}
	if r := f.flows.Find(&key, d.now); r != nil {
		found := *r
		e.Flow, e.Match = &found, r.MatchClient(d.pkt)
		ports = append(ports, r.PodPort)
	}
	if d.svc.entry.AffinityTicks == 0 {
		return ports
	}
	if r := f.flows.FindAffinity(&key, d.now); r != nil {
		found := *r
		e.Remembered = &found
	}
	return ports
}

// made is the connection's record that is in after and not in before.
func made(before, after []flow.Record) *flow.Record {
	for i, r := range after {
		if r.Kind == flow.Own && r.Seq != before[i].Seq {
			return &r
		}
	}
	return nil
}

// expectedAck is a number that the Pod's end of the connection would accept,
// where this node knows the connection.
func (f *Forwarder) expectedAck(q Question, now uint32) uint32 {
	service := lb.ServiceKey{VIP: q.VIP.Addr(), Port: q.VIP.Port(), Proto: q.Proto}
	number, ok := f.tables.keys.get(keyOf(service))
	id := lb.ServiceID(number)
	if !ok {
		return 1
	}
	key := flow.Key{
		Client: packet.AddrOf(q.Client.Addr()), Port: q.Client.Port(), Proto: uint8(q.Proto),
		Service: id, ServiceTag: service.Tag(),
	}
	if r := f.flows.Find(&key, now); r != nil {
		return r.ISN + 1
	}
	return 1
}
