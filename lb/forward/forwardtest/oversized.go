// SPDX-License-Identifier: Apache-2.0

package forwardtest

import (
	"net/netip"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/forward"
	"github.com/fairlead/fairlead/lb/packet"
	"github.com/fairlead/fairlead/lb/packet/packettest"
)

const (
	roomV4 = 1500 - packet.EncapLenV4 // for an IP packet in a tunnel over IPv4
	roomV6 = 1500 - packet.EncapLenV6
)

// withoutDF is f as an old-fashioned sender sends it, with an id.
func withoutDF(f packettest.Frame) packettest.Frame {
	f.Fragment &^= 0x4000
	f.ID = 0x7788
	return f
}

func withDF(f packettest.Frame) packettest.Frame {
	f.Fragment |= 0x4000
	return f
}

// cut is a step with a packet that node a cuts into pieces of at most room bytes
// each, and the tunnel frames that they go to a node in.
func cut(f packettest.Frame, s lb.Service, pod, node string, room int) Step {
	var at []int
	for payload := (room - 20) &^ 7; payload < len(f.IP())-20; payload += (room - 20) &^ 7 {
		at = append(at, payload)
	}
	var wants [][]byte
	bare := f
	bare.Trailer, bare.Tags = nil, nil
	for _, piece := range bare.Fragments(f.ID, at...) {
		wants = append(wants, encapped(piece, node, 0, tableHash(s), tags(pod)).Bytes())
	}
	return in(f, forward.EncapHome, wants...)
}

// Packets that do not fit through the tunnel.
func oversizedVectors() []Vector {
	dns, web, dns6, web6 := svc(lb.UDP, dnsV4, b1), svc(lb.TCP, webV4, b1), svc(lb.UDP, dnsV6, b1v6), svc(lb.TCP, webV6, b1v6)
	v4, v6 := families[0], families[1]
	services := tables(dns, web, dns6, web6)
	onD := svc(lb.UDP, dnsV4, d1)
	segment := withoutDF(v4.tcp(ack))
	segment.Payload = make([]byte, roomV4-39)
	noSum, options, tos := withoutDF(v4.query(2000)), withoutDF(v4.query(2000)), withoutDF(v4.query(2000))
	noSum.NoChecksum, options.IPOptions, tos.TOS, tos.TTL = true, []byte{1, 1, 1, 0}, 0xb9, 2
	tos.Trailer, tos.Tags = []byte{1, 2, 3}, oneTag
	wrong := patch(withoutDF(v4.query(2000)), 40, 1, 2) // a complete checksum, be it wrong
	wrongStep := cut(withoutDF(v4.query(2000)), dns, b1, nodeB, roomV4)
	wrongStep.Packet = wrong
	wrongStep.Want = patch(raw(wrongStep.Want), 14+packet.EncapLenV4+26, 1, 2)
	pieces := withoutDF(v4.query(4000)).Fragments(9, 1600, 3200)
	dying := withoutDF(v4.query(2000))
	dying.TTL = 1
	df := withDF(pieces[0])
	longSyn := v6.tcp(syn)
	longSyn.Payload = make([]byte, 1500)
	rstLong := withDF(packettest.TCP(clientV4, webV4, rst))
	rstLong.Payload = make([]byte, 1500)
	reserved := withoutDF(v4.query(2000))
	reserved.Fragment = 0x8000 // RFC 791: must be zero
	later6 := v6.query(3000).Fragments(5, 1440)
	small := v6.query(3000).Fragments(5, 800)[0]
	return []Vector{
		vector("too big/cut", services,
			cut(withoutDF(v4.query(roomV4-28+1)), dns, b1, nodeB, roomV4), cut(withoutDF(v4.query(2000)), dns, b1, nodeB, roomV4),
			cut(segment, web, b1, nodeB, roomV4), cut(withoutDF(v4.query(3300)), dns, b1, nodeB, roomV4),
			cut(noSum, dns, b1, nodeB, roomV4), cut(tos, dns, b1, nodeB, roomV4), wrongStep),
		vector("too big/fits just so", services,
			in(withoutDF(v4.query(roomV4-28)), forward.EncapHome, v4.toNode(withoutDF(v4.query(roomV4-28)), dns))),
		vector("too big/cut for a tunnel over v6", tables(onD), cut(withoutDF(v4.query(roomV6-28+1)), onD, d1, nodeD, roomV6)),
		vector("too big/a fragment is cut again", services, cut(pieces[0], dns, b1, nodeB, roomV4),
			cut(pieces[1], dns, b1, nodeB, roomV4), in(pieces[2], forward.EncapHome, v4.toNode(pieces[2], dns))),
		vector("too big/the reserved bit is cleared in pieces", services,
			in(reserved, forward.EncapHome, cut(withoutDF(v4.query(2000)), dns, b1, nodeB, roomV4).wants()...)),
		vector("too big/df", services, tooBig(withDF(v4.query(2000)), roomV4), tooBig(withDF(segment), roomV4), tooBig(rstLong, roomV4),
			tooBig(df, roomV4)),
		vector("too big/later fragments", services, tooBig(df, roomV4), in(pieces[0], forward.EncapHome, cut(pieces[0], dns, b1, nodeB, roomV4).wants()...),
			in(withDF(pieces[1]), forward.TooBig), in(optioned(pieces[1]), forward.TooBig)),
		vector("too big/options are not cut", services, tooBig(options, roomV4)),
		vector("too big/ttl first", services, in(dying, forward.TTL)),
		vector("too big/v6", services, tooBig(v6.query(1425-40+1), roomV4), tooBig(longSyn, roomV4),
			tooBig(later6[0], roomV4), in(small, forward.EncapHome, v6.toNode(small, dns6)), in(later6[1], forward.TooBig)),
		tooBigRate(services),
	}
}

