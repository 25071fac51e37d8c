// SPDX-License-Identifier: Apache-2.0

package forwardtest

import (
	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/forward"
	"github.com/fairlead/fairlead/lb/packet"
	"github.com/fairlead/fairlead/lb/packet/packettest"
)

var (
	oneTag  = []packettest.Tag{packettest.VLAN(7)}
	twoTags = []packettest.Tag{packettest.QinQ(100), packettest.VLAN(0x8007)} // with a priority
)

func tagged(f packettest.Frame, tags []packettest.Tag) packettest.Frame {
	f.Tags = tags
	return f
}

// Tags in front of the IP header.
func tagVectors() []Vector {
	syn4 := synV4()
	three := tagged(syn4, append(twoTags[:2:2], oneTag...))
	bare := tagged(syn4, oneTag).Bytes()
	double := tagged(syn4, twoTags).Bytes()
	return append(inBoth(tagFamily),
		vector("tag/a third one", tables(svc(lb.TCP, webV4, b1)), in(three, forward.NotIP)),
		vector("tag/cut", tables(svc(lb.TCP, webV4, b1)),
			in(raw(bare[:14]), forward.NotIP), in(raw(bare[:16]), forward.NotIP), in(raw(bare[:17]), forward.NotIP),
			in(raw(bare[:18]), forward.NotIP), in(raw(double[:18]), forward.NotIP), in(raw(double[:21]), forward.NotIP),
			in(raw(double[:22]), forward.NotIP), in(raw(double[:41]), forward.NotIP)),
		vector("tag/in front of something else", tables(svc(lb.TCP, webV4, b1)),
			in(patch(raw(bare), 16, 0x08, 0x06), forward.NotIP),
			in(patch(raw(double), 20, 0x08, 0x06), forward.NotIP),
			in(patch(raw(double), 20, 0x91, 0x00), forward.NotIP),
			in(patch(raw(bare), 5, 9), forward.OtherMAC)),
		vector("truncated/tagged", tables(svc(lb.TCP, webV4, b1)), truncated(tagged(syn4, twoTags), 42, forward.Malformed)...),
	)
}

func tagFamily(w family) []Vector {
	remote, local := svc(lb.TCP, w.web, w.remote), svc(lb.TCP, w.web, w.local)
	var steps struct{ encap, deliver, answer, tunnel []Step }
	for _, tags := range [][]packettest.Tag{oneTag, twoTags, {packettest.QinQ(1)}, {packettest.VLAN(1), packettest.VLAN(2)}} {
		f := tagged(w.tcp(syn), tags)
		steps.encap = append(steps.encap, in(f, forward.EncapHome, w.toNode(f, remote)))
		reason := forward.New
		if steps.deliver != nil {
			reason = forward.Mine
		}
		reply := tagged(packettest.TCP(w.local, w.client, syn|ack), tags)
		steps.deliver = append(steps.deliver, in(f, reason, delivered(f, w.local)), translated(reply, from(reply, w.web)))
		steps.answer = append(steps.answer, reset(f, rst|ack, 0, 1001), unreachable(tagged(packettest.UDP(w.client, w.dns, "x"), tags)),
			echoed(tagged(w.ping(9), tags)))
		t := tunnelFrom(f, 0, w.local)
		t.VLANs = tags
		steps.tunnel = append(steps.tunnel, in(t, reason, fromTunnel(w.tcp(syn), w.local)))
	}
	big := tagged(w.query(1425), twoTags)
	big.Fragment = 0x4000
	room := uint32(1500 - packet.EncapLenV4)
	steer := tunnelFrom(w.tcp(syn), 1, w.remote, w.local)
	steered := steered(steer, nodeB, 4)
	steer.VLANs = twoTags
	return []Vector{
		w.vector("tag/encap is without", tables(remote), steps.encap...),
		w.vector("tag/delivered and replied with", tables(local), steps.deliver...),
		w.vector("tag/answered with", tables(svc(lb.TCP, w.web), svc(lb.UDP, w.dns)), steps.answer...),
		w.vector("tag/too big", tables(svc(lb.UDP, w.dns, w.remote)), tooBig(big, room)),
		w.vector("tag/decap is without", tables(local), steps.tunnel...),
		w.vector("tag/steer is without", tables(svc(lb.TCP, w.web, w.local, w.remote)), in(steer, forward.SteerHome, steered)),
	}
}
