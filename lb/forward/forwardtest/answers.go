// SPDX-License-Identifier: Apache-2.0

package forwardtest

import (
	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/forward"
	"github.com/fairlead/fairlead/lb/packet"
	"github.com/fairlead/fairlead/lb/packet/packettest"
)

// back is a frame from where f goes to where it comes from, as a VIP makes it.
func back(f packettest.Frame) packettest.Frame {
	return packettest.Frame{
		SrcMAC: f.DstMAC, DstMAC: f.SrcMAC, Tags: f.Tags, Src: f.Dst, Dst: f.Src, Proto: f.Proto, Fragment: 0x4000,
	}
}

// reset is the RST that answers f.
func reset(f packettest.Frame, flags uint8, seq, ackno uint32) Step {
	r := back(f)
	r.Flags, r.Seq, r.Ack = flags, seq, ackno
	return in(f, forward.Refused, r.Bytes())
}

// icmpAnswer is the ICMP error that answers f: it quotes 8 bytes of UDP, 20 of TCP.
func icmpAnswer(f packettest.Frame, kind, code uint8) packettest.Frame {
	quoted := 8
	if f.Proto == packet.ProtoTCP {
		quoted = 20
	}
	e := packettest.ICMPError(f.Dst.Addr().String(), f, kind, code, quoted)
	r := back(f)
	r.Proto, r.ICMPType, r.ICMPCode, r.Payload = e.Proto, kind, code, e.Payload
	return r
}

// unreachable is the ICMP error that answers f where nobody is.
func unreachable(f packettest.Frame) Step {
	if f.Src.Addr().Is6() {
		return in(f, forward.Refused, icmpAnswer(f, 1, 4).Bytes())
	}
	return in(f, forward.Refused, icmpAnswer(f, 3, 3).Bytes())
}

// tooBig is the ICMP error that answers f where it does not fit.
func tooBig(f packettest.Frame, mtu uint32) Step {
	if f.Src.Addr().Is6() {
		return in(f, forward.PacketTooBig, icmpAnswer(f, 2, 0).WithMTU(mtu).Bytes())
	}
	return in(f, forward.PacketTooBig, icmpAnswer(f, 3, 4).WithMTU(mtu).Bytes())
}

// echoed is the answer to a ping.
func echoed(f packettest.Frame) Step {
	r := f
	r.SrcMAC, r.DstMAC, r.Src, r.Dst, r.TTL = f.DstMAC, f.SrcMAC, f.Dst, f.Src, 64
	if r.ICMPType = packet.ICMPEchoReply; f.Src.Addr().Is6() {
		r.ICMPType = packet.ICMPv6EchoReply
	}
	return in(f, forward.Echo, r.Bytes())
}

// What a VIP says itself.
func answerVectors() []Vector {
	none := tables(svc(lb.TCP, webV4), svc(lb.TCP, webV6), svc(lb.UDP, dnsV4), svc(lb.UDP, dnsV6))
	data, both, padded, options := synV4(), synV4(), synV4(), synV4()
	data.Payload = []byte("hello")
	both.Flags, both.Payload = syn|fin, []byte("hello")
	padded.Trailer = make([]byte, 6)
	options.TCPOptions, options.IPOptions = packettest.MSS(1460), []byte{1, 1, 1, 0}
	ackData := ackV4(77, 0xfffffffe)
	ackData.Payload = []byte("hello")
	bare := packettest.TCP(clientV4, webV4, 0)
	bare.Payload = []byte("hello")
	rst6 := packettest.TCP(clientV6, webV6, ack)
	rst6.Ack = 5
	short, dnsOptions := queryV4(), queryV4()
	short.Payload, dnsOptions.TOS, dnsOptions.IPOptions = nil, 0xb9, []byte{1, 1, 1, 0}
	ping4, ping6 := packettest.Ping("198.51.100.7", "192.0.2.1"), packettest.Ping("2001:db8:1::7", "2001:db8::1")
	ping4.TTL, ping4.ID, ping4.TOS, ping4.Payload = 3, 77, 0xb9, []byte("an odd number of bytes!")
	pingOptions := ping4
	pingOptions.IPOptions, pingOptions.Trailer = []byte{1, 1, 1, 0}, []byte{9}
	draining := local(svc(lb.TCP, webV4, "-"+b1))
	return []Vector{
		vector("answer/rst", none,
			reset(synV4(), rst|ack, 0, 1001), reset(data, rst|ack, 0, 1006), reset(both, rst|ack, 0, 1007),
			reset(bare, rst|ack, 0, 1005), reset(padded, rst|ack, 0, 1001), reset(options, rst|ack, 0, 1001),
			reset(ackV4(77, 5), rst, 5, 0), reset(ackData, rst, 0xfffffffe, 0),
			reset(synV6(), rst|ack, 0, 1001), reset(rst6, rst, 5, 0)),
		vector("answer/unreachable", none,
			unreachable(queryV4()), unreachable(queryV6()), unreachable(short), unreachable(dnsOptions)),
		vector("answer/no rst to a rst", none,
			in(packettest.TCP(clientV4, webV4, rst), forward.Rate),
			in(packettest.TCP(clientV6, webV6, rst|ack), forward.Rate)),
		vector("answer/only draining ones, elsewhere", tables(draining), reset(synV4(), rst|ack, 0, 1001)),
		vector("answer/only draining ones", tables(svc(lb.TCP, webV4, "-"+a1)), reset(synV4(), rst|ack, 0, 1001)),
		vector("answer/only draining ones, datagrams", tables(svc(lb.UDP, dnsV4, "-"+a1)), unreachable(queryV4())),
		vector("answer/only draining ones by tunnel", tables(svc(lb.TCP, webV4, "-"+a1), svc(lb.UDP, dnsV4, "-"+a1)),
			in(tunnel(synV4(), 0, tags(a1)), forward.NoLocalBackends), in(tunnel(queryV4(), 0, tags(a1)), forward.NoLocalBackends)),
		vector("answer/only draining ones here", tables(local(svc(lb.TCP, webV4, "-"+a1, b1))), in(synV4(), forward.NoLocalBackends)),
		vector("answer/echo", none, echoed(ping4), echoed(ping6), echoed(pingOptions)),
	}
}

