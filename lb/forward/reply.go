// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"github.com/fairlead/fairlead/lb/flow"
	"github.com/fairlead/fairlead/lb/packet"
)

// replyLookup finds the flow that a leaving packet is a reply of, and tells it.
func (f *Forwarder) replyLookup(d *decision, frame []byte) (*flow.Record, Reason) {
	d.frame = frame
	if !d.pkt.Parse(frame) || !d.pkt.HasPorts() {
		return nil, NotReply
	}
	id, ok := f.tables.local[addrPort{d.pkt.Src, d.pkt.SrcPort}]
	if !ok {
		return nil, NotReply
	}
	key := flow.Key{Client: d.pkt.Dst, Port: d.pkt.DstPort, Proto: d.pkt.Proto, Backend: id}
	r := f.flows.FindReply(&key, d.now)
	if r == nil || int(r.Service) >= len(f.tables.services) {
		return nil, NoFlow
	}
	svc := &f.tables.services[r.Service]
	if svc.tag != r.ServiceTag {
		return nil, NoFlow
	}
	d.service, d.svc = r.Service, svc
	f.flows.FromPod(r, &d.pkt, svc.entry.AffinityTicks, d.now)
	return r, Translated
}

// replyTranslate appends the reply as the client shall see it: from the VIP, to
// the client's own port, and with an MSS that fits through the tunnel.
func (f *Forwarder) replyTranslate(d *decision, r *flow.Record, out []byte) []byte {
	start := len(out)
	out = append(out, d.frame...)
	d.pkt.Rebase(out[start:], 0)
	d.pkt.SetSrc(d.svc.vip, d.svc.entry.Key.Port)
	d.pkt.SetDstPort(r.Port)
	if d.pkt.Proto != packet.ProtoTCP || d.pkt.Flags&packet.SYN == 0 {
		return out
	}
	if d.pkt.Version == 4 {
		d.pkt.ClampMSS(f.mssClampV4)
	} else {
		d.pkt.ClampMSS(f.mssClampV6)
	}
	return out
}
