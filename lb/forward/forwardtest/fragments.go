// SPDX-License-Identifier: Apache-2.0

package forwardtest

import (
	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/flow"
	"github.com/fairlead/fairlead/lb/forward"
	"github.com/fairlead/fairlead/lb/packet"
	"github.com/fairlead/fairlead/lb/packet/packettest"
)

const datagram = 0xa1b2 // the id of most fragmented datagrams

// three are the fragments of f: the first with the L4 header, two later ones.
func three(f packettest.Frame) []packettest.Frame { return f.Fragments(datagram, 40, 64) }

// deliveredPieces are the fragments of f as a Pod gets them.
func deliveredPieces(f packettest.Frame, pod string) []packettest.Frame { return three(to(f, pod)) }

// pieces are steps with all fragments of f, which go to a Pod of this node.
func pieces(f packettest.Frame, pod string, first, later forward.Reason) []Step {
	var steps []Step
	want := deliveredPieces(f, pod)
	for i, piece := range three(f) {
		reason := later
		if i == 0 {
			reason = first
		}
		steps = append(steps, in(piece, reason, want[i].Bytes()))
	}
	return steps
}

// dropped are steps with packets that get a reason without a packet.
func dropped(reason forward.Reason, frames ...packettest.Frame) []Step {
	var steps []Step
	for _, f := range frames {
		steps = append(steps, in(f, reason))
	}
	return steps
}

// Fragments that come in: the later ones go where the first one went.
func fragmentVectors() []Vector {
	return append(inBoth(fragmentFamily), append(inBoth(fragmentOrphans), append(inBoth(fragmentTunnels), oddFragments()...)...)...)
}

func fragmentFamily(w family) []Vector {
	here, remote := svc(lb.UDP, w.dns, w.local), svc(lb.UDP, w.dns, w.remote)
	web := svc(lb.TCP, w.web, w.local)
	f, data := w.query(100), w.tcp(ack)
	data.Payload, data.Ack = f.Payload, podISN+1
	var sent []Step
	for _, piece := range three(f) {
		sent = append(sent, in(piece, forward.EncapHome, w.toNode(piece, remote)))
	}
	padded := w.query(100)
	padded.Trailer, padded.Tags = []byte{1, 2, 3}, oneTag
	opened := []Step{
		in(w.tcp(syn), forward.New, delivered(w.tcp(syn), w.local)),
		in(three(data)[0], forward.Judge, deliveredPieces(data, w.local)[0].Bytes()),
	}
	moved := pieces(f, w.local, forward.New, forward.New)
	moved[0] = sent[0]
	moved[1] = moved[1].syncing(here)
	moved[2].Reason = forward.Mine
	movedTCP := pieces(data, w.local, forward.EncapHome, forward.Judge)
	remoteWeb := svc(lb.TCP, w.web, w.remote)
	movedTCP[0] = in(three(data)[0], forward.EncapHome, w.toNode(three(data)[0], remoteWeb))
	movedTCP[1] = movedTCP[1].syncing(web)
	movedTCP[2].Reason = forward.Mine
	answer := packettest.UDP(w.local, w.client, string(f.Payload))
	var replies []Step
	for i, piece := range three(answer) {
		replies = append(replies, translated(piece, three(from(answer, w.dns))[i]))
	}
	reset := packettest.TCP(w.local, w.client, ack)
	reset.Seq, reset.Payload = podISN+1, f.Payload
	var stream []Step
	for i, piece := range three(reset) {
		stream = append(stream, translated(piece, three(from(reset, w.web))[i]))
	}
	clamped, wants := packettest.TCP(w.local, w.client, syn|ack), packettest.TCP(w.web, w.client, syn|ack)
	clamped.TCPOptions, clamped.Payload = packettest.MSS(9000), f.Payload
	wants.TCPOptions, wants.Payload = packettest.MSS(w.mss()), f.Payload
	return []Vector{
		w.vector("fragment/to a pod", tables(here), pieces(f, w.local, forward.New, forward.Mine)...),
		w.vector("fragment/to another node", tables(remote), sent...),
		w.vector("fragment/padding and tags stay", tables(here), pieces(padded, w.local, forward.New, forward.Mine)...),
		w.vector("fragment/tcp", tables(web), append(opened, pieces(data, w.local, forward.Judge, forward.Mine)[1:]...)...),
		w.vector("fragment/the slot moves within udp", tables(remote), moved...),
		w.vector("fragment/the slot moves within tcp", tables(remoteWeb), movedTCP...),
		w.vector("fragment/reply", tables(here), all(pieces(f, w.local, forward.New, forward.Mine), replies)...),
		w.vector("fragment/tcp reply", tables(web), all(pieces(data, w.local, forward.Judge, forward.Mine), stream)...),
		w.vector("fragment/of a syn-ack", tables(web), in(w.tcp(syn), forward.New, delivered(w.tcp(syn), w.local)),
			translated(three(clamped)[0], three(wants)[0]), translated(three(clamped)[2], three(wants)[2])),
		w.vector("fragment/ping", tables(web), echoedPieces(w.ping(100))...),
		w.vector("fragment/refused", tables(svc(lb.TCP, w.web), svc(lb.UDP, w.dns)), all(
			[]Step{unreachable(three(f)[0])}, dropped(forward.Rate, three(f)[1:]...),
			[]Step{in(three(data)[0], forward.Refused, rstTo(three(data)[0], rst, podISN+1, 0))},
			dropped(forward.Rate, three(data)[1:]...))...),
		w.vector("fragment/no local backends", tables(local(remote)), dropped(forward.NoLocalBackends, three(f)...)...),
	}
}

