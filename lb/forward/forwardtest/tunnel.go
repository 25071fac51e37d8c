// SPDX-License-Identifier: Apache-2.0

package forwardtest

import (
	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/forward"
	"github.com/fairlead/fairlead/lb/packet/packettest"
)

const (
	geneveV4 = packettest.GeneveOffsetV4
	bodyV4   = geneveV4 + packettest.BodyOffset
	innerV4  = geneveV4 + packettest.InnerOffset
)

// What comes out of a tunnel.
func tunnelVectors() []Vector {
	web, web6 := svc(lb.TCP, webV4, a1), svc(lb.TCP, webV6, a1v6)
	dns := svc(lb.UDP, dnsV4, a1)
	overV6 := func(t packettest.Tunnel) packettest.Tunnel {
		t.Src, t.Dst = addrs("fd00::2")[0], addrs(selfV6)[0]
		return t
	}
	second := tunnel(synV4(), 0, tags(a1))
	second.Key = key2
	options := synV4()
	options.IPOptions, options.Payload = []byte{1, 1, 1, 0}, []byte("x")
	noSum := queryV4()
	noSum.NoChecksum = true
	padded := tunnel(queryV4(), 0, tags(a1))
	padded.Trailer = make([]byte, 3)
	paddedOut := queryV4()
	paddedOut.Trailer = padded.Trailer
	return []Vector{
		vector("tunnel/v4 in v4", tables(web), in(tunnel(synV4(), 0, tags(a1)), forward.New, fromTunnel(synV4(), a1))),
		vector("tunnel/v4 in v6", tables(web), in(overV6(tunnel(synV4(), 0, tags(a1))), forward.New, fromTunnel(synV4(), a1))),
		vector("tunnel/v6 in v4", tables(web6), in(tunnel(synV6(), 0, tags(a1v6)), forward.New, fromTunnel(synV6(), a1v6))),
		vector("tunnel/v6 in v6", tables(web6), in(overV6(tunnel(synV6(), 0, tags(a1v6))), forward.New, fromTunnel(synV6(), a1v6))),
		vector("tunnel/second key", tables(web), in(second, forward.New, fromTunnel(synV4(), a1))),
		vector("tunnel/inner options", tables(web), in(tunnel(options, 0, tags(a1)), forward.New, fromTunnel(options, a1))),
		vector("tunnel/udp without checksum", tables(dns), in(tunnel(noSum, 0, tags(a1)), forward.New, fromTunnel(noSum, a1))),
		vector("tunnel/padding stays", tables(dns), in(padded, forward.New, fromTunnel(paddedOut, a1))),
		vector("tunnel/source ranges are the ingress node's matter", tables(withRanges(web, "203.0.113.0/24")),
			in(tunnel(synV4(), 0, tags(a1)), forward.New, fromTunnel(synV4(), a1)),
			in(synV4(), forward.SourceRange)),
		vector("tunnel/unknown service", tables(web),
			in(tunnel(packettest.TCP(clientV4, "192.0.2.1:81", syn), 0, tags(a1)), forward.UnknownService),
			in(tunnel(packettest.TCP(clientV4, "192.0.2.9:80", syn), 0, tags(a1)), forward.UnknownService)),
		vector("tunnel/home is not here", tables(svc(lb.TCP, webV4, b1)),
			in(tunnel(synV4(), 0, tags(b1)), forward.NotLocal),
			in(tunnel(synV4(), 0, tags(a1)), forward.NotLocal),
			in(tunnel(synV4(), 0, tags()), forward.NotLocal)),
	}
}

