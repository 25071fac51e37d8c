// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/flow"
	"github.com/fairlead/fairlead/lb/packet"
)

// replyLookup finds the flow that a leaving packet is a reply of, or an error
// about, and tells it of a reply.
func (f *Forwarder) replyLookup(d *decision, forwarded bool) (*flow.Record, Reason) {
	p := d.pkt
	if !p.Parse(d.frame) || p.IsLater() && !f.fragments.Follow(p, d.now) || !p.HasPorts() {
		return nil, NotReply
	}
	var key flow.Key // field by field: see wayTo
	key.Client, key.Port, key.Proto = p.Dst, p.DstPort, p.Proto
	backend, ok := f.replyBackend(p, &key, forwarded, d.now)
	if !ok {
		return nil, NotReply
	}
	if f.flows == nil {
		return nil, NoFlow
	}
	key.Backend = backend
	r := f.flows.FindReply(&key, d.now)
	if r == nil || int(r.Service) >= len(f.tables.services) {
		return nil, NoFlow
	}
	svc := &f.tables.services[r.Service]
	if svc.tag != r.ServiceTag {
		return nil, NoFlow
	}
	d.service, d.svc = r.Service, svc
	f.fragmentRecord(d)
	if !p.Related {
		f.flows.FromPod(r, p, svc.entry.AffinityTicks, d.now)
	}
	return r, Translated
}

// replyBackend is the backend that a packet comes from: by its address, or, if
// somebody put this node's address in its place, by the flow.
func (f *Forwarder) replyBackend(p *packet.Packet, key *flow.Key, forwarded bool, now uint32) (lb.BackendID, bool) {
	if id, ok := f.tables.local.get(keyAt(&p.Src, p.SrcPort, 0)); ok {
		return lb.BackendID(id), true
	}
	own, ok := f.self.of(p.Version)
	if !ok || !forwarded || p.Src != own || f.flows == nil {
		return 0, false
	}
	return f.flows.FindMasqueraded(key, p.SrcPort, now)
}

// replyTranslate appends the reply as the client shall see it: from the VIP, to
// the client's own port, and with an MSS that fits through the tunnel.
func (f *Forwarder) replyTranslate(d *decision, r *flow.Record, out []byte) []byte {
	start, p := len(out), d.pkt
	out = append(out, d.frame...)
	p.Rebase(out[start:], 0)
	p.SetSrc(d.svc.vip, d.svc.entry.Key.Port)
	p.SetDstPort(r.Port)
	if p.Proto != packet.ProtoTCP || p.Flags&packet.SYN == 0 {
		return out
	}
	if p.Version == 4 {
		p.ClampMSS(f.mssClampV4)
	} else {
		p.ClampMSS(f.mssClampV6)
	}
	return out
}
