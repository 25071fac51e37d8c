// SPDX-License-Identifier: Apache-2.0

package forwardtest

import (
	"fmt"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/dataplane"
	"github.com/fairlead/fairlead/lb/forward"
	"github.com/fairlead/fairlead/lb/packet"
	"github.com/fairlead/fairlead/lb/packet/packettest"
)

const (
	syn = packet.SYN
	ack = packet.ACK
	rst = packet.RST
	fin = packet.FIN
)

func synV4() packettest.Frame { return packettest.TCP(clientV4, webV4, syn) }
func synV6() packettest.Frame { return packettest.TCP(clientV6, webV6, syn) }
func ackV4(seq, ackno uint32) packettest.Frame {
	f := packettest.TCP(clientV4, webV4, ack)
	f.Seq, f.Ack = seq, ackno
	return f
}
func queryV4() packettest.Frame { return packettest.UDP(clientV4, dnsV4, "query") }
func queryV6() packettest.Frame { return packettest.UDP(clientV6, dnsV6, "query") }

// What passes untouched.
func passVectors() []Vector {
	web := tables(svc(lb.TCP, webV4, b1), svc(lb.TCP, webV6, b1v6))
	toVIP := synV4()
	elsewhere4, elsewhere6 := packettest.TCP(clientV4, "192.0.2.2:80", syn), packettest.TCP(clientV6, "[2001:db8::2]:80", syn)
	fragment := elsewhere4
	fragment.Fragment = 0x2000
	return []Vector{
		vector("pass/not IP", web,
			in(patch(toVIP, 12, 0x08, 0x06), forward.NotIP),
			in(patch(toVIP, 12, 0x81, 0x00), forward.NotIP),
			in(patch(toVIP, 14, 0x65), forward.NotIP),
			in(patch(toVIP, 14, 0x44), forward.NotIP),
			in(patch(synV6(), 14, 0x45), forward.NotIP),
		),
		vector("pass/another machine's frame", web,
			in(patch(toVIP, 0, 2, 0, 0, 0, 0, 2), forward.OtherMAC),
			in(patch(toVIP, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), forward.OtherMAC),
			in(patch(tunnel(synV4(), 0, tags(b1)), 0, 2, 0, 0, 0, 0, 2), forward.OtherMAC),
			in(patch(packettest.Ping("198.51.100.7", "192.0.2.1"), 5, 9), forward.OtherMAC),
		),
		vector("pass/IPv4-mapped addresses in IPv6", web,
			in(patch(synV6(), 14+8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 198, 51, 100, 7), forward.NotIP),
			in(patch(synV6(), 14+24, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1), forward.NotIP),
		),
		vector("pass/not a VIP", web,
			in(elsewhere4, forward.NotVIP),
			in(elsewhere6, forward.NotVIP),
			in(fragment, forward.NotVIP),
			in(packettest.Ping("198.51.100.7", "192.0.2.2"), forward.NotVIP),
			in(patch(elsewhere4, 46, 0x10), forward.NotVIP), // TCP data offset 1
			in(patch(elsewhere4, 16, 0xff, 0xff), forward.NotVIP),
			in(packettest.UDP("198.51.100.7:1", selfV4+":53", "x"), forward.NotVIP),
			in(packettest.TCP("198.51.100.7:1", selfV4+":7471", syn), forward.NotVIP),
			in(packettest.UDP("198.51.100.7:1", "10.0.0.9:7471", "x"), forward.NotVIP),
		),
	}
}

