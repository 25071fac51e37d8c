// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"encoding/binary"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/packet"
)

const (
	macsLen       = 12 // both MAC addresses of an Ethernet header
	outerPortBase = 0xc000
	outerPortMask = 0x3fff
)

// appendEthernet appends the Ethernet header of d's frame for what follows,
// without tags: they are of the link that the frame came by.
func (d *decision) appendEthernet(out []byte, eth packet.EtherType) []byte {
	out = append(out, d.frame[:macsLen]...)
	return binary.BigEndian.AppendUint16(out, uint16(eth))
}

// way is what an outer header says of the way to a node.
type way struct {
	own, to packet.Addr
	version uint8
	mtu     int
}

// wayTo finds the way to the chosen node; ok is false when there is none of
// the IP version (0: any).
func (f *Forwarder) wayTo(d *decision, version uint8) (ok bool) {
	to := f.tables.node(d.node)
	if to == nil || version != 0 && to.version != version {
		return false
	}
	// Field by field: of a whole one that is copied, the last words would wait
	// for shorter writes.
	w := &d.way
	w.own, ok = f.self.of(to.version)
	w.to, w.version, w.mtu = to.addr, to.version, to.path.limit(f.mtu, d.now)
	return ok
}

// node is the entry of an id; nil if it is free or there is none.
func (t *Tables) node(id lb.NodeID) *node {
	if int(id) >= len(t.nodes) || t.nodes[id].version == 0 {
		return nil
	}
	return &t.nodes[id]
}

// encap appends the packet in Geneve to the chosen node, with one hop less to
// live; if it has to be cut, its first piece. The reason may become one of what
// stands in the way.
func (f *Forwarder) encap(d *decision, reason Reason, out []byte) (Reason, []byte) {
	cut := false
	switch obstacle := f.encapCheck(d); {
	case obstacle == PacketTooBig && d.pkt.MayFragment():
		cut = true
	case obstacle == PacketTooBig && (d.pkt.Related || d.pkt.Fragment == packet.LaterFragment):
		return TooBig, out
	case obstacle == PacketTooBig:
		return f.answer(d, PacketTooBig, out)
	case obstacle != None:
		return obstacle, out
	}
	d.option.MAC = d.option.Sign(f.keys[0], d.pkt)
	if cut {
		return reason, f.appendPiece(d, out)
	}
	start := len(out)
	out = f.appendOuter(d, d.pkt.Len(), out)
	inner := len(out) - start
	out = append(out, d.frame[d.pkt.L3:]...)
	d.pkt.Rebase(out[start:], d.pkt.L3-inner)
	d.pkt.SetTTL(d.pkt.TTL - 1)
	return reason, out
}

// encapCheck finds what may still stand in the way once the node is chosen.
// PacketTooBig is about the packet as it is.
func (f *Forwarder) encapCheck(d *decision) Reason {
	if d.pkt.TTL <= 1 {
		return TTL
	}
	if !f.wayTo(d, 0) {
		return NoNode
	}
	overhead := packet.EncapLenV4
	if d.way.version == 6 {
		overhead = packet.EncapLenV6
	}
	d.room = d.way.mtu - overhead
	if d.pkt.Len() > d.room {
		return PacketTooBig
	}
	return None
}

// appendOuter appends what goes in front of an IP packet of so many bytes.
func (f *Forwarder) appendOuter(d *decision, length int, out []byte) []byte {
	out = d.appendEthernet(out, etherTypeOf(d.way.version))
	t := &f.tunnel
	t.Src, t.Dst, t.Version, t.TOS = d.way.own, d.way.to, d.way.version, d.pkt.TOS
	t.SrcPort, t.DstPort = outerPortBase|uint16(d.hash&outerPortMask), f.genevePort
	t.Inner, t.Option = d.pkt.EtherType(), &d.option
	return t.AppendTo(out, length)
}

// appendPiece appends the next piece of a packet that is too long, in a tunnel
// header of its own: fragmented inside, so that only the Pod's node has to put
// it together. What follows the IP packet in the frame is left out.
func (f *Forwarder) appendPiece(d *decision, out []byte) []byte {
	left := d.pkt.End - d.pkt.L4 - d.cut
	size := (d.room - packet.IPv4Len) &^ 7
	out = f.appendOuter(d, packet.IPv4Len+min(left, size), out)
	out = d.pkt.AppendFragment(out, d.cut, size)
	if d.cut += size; left <= size {
		d.cut = 0
	}
	return out
}

func etherTypeOf(version uint8) packet.EtherType {
	if version == 4 {
		return packet.EtherTypeIPv4
	}
	return packet.EtherTypeIPv6
}

// steer appends the tunnelled packet readdressed to the next node; the inner
// packet stays as it is.
func (f *Forwarder) steer(d *decision, reason Reason, out []byte) (Reason, []byte) {
	if !f.wayTo(d, d.outer.Version) {
		return NoNode, out
	}
	if d.outer.Len() > d.way.mtu {
		return TooBig, out
	}
	start := len(out)
	out = d.appendEthernet(out, d.outer.EtherType())
	out = append(out, d.frame[d.outer.L3:]...)
	d.outer.Rebase(out[start:], d.outer.L3-packet.EthernetLen)
	d.outer.Readdress(d.way.own, d.way.to)
	d.option.MAC = d.option.Sign(f.keys[0], d.pkt)
	body := out[start+d.outer.Data+packet.GeneveLen-4*packet.GeneveOptionWords:]
	d.option.Append(body[:0])
	return reason, out
}

// deliver appends the client's packet as the Pod shall see it: without outer
// headers, to the Pod's address and port. Its TTL is the stack's matter.
func (f *Forwarder) deliver(d *decision, out []byte) []byte {
	start := len(out)
	if d.tunnelled {
		out = d.appendEthernet(out, d.pkt.EtherType())
		out = append(out, d.frame[d.pkt.L3:]...)
		d.pkt.Rebase(out[start:], d.pkt.L3-packet.EthernetLen)
		decapECN(d.pkt, d.outer.ECN())
	} else {
		out = append(out, d.frame...)
		d.pkt.Rebase(out[start:], 0)
	}
	to := f.tables.backend(d.backend)
	d.pkt.SetDst(to.addr, to.port)
	d.pkt.SetSrcPort(d.podPort)
	return out
}

// decapECN carries over what the network between the nodes said (RFC 6040
// section 4.2). What it may not have said is Congested.
func decapECN(p *packet.Packet, outer uint8) {
	inner := p.ECN()
	switch {
	case outer == packet.CE && (inner == packet.ECT0 || inner == packet.ECT1):
		p.SetECN(packet.CE)
	case outer == packet.ECT1 && inner == packet.ECT0:
		p.SetECN(packet.ECT1)
	}
}
