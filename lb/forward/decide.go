// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/packet"
)

// decision is what is known of one packet, and what was decided about it.
type decision struct {
	now   uint32
	frame []byte
	outer packet.Packet  // the frame's own IP packet
	inner packet.Packet  // the one in it, if tunnelled
	pkt   *packet.Packet // the client's: one of both
	result
}

// result is the part of a decision that begins as zero.
type result struct {
	tunnelled bool
	option    packet.Option // as received or to be sent: position, table hash, tags
	service   lb.ServiceID
	svc       *service
	hash      uint64 // flow hash with ports, whatever chooses the slot
	node      lb.NodeID
	backend   lb.BackendID
	podPort   uint16 // the client's port for the Pod
	way       way    // to the node
	room      int    // how long an IP packet may be that goes this way
	cut       int    // where in its payload the rest of a packet begins; 0: it is whole
}

func (d *decision) reset(frame []byte, now uint32) {
	d.now, d.frame, d.pkt = now, frame, &d.outer
	d.result = result{}
}

// decide finds the reason for a packet that came in by a device of ours.
func (f *Forwarder) decide(d *decision) Reason {
	if !f.frameIsOurs(d.frame) {
		return OtherMAC
	}
	reason := f.parse(d)
	if reason == None {
		reason = f.known(d)
	}
	if reason == None {
		reason = f.serviceLookup(d)
	}
	if reason == None {
		reason = f.serviceOthers(d)
	}
	if reason != None {
		return reason
	}
	d.hash = FlowHash(d.pkt.Src, PortsWord(d.pkt.SrcPort, d.pkt.DstPort, d.pkt.Proto))
	if d.tunnelled {
		f.fragmentRecord(d)
		return f.owner(d)
	}
	if !d.pkt.Related && martian(d.pkt) {
		return Martian
	}
	if reason = f.sourceRange(d); reason != None {
		return reason
	}
	f.fragmentRecord(d)
	if reason = f.slotSelect(d); reason != None {
		if d.pkt.Related && reason.Verdict() == Answer { // errors are not answered: RFC 1122 section 3.2.2
			return ICMPOrphan
		}
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
func (f *Forwarder) parse(d *decision) Reason {
	p := &d.outer
	if !p.Parse(d.frame) {
		return NotIP
	}
	if p.DstPort == f.genevePort && p.Proto == packet.ProtoUDP && p.Fragment == packet.Whole && !p.Related && p.HasPorts() {
		if own, ok := f.self.of(p.Version); ok && p.Dst == own {
			return f.parseTunnel(d)
		}
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
	header := packet.IPv4Len
	if d.outer.Version == 6 {
		header = packet.IPv6Len
	}
	if !ok || d.outer.L4-d.outer.L3 != header { // we send no options and extension headers outside
		return BadOption
	}
	d.tunnelled, d.option, d.pkt = true, geneve.Option, &d.inner
	inner := d.outer.Data + packet.GeneveLen
	if !d.inner.ParseIP(d.frame, inner, len(d.frame), geneve.Inner) || !d.inner.MayBeInside() {
		return Malformed
	}
	return None
}

// known finds what can be said without the services: of a tunnelled packet
// whether to believe it, of another one whether it is a later fragment or an
// error about a tunnel of ours.
func (f *Forwarder) known(d *decision) Reason {
	p := d.pkt
	if d.tunnelled {
		switch {
		case p.IsLater() && !f.fragments.Follow(p, d.now):
			return Fragment
		case !f.optionAuthentic(d):
			return BadMAC
		case d.outer.ECN() == packet.CE && p.ECN() == packet.NotECT: // RFC 6040 section 4.2
			return Congested
		}
		return None
	}
	switch {
	case p.Related && p.Proto == packet.ProtoUDP && p.SrcPort == f.genevePort:
		if own, ok := f.self.of(p.Version); ok && p.Dst == own {
			return f.tunnelError(d)
		}
	case p.IsLater():
		return f.fragmentFollow(d)
	}
	return None
}

func (f *Forwarder) optionAuthentic(d *decision) bool {
	for _, key := range f.keys {
		if d.option.Sign(key, d.pkt) == d.option.MAC {
			return true
		}
	}
	return false
}

// serviceLookup finds the service port that the packet is for.
func (f *Forwarder) serviceLookup(d *decision) Reason {
	if d.pkt.HasPorts() {
		key := keyAt(&d.pkt.Dst, d.pkt.DstPort, d.pkt.Proto)
		if id, ok := f.tables.keys.get(key); ok {
			d.service, d.svc = lb.ServiceID(id), &f.tables.services[id]
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
	switch p := d.pkt; {
	case !f.tables.isVIP(&p.Dst):
		return NotVIP
	case p.Malformed:
		return Malformed
	case p.Headers:
		return Headers
	case p.Fragment == packet.LaterFragment: // its service is gone
		return Fragment
	case p.Related:
		return ICMP
	case martian(p):
		return Martian
	case p.IsNeighbor():
		return Neighbor
	case p.IsEchoRequest():
		f.fragmentRecord(d)
		return Echo
	case p.IsICMP():
		return ICMP
	case !p.HasPorts():
		return Proto
	}
	return UnknownPort
}

// serviceOthers passes what is kube-proxy's, about which nothing is ours to
// judge: packets for a service that is left to it, or of a connection that it has
// from the time before it lost the service. The later fragments of a datagram
// find the way of the first.
func (f *Forwarder) serviceOthers(d *decision) Reason {
	reason := None
	switch e := &d.svc.entry; {
	case e.Left && d.tunnelled:
		return UnknownService
	case e.Left:
		reason = Left
	case e.Adopted && !d.tunnelled && f.conntrackKnows(d.pkt):
		reason = Conntracked
	default:
		return None
	}
	f.fragmentRecord(d)
	return reason
}

func (f *Forwarder) conntrackKnows(p *packet.Packet) bool {
	return f.conntrack != nil && f.conntrack(Connection{
		Client: p.Src, VIP: p.Dst, ClientPort: p.SrcPort, ServicePort: p.DstPort, Proto: p.Proto,
	})
}

// sourceRange admits the client or not.
func (f *Forwarder) sourceRange(d *decision) Reason {
	if d.svc.entry.HasRanges && !f.tables.ranges[d.service].contain(d.pkt.Src) {
		return SourceRange
	}
	return None
}

// freeBackend stands for what is not there.
var freeBackend backend

// backend is an entry by id, the free one for an id that is out of range.
func (t *Tables) backend(id lb.BackendID) *backend {
	if int(id) >= len(t.backends) {
		return &freeBackend
	}
	return &t.backends[id]
}
