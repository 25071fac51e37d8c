// SPDX-License-Identifier: Apache-2.0

package forwardtest

import (
	"net/netip"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/forward"
	"github.com/fairlead/fairlead/lb/packet/packettest"
)

// errorOf is what a router says about a packet, quoting so much of it.
type errorOf func(f packettest.Frame) packettest.Frame

// kinds are errors that are steered, with quotes of different lengths: ports
// alone, up to and just behind TCP's checksum, and all of the packet.
func (w family) kinds() []errorOf {
	error := func(kind, code uint8, mtu uint32, quoted int) errorOf {
		return func(f packettest.Frame) packettest.Frame {
			return packettest.ICMPError(w.router, f, kind, code, quoted).WithMTU(mtu)
		}
	}
	if w.name == " v6" {
		return []errorOf{
			error(1, 0, 0, 8), error(2, 0, 1300, 16), error(3, 0, 0, 18), error(4, 1, 40, 19), error(1, 4, 0, 1000), error(2, 0, 70000, 1000),
		}
	}
	return []errorOf{
		error(3, 1, 0, 8), error(3, 4, 1300, 16), error(11, 0, 0, 18), error(12, 0, 0x14000000, 19), error(3, 3, 0, 1000), error(3, 4, 0, 1000),
	}
}

// reply is what the client was sent and the router speaks of, of TCP or UDP.
func (w family) reply(udp bool) packettest.Frame {
	f := packettest.TCP(w.web, w.client, ack)
	if udp {
		f = packettest.UDP(w.dns, w.client, "")
	}
	f.TTL, f.Payload = 57, []byte("what the Pod said, at some length")
	return f
}

// asSent is a router's error about a reply as the Pod gets it, the reply being
// as the Pod sent it to a client with that port.
func asSent(e errorOf, reply packettest.Frame, pod string, port uint16) packettest.Frame {
	return e(to(from(reply, pod), netip.AddrPortFrom(reply.Dst.Addr(), port).String()))
}

// related is an error about a reply of a Pod of this node.
func related(e errorOf, reply packettest.Frame, pod string) Step {
	return in(e(reply), forward.Related, asSent(e, reply, pod, reply.Dst.Port()).Bytes())
}

// Errors about packets of flows, in both directions.
func relatedVectors() []Vector {
	return append(inBoth(relatedFamily), append(inBoth(relatedElsewhere), append(inBoth(unrelated), inBoth(relatedReplies)...)...)...)
}

func relatedFamily(w family) []Vector {
	web, dns := svc(lb.TCP, w.web, w.local), svc(lb.UDP, w.dns, w.local)
	opened := []Step{
		in(w.tcp(syn), forward.New, delivered(w.tcp(syn), w.local)),
		in(w.query(5), forward.New, delivered(w.query(5), w.local)),
	}
	v := w.vector("related/to a pod", tables(web, dns), opened...)
	again := w.vector("related/from a tunnel", tables(web, dns), opened...)
	for _, e := range w.kinds() {
		for _, udp := range []bool{false, true} {
			reply := w.reply(udp)
			v.Steps = append(v.Steps, related(e, reply, w.local).after(3))
			sent := asSent(e, reply, w.local, reply.Dst.Port())
			sent.TTL = 63
			again.Steps = append(again.Steps, in(tunnelFrom(e(reply), 0, w.local), forward.Related, sent.Bytes()))
		}
	}
	e := w.kinds()[0]
	noSum, options, first := w.reply(true), w.reply(true), w.reply(true)
	noSum.NoChecksum = true
	first.Fragment, first.ID = 0x2000, 5 // what is quoted may be a first fragment of IPv4
	options.IPOptions = []byte{1, 1, 1, 1, 1, 1, 1, 0}
	padded := e(w.reply(true))
	padded.Trailer, padded.Tags, padded.IPOptions = []byte{1, 2}, twoTags, []byte{1, 1, 1, 0}
	want := asSent(e, w.reply(true), w.local, w.reply(true).Dst.Port())
	want.Trailer, want.Tags, want.IPOptions = padded.Trailer, padded.Tags, padded.IPOptions
	if w.noFragment {
		first, options = w.reply(true), w.reply(true)
		padded.Extensions, want.Extensions = []extension{hop(8)}, []extension{hop(8)}
	}
	// Half of a checksum stays as it is.
	half := packettest.ICMPError(w.router, w.reply(false), w.unreachable[0], 0, 17)
	wantHalf := packettest.ICMPError(w.router, from(w.reply(false), w.local), w.unreachable[0], 0, 17)
	wantHalf.Payload[len(wantHalf.Payload)-1] = half.Payload[len(half.Payload)-1]
	closed := packettest.TCP(w.local, w.client, rst|ack)
	return []Vector{
		v, again,
		w.vector("related/odd quotes", tables(web, dns), append(opened, related(e, noSum, w.local), related(e, options, w.local),
			related(e, first, w.local), in(padded, forward.Related, want.Bytes()), in(half, forward.Related, wantHalf.Bytes()))...),
		w.vector("related/changes no record", tables(web, dns), append(opened,
			related(e, w.reply(false), w.local).after(1000), in(w.tcp(syn), forward.New, delivered(w.tcp(syn), w.local)).after(1119))...),
		w.vector("related/to a closed flow", tables(web, dns), append(opened, translated(closed, from(closed, w.web)), related(e, w.reply(false), w.local))...),
		w.vector("related/after the flow", tables(web, dns), append(opened, in(e(w.reply(true)), forward.ICMPOrphan).after(895))...),
	}
}

