// SPDX-License-Identifier: Apache-2.0

package forward

import "github.com/fairlead/fairlead/lb/packet"

// fragmentRecord remembers a first fragment for the later ones.
func (f *Forwarder) fragmentRecord(d *decision) {
	if d.pkt.Fragment == packet.FirstFragment {
		f.fragments.Record(d.pkt, d.now)
	}
}

// fragmentFollow finds a later fragment's ports, or that it is one of a ping.
func (f *Forwarder) fragmentFollow(d *decision) Reason {
	switch p := d.pkt; {
	case !f.tables.isVIP(&p.Dst):
		return NotVIP
	case !f.fragments.Follow(p, d.now):
		return Fragment
	case p.IsICMP():
		return Echo
	}
	return None
}

// martian says that nobody can have sent the packet from where it says (RFC
// 1812 section 5.3.7, RFC 4291 section 2.7), or that it is a land packet.
func martian(p *packet.Packet) bool {
	if p.Src == p.Dst || p.SrcPort == 0 && p.HasPorts() {
		return true
	}
	if p.Version == 4 {
		first := p.Src[12]
		return first == 0 || first == 127 || first >= 224
	}
	return p.Src[0] == 0xff || p.Src == packet.Addr{} || p.Src == packet.Addr{15: 1}
}
