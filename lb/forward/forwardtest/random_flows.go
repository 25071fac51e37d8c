// SPDX-License-Identifier: Apache-2.0

package forwardtest

import (
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/flow"
	"github.com/fairlead/fairlead/lb/packet"
	"github.com/fairlead/fairlead/lb/packet/packettest"
)

// conversation is a flow as the client knows it, and as its Pod does.
type conversation struct {
	client, seen, vip, pod string
	proto                  uint8
}

// conversation is mostly one that there is.
func (s *storyteller) conversation() conversation {
	if c, ok := s.known(flow.Own); ok && !s.oneIn(8) {
		return c
	}
	c := conversation{"198.51.100.0:40000", "198.51.100.0:40000", webV4, pick(s, a1, a2, b1), packet.ProtoTCP}
	if s.oneIn(8) {
		c.vip, c.proto = dnsV4, packet.ProtoUDP
	}
	return c
}

// known is what a record of one of these kinds tells of; ok is false when there
// is none. A redirect knows no Pod, and an affinity no port of its client.
func (s *storyteller) known(kinds ...flow.Kind) (c conversation, ok bool) {
	pods := map[uint32]string{tag(a1): a1, tag(a2): a2, tag(a1v6): a1v6}
	records := s.twin.Records()
	for at, left := s.IntN(len(records)), len(records); left > 0; at, left = at+1, left-1 {
		r := records[at%len(records)]
		key, there := s.keys[r.ServiceTag]
		if !there || !slices.Contains(kinds, r.Kind) || r.Kind == flow.Own && pods[r.BackendTag] == "" {
			continue
		}
		if r.Kind == flow.Affinity {
			r.Port = uint16(40000 + s.IntN(3))
		}
		client := netip.AddrFrom16(r.Client).Unmap()
		return conversation{
			client: netip.AddrPortFrom(client, r.Port).String(), seen: netip.AddrPortFrom(client, r.PodPort).String(),
			vip: netip.AddrPortFrom(key.VIP, key.Port).String(), pod: pods[r.BackendTag], proto: uint8(key.Proto),
		}, true
	}
	return c, false
}

// segment is one of the conversation's packets.
func (s *storyteller) segment(proto uint8, src, dst string) packettest.Frame {
	if proto == uint8(lb.UDP) {
		f := packettest.UDP(src, dst, "")
		f.Payload, f.NoChecksum = s.payload(), f.Src.Addr().Is4() && s.oneIn(4)
		return f
	}
	f := packettest.TCP(src, dst, pick[uint8](s, syn|ack, syn|ack, ack, ack|fin, rst|ack))
	f.Seq, f.Payload = podISN, s.payload()
	if f.Flags&syn != 0 {
		f.TCPOptions = pick(s, nil, packettest.MSS(1460), append([]byte{1}, append(packettest.MSS(9000), 1, 1, 1)...))
	}
	return f
}

func (s *storyteller) reply() packettest.Frame {
	c := s.conversation()
	return s.segment(c.proto, c.pod, c.seen)
}

// replied are frames that leave, some of them masqueraded.
func (s *storyteller) replied(frames []packettest.Frame) []Step {
	way := pick(s, Out, Out, Out, OutForwarded)
	if way == OutForwarded && s.oneIn(2) {
		for i, f := range frames {
			if f.Quote == nil {
				self := selfV4
				if f.Src.Addr().Is6() {
					self = selfV6
				}
				frames[i].Src = netip.AddrPortFrom(netip.MustParseAddr(self), f.Src.Port())
			}
		}
	}
	return s.sent(way, frames, nil)
}

// complaint is an error about f, of any kind and with any quote.
func (s *storyteller) complaint(f packettest.Frame) packettest.Frame {
	f.TTL = pick[uint8](s, 1, 50)
	router, kind := "203.0.113.9", pick[uint8](s, 3, 3, 3, 11, 12, 5)
	if f.Src.Addr().Is6() {
		router, kind = "2001:db8:9::9", pick[uint8](s, 1, 2, 2, 3, 4, 5)
	} else if s.oneIn(8) {
		f.IPOptions = []byte{1, 1, 1, 0}
	}
	e := packettest.ICMPError(router, f, kind, pick[uint8](s, 0, 1, 4, 4), pick(s, 0, 7, 8, 8, 8, 12, 16, 17, 18, 19, 20, 28, 500, 4000))
	return e.WithMTU(pick[uint32](s, 0, 576, 1280, 1400, 1499, 1500, 70000))
}

// errorIn is about a reply, errorOut about a request, as both were sent.
func (s *storyteller) errorIn() packettest.Frame {
	c := s.conversation()
	return s.complaint(s.segment(c.proto, c.vip, c.client))
}

func (s *storyteller) errorOut() packettest.Frame {
	c := s.conversation()
	e := s.complaint(s.segment(c.proto, c.seen, c.pod))
	if s.oneIn(2) {
		e.Src = netip.AddrPortFrom(e.Quote.Dst.Addr(), 0)
	}
	return e
}

// tunnelError is about a packet that this node sent, or might have sent.
func (s *storyteller) tunnelError() packettest.Frame {
	node := pick(s, nodeB, nodeB, nodeC, nodeD, "10.0.0.77")
	src := pick(s, selfV4, selfV4, selfV4, "10.0.0.9")
	if netip.MustParseAddr(node).Is6() {
		src = selfV6
	}
	e := s.complaint(packettest.Encap(src, node, pick[uint16](s, geneve, geneve, geneve, 7472), key1, s.request()).Frame())
	if s.oneIn(4) {
		return e
	}
	// What is learned from: too big, with enough of the packet.
	tooBig := [2]uint8{3, 4}
	if e.Quote.Src.Addr().Is6() {
		tooBig = [2]uint8{2, 0}
	}
	return packettest.ICMPError(e.Src.Addr().String(), *e.Quote, tooBig[0], tooBig[1], 500).WithMTU(pick[uint32](s, 576, 1280, 1400))
}
