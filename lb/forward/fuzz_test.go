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

// FuzzForward: nothing panics, the given frame stays as it is, and only a whole
// packet for this node comes to another verdict than pass and drop.
func FuzzForward(f *testing.F) {
	for _, v := range forwardtest.All() {
		for i, s := range v.Steps {
			if i < 20 {
				f.Add(s.Egress, s.Packet)
			}
		}
	}
	f.Fuzz(func(t *testing.T, egress bool, frame []byte) {
		twin := fuzzTwin(t)
		for tick := range uint32(2) {
			given := bytes.Clone(frame)
			reason, out, _ := twin.Forward(egress, given, 1000+tick)
			if !bytes.Equal(given, frame) {
				t.Fatal("the given frame was changed")
			}
			checkOutput(t, frame, reason, out)
		}
	})
}

func checkOutput(t *testing.T, frame []byte, reason forward.Reason, out []byte) {
	t.Helper()
	verdict := reason.Verdict()
	if verdict == forward.Pass || verdict == forward.Drop {
		if out != nil {
			t.Fatalf("%s with a packet", reason)
		}
		return
	}
	var in, sent packet.Packet
	if !in.Parse(frame) || in.Malformed || in.Fragment || !in.HasPorts() && !in.IsEchoRequest() {
		t.Fatalf("%s for a packet that is not whole", reason)
	}
	ours := map[string]bool{"192.0.2.1": true, "2001:db8::1": true, "10.0.0.1": true, "fd00::1": true}
	if dst := netip.AddrFrom16(in.Dst).Unmap().String(); verdict != forward.Reply && !ours[dst] {
		t.Fatalf("%s for a packet to %s", reason, dst)
	}
	if !sent.Parse(out) || sent.Malformed || sent.Fragment {
		t.Fatalf("%s makes a packet that is not whole: %x", reason, out)
	}
	if in.Version == 4 && in.L4-in.L3 == packet.IPv4Len && packet.Checksum(frame[in.L3:in.L4]) == 0 &&
		verdict != forward.Deliver && packet.Checksum(out[sent.L3:sent.L4]) != 0 {
		t.Fatalf("%s breaks the header checksum", reason)
	}
}
