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
	name   string
	egress bool
	frame  []byte
	want   forward.Reason
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
	twin.Forward(true, reply.Bytes(), 1000)
	query := packettest.UDP("198.51.100.7:1", "192.0.2.1:53", "query")
	twin.Forward(false, query.Bytes(), 1000)
	return twin, []costCase{
		{"pass", false, packettest.TCP(local, "192.0.2.2:80", packet.ACK).Bytes(), forward.NotVIP},
		{"encap", false, packettest.TCP(remote, "192.0.2.1:80", packet.ACK).Bytes(), forward.EncapHome},
		{"mine", false, established.Bytes(), forward.Mine},
		{"mine from a tunnel", false, tunnelled.Bytes(), forward.Mine},
		{"mine udp", false, query.Bytes(), forward.Mine},
		{"reply", true, reply.Bytes(), forward.Translated},
		{"refused", false, packettest.UDP("[2001:db8::9]:1", "[2001:db8::1]:53", "").Bytes(), forward.Refused},
	}
}

// homesOf finds a client whose flow is on this node, and one whose home is not.
func homesOf(t testing.TB, twin *forwardtest.Twin) (local, remote string) {
	t.Helper()
	for _, client := range []string{
		"198.51.100.7:1", "198.51.100.8:1", "198.51.100.9:1", "198.51.100.10:1", "198.51.100.11:1", "198.51.100.12:1",
	} {
		frame := packettest.TCP(client, "192.0.2.1:80", packet.SYN).Bytes()
		switch reason, _, _ := twin.Forward(false, frame, 1000); reason {
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

func (c costCase) run(t testing.TB, twin *forwardtest.Twin, tick uint32, out []byte) {
	way := twin.Forwarder.Ingress
	if c.egress {
		way = twin.Forwarder.Egress
	}
	if reason, _ := way(c.frame, tick, out); reason != c.want {
		t.Fatalf("%s: %s, want %s", c.name, reason, c.want)
	}
}

func TestNothingAllocates(t *testing.T) {
	twin, cases := costCases(t)
	out := make([]byte, 0, 2048)
	for _, c := range cases {
		tick := uint32(1000)
		if n := testing.AllocsPerRun(100, func() {
			tick++
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
				if c.want == forward.Refused {
					tick++ // earns the next answer
				}
				c.run(b, twin, tick, out)
			}
		})
	}
}
