// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/dataplane"
	"github.com/fairlead/fairlead/lb/packet"
)

// decision is what is known of one packet, and what was decided about it.
type decision struct {
	now       uint32
	frame     []byte
	outer     packet.Packet // the frame's own IP packet
	pkt       packet.Packet // the client's: the inner one when tunnelled
	tunnelled bool

	option  packet.Option // as received or to be sent: position, table hash, tags
	service lb.ServiceID
	svc     *service
	hash    uint64 // flow hash with ports, whatever chooses the slot
	node    lb.NodeID
	backend lb.BackendID
	podPort uint16 // the client's port for the Pod
}

// decide finds the reason for a packet that came in by a device of ours.
func (f *Forwarder) decide(d *decision, frame []byte) Reason {
	if !f.frameIsOurs(frame) {
		return OtherMAC
	}
	reason := f.parse(d, frame)
	if reason == None && d.tunnelled && !f.optionAuthentic(d) {
		reason = BadMAC
	}
	if reason == None {
		reason = f.serviceLookup(d)
	}
	if reason != None {
		return reason
	}
	d.hash = FlowHash(d.pkt.Src, PortsWord(d.pkt.SrcPort, d.pkt.DstPort, d.pkt.Proto))
	if d.tunnelled {
		return f.owner(d)
	}
	if reason = f.sourceRange(d); reason != None {
		return reason
	}
	if reason = f.slotSelect(d); reason != None {
		return reason
	}
	if d.node != lb.SelfNode {
		return EncapHome
	}
	return f.owner(d)
}

// frameIsOurs says that the frame is for this machine: a switch floods what it
// does not know a port for, and a mirror port has the frames of all.
func (f *Forwarder) frameIsOurs(frame []byte) bool {
	return f.mac == [6]byte{} || len(frame) < packet.EthernetLen || [6]byte(frame) == f.mac
}

// parse reads the frame, and the client's packet inside if another node sent it.
func (f *Forwarder) parse(d *decision, frame []byte) Reason {
	d.frame = frame
	if !d.outer.Parse(frame) {
		return NotIP
	}
	d.pkt = d.outer
	own, ok := f.self.of(d.pkt.Version)
	if ok && d.pkt.HasPorts() && d.pkt.Proto == packet.ProtoUDP && d.pkt.DstPort == f.genevePort && d.pkt.Dst == own {
		return f.parseTunnel(d)
	}
	return None
}

// parseTunnel walks into a packet that another node sent us. Nothing of it is
// believed before optionAuthentic.
func (f *Forwarder) parseTunnel(d *decision) Reason {
	payload := d.frame[d.outer.Data:d.outer.End]
	if !packet.IsOurGeneve(payload) {
		return ForeignTunnel
	}
	geneve, ok := packet.ParseGeneve(payload)
	if !ok || d.outer.L4-d.outer.L3 > packet.IPv4Len && d.outer.Version == 4 { // we send no IP options outside
		return BadOption
	}
	d.tunnelled, d.option = true, geneve.Option
	inner := d.outer.Data + packet.GeneveLen
	if !d.pkt.ParseIP(d.frame, inner, len(d.frame), geneve.Inner) || !d.pkt.HasPorts() {
		return Malformed
	}
	return None
}

func (f *Forwarder) optionAuthentic(d *decision) bool {
	for _, key := range f.keys {
		if d.option.Sign(key, &d.pkt) == d.option.MAC {
			return true
		}
	}
	return false
}

// serviceLookup finds the service port that the packet is for.
func (f *Forwarder) serviceLookup(d *decision) Reason {
	if d.pkt.HasPorts() {
		key := serviceKey{addrPort{d.pkt.Dst, d.pkt.DstPort}, d.pkt.Proto}
		if id, ok := f.tables.keys[key]; ok {
			d.service, d.svc = id, &f.tables.services[id]
			return None
		}
	}
	if d.tunnelled {
		return UnknownService
	}
	return f.vipReason(d)
}

// vipReason says why a packet that matches no service port is not served.
func (f *Forwarder) vipReason(d *decision) Reason {
	switch p := &d.pkt; {
	case !f.tables.vips[p.Dst]:
		return NotVIP
	case p.Malformed:
		return Malformed
	case p.Fragment:
		return Fragment
	case p.IsEchoRequest():
		return Echo
	case p.IsICMP():
		return ICMP
	case !p.HasPorts():
		return Proto
	}
	return UnknownPort
}

// sourceRange admits the client or not.
func (f *Forwarder) sourceRange(d *decision) Reason {
	if d.svc.entry.HasRanges && !f.tables.ranges[d.service].contain(d.pkt.Src) {
		return SourceRange
	}
	return None
}

// slotHash is what chooses the slot: the client alone under affinity.
func (d *decision) slotHash() uint64 {
	if d.svc.entry.AffinityTicks != 0 {
		return FlowHash(d.pkt.Src, 0)
	}
	return d.hash
}

// slotSelect chooses the packet's home, and its past where the slot has one.
func (f *Forwarder) slotSelect(d *decision) Reason {
	e := &d.svc.entry
	if e.Table.Size == 0 {
		if e.Elsewhere {
			return NoLocalBackends
		}
		return Refused
	}
	region := d.svc.region
	if region == nil || region.stale {
		return StaleTable
	}
	slot := SlotOf(d.slotHash(), len(region.table.Slots))
	home := f.tables.backend(region.table.List[region.table.Slots[slot]])
	d.option = packet.Option{Version: packet.WireVersion, TableHash: e.Table.Hash}
	d.option.Tags[0] = home.tag
	if e.Table.Transition {
		f.slotPast(&d.option.Tags, region, slot)
	}
	d.node = home.node
	return None
}

// slotPast fills in the wire ids of the slot's past, latest first.
func (f *Forwarder) slotPast(tags *packet.Tags, r *region, slot uint32) {
	for i, index := range r.table.Past[slot] {
		if index == dataplane.NoBackend {
			return
		}
		tags[1+i] = f.tables.backend(r.table.List[index]).tag
	}
}

// backend is an entry by id, the free one for an id that is out of range.
func (t *Tables) backend(id lb.BackendID) backend {
	if int(id) >= len(t.backends) {
		return backend{}
	}
	return t.backends[id]
}