// Frames on our port that are not what a node of ours sends now.
func forgedVectors() []Vector {
	web := tables(svc(lb.TCP, webV4, a1, b1))
	good := tunnel(synV4(), 0, tags(a1))
	wrongKey, outerOptions := good, good
	wrongKey.Key, outerOptions.IPOptions = key3, []byte{1, 1, 1, 0}
	ping := good
	ping.Inner = packettest.Ping("198.51.100.7", "192.0.2.1").IP()
	elsewhere := good
	elsewhere.Dst = addrs("10.0.0.9")[0]
	return []Vector{
		vector("forged/foreign", web,
			in(patch(good, geneveV4, 0x48), forward.ForeignTunnel),
			in(patch(good, geneveV4, 9), forward.ForeignTunnel),
			in(patch(good, geneveV4, 0), forward.ForeignTunnel),
			in(patch(good, geneveV4+8, 0x01, 0x02), forward.ForeignTunnel),
			in(packettest.UDP("198.51.100.7:1", selfV4+":7471", "no geneve"), forward.ForeignTunnel),
			in(packettest.UDP("[2001:db8::9]:1", "["+selfV6+"]:7471", ""), forward.ForeignTunnel)),
		vector("forged/not for this node", web,
			in(elsewhere, forward.NotVIP),
			in(patch(good, 20, 0x20, 0), forward.NotVIP),     // an outer fragment
			in(patch(good, 36, 0x1d, 0x30), forward.NotVIP)), // another port
		vector("forged/bad option", web,
			in(patch(good, geneveV4+2, 0x65, 0x58), forward.BadOption),
			in(patch(good, geneveV4+10, 0x01), forward.BadOption),
			in(patch(good, geneveV4+11, 6), forward.BadOption),
			in(patch(good, bodyV4, 2), forward.BadOption),
			in(patch(good, bodyV4, 0), forward.BadOption),
			in(patch(good, bodyV4+1, 6), forward.BadOption),
			in(patch(good, bodyV4+1, 255), forward.BadOption),
			in(outerOptions, forward.BadOption)),
		vector("forged/malformed inside", web,
			in(ping, forward.Malformed),
			in(patch(good, innerV4, 0x65), forward.Malformed),
			in(patch(good, geneveV4+2, 0x86, 0xdd), forward.Malformed), // says v6, is v4
			in(patch(good, innerV4+2, 0, 41), forward.Malformed),
			in(patch(good, innerV4+9, 47), forward.Malformed),
			in(patch(good, innerV4+32, 0x40), forward.Malformed)),
		vector("forged/bad mac", web,
			in(wrongKey, forward.BadMAC),
			in(patch(good, geneveV4+packettest.MACOffset, 0), forward.BadMAC),
			in(patch(good, bodyV4+1, 1), forward.BadMAC),            // position
			in(patch(good, bodyV4+2, 9), forward.BadMAC),            // table hash
			in(patch(good, bodyV4+4, 9), forward.BadMAC),            // home
			in(patch(good, bodyV4+19, 9), forward.BadMAC),           // past 3
			in(patch(good, innerV4+15, 8), forward.BadMAC),          // client
			in(patch(good, innerV4+19, 2), forward.BadMAC),          // VIP
			in(patch(good, innerV4+20, 0x9c, 0x41), forward.BadMAC), // client's port
			in(patch(good, innerV4+22, 0, 81), forward.BadMAC)),     // service's port
		vector("forged/what the mac leaves out", web,
			in(patch(good, innerV4+8, 7), forward.New, patch(raw(fromTunnel(synV4(), a1)), 22, 7))), // TTL
	}
}

// Every position, with tables that agree with the sender's and that do not.
func positionVectors() []Vector {
	all := tables(svc(lb.TCP, webV4, a1, a2, b1, c1, d1, e1))
	arrives := func(position uint8, pods ...string) packettest.Tunnel {
		return tunnel(synV4(), position, tags(pods...))
	}
	goes := func(reason forward.Reason, node string, next, position uint8, pods ...string) Step {
		t := arrives(position, pods...)
		return in(t, reason, steered(t, node, next))
	}
	stays := func(position uint8, pods ...string) Step {
		return in(arrives(position, pods...), forward.New, fromTunnel(synV4(), pods[0]))
	}
	unknown := tunnel(synV4(), 0, tags(a1, b1, c1))
	unknown.Tags[1] = 0x0bad
	gone := tunnel(synV4(), 1, tags(a1))
	gone.Tags[0] = 0x0bad
	overV6 := arrives(0, a1, d1)
	overV6.Src, overV6.Dst = addrs("fd00::2")[0], addrs(selfV6)[0]
	onlyV4 := overV6
	onlyV4.Tags = tags(a1, b1)
	return []Vector{
		vector("position/ingress, to past 1", all, goes(forward.SteerPast, nodeB, 1, 0, a1, b1, c1)),
		vector("position/ingress, past 1 is here", all, goes(forward.SteerPast, nodeC, 2, 0, a1, a2, c1)),
		vector("position/ingress, past 1 is unknown", all, in(unknown, forward.SteerPast, steered(unknown, nodeC, 2))),
		vector("position/ingress, to past 3", all, goes(forward.SteerPast, nodeC, 3, 0, a1, a2, a1, c1)),
		vector("position/ingress, home elsewhere", all, in(arrives(0, b1), forward.NotLocal)),
		vector("position/ingress, home here", all, stays(0, a1)),
		vector("position/past 1, to past 2", all, goes(forward.SteerPast, nodeC, 2, 1, b1, a1, c1)),
		vector("position/past 1, to past 3", all, goes(forward.SteerPast, "10.0.0.5", 3, 1, b1, a1, a2, e1)),
		vector("position/past 1, back home", all, goes(forward.SteerHome, nodeB, 4, 1, b1, a1)),
		vector("position/past 1, home is here", all, stays(1, a1, b1)),
		vector("position/past 1, home is unknown", all, in(gone, forward.NotLocal)),
		vector("position/past 2, to past 3", all, goes(forward.SteerPast, nodeC, 3, 2, b1, e1, a1, c1)),
		vector("position/past 2, back home", all, goes(forward.SteerHome, nodeB, 4, 2, b1, c1, a1)),
		vector("position/past 3, back home", all, goes(forward.SteerHome, nodeB, 4, 3, b1, c1, e1, a1)),
		vector("position/past 3, home is here", all, stays(3, a1, b1, c1, e1)),
		vector("position/home, here", all, stays(4, a1, b1, c1, e1)),
		vector("position/home, elsewhere", all, in(arrives(4, b1, c1), forward.NotLocal)),
		vector("position/redirected, home is here", all, stays(5, a1, b1)),
		vector("position/redirected, home elsewhere", all, in(arrives(5, b1, a1), forward.NotLocal)),
		vector("position/next node is of the other family", all,
			in(arrives(0, a1, d1), forward.NoNode), in(onlyV4, forward.NoNode)),
		vector("position/over v6", all, in(overV6, forward.SteerPast, steered(overV6, nodeD, 1))),
		pastAtIngress(), pastRides(),
	}
}