// Packets to a VIP that no service port takes.
func vipVectors() []Vector {
	services := tables(svc(lb.TCP, webV4, b1), svc(lb.TCP, webV6, b1v6))
	huge := synV4()
	huge.Fragment = 0x2000
	other4, other6 := synV4(), synV6()
	other4.Proto, other4.Payload = 47, []byte("gre!")
	other6.Proto, other6.Payload = 59, []byte{6, 0, 0, 0, 0, 0, 0, 0} // no next header
	stray4, stray6 := synV4(), synV6()
	stray4.Proto, stray4.ICMPType = packet.ProtoICMPv6, packet.ICMPv6EchoRequest
	stray6.Proto, stray6.ICMPType = packet.ProtoICMP, packet.ICMPEchoRequest
	asked := packettest.Ping("2001:db8:1::7", "2001:db8::1")
	asked.ICMPType, asked.TTL = packet.ICMPv6NeighborSolicitation, 255
	told, routed, piece, asked4 := asked, asked, asked, packettest.Ping("198.51.100.7", "192.0.2.1")
	told.ICMPType = packet.ICMPv6NeighborAdvertisement
	routed.TTL, piece.Fragment = 254, 0x2000
	asked4.ICMPType, asked4.TTL = packet.ICMPv6NeighborSolicitation, 255
	unreachable := packettest.Ping("198.51.100.7", "192.0.2.1")
	unreachable.ICMPType = 3
	return []Vector{
		vector("vip/unknown port", services,
			in(packettest.TCP(clientV4, "192.0.2.1:81", syn), forward.UnknownPort),
			in(packettest.UDP(clientV4, webV4, "x"), forward.UnknownPort),
			in(packettest.TCP(clientV6, "[2001:db8::1]:81", ack), forward.UnknownPort),
			in(packettest.UDP(clientV4, "192.0.2.1:7471", "x"), forward.UnknownPort),
		),
		vector("vip/other protocols", services,
			in(other4, forward.Proto), in(other6, forward.Proto),
			in(stray4, forward.Proto), in(stray6, forward.Proto),
			in(unreachable, forward.ICMP),
			in(patch(packettest.Ping("2001:db8:1::7", "2001:db8::1"), 54, 129), forward.ICMP),
		),
		vector("vip/neighbors", services,
			in(asked, forward.Neighbor), in(told, forward.Neighbor),
			in(routed, forward.ICMP), in(piece, forward.ICMP), in(asked4, forward.ICMP),
		),
		vector("vip/malformed", services,
			in(patch(synV4(), 16, 0, 19), forward.Malformed), // shorter than its header
			in(patch(synV4(), 16, 0, 39), forward.Malformed), // a byte short of TCP
			in(patch(synV4(), 16, 0, 41), forward.Malformed), // longer than the frame
			in(patch(synV4(), 46, 0x40), forward.Malformed),  // data offset 4
			in(patch(synV4(), 46, 0x60), forward.Malformed),  // options beyond the end
			in(patch(huge, 16, 0xff, 0xff), forward.Malformed),
			in(patch(queryV4(), 38, 0, 7), forward.Malformed),
			in(patch(queryV4(), 38, 0, 14), forward.Malformed),
			in(patch(synV6(), 18, 0, 19), forward.Malformed),
			in(patch(packettest.Ping("198.51.100.7", "192.0.2.1"), 16, 0, 27), forward.Malformed),
		),
	}
}

// Every length of frames of each kind.
func truncatedVectors() []Vector {
	web4, web6 := svc(lb.TCP, webV4, b1), svc(lb.TCP, webV6, b1v6)
	services := tables(web4, web6, svc(lb.UDP, dnsV4, a1))
	withData4, withData6 := synV4(), synV6()
	withData4.Payload, withData6.Payload = []byte("data"), []byte("data")
	sent := tunnel(queryV4(), 0, tags(a1))
	return []Vector{
		vector("truncated/v4", services, append(truncated(withData4, 34, forward.Malformed),
			in(withData4, forward.EncapHome, encapped(withData4, nodeB, 0, tableHash(web4), tags(b1)).Bytes()))...),
		vector("truncated/v6", services, append(truncated(withData6, 54, forward.Malformed),
			in(withData6, forward.EncapHome, encapped(withData6, nodeB, 0, tableHash(web6), tags(b1v6)).Bytes()))...),
		vector("truncated/tunnel", services, append(truncated(sent, 34, forward.NotVIP),
			in(sent, forward.New, fromTunnel(queryV4(), a1)))...),
		vector("truncated/inside the tunnel", services, append(truncatedInside(sent),
			in(sent, forward.New, fromTunnel(queryV4(), a1)))...),
	}
}