// The rate of answers: a full bucket at first, then so many a tick.
func rateVectors() []Vector {
	v := vector("answer/rate", tables(svc(lb.TCP, webV4)))
	refused, ping := reset(synV4(), rst|ack, 0, 1001), echoed(packettest.Ping("198.51.100.7", "192.0.2.1"))
	limited := in(synV4(), forward.Rate)
	for range forward.AnswersBurst {
		v.Steps = append(v.Steps, refused)
	}
	v.Steps = append(v.Steps, limited, ping, limited)
	for range forward.AnswersPerTick {
		v.Steps = append(v.Steps, refused.after(1))
	}
	v.Steps = append(v.Steps, limited.after(1), ping.after(1), refused.after(3))
	return []Vector{v}
}

// What leaves.
func replyVectors() []Vector {
	web, dns := svc(lb.TCP, webV4, a1, b1), svc(lb.UDP, dnsV4, a1)
	web6 := svc(lb.TCP, webV6, a1v6)
	malformed := packettest.TCP(a1, clientV4, ack)
	synAck6, want6 := packettest.TCP(a1v6, clientV6, syn|ack), packettest.TCP(webV6, clientV6, syn|ack)
	return []Vector{
		vector("reply/no reply", tables(web, dns),
			out(packettest.TCP("10.1.1.1:9999", clientV4, ack), forward.NotReply), // no backend's port
			out(packettest.TCP("10.1.1.9:8080", clientV4, ack), forward.NotReply),
			out(packettest.TCP(b1, clientV4, ack), forward.NotReply), // a backend of another node
			out(patch(malformed, 46, 0x10), forward.NotReply),
			out(patch(malformed, 12, 0x08, 0x06), forward.NotReply),
			out(packettest.Ping("10.1.1.1", "198.51.100.7"), forward.NotReply),
			out(synV4(), forward.NotReply)),
		vector("reply/no flow", tables(web, dns),
			out(packettest.TCP(a1, clientV4, syn|ack), forward.NoFlow),
			out(packettest.UDP(a1, clientV4, "x"), forward.NoFlow),
			fresh(queryV4()),
			out(packettest.TCP(a1, clientV4, ack), forward.NoFlow), // the other protocol
			out(packettest.UDP(a1, "198.51.100.7:40001", "x"), forward.NoFlow),
			out(packettest.UDP(a1, "198.51.100.8:40000", "x"), forward.NoFlow),
			out(packettest.UDP(a1, clientV4, "x"), forward.NoFlow).after(895)),
		vector("reply/tcp v6", tables(web6),
			in(synV6(), forward.New, delivered(synV6(), a1v6)), out(synAck6, forward.Translated, want6.Bytes())),
	}
}

// The MSS that a Pod announces.
func clampVectors() []Vector {
	web, web6 := svc(lb.TCP, webV4, a1), svc(lb.TCP, webV6, a1v6)
	clamped := func(flags uint8, options, wants []byte) Step {
		s := reply(lb.TCP, webV4, clientV4, func(f *packettest.Frame) { f.Flags, f.TCPOptions = flags, options })
		want := packettest.TCP(webV4, clientV4, flags)
		want.TCPOptions = wants
		s.Want = want.Bytes()
		return s
	}
	mss := packettest.MSS
	odd := func(value uint16) []byte { return append(append([]byte{1}, mss(value)...), 1, 4, 2) }
	behind := func(value uint16) []byte { return append([]byte{4, 2, 1, 1, 1, 3, 3, 7}, mss(value)...) }
	const limit = 1500 - packet.EncapLenV6 - 40
	synAck6, want6 := packettest.TCP(a1v6, clientV6, syn|ack), packettest.TCP(webV6, clientV6, syn|ack)
	synAck6.TCPOptions, want6.TCPOptions = mss(1440), mss(limit-20)
	return []Vector{
		vector("clamp/v4", tables(web), fresh(synV4()),
			clamped(syn|ack, mss(1460), mss(limit)), clamped(syn|ack, mss(limit), mss(limit)),
			clamped(syn|ack, mss(limit+1), mss(limit)), clamped(syn|ack, mss(536), mss(536)),
			clamped(syn, mss(1460), mss(limit)), clamped(ack, mss(1460), mss(1460)),
			clamped(syn|ack, nil, nil), clamped(syn|ack, []byte{1, 1, 1, 0}, []byte{1, 1, 1, 0}),
			clamped(syn|ack, []byte{8, 0, 2, 4}, []byte{8, 0, 2, 4}),
			clamped(syn|ack, odd(1460), odd(limit)), clamped(syn|ack, behind(65535), behind(limit))),
		vector("clamp/v6", tables(web6), in(synV6(), forward.New, delivered(synV6(), a1v6)),
			out(synAck6, forward.Translated, want6.Bytes())),
	}
}