// pastAtIngress: the ingress node is the home, and its slots have a past.
func pastAtIngress() Vector {
	now := svc(lb.TCP, webV4, a1, "-"+b1, "-"+c1)
	history := append(tables(svc(lb.TCP, webV4, b1)), table(svc(lb.TCP, webV4, c1, "-"+b1)), table(now))
	sent := func(f packettest.Frame) []byte {
		return encapped(f, nodeC, 1, tableHash(now), tags(a1, c1, b1)).Bytes()
	}
	return vector("past/at the ingress node", history,
		in(synV4(), forward.EncapPast, sent(synV4())),
		in(ackV4(5, 5), forward.EncapPast, sent(ackV4(5, 5))),
		// Back home, nobody knew it.
		in(tunnel(synV4(), 4, tags(a1, c1, b1)), forward.New, fromTunnel(synV4(), a1)),
		in(synV4(), forward.Mine, delivered(synV4(), a1)),
		in(ackV4(5, 5), forward.EncapPast, sent(ackV4(5, 5))), // does not fit: may be a past one's
	)
}

// pastRides: the past goes along to the home, skipping nothing.
func pastRides() Vector {
	now := svc(lb.TCP, webV4, e1, "-"+a1, "-"+b1, "-"+c1)
	history := append(tables(svc(lb.TCP, webV4, a1)),
		table(svc(lb.TCP, webV4, b1, "-"+a1)), table(svc(lb.TCP, webV4, c1, "-"+a1, "-"+b1)), table(now))
	sent := encapped(synV4(), "10.0.0.5", 0, tableHash(now), tags(e1, c1, b1, a1))
	return vector("past/rides to the home", history, in(synV4(), forward.EncapHome, sent.Bytes()))
}

// Registered strays.
func redirectVectors() []Vector {
	web := svc(lb.TCP, webV4, a1, b1)
	onlyA := svc(lb.TCP, webV4, a1)
	to := func(v Vector, until uint32) Vector {
		v.Redirects = []Redirect{{Client: clientV4, Service: web.Key, Node: "c", Until: until}}
		return v
	}
	withC := svc(lb.TCP, webV4, a1, "-"+c1)
	sent := encapped(synV4(), nodeC, 5, tableHash(withC), tags(a1)).Bytes()
	home := tunnel(synV4(), 0, tags(a1))
	back := tunnel(synV4(), 4, tags(a1, b1))
	again := tunnel(synV4(), 5, tags(a1))
	return []Vector{
		to(vector("redirect/at the ingress node", tables(withC),
			in(synV4(), forward.EncapOwner, sent),
			in(packettest.TCP("198.51.100.7:40001", webV4, syn), forward.New,
				delivered(packettest.TCP("198.51.100.7:40001", webV4, syn), a1))), start+100),
		to(vector("redirect/at the home", tables(web), in(home, forward.SteerOwner, steered(home, nodeC, 5))), start+100),
		to(vector("redirect/back home", tables(web), in(back, forward.SteerOwner, steered(back, nodeC, 5))), start+100),
		to(vector("redirect/only once", tables(web), in(again, forward.New, fromTunnel(synV4(), a1))), start+100),
		to(vector("redirect/last tick", tables(withC), in(synV4(), forward.EncapOwner, sent).after(100)), start+100),
		to(vector("redirect/over", tables(onlyA), in(synV4(), forward.New, delivered(synV4(), a1)).after(101)), start+100),
	}
}