// truncated are all proper prefixes of a frame; from the length known on its
// destination is known.
func truncated(f framer, known int, reason forward.Reason) []Step {
	var steps []Step
	whole := f.Bytes()
	for n := range whole {
		want := reason
		if n < known {
			want = forward.NotIP
		}
		steps = append(steps, in(raw(whole[:n]), want))
	}
	return steps
}

// truncatedInside are tunnel frames with ever more of the inner packet; the
// outer lengths are right.
func truncatedInside(f framer) []Step {
	var steps []Step
	const payload = packettest.GeneveOffsetV4
	for n := payload; n < len(f.Bytes()); n++ {
		want := forward.Malformed
		if n < payload+packet.GeneveLen {
			want = forward.ForeignTunnel
		}
		steps = append(steps, in(cutInside(f, n), want))
	}
	return steps
}

// The choice of the home.
func ingressVectors() []Vector {
	web := svc(lb.TCP, webV4, b1)
	many := svc(lb.TCP, webV4, a1, b1, c1)
	ranges := withRanges(svc(lb.TCP, webV4, b1), "198.51.100.0/25", "203.0.113.9/32")
	ranges6 := withRanges(svc(lb.TCP, webV6, b1v6), "2001:db8:1::/48")
	from := func(client string) packettest.Frame { return packettest.TCP(client, webV4, syn) }
	passed := func(f packettest.Frame) Step {
		return in(f, forward.EncapHome, encapped(f, nodeB, 0, tableHash(web), tags(b1)).Bytes())
	}
	return []Vector{
		vector("ingress/source ranges v4", tables(ranges),
			passed(from("198.51.100.7:1")), passed(from("198.51.100.127:1")), passed(from("203.0.113.9:1")),
			in(from("198.51.100.128:1"), forward.SourceRange),
			in(from("203.0.113.8:1"), forward.SourceRange),
			in(packettest.TCP("198.51.100.128:1", "192.0.2.1:81", syn), forward.UnknownPort),
		),
		vector("ingress/source ranges v6", tables(ranges6),
			in(synV6(), forward.EncapHome, encapped(synV6(), nodeB, 0, tableHash(ranges6), tags(b1v6)).Bytes()),
			in(packettest.TCP("[2001:db8:2::7]:1", webV6, syn), forward.SourceRange),
		),
		vector("ingress/local backends alone", tables(local(many)),
			in(synV4(), forward.New, delivered(synV4(), a1)),
			in(from("198.51.100.8:1"), forward.New, delivered(from("198.51.100.8:1"), a1)),
			in(from("198.51.100.9:1"), forward.New, delivered(from("198.51.100.9:1"), a1)),
		),
		vector("ingress/no local backends", tables(local(web)),
			in(synV4(), forward.NoLocalBackends),
			in(ackV4(1, 1), forward.NoLocalBackends),
		),
		spread(many),
	}
}

// spread sends clients to the homes that their slots name.
func spread(service lb.Service) Vector {
	v := vector("ingress/spread", tables(service))
	slots, pods, nodes := homes(service), []string{a1, b1, c1}, []string{"", nodeB, nodeC}
	for i := range 12 {
		f := packettest.TCP(fmt.Sprintf("198.51.100.%d:%d", i, 1000+i), webV4, syn)
		home := slots[forward.SlotOf(flowHash(f), len(slots))]
		if home == 0 {
			v.Steps = append(v.Steps, in(f, forward.New, delivered(f, a1)))
			continue
		}
		sent := encapped(f, nodes[home], 0, tableHash(service), tags(pods[home]))
		v.Steps = append(v.Steps, in(f, forward.EncapHome, sent.Bytes()))
	}
	return v
}

// affinitySpread: clients have one home each; their outer ports still differ.
func affinitySpread(service lb.Service) Vector {
	v := vector("encap/affinity", tables(service))
	slots, pods, nodes := homes(service), []string{b1, c1}, []string{nodeB, nodeC}
	for i := range 12 {
		f := packettest.TCP(fmt.Sprintf("198.51.100.%d:%d", i/3, 1000+i), webV4, syn)
		home := slots[forward.SlotOf(forward.FlowHash(f.Src.Addr().As16(), 0), len(slots))]
		sent := encapped(f, nodes[home], 0, tableHash(service), tags(pods[home]))
		v.Steps = append(v.Steps, in(f, forward.EncapHome, sent.Bytes()))
	}
	return v
}

