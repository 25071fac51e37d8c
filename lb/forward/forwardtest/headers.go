// SPDX-License-Identifier: Apache-2.0

package forwardtest

import (
	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/forward"
	"github.com/fairlead/fairlead/lb/packet"
	"github.com/fairlead/fairlead/lb/packet/packettest"
)

type extension = packettest.Extension

// with is f with IPv6 extension headers.
func with(f packettest.Frame, e ...extension) packettest.Frame {
	f.Extensions = e
	return f
}

func atomic(f packettest.Frame) packettest.Frame {
	f.Atomic, f.ID = true, 0xdeadbeef
	return f
}

var (
	hop, dst, routed = packettest.HopByHop, packettest.DestinationOptions, packettest.Routing(0)
	unrouted         = packettest.Routing(1)
	atomicHeader     = extension{Type: packet.ProtoIPv6Fragment, Body: []byte{0, 0, 0, 0, 0, 9}}
	firstHeader      = extension{Type: packet.ProtoIPv6Fragment, Body: []byte{0, 1, 0, 0, 0, 9}}
)

// walked are packets whose extension headers are gone through.
func walked(f packettest.Frame) []packettest.Frame {
	return []packettest.Frame{
		with(f, hop(8)), with(f, dst(8)), with(f, routed), with(f, hop(64)), atomic(f),
		with(f, hop(24), dst(16), routed, dst(16)), atomic(with(f, hop(40), dst(8), routed)),
		with(f, atomicHeader, dst(8)),
	}
}

// unwalked are those that are not gone through to the end.
func unwalked(f packettest.Frame) []packettest.Frame {
	return []packettest.Frame{
		with(f, dst(72)), with(f, hop(8), dst(64)), with(f, hop(8), dst(8), routed, dst(8), dst(8)),
		with(f, unrouted), with(f, hop(8), unrouted), with(f, atomicHeader, atomicHeader),
		with(f, firstHeader, atomicHeader), atomic(with(f, atomicHeader)), atomic(with(f, hop(64))),
		with(f, atomicHeader, dst(8), unrouted),
	}
}

// IPv6 extension headers.
func headerVectors() []Vector {
	remote, local := svc(lb.TCP, webV6, b1v6), svc(lb.TCP, webV6, a1v6)
	none := tables(svc(lb.TCP, webV6), svc(lb.UDP, dnsV6))
	var encap, mine, replies, refused, tunnelled, dropped, elsewhere, inside []Step
	for i, f := range walked(synV6()) {
		encap = append(encap, in(f, forward.EncapHome, encapped(f, nodeB, 0, tableHash(remote), tags(b1v6)).Bytes()))
		reason := forward.Mine
		if i == 0 {
			reason = forward.New
		}
		mine = append(mine, in(f, reason, delivered(f, a1v6)))
		tunnelled = append(tunnelled, in(tunnelFrom(f, 0, a1v6), reason, fromTunnel(f, a1v6)))
		reply := to(from(f, a1v6), clientV6)
		replies = append(replies, translated(reply, from(reply, webV6)))
		refused = append(refused, reset(f, rst|ack, 0, 1001))
	}
	for _, f := range walked(queryV6()) {
		refused = append(refused, unreachable(f))
	}
	for _, f := range walked(packettest.Ping("2001:db8:1::7", "2001:db8::1")) {
		refused = append(refused, echoed(f))
	}
	for _, f := range unwalked(synV6()) {
		dropped = append(dropped, in(f, forward.Headers), in(to(f, "[2001:db8::1]:81"), forward.Headers))
		elsewhere = append(elsewhere, in(to(f, "[2001:db8::2]:80"), forward.NotVIP), out(to(from(f, a1v6), clientV6), forward.NotReply))
		inside = append(inside, in(tunnelFrom(f, 0, a1v6), forward.Malformed))
	}
	for _, f := range unwalked(packettest.Ping("2001:db8:1::7", "2001:db8::1")) {
		dropped = append(dropped, in(f, forward.Headers))
	}
	return []Vector{
		vector("headers/encap", tables(remote), encap...),
		vector("headers/deliver and reply", tables(local), append(mine, replies...)...),
		vector("headers/from a tunnel", tables(local), tunnelled...),
		vector("headers/answers", none, refused...),
		vector("headers/not walked", tables(local), dropped...),
		vector("headers/not walked, elsewhere", tables(local), elsewhere...),
		vector("headers/not walked, inside", tables(local), inside...),
		brokenHeaders(local), outerHeaders(local), bigHeaders(),
		vector("truncated/extension headers", tables(local), truncated(with(synV6(), hop(16), dst(8)), 54, forward.Malformed)...),
		vector("truncated/extension headers, shortened", tables(local), shortened(with(synV6(), hop(16), dst(8)))...),
	}
}

