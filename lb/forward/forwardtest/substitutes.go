// SPDX-License-Identifier: Apache-2.0

package forwardtest

import (
	"net/netip"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/flow"
	"github.com/fairlead/fairlead/lb/forward"
	"github.com/fairlead/fairlead/lb/packet/packettest"
)

// One client tuple that reaches one Pod port in several ways.
func substituteVectors() []Vector {
	const web81 = "192.0.2.1:81"
	web, other := svc(lb.TCP, webV4, a1), svc(lb.TCP, web81, a1)
	syn81 := packettest.TCP(clientV4, web81, syn)
	data81 := packettest.TCP(clientV4, web81, ack)
	data81.Seq, data81.Ack = 1001, podISN+1
	port := substitute(syn81, 0)
	seen := func(f packettest.Frame) packettest.Frame {
		f.Src = netip.AddrPortFrom(f.Src.Addr(), port)
		return f
	}
	reply81 := func(flags uint8) Step {
		f, want := packettest.TCP(a1, seen(syn81).Src.String(), flags), packettest.TCP(web81, clientV4, flags)
		f.Seq, want.Seq = podISN, podISN
		return out(f, forward.Translated, want.Bytes())
	}
	taken := packettest.TCP(seen(syn81).Src.String(), webV4, syn)
	return []Vector{
		vector("substitute/tcp", tables(web, other),
			fresh(synV4()), in(syn81, forward.New, delivered(seen(syn81), a1)),
			webReply(syn|ack, 5, 1001), reply81(syn|ack),
			in(data81, forward.Mine, delivered(seen(data81), a1)).after(1), mine(ackV4(1001, 6)).after(1),
			webReply(ack, 6, 1001).after(2000), reply81(ack).after(2000)),
		vector("substitute/from the tunnel", tables(web, other), fresh(synV4()),
			in(tunnel(syn81, 0, tags(a1)), forward.New, fromTunnel(seen(syn81), a1))),
		vector("substitute/only while the other lives", tables(web, other), fresh(synV4()), fresh(syn81).after(1119)),
		vector("substitute/a client that has that very port", tables(web, other),
			fresh(synV4()), in(syn81, forward.New, delivered(seen(syn81), a1)),
			in(taken, forward.New, delivered(withPort(taken, substitute(taken, 0)), a1))),
		vector("substitute/a reply to one that is none any more", tables(web, other),
			fresh(synV4()), in(syn81, forward.New, delivered(seen(syn81), a1)),
			reply81(syn|ack), in(data81, forward.Mine, delivered(seen(data81), a1)).after(1),
			reply81(rst|ack).after(1119), fresh(syn81).after(1120),
			out(packettest.TCP(a1, seen(syn81).Src.String(), rst|ack), forward.NoFlow).after(1121)),
		rightReply(), v6Substitute(),
		takenPorts("substitute/the last port tried", flow.PortTries-1),
		takenPorts("substitute/no port left", flow.PortTries),
	}
}

// substitute is the i-th client port that is tried for a packet.
func substitute(f packettest.Frame, i uint32) uint16 {
	return uint16(1024 + (uint32(flowHash(f))+i*4099)%64512)
}

func withPort(f packettest.Frame, port uint16) packettest.Frame {
	f.Src = netip.AddrPortFrom(f.Src.Addr(), port)
	return f
}

// rightReply: a flow with a substitute comes before the one without in its
// bucket; the reply to the client's own port still is that one's.
func rightReply() Vector {
	const web81, web82 = "192.0.2.1:81", "192.0.2.1:82"
	early, late := packettest.TCP(clientV4, web82, syn), packettest.TCP(clientV4, web81, syn)
	port := substitute(late, 0)
	s := vector("substitute/reply to the right flow",
		tables(svc(lb.TCP, webV4, a1), svc(lb.TCP, web81, a1), svc(lb.TCP, web82, a2)),
		in(early, forward.New, delivered(early, a2)), // takes the first way, and dies
		fresh(synV4()), webReply(ack, 5, 1001),
		in(late, forward.New, delivered(withPort(late, port), a1)).after(1119),
		webReply(ack, 5, 1001).after(1120))
	return s
}

// takenPorts: the client itself uses the first n ports that would be tried.
func takenPorts(name string, n uint32) Vector {
	const dns54 = "192.0.2.1:54"
	f := packettest.UDP(clientV4, dns54, "query")
	v := vector(name, tables(svc(lb.UDP, dnsV4, a1), svc(lb.UDP, dns54, a1)), fresh(queryV4()))
	for i := range n {
		v.Steps = append(v.Steps, fresh(withPort(queryV4(), substitute(f, i))))
	}
	last := in(f, forward.Ports)
	if n < flow.PortTries {
		last = in(f, forward.New, delivered(withPort(f, substitute(f, n)), a1))
	}
	v.Steps = append(v.Steps, last)
	return v
}

func v6Substitute() Vector {
	const dns54 = "[2001:db8::1]:54"
	f := packettest.UDP(clientV6, dns54, "query")
	port := substitute(f, 0)
	answer := packettest.UDP(a1v6, withPort(f, port).Src.String(), "answer")
	return vector("substitute/udp v6", tables(svc(lb.UDP, dnsV6, a1v6), svc(lb.UDP, dns54, a1v6)),
		in(queryV6(), forward.New, delivered(queryV6(), a1v6)),
		in(f, forward.New, delivered(withPort(f, port), a1v6)),
		out(answer, forward.Translated, packettest.UDP(dns54, clientV6, "answer").Bytes()))
}
