// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"github.com/fairlead/fairlead/lb/dataplane"
	"github.com/fairlead/fairlead/lb/packet"
)

// slotHash is what chooses the slot: the client alone under affinity.
func (d *decision) slotHash() uint64 {
	if d.svc.entry.AffinityTicks != 0 {
		return FlowHash(d.pkt.Src, 0)
	}
	return d.hash
}

// slotSelect chooses the packet's home, and its past where the slot has one.
func (f *Forwarder) slotSelect(d *decision) Reason {
	e := &d.svc.entry
	if e.Table.Size == 0 || e.Closed && d.pkt.Proto == packet.ProtoTCP && mayBegin(d.pkt) {
		return d.refusal()
	}
	region := d.svc.region
	if region == nil || region.stale {
		return StaleTable
	}
	slot := SlotOf(d.slotHash(), len(region.table.Slots))
	home := f.tables.backend(region.table.List[region.table.Slots[slot]])
	d.option.Version, d.option.TableHash = packet.WireVersion, e.Table.Hash
	d.option.Tags[0] = home.tag
	if e.Table.Transition {
		f.slotPast(&d.option.Tags, region, slot)
	}
	d.node = home.node
	return None
}

// refusal is for a packet that no backend takes. One that another node sent
// here is not answered: that node will know better in a moment.
func (d *decision) refusal() Reason {
	if d.svc.entry.Elsewhere || d.tunnelled {
		return NoLocalBackends
	}
	return Refused
}

// slotPast fills in the wire ids of the slot's past, latest first.
func (f *Forwarder) slotPast(tags *packet.Tags, r *region, slot uint32) {
	for i, index := range r.table.Past[slot] {
		if index == dataplane.NoBackend {
			return
		}
		tags[1+i] = f.tables.backend(r.table.List[index]).tag
	}
}
