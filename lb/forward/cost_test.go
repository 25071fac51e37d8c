// SPDX-License-Identifier: Apache-2.0

package forward_test

import (
	"testing"

	"github.com/fairlead/fairlead/lb/forward"
	"github.com/fairlead/fairlead/lb/forward/forwardtest"
	"github.com/fairlead/fairlead/lb/packet"
	"github.com/fairlead/fairlead/lb/packet/packettest"
)

// costCase is one kind of packet in steady state.
type costCase struct {
	name  string
	way   forwardtest.Way
	frame []byte
	want  forward.Reason
}

// costCases prepares a node and the packets to measure.
func costCases(t testing.TB) (*forwardtest.Twin, []costCase) {
	t.Helper()
	twin := fuzzTwin(t)
	local, remote := homesOf(t, twin)
	established := packettest.TCP(local, "192.0.2.1:80", packet.ACK)
	reply := packettest.TCP("10.1.1.1:8080", local, packet.ACK)
	tunnelled := packettest.Encap("10.0.0.2", "10.0.0.1", 7471,
		forwardtest.SettingsOf(forwardtest.Nodes()[0]).Keys[0], established)
	twin.Forward(forwardtest.Out, reply.Bytes(), 1000)
	query := packettest.UDP("198.51.100.7:1", "192.0.2.1:53", "query")
	twin.Forward(forwardtest.In, query.Bytes(), 1000)
	answer := packettest.UDP("10.1.1.1:8080", "198.51.100.7:1", "an answer in two pieces").Fragments(8, 16)
	pieces := packettest.UDP("198.51.100.7:1", "192.0.2.1:53", "a query in two pieces").Fragments(9, 16)
	long, df := packettest.TCP(remote, "192.0.2.1:80", packet.ACK), packettest.TCP(remote, "192.0.2.1:80", packet.ACK)
	long.Payload, df.Payload, df.Fragment = make([]byte, 1460), make([]byte, 1460), 0x4000
	related := packettest.ICMPError("203.0.113.9", packettest.TCP("192.0.2.1:80", local, packet.ACK), 3, 1, 8)
	masqueraded := packettest.TCP("10.0.0.1:8080", local, packet.ACK)
	odd := packettest.TCP("[2001:db8::9]:1", "[2001:db8::2]:80", packet.ACK)
	odd.Tags = []packettest.Tag{packettest.QinQ(1), packettest.VLAN(2)}
	odd.Extensions = []packettest.Extension{packettest.HopByHop(8), packettest.Routing(0), packettest.DestinationOptions(8)}
	const in, out = forwardtest.In, forwardtest.Out
	return twin, []costCase{
		{"pass", in, packettest.TCP(local, "192.0.2.2:80", packet.ACK).Bytes(), forward.NotVIP},
		{"pass with tags and extension headers", in, odd.Bytes(), forward.NotVIP},
		{"encap", in, packettest.TCP(remote, "192.0.2.1:80", packet.ACK).Bytes(), forward.EncapHome},
		{"cut and encap", in, long.Bytes(), forward.EncapHome},
		{"too big", in, df.Bytes(), forward.PacketTooBig},
		{"mine", in, established.Bytes(), forward.Mine},
		{"mine from a tunnel", in, tunnelled.Bytes(), forward.Mine},
		{"mine udp", in, query.Bytes(), forward.Mine},
		{"first fragment", in, pieces[0].Bytes(), forward.Mine},
		{"later fragment", in, pieces[1].Bytes(), forward.Mine},
		{"related", in, related.Bytes(), forward.Related},
		{"ping", in, packettest.Ping("198.51.100.7", "192.0.2.1").Bytes(), forward.Echo},
		{"reply", out, reply.Bytes(), forward.Translated},
		{"masqueraded reply", forwardtest.OutForwarded, masqueraded.Bytes(), forward.Translated},
		{"first fragment of a reply", out, answer[0].Bytes(), forward.Translated},
		{"later fragment of a reply", out, answer[1].Bytes(), forward.Translated},
		{"refused", in, packettest.UDP("[2001:db8::9]:1", "[2001:db8::1]:53", "").Bytes(), forward.Refused},
	}
}

// homesOf finds a client whose flow is on this node, and one whose home is not.
func homesOf(t testing.TB, twin *forwardtest.Twin) (local, remote string) {
	t.Helper()
	for _, client := range []string{
		"198.51.100.7:1", "198.51.100.8:1", "198.51.100.9:1", "198.51.100.10:1", "198.51.100.11:1", "198.51.100.12:1",
	} {
		frame := packettest.TCP(client, "192.0.2.1:80", packet.SYN).Bytes()
		switch reason, _, _ := twin.Forward(forwardtest.In, frame, 1000); reason {
		case forward.New:
			local = client
		case forward.EncapHome:
			remote = client
		default:
			t.Fatalf("syn of %s: %s", client, reason)
		}
	}
	if local == "" || remote == "" {
		t.Fatal("all clients have the same home")
	}
	return local, remote
}

// earns says that a tick has to go by for the next answer.
func (c costCase) earns() bool { return c.want == forward.Refused || c.want == forward.PacketTooBig }

func (c costCase) run(t testing.TB, twin *forwardtest.Twin, tick uint32, out []byte) {
	f := twin.Forwarder
	var reason forward.Reason
	if c.way == forwardtest.In {
		reason, _ = f.Ingress(c.frame, tick, out)
	} else {
		reason, _ = f.Egress(c.frame, c.way == forwardtest.OutForwarded, tick, out)
	}
	if reason != c.want {
		t.Fatalf("%s: %s, want %s", c.name, reason, c.want)
	}
	for more := true; more; {
		_, more = f.More(out)
	}
}

func TestNothingAllocates(t *testing.T) {
	twin, cases := costCases(t)
	out := make([]byte, 0, 2048)
	for _, c := range cases {
		tick := uint32(1000)
		if n := testing.AllocsPerRun(100, func() {
			if c.earns() {
				tick++
			}
			c.run(t, twin, tick, out)
		}); n != 0 {
			t.Errorf("%s: %v allocations a packet", c.name, n)
		}
	}
}

func BenchmarkForward(b *testing.B) {
	twin, cases := costCases(b)
	out := make([]byte, 0, 2048)
	for _, c := range cases {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			tick := uint32(1000)
			for b.Loop() {
				if c.earns() {
					tick++
				}
				c.run(b, twin, tick, out)
			}
		})
	}
}
