// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"encoding/binary"

	"github.com/fairlead/fairlead/lb/packet"
)

const (
	macsLen       = 12 // both MAC addresses of an Ethernet header
	outerPortBase = 0xc000
	outerPortMask = 0x3fff
)

// appendEthernet appends the Ethernet header of d's frame for what follows.
func (d *decision) appendEthernet(out []byte, eth packet.EtherType) []byte {
	out = append(out, d.frame[:macsLen]...)
	return binary.BigEndian.AppendUint16(out, uint16(eth))
}

// encap appends the packet in Geneve to the chosen node, with one hop less to
// live. The reason may become one of what stands in the way.
func (f *Forwarder) encap(d *decision, reason Reason, out []byte) (Reason, []byte) {
	to, obstacle := f.encapCheck(d)
	if obstacle != None {
		return obstacle, out
	}
	own, ok := f.self.of(to.version)
	if !ok {
		return NoNode, out
	}
	start := len(out)
	length := packet.UDPLen + packet.GeneveLen + d.pkt.Len()
	out = d.appendEthernet(out, etherTypeOf(to.version))
	out = packet.IP{
		Src: own, Dst: to.addr, Proto: packet.ProtoUDP,
		TOS: d.pkt.TOS, TTL: packet.AnswerTTL, Length: length,
	}.Append(out, to.version)
	out = packet.AppendUDP(out, outerPortBase|uint16(d.hash&outerPortMask), f.genevePort, length-packet.UDPLen)
	d.option.MAC = d.option.Sign(f.keys[0], &d.pkt)
	out = packet.Geneve{Inner: d.pkt.EtherType(), Option: d.option}.Append(out)
	inner := len(out) - start
	out = append(out, d.frame[d.pkt.L3:]...)
	d.pkt.Rebase(out[start:], d.pkt.L3-inner)
	d.pkt.SetTTL(d.pkt.TTL - 1)
	return reason, out
}

// encapCheck finds what may still stand in the way once the node is chosen.
func (f *Forwarder) encapCheck(d *decision) (to node, obstacle Reason) {
	if d.pkt.TTL <= 1 {
		return to, TTL
	}
	to = f.tables.node(d)
	overhead := packet.EncapLenV4
	switch to.version {
	case 0:
		return to, NoNode
	case 6:
		overhead = packet.EncapLenV6
	}
	if d.pkt.Len()+overhead > f.mtu {
		return to, TooBig
	}
	return to, None
}

// node is the entry of the chosen node, the free one for an id that is out of range.
func (t *Tables) node(d *decision) node {
	if int(d.node) >= len(t.nodes) {
		return node{}
	}
	return t.nodes[d.node]
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
	to := f.tables.node(d)
	own, ok := f.self.of(d.outer.Version)
	if to.version != d.outer.Version || !ok {
		return NoNode, out
	}
	start := len(out)
	out = append(out, d.frame...)
	d.outer.Rebase(out[start:], 0)
	d.outer.Readdress(own, to.addr)
	d.option.MAC = d.option.Sign(f.keys[0], &d.pkt)
	body := out[start+d.outer.Data+packet.GeneveLen-4*packet.GeneveOptionWords:]
	d.option.Append(body[:0])
	return reason, out
}

// deliver appends the client's packet as the Pod shall see it: without outer
// headers, to the Pod's address and port. Its TTL is the stack's matter.
func (f *Forwarder) deliver(d *decision, out []byte) []byte {
	start := len(out)
	out = d.appendEthernet(out, d.pkt.EtherType())
	out = append(out, d.frame[d.pkt.L3:]...)
	d.pkt.Rebase(out[start:], d.pkt.L3-packet.EthernetLen)
	to := f.tables.backend(d.backend)
	d.pkt.SetDst(to.addr, to.port)
	d.pkt.SetSrcPort(d.podPort)
	return out
}
