// SPDX-License-Identifier: Apache-2.0

package forwardtest

import (
	"net/netip"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/forward"
	"github.com/fairlead/fairlead/lb/packet/packettest"
)

// forwarded is a step with a packet that came in by another device.
func forwarded(p framer, reason forward.Reason, want ...[]byte) Step {
	s := out(p, reason, want...)
	s.Way = OutForwarded
	return s
}

// Replies that somebody gave this node's address in place of the Pod's.
func masqueradedVectors() []Vector {
	return inBoth(func(w family) []Vector {
		web, other, dns := svc(lb.TCP, w.web, w.local), svc(lb.TCP, otherPort(w.web), w.local), svc(lb.UDP, w.dns, w.local)
		services := tables(web, other, dns)
		masked := func(f packettest.Frame) packettest.Frame {
			return from(f, netip.AddrPortFrom(netip.MustParseAddr(w.self), netip.MustParseAddrPort(w.local).Port()).String())
		}
		opened := []Step{in(w.tcp(syn), forward.New, delivered(w.tcp(syn), w.local))}
		with := func(steps ...Step) []Step { return append(opened[:1:1], steps...) }
		reply, want := packettest.TCP(w.local, w.client, syn|ack), packettest.TCP(w.web, w.client, syn|ack)
		reply.TCPOptions, want.TCPOptions = packettest.MSS(9000), packettest.MSS(w.mss())
		syn81 := to(w.tcp(syn), otherPort(w.web))
		port := substitute(syn81, 0)
		reply81 := packettest.TCP(w.local, withPort(syn81, port).Src.String(), ack)
		want81 := packettest.TCP(otherPort(w.web), w.client, ack)
		query := w.query(100)
		answer := packettest.UDP(w.local, w.client, string(query.Payload))
		e, about := w.kinds()[0], from(w.tcp(ack), w.client)
		wantError := e(about)
		wantError.Src = netip.MustParseAddrPort(w.web)
		rst, wantRST := packettest.TCP(w.local, w.client, rst|ack), packettest.TCP(w.web, w.client, rst|ack)
		return []Vector{
			w.vector("masqueraded/translated", services, with(forwarded(masked(reply), forward.Translated, want.Bytes()),
				forwarded(reply, forward.Translated, want.Bytes()))...),
			w.vector("masqueraded/only what was forwarded", services, with(out(masked(reply), forward.NotReply))...),
			w.vector("masqueraded/only with this node's address", services, with(
				forwarded(from(reply, otherHost(masked(reply).Src.String())), forward.NotReply))...),
			w.vector("masqueraded/only from a backend's port", services, with(
				forwarded(from(reply, otherPort(masked(reply).Src.String())), forward.NotReply))...),
			w.vector("masqueraded/only of a flow", services,
				forwarded(masked(reply), forward.NotReply), opened[0], forwarded(masked(to(reply, otherPort(w.client))), forward.NotReply),
				forwarded(masked(to(reply, otherHost(w.client))), forward.NotReply),
				forwarded(masked(answer), forward.NotReply), // the other protocol
				forwarded(masked(reply), forward.NotReply).after(1119)),
			w.vector("masqueraded/substitute port", services, with(in(syn81, forward.New, delivered(withPort(syn81, port), w.local)),
				forwarded(masked(reply81), forward.Translated, want81.Bytes()), forwarded(masked(reply), forward.Translated, want.Bytes()))...),
			w.vector("masqueraded/closes the flow", services, with(forwarded(masked(rst), forward.Translated, wantRST.Bytes()),
				opened[0].after(1))...),
			w.vector("masqueraded/fragments", services, all(
				[]Step{in(query, forward.New, delivered(query, w.local)), forwarded(masked(three(answer)[1]), forward.NotReply)},
				maskedPieces(three(answer), three(from(answer, w.dns)), masked))...),
			w.vector("masqueraded/error", services, with(
				forwarded(e(to(about, masked(reply).Src.String())), forward.Translated, wantError.Bytes()),
				out(e(to(about, masked(reply).Src.String())), forward.NotReply))...),
		}
	})
}

func maskedPieces(got, want []packettest.Frame, masked func(packettest.Frame) packettest.Frame) []Step {
	var steps []Step
	for i := range got {
		// The checksum was over the Pod's address, and was changed with it.
		f := masked(got[i])
		if i == 0 {
			whole := masked(packettest.UDP(got[0].Src.String(), got[0].Dst.String(), ""))
			whole.Payload = append(append(got[0].Raw[8:len(got[0].Raw):len(got[0].Raw)], got[1].Raw...), got[2].Raw...)
			f = three(whole)[0]
		}
		steps = append(steps, forwarded(f, forward.Translated, want[i].Bytes()))
	}
	return steps
}
