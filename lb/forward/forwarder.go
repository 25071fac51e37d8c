// SPDX-License-Identifier: Apache-2.0

// Package forward decides what happens to a packet: road C as pure Go. It is
// the readable specification of the C programs in xdp/bpf: its steps have the
// names and the order that they have there, both pass the same vectors, and it
// is the whole of the userspace datapath but the sockets. The way of a packet
// is Forwarder.decide, in decide.go.
package forward

import (
	"fmt"
	"sync/atomic"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/flow"
	"github.com/fairlead/fairlead/lb/packet"
)

// Stats are a service's packets and the bytes of their IP packets, whatever
// became of them.
type Stats struct {
	Packets, Bytes uint64
}

// Ledger is where a Forwarder counts. It may be memory that outlives it.
type Ledger struct {
	Reasons  []uint64 // by Reason; of one Forwarder alone
	Services []Stats  // by ServiceID; Forwarders may share them
}

// NewLedger makes one in fresh memory.
func NewLedger(services int) Ledger {
	return Ledger{Reasons: make([]uint64, ReasonCount), Services: make([]Stats, services)}
}

// Forwarder forwards the packets of one node. One goroutine at a time; its
// Tables may be written meanwhile, and several Forwarders may share them.
type Forwarder struct {
	tables     *Tables
	flows      *flow.Table // nil if there is another owner
	other      Owner
	fragments  *flow.Fragments
	self       self
	genevePort uint16
	mac        [6]byte
	keys       []packet.Key
	mtu        int
	mssClampV4 uint16
	mssClampV6 uint16
	conntrack  Conntrack
	tokens     tokens
	d          decision // about the last packet
	query      Query
	tunnel     packet.Tunnel
	ledger     Ledger
	complete   bool // partial checksums
}

// NewForwarder makes a Forwarder that reads tables and has an empty flow table.
func NewForwarder(s Settings, tables *Tables) (*Forwarder, error) {
	return NewForwarderWith(s, tables, nil)
}

// NewForwarderWith makes a Forwarder that asks owner about connections; it has
// no flow table then, and knows no replies. Without one it is NewForwarder.
func NewForwarderWith(s Settings, tables *Tables, owner Owner) (*Forwarder, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	f := &Forwarder{
		tables: tables, other: owner, fragments: flow.NewFragments(s.FlowKey),
		self: selfOf(s.InternalIPs), genevePort: s.GenevePort, mac: s.MAC, mtu: s.MTU,
		mssClampV4: s.MSSClampV4, mssClampV6: s.MSSClampV6,
		ledger: NewLedger(tables.limits.Services), complete: s.CompleteChecksums, conntrack: s.Conntrack,
	}
	if owner == nil {
		flows, err := flow.New(s.FlowBuckets, s.FlowKey, localBackends{tables})
		if err != nil {
			return nil, err
		}
		f.flows = flows
	}
	for _, key := range s.Keys {
		f.keys = append(f.keys, packet.KeyOf(key))
	}
	return f, nil
}

// CountIn makes the Forwarder count in the given memory from now on. Before the
// first packet; the ledger has to have room for all reasons and services.
func (f *Forwarder) CountIn(l Ledger) error {
	if len(l.Reasons) < int(ReasonCount) || len(l.Services) < f.tables.limits.Services {
		return fmt.Errorf("ledger with %d reasons and %d services: want %d and %d",
			len(l.Reasons), len(l.Services), ReasonCount, f.tables.limits.Services)
	}
	f.ledger = l
	return nil
}

// localBackends is what the flow table may ask of the tables. It is asked only
// while a packet is forwarded, under that packet's lock.
type localBackends struct{ t *Tables }

func (l localBackends) BackendIsLocal(id lb.BackendID, tag uint32) bool {
	return l.t.BackendIsLocal(id, tag)
}

func (l localBackends) BackendPort(id lb.BackendID) uint16 { return l.t.backend(id).port }

// Flows is the node's flow table, nil if there is another Owner.
func (f *Forwarder) Flows() *flow.Table { return f.flows }

// Counters are the packets by reason. Any goroutine may ask.
func (f *Forwarder) Counters() []uint64 {
	counters := make([]uint64, ReasonCount)
	for i := range counters {
		counters[i] = atomic.LoadUint64(&f.ledger.Reasons[i])
	}
	return counters
}

// ServiceStats are the packets of a service. Any goroutine may ask.
func (f *Forwarder) ServiceStats(id lb.ServiceID) Stats {
	if int(id) >= len(f.ledger.Services) {
		return Stats{}
	}
	s := &f.ledger.Services[id]
	return Stats{atomic.LoadUint64(&s.Packets), atomic.LoadUint64(&s.Bytes)}
}

// Node is where the last packet goes, if its verdict was encap or steer.
func (f *Forwarder) Node() lb.NodeID { return f.d.node }

// Ingress forwards a frame that came in by a device, at tick now. For every
// verdict but pass and drop it appends the frame to send or to hand to the
// stack to out; the given frame is never changed, unless it has a partial
// checksum and Settings.CompleteChecksums. The MAC addresses are those
// of the given frame, swapped for an answer: the next hop is the caller's matter.
// A packet that had to be cut has more frames: see More.
func (f *Forwarder) Ingress(frame []byte, now uint32, out []byte) (Reason, []byte) {
	f.tables.mu.RLock()
	d := &f.d
	d.reset(frame, now)
	reason := f.decide(d)
	if f.complete && reason.Verdict() > Drop {
		d.pkt.CompleteChecksum()
	}
	switch reason.Verdict() {
	case Encap:
		reason, out = f.encap(d, reason, out)
	case Steer:
		reason, out = f.steer(d, reason, out)
	case Deliver:
		out = f.deliver(d, out)
	case Answer:
		reason, out = f.answer(d, reason, out)
	}
	f.count(d, reason)
	f.tables.mu.RUnlock()
	return reason, out
}

// More appends the next frame of the packet that the last call of Ingress was
// about, until there is none. The frame given to Ingress is read again, and so
// has to stay as it was.
func (f *Forwarder) More(out []byte) ([]byte, bool) {
	if f.d.cut == 0 {
		return out, false
	}
	return f.appendPiece(&f.d, out), true
}

// Egress forwards a frame that is about to leave by a device; forwarded says
// that it came in by another one, and so may have been masqueraded on its way.
// Only the verdict reply appends a frame to out.
func (f *Forwarder) Egress(frame []byte, forwarded bool, now uint32, out []byte) (Reason, []byte) {
	f.tables.mu.RLock()
	d := &f.d
	d.reset(frame, now)
	r, reason := f.replyLookup(d, forwarded)
	if reason == Translated {
		out = f.replyTranslate(d, r, out)
	}
	f.count(d, reason)
	f.tables.mu.RUnlock()
	return reason, out
}

// count is the one place that counts, called once for each packet.
func (f *Forwarder) count(d *decision, reason Reason) {
	// Nobody else writes it, so that this need not be an atomic addition.
	packets := &f.ledger.Reasons[reason]
	atomic.StoreUint64(packets, *packets+1)
	if d.svc != nil {
		s := &f.ledger.Services[d.service]
		atomic.AddUint64(&s.Packets, 1)
		atomic.AddUint64(&s.Bytes, uint64(d.pkt.Len()))
	}
}
