// SPDX-License-Identifier: Apache-2.0

package forwardtest

import (
	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/flow"
	"github.com/fairlead/fairlead/lb/forward"
	"github.com/fairlead/fairlead/lb/packet/packettest"
)

// Services that are left to kube-proxy, on a VIP that has others.
func leftVectors() []Vector { return append(inBoth(leftFamily), inBoth(leftChanges)...) }

func leftFamily(w family) []Vector {
	web := svc(lb.TCP, w.web, w.local)
	both := tables(web, left(lb.UDP, w.dns))
	ours := in(w.tcp(syn), forward.New, delivered(w.tcp(syn), w.local))
	f := w.query(100)
	dying, tagged, land, nobody := f, f, from(f, w.dns), from(f, w.loopback)
	dying.TTL, tagged.Tags = 1, twoTags
	var errors []packettest.Frame
	for _, e := range w.kinds() {
		errors = append(errors, e(w.reply(true)))
	}
	orphan := f.Fragments(datagram+1, 40, 64)[1]
	short := patch(f, len(f.Bytes())-len(f.Payload)-4, 0, 7) // the length in the UDP header
	reply := packettest.UDP(w.local, w.client, "answer")
	return []Vector{
		w.vector("left/all that comes", both, append(dropped(forward.Left,
			f, w.query(0), dying, tagged, land, nobody, withPort(f, 0), withPort(f, 7)), ours)...),
		w.vector("left/fragments", both, append(dropped(forward.Left, three(f)...), in(orphan, forward.Fragment),
			in(three(f)[2], forward.Left).after(flow.FragmentTicks), in(three(f)[1], forward.Fragment).after(flow.FragmentTicks+1))...),
		w.vector("left/errors", both, append(dropped(forward.Left, errors...), ours)...),
		w.vector("left/what is nobody's", both, in(short, forward.Malformed), in(to(f, otherPort(w.dns)), forward.UnknownPort),
			in(packettest.TCP(w.client, w.dns, ack), forward.UnknownPort)),
		w.vector("left/by tunnel", both, in(tunnelFrom(f, 0, w.local), forward.UnknownService), ours),
		w.vector("left/replies", both, out(reply, forward.NoFlow), ours, out(from(reply, otherPort(w.local)), forward.NotReply)),
	}
}

// leftChanges are services that are left to kube-proxy for a time.
func leftChanges(w family) []Vector {
	web, dns := svc(lb.TCP, w.web, w.local), svc(lb.UDP, w.dns, w.local)
	f, reply := w.query(5), packettest.UDP(w.local, w.client, "answer")
	mine := in(f, forward.New, delivered(f, w.local))
	back := mine
	back.Reason = forward.Mine
	return []Vector{
		w.vector("left/from now on", tables(web, dns), mine, translated(reply, from(reply, w.dns)),
			in(f, forward.Left).syncing(web, left(lb.UDP, w.dns))),
		w.vector("left/no longer", tables(web, left(lb.UDP, w.dns)), in(f, forward.Left), mine.syncing(web, dns)),
		w.vector("left/for a time", tables(web, dns), mine,
			in(f, forward.Left).syncing(web, left(lb.UDP, w.dns)), translated(reply, from(reply, w.dns)), back.syncing(web, dns)),
	}
}
