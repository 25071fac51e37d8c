// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/packet"
)

// Owner decides for packets whose home runs here, or that another node sent
// here, in place of the Forwarder's own flow table: that of a userspace
// datapath is written by BPF programs alone.
type Owner interface {
	// Own returns a reason with one of these verdicts, and fills in what goes
	// with it: drop, nothing; encap (steer, if the packet is Tunnelled), Node
	// and Position; deliver, Backend and PodPort. Anything else is counted as
	// Error. It may not keep q, and is called under the lock of the Tables: it
	// may not write them.
	Own(q *Query) Reason
}

// Query is what an Owner is told of a packet, and its answer. The Owner may
// change the fields of the answer, and no others.
type Query struct {
	Now         uint32 // tick
	Service     lb.ServiceID
	ServiceTag  uint32
	Hash        uint64 // flow hash; its low half seeds substitute ports
	Client      packet.Addr
	VIP         packet.Addr
	Port        uint16 // the client's
	ServicePort uint16
	Proto       uint8
	Version     uint8  // of IP: 4 or 6
	Flags       uint8  // TCP
	Seq, Ack    uint32 // TCP; 0 of a later fragment and of a related packet
	// Related: it is an ICMP error about the flow. It begins none, and must not
	// change a record.
	Related bool
	// Later: a later fragment, which has no flags.
	Later     bool
	Tunnelled bool // another node sent it
	TableHash uint16
	Tags      packet.Tags // home and past

	// The answer. Position is at first the packet's own.
	Position packet.Position
	Node     lb.NodeID
	Backend  lb.BackendID
	PodPort  uint16 // the client's port for the Pod
}

// ask is owner by somebody else.
func (f *Forwarder) ask(d *decision) Reason {
	q, p := &f.query, d.pkt
	*q = Query{
		Now: d.now, Service: d.service, ServiceTag: d.svc.tag, Hash: d.hash,
		Client: p.Src, VIP: p.Dst, Port: p.SrcPort, ServicePort: p.DstPort,
		Proto: p.Proto, Version: p.Version, Flags: p.Flags,
		Related: p.Related, Later: p.Fragment == packet.LaterFragment,
		Tunnelled: d.tunnelled, TableHash: d.option.TableHash, Tags: d.option.Tags,
		Position: d.option.Position,
	}
	if p.Proto == packet.ProtoTCP && !q.Related && !q.Later {
		q.Seq, q.Ack = p.Seq(), p.Ack()
	}
	reason := f.other.Own(q)
	switch v := reason.Verdict(); {
	case v == Drop:
	case v == Deliver:
		d.backend, d.podPort = q.Backend, q.PodPort
	case v == Encap && !d.tunnelled, v == Steer && d.tunnelled:
		d.node, d.option.Position = q.Node, q.Position
	default:
		return Error
	}
	return reason
}
