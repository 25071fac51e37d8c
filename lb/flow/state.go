// SPDX-License-Identifier: Apache-2.0

package flow

import "github.com/fairlead/fairlead/lb/packet"

// Match is how a client's packet relates to the Own record with its key.
type Match uint8

// The matches.
const (
	// Foreign: a SYN after the connection's end begins another one.
	Foreign Match = iota
	// Unfit: its ACK does not show that it saw the Pod's SYN-ACK. The
	// connection may still be another node's.
	Unfit
	// Mine belongs to the connection.
	Mine
)

// MatchClient relates a client's packet to the Own record of its key.
func (r *Record) MatchClient(p *packet.Packet) Match {
	if p.Proto != packet.ProtoTCP {
		return Mine
	}
	ack := p.Flags&packet.ACK != 0
	switch {
	case p.Flags&packet.SYN != 0 && !ack && r.Flags.Closed():
		return Foreign
	case r.State == HalfOpen && ack && !r.ackFits(p):
		return Unfit
	}
	return Mine
}

func (r *Record) ackFits(p *packet.Packet) bool {
	return r.Flags&HasISN != 0 && p.Ack()-r.ISN-1 < AckWindow
}

// FromClient tells the record of a packet that MatchClient found Mine.
// affinityTicks is the service's affinity timeout, 0 for none.
func (t *Table) FromClient(r *Record, p *packet.Packet, affinityTicks, now uint32) {
	r.Seen = now
	if p.Proto == packet.ProtoTCP {
		if r.State == HalfOpen && p.Flags&packet.ACK != 0 {
			t.establish(r, affinityTicks, now)
		}
		if p.Flags&packet.FIN != 0 {
			r.Flags |= ClientFIN
		}
		if p.Flags&packet.RST != 0 {
			r.Flags |= ClientRST
		}
	}
	t.followAlias(r, now)
}

// FromPod tells the record of a reply. The Pod's word counts: it knows the connection.
func (t *Table) FromPod(r *Record, p *packet.Packet, affinityTicks, now uint32) {
	r.Seen = now
	if p.Proto == packet.ProtoTCP {
		t.fromPodTCP(r, p, affinityTicks, now)
	} else {
		t.establish(r, affinityTicks, now)
	}
	t.followAlias(r, now)
}

func (t *Table) fromPodTCP(r *Record, p *packet.Packet, affinityTicks, now uint32) {
	const synAck = packet.SYN | packet.ACK
	switch {
	case p.Flags&packet.RST != 0:
		r.Flags |= PodRST
	case p.Flags&synAck == synAck:
		r.ISN = p.Seq()
		r.Flags = r.Flags&^ClientRST | HasISN
	case p.Flags&packet.SYN != 0:
		r.Flags &^= ClientRST
	default:
		r.Flags &^= ClientRST | Unverified
		t.establish(r, affinityTicks, now)
	}
	if p.Flags&packet.FIN != 0 {
		r.Flags |= PodFIN
	}
}

func (t *Table) establish(r *Record, affinityTicks, now uint32) {
	if r.State == Established {
		return
	}
	r.State = Established
	if affinityTicks != 0 {
		t.remember(r, affinityTicks, now)
	}
}

// followAlias lets what happens to an Own record happen to its alias, so that
// they die together.
func (t *Table) followAlias(r *Record, now uint32) {
	if r.PodPort == r.Port {
		return
	}
	k := Key{Client: r.Client, Port: r.PodPort, Proto: r.Proto, Backend: r.Backend}
	if alias := t.search(&k, matchAlias, now); alias != nil {
		alias.Seen, alias.State, alias.Flags = r.Seen, r.State, r.Flags
	}
}
