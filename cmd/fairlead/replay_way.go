// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/netip"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/flow"
	"github.com/fairlead/fairlead/lb/packet"
)

// leaves says that a packet is on its way out: the frame comes from the uplink
// or, where that one's address is not known, the packet from a Pod of the node,
// from the node itself or from a VIP, and does not ask for a VIP.
func (n *replayNode) leaves(frame []byte, p *packet.Packet, isIP bool) bool {
	switch {
	case n.direction != directionAuto:
		return n.direction == directionOut
	case n.mac != [6]byte{} && len(frame) >= packet.EthernetLen:
		return [6]byte(frame[6:12]) == n.mac
	case !isIP || n.names.vips[addrOf(p.Dst)]:
		return false
	}
	src := addrOf(p.Src)
	return n.names.pods[src] || n.names.vips[src] || n.isSelf(src)
}

func (n *replayNode) isSelf(a netip.Addr) bool {
	for _, self := range n.self {
		if a == self {
			return true
		}
	}
	return false
}

// made says that a leaving packet is what the node made of another one, about
// which it decided then: a tunnel to another node, an answer of a VIP, or a
// reply. A reply of a connection that is known is turned back into what the Pod
// said, in a copy of its frame, and so is not made: a capture of the uplink has
// no other, and connections have to hear it.
func (n *replayNode) made(p *packet.Packet, tick uint32) bool {
	src := addrOf(p.Src)
	switch {
	case n.names.vips[src]:
		return !n.turnBack(p, tick)
	case n.isSelf(src) && p.HasPorts() && p.Proto == packet.ProtoUDP && p.DstPort == n.genevePort:
		return packet.IsOurGeneve(p.Frame[p.Data:p.End])
	}
	return false
}

func (n *replayNode) turnBack(p *packet.Packet, tick uint32) bool {
	if p.IsLater() && !n.left.Follow(p, tick) || !p.HasPorts() {
		return false
	}
	service := lb.ServiceKey{VIP: addrOf(p.Src), Port: p.SrcPort, Proto: lb.Proto(p.Proto)}
	id, ok := n.ids[service]
	if !ok {
		return false
	}
	key := flow.Key{Client: p.Dst, Port: p.DstPort, Proto: p.Proto, Service: id, ServiceTag: service.Tag()}
	r := n.forwarder.Flows().Find(&key, tick)
	if r == nil || r.Kind != flow.Own {
		return false
	}
	if p.Fragment == packet.FirstFragment {
		n.left.Record(p, tick)
	}
	n.reply = append(n.reply[:0], p.Frame...)
	p.Rebase(n.reply, 0)
	pod := n.backends[r.Backend].Addr
	p.SetSrc(packet.AddrOf(pod.Addr()), pod.Port())
	p.SetDstPort(r.PodPort)
	return true
}
