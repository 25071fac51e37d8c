// SPDX-License-Identifier: Apache-2.0

package forwardtest

import (
	"net/netip"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/forward"
	"github.com/fairlead/fairlead/lb/packet/packettest"
)

// otherPort is the address with the next port.
func otherPort(addr string) string {
	a := netip.MustParseAddrPort(addr)
	return netip.AddrPortFrom(a.Addr(), a.Port()+1).String()
}

// otherHost is the next address with the port.
func otherHost(addr string) string {
	a := netip.MustParseAddrPort(addr)
	return netip.AddrPortFrom(a.Addr().Next(), a.Port()).String()
}

// fragmentTunnels are fragments that another node sends.
func fragmentTunnels(w family) []Vector {
	service := svc(lb.UDP, w.dns, w.local, w.remote)
	f := three(w.query(100))
	want := three(to(w.query(100), w.local))
	arrives := func(i int, position uint8, pods ...string) packettest.Tunnel {
		return tunnelFrom(f[i], position, pods...)
	}
	stays := func(i int, reason forward.Reason) Step {
		piece := want[i]
		piece.TTL = 63
		return in(arrives(i, 0, w.local), reason, piece.Bytes())
	}
	goes := func(i int, reason forward.Reason, position, next uint8, pods ...string) Step {
		t := arrives(i, position, pods...)
		return in(t, reason, steered(t, nodeB, next))
	}
	forged, orphan := arrives(1, 0, w.local), arrives(1, 0, w.local)
	forged.Key, orphan.Key = key3, key3
	otherPorts := arrives(1, 0, w.local)
	otherPorts.Signed.Src = netip.MustParseAddrPort(otherPort(w.client))
	unknown := three(to(w.query(100), otherPort(w.dns)))
	redirected := w.vector("fragment/redirected", tables(service), func() []Step {
		var steps []Step
		for i := range f {
			t := arrives(i, 0, w.local)
			steps = append(steps, in(t, forward.SteerOwner, steered(t, nodeB, 5)))
		}
		return steps
	}()...)
	redirected.Redirects = []Redirect{{Client: w.client, Service: service.Key, Node: "b", Until: start + 100}}
	return []Vector{
		w.vector("fragment/from a tunnel", tables(service), stays(0, forward.New), stays(1, forward.Mine), stays(2, forward.Mine)),
		w.vector("fragment/from a tunnel, orphan", tables(service),
			in(arrives(1, 0, w.local), forward.Fragment), in(orphan, forward.Fragment), stays(0, forward.New), stays(1, forward.Mine)),
		w.vector("fragment/from a tunnel, forged", tables(service), stays(0, forward.New),
			in(forged, forward.BadMAC), in(otherPorts, forward.BadMAC), stays(1, forward.Mine)),
		w.vector("fragment/from a tunnel, unknown service", tables(service),
			in(tunnelFrom(unknown[0], 0, w.local), forward.UnknownService), in(tunnelFrom(unknown[1], 0, w.local), forward.Fragment)),
		w.vector("fragment/back home", tables(service),
			goes(0, forward.SteerHome, 1, 4, w.remote, w.local), goes(1, forward.SteerHome, 1, 4, w.remote, w.local), goes(2, forward.SteerHome, 1, 4, w.remote, w.local)),
		w.vector("fragment/to the past", tables(service),
			goes(0, forward.SteerPast, 0, 1, w.local, w.remote), goes(1, forward.SteerPast, 0, 1, w.local, w.remote)),
		w.vector("fragment/terminal and not here", tables(service),
			in(arrives(0, 4, w.remote), forward.NotLocal), in(arrives(1, 5, w.remote), forward.NotLocal)),
		redirected,
	}
}

