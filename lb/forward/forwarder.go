// SPDX-License-Identifier: Apache-2.0

// Package forward decides what happens to a packet: road C as pure Go. It is
// the readable specification of the C programs in xdp/bpf: its steps have the
// names and the order that they have there, both pass the same vectors, and it
// is the whole of the userspace datapath but the sockets. The way of a packet
// is Forwarder.decide, in decide.go.
package forward

import (
	"slices"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/flow"
	"github.com/fairlead/fairlead/lb/packet"
)

// Stats are a service's packets and the bytes of their IP packets, whatever
// became of them.
type Stats struct {
	Packets, Bytes uint64
}

// Forwarder forwards the packets of one node. One goroutine at a time; its
// Tables may be written meanwhile.
type Forwarder struct {
	tables     *Tables
	flows      *flow.Table
	self       self
	genevePort uint16
	mac        [6]byte
	keys       []packet.Key
	mtu        int
	mssClampV4 uint16
	mssClampV6 uint16
	tokens     tokens
	counters   [ReasonCount]uint64
	stats      []Stats // by ServiceID
}

// NewForwarder makes a Forwarder that reads tables and has an empty flow table.
func NewForwarder(s Settings, tables *Tables) (*Forwarder, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	flows, err := flow.New(s.FlowBuckets, s.FlowKey, localBackends{tables})
	if err != nil {
		return nil, err
	}
	f := &Forwarder{
		tables: tables, flows: flows,
		self: selfOf(s.InternalIPs), genevePort: s.GenevePort, mac: s.MAC, mtu: s.MTU,
		mssClampV4: s.MSSClampV4, mssClampV6: s.MSSClampV6,
		stats: make([]Stats, tables.limits.Services),
	}
	for _, key := range s.Keys {
		f.keys = append(f.keys, packet.KeyOf(key))
	}
	return f, nil
}

// localBackends is what the flow table may ask of the tables. It is asked only
// while a packet is forwarded, under that packet's lock.
type localBackends struct{ t *Tables }

func (l localBackends) BackendIsLocal(id lb.BackendID, tag uint32) bool {
	b := l.t.backend(id)
	return b.tag == tag && b.node == lb.SelfNode
}

// Flows is the node's flow table.
func (f *Forwarder) Flows() *flow.Table { return f.flows }

// Counters are the packets by reason; a copy.
func (f *Forwarder) Counters() []uint64 { return slices.Clone(f.counters[:]) }

// ServiceStats are the packets of a service.
func (f *Forwarder) ServiceStats(id lb.ServiceID) Stats {
	if int(id) >= len(f.stats) {
		return Stats{}
	}
	return f.stats[id]
}

// Ingress forwards a frame that came in by a device, at tick now. For every
// verdict but pass and drop it appends the frame to send or to hand to the
// stack to out; the given frame is never changed. The MAC addresses are those
// of the given frame, swapped for an answer: the next hop is the caller's matter.
func (f *Forwarder) Ingress(frame []byte, now uint32, out []byte) (Reason, []byte) {
	f.tables.mu.RLock()
	defer f.tables.mu.RUnlock()
	d := decision{now: now}
	reason := f.decide(&d, frame)
	switch reason.Verdict() {
	case Encap:
		reason, out = f.encap(&d, reason, out)
	case Steer:
		reason, out = f.steer(&d, reason, out)
	case Deliver:
		out = f.deliver(&d, out)
	case Answer:
		reason, out = f.answer(&d, reason, out)
	}
	f.count(&d, reason)
	return reason, out
}

// Egress forwards a frame that is about to leave by a device. Only the verdict
// reply appends a frame to out.
func (f *Forwarder) Egress(frame []byte, now uint32, out []byte) (Reason, []byte) {
	f.tables.mu.RLock()
	defer f.tables.mu.RUnlock()
	d := decision{now: now}
	r, reason := f.replyLookup(&d, frame)
	if reason == Translated {
		out = f.replyTranslate(&d, r, out)
	}
	f.count(&d, reason)
	return reason, out
}

// count is the one place that counts, called once for each packet.
func (f *Forwarder) count(d *decision, reason Reason) {
	f.counters[reason]++
	if d.svc != nil {
		s := &f.stats[d.service]
		s.Packets++
		s.Bytes += uint64(d.pkt.Len())
	}
}