// relatedElsewhere are errors about flows that are not here.
func relatedElsewhere(w family) []Vector {
	e, reply := w.kinds()[0], w.reply(false)
	remote, both := svc(lb.TCP, w.web, w.remote), svc(lb.TCP, w.web, w.local, w.remote)
	here := tables(svc(lb.TCP, w.web, w.local))
	f := e(reply)
	goes := func(reason forward.Reason, position, next uint8, node string, pods ...string) Step {
		t := tunnelFrom(f, position, pods...)
		return in(t, reason, steered(t, node, next))
	}
	steered := w.vector("related/by tunnel, to others", tables(both),
		goes(forward.SteerPast, 0, 1, nodeB, w.local, w.remote), goes(forward.SteerHome, 1, 4, nodeB, w.remote, w.local),
		in(tunnelFrom(f, 4, w.remote), forward.ICMPOrphan), in(tunnelFrom(f, 5, w.remote), forward.ICMPOrphan),
		in(tunnelFrom(f, 4, w.local), forward.ICMPOrphan), in(tunnelFrom(f, 3, w.local, w.remote), forward.ICMPOrphan))
	redirected := w.vector("related/redirected", tables(both), goes(forward.SteerOwner, 0, 5, nodeB, w.local),
		goes(forward.SteerOwner, 4, 5, nodeB, w.local), in(tunnelFrom(f, 5, w.local), forward.ICMPOrphan))
	redirected.Redirects = []Redirect{{Client: w.client, Service: both.Key, Node: "b", Until: start + 100}}
	forged, unmarked := tunnelFrom(f, 0, w.local), tunnelFrom(f, 0, w.local)
	forged.Key, unmarked.Signed.Related = key3, false
	marked := tunnelFrom(w.tcp(syn), 0, w.local)
	marked.Signed.Related = true
	dying, long := f, e(w.reply(true))
	dying.TTL = 1
	long.Payload = append(long.Payload, make([]byte, 1400)...)
	past := append(tables(remote), table(svc(lb.TCP, w.web, w.local, "-"+w.remote)))
	ranged := withRanges(svc(lb.TCP, w.web, w.local), "203.0.113.0/24")
	if w.noFragment {
		ranged = withRanges(svc(lb.TCP, w.web, w.local), "2001:db8:9::/48")
	}
	return []Vector{
		w.vector("related/to another node", tables(remote), in(f, forward.EncapHome, w.toNode(f, remote)), in(dying, forward.TTL)),
		w.vector("related/too big", tables(svc(lb.UDP, w.dns, w.remote)), in(long, forward.TooBig)),
		w.vector("related/to the past", past, in(f, forward.EncapPast,
			encapped(f, nodeB, 1, tableHash(svc(lb.TCP, w.web, w.local)), tags(w.local, w.remote)).Bytes())),
		steered, redirected,
		w.vector("related/the mark is signed", here, in(forged, forward.BadMAC), in(unmarked, forward.BadMAC), in(marked, forward.BadMAC),
			in(tunnelFrom(f, 0, w.local), forward.ICMPOrphan)),
		w.vector("related/orphan", here, in(f, forward.ICMPOrphan),
			in(tunnelFrom(e(to(from(reply, otherPort(w.web)), w.client)), 0, w.local), forward.UnknownService)),
		w.vector("related/nobody is there", tables(svc(lb.TCP, w.web)), in(f, forward.ICMPOrphan)),
		w.vector("related/nobody is here", tables(local(remote)), in(f, forward.NoLocalBackends)),
		w.vector("related/source ranges hold for the client", tables(ranged), in(f, forward.SourceRange)),
		w.vector("related/unknown service", here, in(e(from(reply, otherPort(w.web))), forward.ICMP),
			in(e(from(reply, otherHost(w.web))), forward.NotVIP), in(e(w.reply(true)), forward.ICMP)),
		w.vector("related/martians are routers' matter", here,
			in(from(f, w.loopback), forward.ICMPOrphan), in(e(to(reply, otherZero(w.client))), forward.ICMPOrphan)),
	}
}