// oddFragments are first fragments that are hardly one, and fragments of what
// has no ports.
func oddFragments() []Vector {
	web, dns := svc(lb.TCP, webV4, a1), svc(lb.UDP, dnsV4, a1)
	web6 := svc(lb.TCP, webV6, a1v6)
	short, options := synV4(), synV4()
	options.TCPOptions, options.Payload = packettest.MSS(1460), make([]byte, 100)
	short.Payload = make([]byte, 100)
	tiny := queryV4()
	first := func(f packettest.Frame, cut int) packettest.Frame { return f.Fragments(datagram, cut)[0] }
	long := packettest.UDP(clientV4, dnsV4, string(make([]byte, 3000)))
	gre := short
	gre.Proto = 47
	alias := packettest.TCP(clientV4, "192.0.2.1:81", ack)
	alias.Payload = make([]byte, 100)
	port := substitute(alias, 0)
	aliased := three(to(withPort(alias, port), a1))
	return []Vector{
		vector("fragment/short first ones", tables(web, dns),
			in(first(short, 16), forward.Malformed), in(first(options, 16), forward.Malformed), // less than TCP's header
			in(patch(first(tiny, 8), 38, 0, 7), forward.Malformed), in(patch(first(tiny, 8), 16, 0, 27), forward.Malformed),
			in(first(tiny, 8), forward.New, first(to(tiny, a1), 8).Bytes()),
			in(patch(first(short, 24), 46, 0x70), forward.Malformed),
			in(first(short, 24), forward.New, first(to(short, a1), 24).Bytes())),
		vector("fragment/udp's length counts all", tables(dns),
			in(first(long, 800), forward.New, first(to(long, a1), 800).Bytes()),
			in(patch(first(long, 800), 38, 0xff, 0xff), forward.Mine, patch(first(to(long, a1), 800), 38, 0xff, 0xff))),
		vector("fragment/of neither tcp nor udp", tables(web),
			append(dropped(forward.Proto, three(gre)[0]), dropped(forward.Fragment, three(gre)[1:]...)...)...),
		vector("fragment/last of one", tables(web6), // atomic ones are whole: RFC 6946
			in(atomic(synV6()), forward.New, delivered(atomic(synV6()), a1v6)),
			in(atomic(packettest.Ping("2001:db8:1::7", "2001:db8::1")), forward.Echo,
				echoed(atomic(packettest.Ping("2001:db8:1::7", "2001:db8::1"))).Want)),
		vector("fragment/extension headers before and behind", tables(web6),
			in(with(synV6(), firstHeader, dst(8)), forward.New, delivered(with(synV6(), firstHeader, dst(8)), a1v6)),
			in(with(synV6(), hop(8), firstHeader), forward.Mine, delivered(with(synV6(), hop(8), firstHeader), a1v6)),
			in(laterV6(6), forward.Mine, delivered(laterV6(6), a1v6)),
			in(laterV6(60), forward.Fragment)), // says another protocol than the first
		vector("fragment/options stay", tables(dns), pieces(func() packettest.Frame {
			f := packettest.UDP(clientV4, dnsV4, string(make([]byte, 100)))
			f.IPOptions = []byte{1, 1, 1, 0}
			return f
		}(), a1, forward.New, forward.Mine)...),
		vector("fragment/of a flow with a substitute port", tables(web, svc(lb.TCP, "192.0.2.1:81", a1)),
			fresh(synV4()), in(three(alias)[0], forward.Judge, aliased[0].Bytes()), in(three(alias)[1], forward.Mine, aliased[1].Bytes())),
		vector("fragment/an error", tables(dns),
			in(packettest.ICMPError("203.0.113.9", packettest.UDP(dnsV4, clientV4, string(make([]byte, 100))), 3, 1, 100).Fragments(9, 40)[0], forward.ICMP)),
	}
}

// laterV6 is a later fragment of firstHeader's datagram that says so of itself.
func laterV6(proto uint8) packettest.Frame {
	f := packettest.TCP(clientV6, webV6, syn)
	f.Proto, f.Fragment, f.ID, f.Raw = proto, 5, 9, []byte("later, and long enough to be any")
	return f
}