// What goes to another node, and what keeps it from going.
func encapVectors() []Vector {
	web4, web6, dns := svc(lb.TCP, webV4, b1), svc(lb.TCP, webV6, b1v6), svc(lb.UDP, dnsV4, b1)
	onD := svc(lb.TCP, webV4, d1)
	home := func(f packettest.Frame, s lb.Service, pod, node string) Step {
		return in(f, forward.EncapHome, encapped(f, node, 0, tableHash(s), tags(pod)).Bytes())
	}
	odd := synV4()
	odd.TOS, odd.TTL, odd.IPOptions, odd.Trailer = 0xb9, 2, []byte{1, 1, 1, 0}, []byte{0, 0, 0, 0, 0, 0}
	tos6 := synV6()
	tos6.TOS, tos6.TTL = 0xb9, 2
	dying4, dying6, dead := synV4(), synV6(), synV4()
	dying4.TTL, dying6.TTL = 1, 1
	sized := func(length int) packettest.Frame {
		f := queryV4()
		f.Payload, f.Fragment = make([]byte, length-28), 0x4000
		return f
	}
	return []Vector{
		vector("encap/v4", tables(web4), home(synV4(), web4, b1, nodeB), home(ackV4(1, 1), web4, b1, nodeB), home(odd, web4, b1, nodeB)),
		vector("encap/v6", tables(web6), home(synV6(), web6, b1v6, nodeB), home(tos6, web6, b1v6, nodeB)),
		vector("encap/udp", tables(dns), home(queryV4(), dns, b1, nodeB)),
		vector("encap/v4 in v6", tables(onD), home(odd, onD, d1, nodeD)),
		affinitySpread(withAffinity(svc(lb.TCP, webV4, b1, c1), 10*dataplane.Tick)),
		vector("encap/ttl", tables(web4, web6),
			in(dying4, forward.TTL), in(dying6, forward.TTL), in(patch(dead, 22, 0), forward.TTL)),
		vector("encap/too big", tables(dns, svc(lb.TCP, webV4, d1)),
			home(sized(1500-packet.EncapLenV4), dns, b1, nodeB),
			tooBig(sized(1500-packet.EncapLenV4+1), 1500-packet.EncapLenV4)),
		vector("encap/too big for v6", tables(svc(lb.UDP, dnsV4, d1)),
			home(sized(1500-packet.EncapLenV6), svc(lb.UDP, dnsV4, d1), d1, nodeD),
			tooBig(sized(1500-packet.EncapLenV6+1), 1500-packet.EncapLenV6)),
	}
}

// Maps that are not as dataplane leaves them.
func brokenVectors() []Vector {
	web := svc(lb.TCP, webV4, b1)
	noNode := vector("broken/node is missing", tables(web), in(synV4(), forward.NoNode))
	noNode.Break = func(m dataplane.Maps) error {
		id, err := NodeID(m, "b")
		if err != nil {
			return err
		}
		return m.DeleteNode(id)
	}
	stale := vector("broken/region was overwritten", tables(web), in(synV4(), forward.StaleTable))
	stale.Break = func(m dataplane.Maps) error {
		state, err := m.Load()
		if err != nil {
			return err
		}
		for _, s := range state.Services {
			table, _ := m.ReadTable(s.Table)
			s.Table.Generation++
			if err := m.WriteTable(s.Table, table); err != nil {
				return err
			}
		}
		return nil
	}
	noBackend := vector("broken/home's backend is missing", tables(web), in(synV4(), forward.NotLocal))
	noBackend.Break = func(m dataplane.Maps) error {
		state, err := m.Load()
		if err != nil {
			return err
		}
		for id := range state.Backends {
			if err := m.DeleteBackend(id); err != nil {
				return err
			}
		}
		return nil
	}
	return []Vector{noNode, stale, noBackend}
}

// homes are the backends of a service's slots by their place.
func homes(s lb.Service) []uint16 {
	return buildTable(s).Slots
}
