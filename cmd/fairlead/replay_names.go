// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/netip"

	"github.com/fairlead/fairlead/controller/desired"
	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/forward"
	"github.com/fairlead/fairlead/lb/packet"
)

// replayNames are what addresses stand for.
type replayNames struct {
	nodes    map[netip.Addr]string
	pods     map[netip.Addr]bool // of this node
	vips     map[netip.Addr]bool
	services map[lb.ServiceKey]string
}

func namesOf(s *desired.Snapshot, table *lb.Table) replayNames {
	names := replayNames{
		nodes: map[netip.Addr]string{}, pods: map[netip.Addr]bool{},
		vips: map[netip.Addr]bool{}, services: map[lb.ServiceKey]string{},
	}
	for _, n := range s.Nodes {
		for _, addr := range n.Addrs {
			names.nodes[addr] = n.Name
		}
	}
	for _, service := range table.Services() {
		names.vips[service.Key.VIP] = true
		names.services[service.Key] = service.Name
		for _, b := range service.Backends {
			if b.Node == table.Self() {
				names.pods[b.Addr.Addr()] = true
			}
		}
	}
	return names
}

func addrOf(a packet.Addr) netip.Addr { return netip.AddrFrom16(a).Unmap() }

// describe fills in what the packet itself says: the client's one, where
// another node sent it.
func (n *replayNode) describe(line *replayLine, outer *packet.Packet) {
	line.ipLength = outer.Len()
	p := *outer
	if n.isSelf(addrOf(outer.Dst)) && outer.HasPorts() && outer.Proto == packet.ProtoUDP && outer.DstPort == n.genevePort {
		var inner packet.Packet
		geneve, ok := packet.ParseGeneve(outer.Frame[outer.Data:outer.End])
		if ok && inner.ParseIP(outer.Frame, outer.Data+packet.GeneveLen, outer.End, geneve.Inner) {
			p, line.From = inner, n.nodeName(addrOf(outer.Src))
		}
	}
	line.tuple(&p)
	line.Service = n.names.services[serviceOf(&p)]
}

func serviceOf(p *packet.Packet) lb.ServiceKey {
	return lb.ServiceKey{VIP: addrOf(p.Dst), Port: p.DstPort, Proto: lb.Proto(p.Proto)}
}

// nodeName is the name that the configuration has for a node, or its address.
func (n *replayNode) nodeName(a netip.Addr) string {
	if name := n.names.nodes[a]; name != "" {
		return name
	}
	return a.String()
}

// describeSent fills in what only the packet that is sent tells.
func (n *replayNode) describeSent(line *replayLine, v forward.Verdict, outer *packet.Packet) {
	var sent packet.Packet
	if !sent.Parse(n.out) {
		return
	}
	switch v {
	case forward.Encap, forward.Steer:
		line.To = n.nodeName(addrOf(sent.Dst))
	case forward.Deliver:
		line.To = endpoint(sent.Dst, sent.DstPort, sent.HasPorts())
	case forward.Reply:
		line.To = endpoint(outer.Src, outer.SrcPort, outer.HasPorts())
		key := lb.ServiceKey{VIP: addrOf(sent.Src), Port: sent.SrcPort, Proto: lb.Proto(sent.Proto)}
		line.Service = n.names.services[key]
	}
}
