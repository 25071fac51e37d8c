// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/dataplane"
	"github.com/fairlead/fairlead/lb/flow"
	"github.com/fairlead/fairlead/lb/maglev"
	"github.com/fairlead/fairlead/lb/packet"
)

// owner decides for a packet whose home runs on this node, or that another
// node sent here: mine, past, new, in this order for every packet.
func (f *Forwarder) owner(d *decision) Reason {
	if f.other != nil {
		return f.ask(d)
	}
	var key flow.Key // field by field: see wayTo
	key.Client, key.Port, key.Proto = d.pkt.Src, d.pkt.SrcPort, d.pkt.Proto
	key.Service, key.ServiceTag = d.service, d.svc.tag
	reason, unfit := f.mine(d, &key)
	if reason == None {
		reason = f.affinity(d, &key)
	}
	if reason == None {
		reason = f.past(d)
	}
	if reason == None {
		reason = f.settle(d, &key, unfit)
	}
	return reason
}

// mine looks for the flow's record. A half-open one that the packet does not
// fit is given back: it counts only if no other node knows the flow.
func (f *Forwarder) mine(d *decision, key *flow.Key) (reason Reason, unfit *flow.Record) {
	r := f.flows.Find(key, d.now)
	if r == nil {
		return None, nil
	}
	if r.Kind == flow.Redirect {
		if d.option.Position >= packet.PositionRedirected {
			return None, nil
		}
		return d.goTo(r.Node, packet.PositionRedirected, EncapOwner, SteerOwner), nil
	}
	if d.pkt.Related { // says nothing that a record should believe
		d.backend, d.podPort = r.Backend, r.PodPort
		return Related, nil
	}
	switch r.MatchClient(d.pkt) {
	case flow.Foreign:
		return None, nil
	case flow.Unfit:
		return None, r
	}
	f.flows.FromClient(r, d.pkt, d.svc.entry.AffinityTicks, d.now)
	d.backend, d.podPort = r.Backend, r.PodPort
	return Mine, nil
}

// mayBegin says that the packet may be the first of a connection. An error
// about one is not.
func mayBegin(p *packet.Packet) bool {
	return !p.Related && (p.Proto == packet.ProtoUDP || p.Flags&(packet.SYN|packet.ACK) == packet.SYN)
}

// affinity begins a flow on the backend that the client is remembered for.
func (f *Forwarder) affinity(d *decision, key *flow.Key) Reason {
	if d.svc.entry.AffinityTicks == 0 || !mayBegin(d.pkt) {
		return None
	}
	r := f.flows.FindAffinity(key, d.now)
	if r == nil {
		return None
	}
	endpoint, ok := f.tables.endpoint(d.service, r.BackendTag)
	if !ok || endpoint.Draining {
		return None
	}
	if reason := f.flowNew(d, key, r.Backend, 0); reason != None {
		return reason
	}
	return Affinity
}

// past sends the packet on to the next earlier backend's node that has not
// been asked yet, or back home.
func (f *Forwarder) past(d *decision) Reason {
	position := d.option.Position
	if position.Terminal() {
		return None
	}
	for next := position + 1; next <= packet.PositionPast3; next++ {
		tag := d.option.Tags[next]
		if tag == 0 {
			break
		}
		if node := f.endpointNode(d.service, tag); node != lb.SelfNode {
			return d.goTo(node, next, EncapPast, SteerPast)
		}
	}
	if position == packet.PositionIngress {
		return None
	}
	if node := f.endpointNode(d.service, d.option.Tags[0]); node != lb.SelfNode {
		return d.goTo(node, packet.PositionHome, SteerHome, SteerHome)
	}
	return None
}

// endpointNode is the other node that runs the endpoint; SelfNode when the
// endpoint is unknown or runs here.
func (f *Forwarder) endpointNode(service lb.ServiceID, tag uint32) lb.NodeID {
	endpoint, ok := f.tables.endpoint(service, tag)
	if !ok {
		return lb.SelfNode
	}
	return f.tables.backend(endpoint.Backend).node
}

func (t *Tables) endpoint(service lb.ServiceID, tag uint32) (dataplane.EndpointEntry, bool) {
	e, ok := t.endpoints[dataplane.EndpointKey{Service: service, Wire: lb.WireID(tag)}]
	return e, ok
}

// goTo notes where the packet goes, and picks the reason by how it came.
func (d *decision) goTo(node lb.NodeID, position packet.Position, encap, steer Reason) Reason {
	d.node, d.option.Position = node, position
	if d.tunnelled {
		return steer
	}
	return encap
}

// settle is for a packet whose flow nobody knows: its home's Pod gets it, but
// for an error, which that could not place either.
func (f *Forwarder) settle(d *decision, key *flow.Key, unfit *flow.Record) Reason {
	if d.pkt.Related {
		return ICMPOrphan
	}
	home, ok := f.tables.endpoint(d.service, d.option.Tags[0])
	if !ok || f.tables.backend(home.Backend).node != lb.SelfNode {
		return NotLocal
	}
	if unfit != nil {
		unfit.Seen = d.now
		d.backend, d.podPort = unfit.Backend, unfit.PodPort
		return Judge
	}
	flags, reason := flow.Flags(0), New
	switch begins := mayBegin(d.pkt); {
	case begins && d.svc.entry.Closed:
		return d.refusal()
	case !begins:
		flags, reason = flow.Unverified, Judge
	}
	if refusal := f.flowNew(d, key, home.Backend, flags); refusal != None {
		return refusal
	}
	return reason
}

// flowNew makes the record of a new flow on a backend of this node. None: it did.
func (f *Forwarder) flowNew(d *decision, key *flow.Key, id lb.BackendID, flags flow.Flags) Reason {
	key.Backend, key.BackendTag = id, f.tables.backend(id).tag
	slot := uint16(flow.SlotUnknown)
	if size := d.svc.entry.Table.Size; size != 0 {
		slot = uint16(SlotOf(d.slotHash(), maglev.Sizes[size-1]))
	}
	podPort, result := f.flows.Insert(key, flags, slot, uint32(d.hash), d.now)
	switch result {
	case flow.Full:
		return FlowsFull
	case flow.NoPort:
		return Ports
	}
	d.backend, d.podPort = id, podPort
	return None
}
