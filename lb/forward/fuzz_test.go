// SPDX-License-Identifier: Apache-2.0

package forward_test

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/dataplane"
	"github.com/fairlead/fairlead/lb/forward"
	"github.com/fairlead/fairlead/lb/forward/forwardtest"
	"github.com/fairlead/fairlead/lb/packet"
)

// fuzzTwin is a node with a service of each kind.
func fuzzTwin(t testing.TB) *forwardtest.Twin {
	t.Helper()
	twin := forwardtest.NewTwin(t, forwardtest.SettingsOf(forwardtest.Nodes()[0]))
	plane, err := dataplane.New(twin.Maps(), dataplane.Options{PastTicks: 100, Now: func() uint32 { return 1000 }})
	if err != nil {
		t.Fatal(err)
	}
	table := forwardtest.TableOf("a",
		forwardtest.Service(lb.TCP, "192.0.2.1:80", "10.1.1.1:8080", "10.1.2.1:8080"),
		forwardtest.Service(lb.UDP, "192.0.2.1:53", "10.1.1.1:8080"),
		forwardtest.Service(lb.TCP, "[2001:db8::1]:80", "[fd00:1:1::1]:8080", "[fd00:1:2::1]:8080"),
		forwardtest.Service(lb.UDP, "[2001:db8::1]:53"),
	)
	if err := plane.Sync(table); err != nil {
		t.Fatal(err)
	}
	return twin
}

// FuzzForward: nothing panics, the given frames stay as they are, and only a
// packet for this node that makes sense comes to another verdict than pass and
// drop. The second frame may be a fragment of the first one's datagram, its
// reply, or an error about it.
func FuzzForward(f *testing.F) {
	for _, v := range forwardtest.All() {
		for i := range min(len(v.Steps), 20) {
			first, second := v.Steps[i], v.Steps[(i+1)%len(v.Steps)]
			f.Add(uint8(first.Way), first.Packet, uint8(second.Way), second.Packet)
		}
	}
	f.Fuzz(func(t *testing.T, way uint8, frame []byte, nextWay uint8, next []byte) {
		twin := fuzzTwin(t)
		for tick := range uint32(2) {
			for _, s := range []forwardtest.Step{
				{Way: forwardtest.Way(way % 3), Packet: frame}, {Way: forwardtest.Way(nextWay % 3), Packet: next},
			} {
				given := bytes.Clone(s.Packet)
				reason, out, _ := twin.Forward(s.Way, given, 1000+tick)
				if !bytes.Equal(given, s.Packet) {
					t.Fatal("the given frame was changed")
				}
				checkOutput(t, s.Packet, reason, out)
			}
		}
	})
}

func checkOutput(t *testing.T, frame []byte, reason forward.Reason, out [][]byte) {
	t.Helper()
	verdict := reason.Verdict()
	if verdict == forward.Pass || verdict == forward.Drop {
		if out != nil {
			t.Fatalf("%s with a packet", reason)
		}
		return
	}
	var in packet.Packet
	if !in.Parse(frame) || in.Malformed || in.Headers || !in.HasPorts() && !in.IsEchoRequest() && !in.IsLater() {
		t.Fatalf("%s for a packet that makes no sense", reason)
	}
	ours := map[string]bool{"192.0.2.1": true, "2001:db8::1": true, "10.0.0.1": true, "fd00::1": true}
	if dst := netip.AddrFrom16(in.Dst).Unmap().String(); verdict != forward.Reply && !ours[dst] {
		t.Fatalf("%s for a packet to %s", reason, dst)
	}
	for _, b := range out {
		checkFrame(t, frame, &in, reason, b)
	}
	if len(out) != 1 && (len(out) == 0 || verdict != forward.Encap) {
		t.Fatalf("%s with %d frames", reason, len(out))
	}
}

// checkFrame looks at one frame of what became of another one.
func checkFrame(t *testing.T, frame []byte, in *packet.Packet, reason forward.Reason, out []byte) {
	t.Helper()
	var sent packet.Packet
	if !sent.Parse(out) || sent.Malformed || sent.Headers {
		t.Fatalf("%s makes a packet that makes no sense: %x", reason, out)
	}
	verdict := reason.Verdict()
	if outside := verdict == forward.Encap || verdict == forward.Steer; outside && sent.Fragment != packet.Whole {
		t.Fatalf("%s makes a fragment outside: %x", reason, out)
	}
	if in.Version == 4 && in.L4-in.L3 == packet.IPv4Len && packet.Checksum(frame[in.L3:in.L4]) == 0 &&
		verdict != forward.Deliver && packet.Checksum(out[sent.L3:sent.L4]) != 0 {
		t.Fatalf("%s breaks the header checksum", reason)
	}
	if translated := verdict == forward.Deliver || verdict == forward.Reply; translated && sumIsRight(in) && !sumIsRight(&sent) {
		tunnelled := in.Proto == packet.ProtoUDP && in.DstPort == 7471 // then in is the outer packet
		if !tunnelled {
			t.Fatalf("%s breaks a checksum: %x", reason, out)
		}
	}
}

// sumIsRight says that the checksum behind the IP header of a whole packet is
// right. What it says of others is the same before and after.
func sumIsRight(p *packet.Packet) bool {
	proto := p.Proto
	if p.Related {
		proto = packet.ProtoICMP
		if p.Version == 6 {
			proto = packet.ProtoICMPv6
		}
	}
	segment := p.Frame[p.L4:p.End]
	if p.Fragment != packet.Whole || proto == packet.ProtoUDP && (segment[6] == 0 && segment[7] == 0) {
		return false
	}
	sum := packet.Sum(0, segment)
	if proto != packet.ProtoICMP {
		sum += packet.PseudoSum(p.SrcBytes(), p.DstBytes(), proto, len(segment))
	}
	return packet.Fold(sum) == 0xffff
}