func optioned(f packettest.Frame) packettest.Frame {
	f.IPOptions = []byte{1, 1, 1, 0}
	return f
}

// tooBigRate: the answers are as many as those that refuse.
func tooBigRate(services []*lb.Table) Vector {
	v := vector("too big/rate", services)
	f := withDF(families[0].query(2000))
	for range forward.AnswersBurst {
		v.Steps = append(v.Steps, tooBig(f, roomV4))
	}
	v.Steps = append(v.Steps, in(f, forward.Rate), cut(withoutDF(f), svc(lb.UDP, dnsV4, b1), b1, nodeB, roomV4), tooBig(f, roomV4).after(1))
	return v
}

// Path MTUs: what routers say about tunnels.
func pathVectors() []Vector {
	dns, web := svc(lb.UDP, dnsV4, b1), svc(lb.TCP, webV4, b1)
	onC, onD := svc(lb.UDP, "192.0.2.1:54", c1), svc(lb.UDP, "192.0.2.1:55", d1)
	services := tables(dns, web, onC, onD)
	w := families[0]
	sent := encapped(withDF(w.query(1400)), nodeB, 0, tableHash(dns), tags(b1)).Frame()
	sentD := encapped(withDF(to(w.query(1400), "192.0.2.1:55")), nodeD, 0, tableHash(onD), tags(d1)).Frame()
	says := func(f packettest.Frame, mtu uint32) packettest.Frame {
		if f.Src.Addr().Is6() {
			return packettest.ICMPError("2001:db8:9::9", f, 2, 0, 8).WithMTU(mtu)
		}
		return packettest.ICMPError("203.0.113.9", f, 3, 4, 8).WithMTU(mtu)
	}
	learned := func(f packettest.Frame, mtu uint32) Step { return in(says(f, mtu), forward.TunnelError) }
	fits := func(room int) []Step {
		f := withDF(w.query(room - 28))
		return []Step{in(f, forward.EncapHome, w.toNode(f, dns)), tooBig(withDF(w.query(room-28+1)), uint32(room))}
	}
	toC := withDF(to(w.query(roomV4-28), "192.0.2.1:54"))
	otherNode := in(toC, forward.EncapHome, encapped(toC, nodeC, 0, tableHash(onC), tags(c1)).Bytes())
	unreachable, stranger, notSelf, notGeneve, tcp := sent, sent, sent, sent, sent
	stranger.Dst = netip.MustParseAddrPort("10.0.0.77:7471")
	notSelf.Src = netip.MustParseAddrPort("10.0.0.9:50000")
	notGeneve.Dst = netip.MustParseAddrPort("10.0.0.2:7472")
	tcp.Proto = packet.ProtoTCP
	other := packettest.ICMPError("203.0.113.9", unreachable, 3, 1, 8).WithMTU(1300)
	expired := packettest.ICMPError("203.0.113.9", unreachable, 11, 0, 8).WithMTU(1300)
	later := func(steps []Step, ticks uint32) []Step {
		for i := range steps {
			steps[i] = steps[i].after(ticks)
		}
		return steps
	}
	home := tunnel(w.query(1340), 1, tags(b1, a1))
	steer := in(home, forward.SteerHome, steered(home, nodeB, 4))
	onBoth := tables(svc(lb.UDP, dnsV4, a1, b1))
	v6 := withDF(to(w.query(1300-packet.EncapLenV6-28), "192.0.2.1:55"))
	v6Long := withDF(to(w.query(1300-packet.EncapLenV6-28+1), "192.0.2.1:55"))
	return []Vector{
		vector("path/learned", services, all(fits(roomV4), []Step{learned(sent, 1400)}, fits(1400-68), []Step{otherNode},
			[]Step{learned(sent, 1450)}, fits(1400-68), []Step{learned(sent, 1300)}, fits(1300-68))...),
		vector("path/not below 1280", services, all([]Step{learned(sent, 576)}, fits(1280-68), []Step{learned(sent, 1281)}, fits(1280-68))...),
		vector("path/0 says nothing of its own", services, all([]Step{learned(sent, 0)}, fits(1280-68))...),
		vector("path/not above the uplink's", services, all([]Step{learned(sent, 1500)}, fits(roomV4), []Step{learned(sent, 9000)}, fits(roomV4))...),
		vector("path/forgotten", services, all([]Step{learned(sent, 1400), learned(sent, 1400).after(5)},
			later(fits(1400-68), forward.PathMTUTicks), later(fits(roomV4), forward.PathMTUTicks+1),
			later([]Step{learned(sent, 1450)}, forward.PathMTUTicks+2), later(fits(1450-68), forward.PathMTUTicks+3))...),
		vector("path/cut", services, append([]Step{learned(sent, 1400)}, cut(withoutDF(w.query(3000)), dns, b1, nodeB, 1400-68))...),
		vector("path/other errors", services, all([]Step{in(other, forward.TunnelError), in(expired, forward.TunnelError),
			learned(stranger, 1400)}, fits(roomV4))...),
		vector("path/not about a tunnel of ours", services, all([]Step{in(says(notSelf, 1400), forward.NotVIP),
			in(says(notGeneve, 1400), forward.NotVIP), in(says(tcp, 1400), forward.NotVIP)}, fits(roomV4))...),
		vector("path/over v6", services, learned(sentD, 1300), in(v6, forward.EncapHome, encapped(v6, nodeD, 0, tableHash(onD), tags(d1)).Bytes()),
			tooBig(v6Long, 1300-packet.EncapLenV6), learned(sentD, 70000),
			in(packettest.ICMPError("2001:db8:9::9", sentD, 1, 0, 8), forward.TunnelError), tooBig(v6Long, 1300-packet.EncapLenV6)),
		vector("path/steered", onBoth, steer, learned(sent, 1436), steer, learned(sent, 1435), in(home, forward.TooBig)),
		vector("path/outlives other tables", services, append([]Step{learned(sent, 1400)},
			tooBig(withDF(w.query(1400-68-28+1)), 1400-68).syncing(dns, onC))...),
	}
}