// mss is what an MSS is clamped to.
func (w family) mss() uint16 {
	v4, v6 := forward.MSSClamps(1500, addrs(selfV4, selfV6))
	if w.noFragment {
		return v6
	}
	return v4
}

func rstTo(f packettest.Frame, flags uint8, seq, ackno uint32) []byte {
	r := back(f)
	r.Flags, r.Seq, r.Ack = flags, seq, ackno
	return r.Bytes()
}

// echoedPieces are the fragments of a ping and of its answer.
func echoedPieces(f packettest.Frame) []Step {
	var steps []Step
	r := f
	r.SrcMAC, r.DstMAC, r.Src, r.Dst, r.TTL = f.DstMAC, f.SrcMAC, f.Dst, f.Src, 64
	if r.ICMPType = packet.ICMPEchoReply; f.Src.Addr().Is6() {
		r.ICMPType = packet.ICMPv6EchoReply
	}
	for i, piece := range three(f) {
		piece.TTL = 9
		steps = append(steps, in(piece, forward.Echo, three(r)[i].Bytes()))
	}
	return steps
}

// fragmentOrphans are later fragments that there is nothing to follow for.
func fragmentOrphans(w family) []Vector {
	service := svc(lb.UDP, w.dns, w.local)
	f := three(w.query(100))
	whole := pieces(w.query(100), w.local, forward.New, forward.Mine)
	first, second := whole[0], whole[1]
	otherID, otherSrc, otherProto := w.query(100).Fragments(datagram+1, 40, 64)[1], from(f[1], "198.51.100.99:40000"), f[1]
	if w.noFragment {
		otherSrc = from(f[1], "[2001:db8:1::99]:40000")
	}
	otherProto.Proto = packet.ProtoTCP
	again := three(from(w.query(100), withPort(w.query(0), 40001).Src.String()))
	reused := pieces(withPort(w.query(100), 40001), w.local, forward.New, forward.Mine)
	unknown := three(to(w.query(100), otherPort(w.dns)))
	elsewhere := three(to(w.query(100), otherHost(w.dns)))
	ranged := withRanges(service, "203.0.113.0/24")
	if w.noFragment {
		ranged = withRanges(service, "2001:db8:77::/48")
	}
	zero := three(withPort(w.query(100), 0))
	answer := three(packettest.UDP(w.local, w.client, string(w.query(100).Payload)))
	stranger := packettest.UDP(otherPort(w.local), w.client, string(w.query(100).Payload)).Fragments(datagram+1, 40)
	far := f[1]
	far.Fragment = 0x1fff
	return []Vector{
		w.vector("orphan/before the first", tables(service), in(f[1], forward.Fragment), in(f[2], forward.Fragment), first, second),
		w.vector("orphan/of another datagram", tables(service), first,
			in(otherID, forward.Fragment), in(otherSrc, forward.Fragment), in(otherProto, forward.Fragment), second),
		w.vector("orphan/last tick", tables(service), first, second.after(flow.FragmentTicks)),
		w.vector("orphan/too late", tables(service), first, in(f[1], forward.Fragment).after(flow.FragmentTicks+1)),
		w.vector("orphan/of no VIP", tables(service), dropped(forward.NotVIP, elsewhere...)...),
		w.vector("orphan/of no port", tables(service), append(dropped(forward.UnknownPort, unknown[0]), dropped(forward.Fragment, unknown[1:]...)...)...),
		w.vector("orphan/of nobody", tables(service), append(dropped(forward.Martian, zero[0]), dropped(forward.Fragment, zero[1:]...)...)...),
		w.vector("orphan/outside of the source ranges", tables(ranged),
			append(dropped(forward.SourceRange, f[0]), dropped(forward.Fragment, f[1:]...)...)...),
		w.vector("orphan/the service is gone", tables(service, svc(lb.TCP, w.web, w.local)),
			first, in(f[1], forward.Fragment).syncing(svc(lb.TCP, w.web, w.local))),
		w.vector("orphan/an id comes again", tables(service), append(append([]Step{first, second}, reused...),
			in(three(w.query(100))[0], forward.Mine, first.Want), second, in(again[0], forward.Mine, reused[0].Want))...),
		w.vector("orphan/beyond 64 KiB", tables(service), in(far, forward.Malformed), first, in(far, forward.Malformed)),
		w.vector("orphan/reply", tables(service), out(answer[1], forward.NotReply),
			first, second,
			translated(answer[0], three(packettest.UDP(w.dns, w.client, string(w.query(100).Payload)))[0]),
			translated(answer[1], three(packettest.UDP(w.dns, w.client, string(w.query(100).Payload)))[1]),
			out(stranger[0], forward.NotReply), out(stranger[1], forward.NotReply),
			out(answer[2], forward.NotReply).after(flow.FragmentTicks+1)),
		w.vector("orphan/ping", tables(service), dropped(forward.Fragment, three(w.ping(100))[1:]...)...),
	}
}