// brokenHeaders are some whose lengths contradict the packet's.
func brokenHeaders(local lb.Service) Vector {
	v := vector("headers/malformed", tables(local))
	const first = 14 + 40
	for _, p := range []raw{
		patch(with(synV6(), dst(8)), first+1, 3),                   // ends 4 bytes behind the packet
		patch(with(synV6(), hop(8), routed), first+8+1, 3, 253, 0), // the second one does
		patch(with(synV6(), dst(8)), 18, 0, 7),                     // less than a header
		patch(with(synV6(), dst(8)), 18, 0, 0),
		patch(with(synV6(), dst(8)), 18, 0, 8+19), // less than TCP's
		patch(atomic(synV6()), 18, 0, 7),
		patch(with(synV6(), dst(8), unrouted), 18, 0xff, 0xff), // the frame ends before
	} {
		v.Steps = append(v.Steps, in(p, forward.Malformed))
	}
	// Not walked to the end comes before a length that cannot be.
	v.Steps = append(v.Steps, in(patch(with(synV6(), dst(8)), first+1, 255), forward.Headers),
		in(patch(with(synV6(), unrouted), first+1, 3), forward.Headers))
	return v
}

// shortened are all proper prefixes of a v6 frame, from the whole IP header on,
// whose IP header says so.
func shortened(f packettest.Frame) []Step {
	var steps []Step
	whole := f.Bytes()
	for n := 54; n < len(whole); n++ {
		steps = append(steps, in(patch(raw(whole[:n]), 18, 0, byte(n-54)), forward.Malformed))
	}
	return steps
}

// outerHeaders: nodes send none outside.
func outerHeaders(local lb.Service) Vector {
	outer := func(e ...extension) packettest.Tunnel {
		t := tunnel(synV6(), 0, tags(a1v6))
		t.Src, t.Dst = addrs("fd00::2")[0], addrs(selfV6)[0]
		t.Extensions = e
		return t
	}
	foreign := with(packettest.UDP("[2001:db8::9]:1", "["+selfV6+"]:7471", "x"), dst(8))
	return vector("headers/outside", tables(local),
		in(outer(), forward.New, fromTunnel(synV6(), a1v6)),
		in(outer(hop(8)), forward.BadOption), in(outer(atomicHeader), forward.BadOption),
		in(outer(unrouted), forward.NotVIP), in(outer(dst(72)), forward.NotVIP), in(outer(firstHeader), forward.NotVIP),
		in(foreign, forward.ForeignTunnel))
}

// bigHeaders: options and extension headers are quoted.
func bigHeaders() Vector {
	v4, v6 := queryV4(), with(queryV6(), hop(8), dst(16))
	v4.IPOptions, v4.Fragment = []byte{1, 1, 1, 1, 1, 1, 1, 0}, 0x4000
	v4.Payload, v6.Payload = make([]byte, 1500), make([]byte, 1500)
	tcp6 := with(synV6(), hop(8))
	tcp6.Payload = v6.Payload
	return vector("headers/too big", tables(svc(lb.UDP, dnsV4, b1), svc(lb.UDP, dnsV6, b1v6), svc(lb.TCP, webV6, b1v6)),
		tooBig(v4, 1500-packet.EncapLenV4), tooBig(v6, 1500-packet.EncapLenV4), tooBig(tcp6, 1500-packet.EncapLenV4))
}