// otherZero is the address with port 0.
func otherZero(addr string) string {
	return netip.AddrPortFrom(netip.MustParseAddrPort(addr).Addr(), 0).String()
}

// unrelated are errors that cannot be placed: they stay what ICMP to a VIP is.
func unrelated(w family) []Vector {
	e, reply := w.kinds()[0], w.reply(false)
	v := w.vector("unrelated/what is quoted", tables(svc(lb.TCP, w.web, w.local)),
		in(w.tcp(syn), forward.New, delivered(w.tcp(syn), w.local)))
	f := e(reply)
	edited := func(at int, b ...byte) packettest.Frame {
		g := f
		g.Payload = append([]byte(nil), f.Payload...)
		copy(g.Payload[at:], b)
		return g
	}
	short, kind, ping := f, f, f
	short.Payload, kind.ICMPType = f.Payload[:len(f.Payload)-1], 5
	ping.Payload = packettest.Ping(w.vip(), w.host()).IP()
	frames := []packettest.Frame{short, kind, ping}
	if w.noFragment {
		empty := f
		empty.Payload = f.Payload[:39]
		extended := f
		extended.Payload = with(reply, dst(8)).IP()
		mapped := edited(24, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff)
		echo := f
		echo.ICMPType = 129
		frames = append(frames, empty, extended, mapped, echo, edited(0, 0x45), edited(6, 58), edited(6, 44), edited(8, 0x30))
	} else {
		empty := f
		empty.Payload = f.Payload[:19]
		quench := f
		quench.ICMPType = 4
		options := reply
		options.IPOptions = []byte{1, 1, 1, 0}
		g := e(options)
		g.Payload = g.Payload[:len(g.Payload)-1]
		frames = append(frames, empty, quench, g, edited(0, 0x65), edited(0, 0x44), edited(0, 0x4f), edited(6, 0, 1),
			edited(6, 0x20, 9), edited(9, 1), edited(9, 47), edited(12, 9))
	}
	v.Steps = append(v.Steps, dropped(forward.ICMP, frames...)...)
	v.Steps = append(v.Steps, related(e, reply, w.local))
	inside := w.vector("unrelated/inside a tunnel", tables(svc(lb.TCP, w.web, w.local)))
	for _, g := range frames {
		inside.Steps = append(inside.Steps, in(tunnelFrom(g, 0, w.local), forward.Malformed))
	}
	return []Vector{v, inside}
}

// relatedReplies are errors that leave: about packets of the client, from the
// Pod or from somebody behind this node.
func relatedReplies(w family) []Vector {
	web, dns := svc(lb.TCP, w.web, w.local), svc(lb.UDP, w.dns, w.local)
	opened := []Step{
		in(w.tcp(syn), forward.New, delivered(w.tcp(syn), w.local)),
		in(w.query(5), forward.New, delivered(w.query(5), w.local)),
	}
	v := w.vector("related/reply", tables(web, dns), opened...)
	orphan := w.vector("related/reply, no flow", tables(web, dns))
	none := w.vector("related/reply, no backend", tables(web, dns), opened...)
	for i, e := range w.kinds() {
		for _, f := range []packettest.Frame{w.tcp(ack), w.query(40)} {
			f.TTL = 7
			got, want := e(to(f, w.local)), e(f)
			if i%2 == 0 { // the Pod itself
				got.Src = netip.AddrPortFrom(netip.MustParseAddrPort(w.local).Addr(), 0)
			}
			want.Src = netip.MustParseAddrPort(w.web)
			v.Steps = append(v.Steps, translated(got, want).after(5))
			orphan.Steps = append(orphan.Steps, out(got, forward.NoFlow))
			none.Steps = append(none.Steps, out(e(to(f, otherPort(w.local))), forward.NotReply))
		}
	}
	sub := svc(lb.TCP, otherPort(w.web), w.local)
	syn81, e := to(w.tcp(syn), otherPort(w.web)), w.kinds()[4]
	port := substitute(syn81, 0)
	seen := withPort(syn81, port)
	reply := packettest.TCP(otherPort(w.web), w.client, ack)
	want := e(syn81)
	want.Src = netip.MustParseAddrPort(w.web)
	return []Vector{
		v, orphan, none,
		w.vector("related/of a flow with a substitute port", tables(web, sub),
			in(w.tcp(syn), forward.New, delivered(w.tcp(syn), w.local)), in(syn81, forward.New, delivered(seen, w.local)),
			in(e(reply), forward.Related, asSent(e, reply, w.local, port).Bytes()),
			translated(e(to(seen, w.local)), want)),
	}
}
