// SPDX-License-Identifier: Apache-2.0

package forwardtest

import (
	"bytes"
	"slices"
	"testing"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/dataplane"
	"github.com/fairlead/fairlead/lb/forward"
	"github.com/fairlead/fairlead/lb/packet/packettest"
)

// Way is how a packet meets the datapath.
type Way uint8

// The ways: in by a device, or out by one, where it may have come in by another
// device before.
const (
	In Way = iota
	Out
	OutForwarded
)

var wayNames = [...]string{"in", "out", "out, forwarded"}

// String is for messages.
func (w Way) String() string { return wayNames[w] }

// Step is one packet.
type Step struct {
	Table *lb.Table // synced before the packet; nil: nothing changes
	// EndAdoption ends it for all services that are adopted, before the packet.
	EndAdoption bool
	// Conntrack are all connections that conntrack knows from then on; nil:
	// nothing changes.
	Conntrack []Connection

	Way    Way
	Tick   uint32
	Packet []byte
	Reason forward.Reason
	Want   []byte   // nil for pass and drop
	More   [][]byte // what comes after Want, if the packet is cut
}

// wants are all frames that have to come.
func (s Step) wants() [][]byte {
	if s.Want == nil {
		return nil
	}
	return append([][]byte{s.Want}, s.More...)
}

// prepare does what comes before the packet.
func (s Step) prepare(plane *dataplane.Dataplane, d Datapath) error {
	if s.Table != nil {
		if err := plane.Sync(s.Table); err != nil {
			return err
		}
	}
	if s.EndAdoption {
		if err := plane.EndAdoption(plane.Adopted()); err != nil {
			return err
		}
	}
	if s.Conntrack == nil {
		return nil
	}
	return d.SetConntrack(s.Conntrack)
}

func (s Step) run(t testing.TB, i int, d Datapath) {
	t.Helper()
	given := slices.Clone(s.Packet)
	reason, out, ok := d.Forward(s.Way, given, s.Tick)
	if !ok {
		return
	}
	if reason != s.Reason {
		t.Fatalf("step %d: %s, want %s", i, reason, s.Reason)
	}
	wants := s.wants()
	if len(out) != len(wants) {
		t.Fatalf("step %d: %s with %d frames, want %d", i, reason, len(out), len(wants))
	}
	for n := range out {
		if got, want := Comparable(reason, out[n]), Comparable(reason, wants[n]); !bytes.Equal(got, want) {
			packettest.Equal(t, got, want)
			t.Fatalf("step %d: %s, but frame %d is the wrong one", i, reason, n)
		}
	}
}

// Comparable is the part of a frame that every datapath agrees on: the MAC
// addresses of what goes to another node are its next hop's.
func Comparable(reason forward.Reason, frame []byte) []byte {
	switch reason.Verdict() {
	case forward.Encap, forward.Steer:
		if len(frame) > 12 {
			return frame[12:]
		}
	}
	return frame
}
