// SPDX-License-Identifier: Apache-2.0

package forwardtest

import (
	"net/netip"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/forward"
	"github.com/fairlead/fairlead/lb/packet/packettest"
)

// Sources that nobody has.
func martianVectors() []Vector {
	nobody := map[string][]string{
		" v4": {"0.0.0.0:1", "0.255.255.255:1", "127.0.0.1:1", "127.255.255.255:1", "224.0.0.1:1", "239.1.2.3:1", "240.0.0.1:1", "255.255.255.255:1"},
		" v6": {"[::]:1", "[::1]:1", "[ff02::1]:1", "[ffff::1]:1"},
	}
	somebody := map[string][]string{
		" v4": {"1.0.0.0:1", "126.255.255.255:1", "128.0.0.1:1", "223.255.255.255:1", "10.0.0.9:1"},
		" v6": {"[::2]:1", "[fe80::1]:1", "[100::]:1", "[1::1]:1"},
	}
	return inBoth(func(w family) []Vector {
		web, dns := svc(lb.TCP, w.web, w.local), svc(lb.UDP, w.dns, w.local)
		none, some := w.vector("martian/source", tables(web, dns)), w.vector("martian/almost", tables(web, dns))
		first := w.tcp(syn)
		first.Payload = make([]byte, 100)
		for _, src := range nobody[w.name] {
			gre := from(first, src)
			gre.Proto = 47
			none.Steps = append(none.Steps, dropped(forward.Martian,
				from(w.tcp(syn), src), from(w.tcp(ack), src), from(w.query(3), src), from(w.ping(3), src), gre,
				from(to(w.tcp(syn), otherPort(w.web)), src), three(from(first, src))[0])...)
			none.Steps = append(none.Steps, in(from(to(w.tcp(syn), otherHost(w.web)), src), forward.NotVIP))
		}
		for _, src := range somebody[w.name] {
			f := from(w.tcp(syn), src)
			some.Steps = append(some.Steps, in(f, forward.New, delivered(f, w.local)))
		}
		land := netip.AddrPortFrom(netip.MustParseAddr(w.vip()), 1).String()
		zero := withPort(w.tcp(syn), 0)
		inside := from(w.tcp(syn), nobody[w.name][2])
		ranged := withRanges(svc(lb.TCP, w.web, w.local), "192.0.2.0/24", "2001:db8::/64")
		return []Vector{
			none, some,
			w.vector("martian/land", tables(ranged), in(from(w.tcp(syn), land), forward.Martian), in(from(w.tcp(syn), w.web), forward.Martian),
				in(from(w.ping(3), land), forward.Martian), in(from(to(w.tcp(syn), otherPort(w.web)), land), forward.Martian)),
			w.vector("martian/port 0", tables(web, dns), in(zero, forward.Martian), in(withPort(w.query(3), 0), forward.Martian),
				in(to(zero, otherPort(w.web)), forward.Martian), in(to(zero, otherHost(w.web)), forward.NotVIP)),
			w.vector("martian/before the source ranges", tables(withRanges(web, "203.0.113.0/24", "2001:db8:77::/48")),
				in(zero, forward.Martian), in(w.tcp(syn), forward.SourceRange)),
			w.vector("martian/behind malformed", tables(web), in(patch(zero, len(zero.Bytes())-8, 0x10), forward.Malformed)),
			// The ingress node looked already.
			w.vector("martian/from a tunnel", tables(web), in(tunnelFrom(inside, 0, w.local), forward.New, fromTunnel(inside, w.local))),
		}
	})
}

// ECN across the tunnel: RFC 6040 section 4.2.
func ecnVectors() []Vector {
	return inBoth(func(w family) []Vector {
		web, dns := svc(lb.TCP, w.web, w.local, w.remote), svc(lb.UDP, w.dns, w.local)
		decap := w.vector("ecn/decap", tables(web, dns))
		steer := w.vector("ecn/steer", tables(web))
		sent := w.vector("ecn/encap", tables(svc(lb.TCP, w.web, w.remote)))
		// Rows are the inner, columns the outer codepoints; 4 is congested.
		want := [4][4]uint8{{0, 0, 0, 4}, {1, 1, 1, 3}, {2, 1, 2, 3}, {3, 3, 3, 3}}
		for inner := range uint8(4) {
			for outer := range uint8(4) {
				f := w.tcp(syn)
				f.TOS = 0xb8 | inner
				t, home := tunnelFrom(f, 0, w.local), tunnelFrom(f, 1, w.remote, w.local)
				t.TOS, home.TOS = 0x20|outer, 0x20|outer
				over6 := t
				over6.Src, over6.Dst = addrs("fd00::2")[0], addrs(selfV6)[0]
				if want[inner][outer] == 4 {
					decap.Steps = append(decap.Steps, in(t, forward.Congested), in(over6, forward.Congested))
					steer.Steps = append(steer.Steps, in(home, forward.Congested))
					continue
				}
				f.TOS = 0xb8 | want[inner][outer]
				decap.Steps = append(decap.Steps, in(t, forward.Mine, fromTunnel(f, w.local)), in(over6, forward.Mine, fromTunnel(f, w.local)))
				steer.Steps = append(steer.Steps, in(home, forward.SteerHome, steered(home, nodeB, 4)))
			}
			f := w.tcp(syn)
			f.TOS = 0xb8 | inner
			sent.Steps = append(sent.Steps, in(f, forward.EncapHome, w.toNode(f, svc(lb.TCP, w.web, w.remote))))
		}
		decap.Steps[0].Reason = forward.New
		bad, orphan := tunnelFrom(w.tcp(syn), 0, w.local), tunnelFrom(three(w.query(100))[1], 0, w.local)
		bad.TOS, bad.Key, orphan.TOS = 3, key3, 3
		return []Vector{decap, steer, sent, oddECN(w, dns),
			w.vector("ecn/congested comes last", tables(dns), in(bad, forward.BadMAC), in(orphan, forward.Fragment),
				in(congested(tunnelFrom(w.tcp(syn), 0, w.local)), forward.Congested))} // the service is not known
	})
}

func congested(t packettest.Tunnel) packettest.Tunnel {
	t.TOS = 3
	return t
}

// oddECN: fragments and errors are treated the same.
func oddECN(w family, dns lb.Service) Vector {
	ect := func(f packettest.Frame, tos uint8) packettest.Frame {
		f.TOS = tos
		return f
	}
	marked := func(f packettest.Frame, want packettest.Frame, reason forward.Reason) Step {
		want.TTL, want.TOS = 63, 3
		return in(congested(tunnelFrom(ect(f, 2), 0, w.local)), reason, want.Bytes())
	}
	f, want := three(w.query(100)), three(to(w.query(100), w.local))
	e := w.kinds()[0]
	return w.vector("ecn/fragments and errors", tables(dns),
		marked(f[0], want[0], forward.New), marked(f[1], want[1], forward.Mine),
		marked(e(w.reply(true)), asSent(e, w.reply(true), w.local, w.reply(true).Dst.Port()), forward.Related),
		in(congested(tunnelFrom(f[1], 0, w.local)), forward.Congested),
		in(congested(tunnelFrom(e(w.reply(true)), 0, w.local)), forward.Congested))
}
