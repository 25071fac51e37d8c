// SPDX-License-Identifier: Apache-2.0

package forwardtest

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/fairlead/fairlead/lb/flow"
	"github.com/fairlead/fairlead/lb/forward"
	"github.com/fairlead/fairlead/lb/packet"
)

// Difference is the first thing in which a datapath and the twin disagree about
// a vector.
type Difference struct {
	Step int // the packet's index
	Kind Kind
	Text string // both answers
}

// Kind is the subject of a difference.
type Kind string

// The kinds of a difference, in the order in which they are looked for.
const (
	KindReason     Kind = "reason"
	KindFrames     Kind = "frames"
	KindRecords    Kind = "flow table"
	KindForbidden  Kind = "forbidden"  // both agree on what must not be
	KindImpossible Kind = "impossible" // the datapath disagrees with itself: see Impossible
)

// Impossible is what a Datapath panics with in Compare when its parts
// contradict each other.
type Impossible string

// Compare takes the vector through d and the twin, whatever its steps want. It
// returns how many packets both were given, and the first difference, nil if
// there is none. d is as fresh as the twin.
func (v Vector) Compare(t testing.TB, d Datapath, twin *Twin) (packets int, diff *Difference) {
	t.Helper()
	if len(v.Steps) == 0 {
		return 0, nil
	}
	tick := v.Steps[0].Tick
	plane, twinPlane := v.setUp(t, d, &tick), v.setUp(t, twin, &tick)
	for i, s := range v.Steps {
		tick = s.Tick
		if err := s.prepare(plane, d); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		if err := s.prepare(twinPlane, twin); err != nil {
			t.Fatalf("step %d: twin: %v", i, err)
		}
		taken, diff := s.compare(d, twin, v.names)
		if taken {
			packets++
		}
		if diff != nil {
			diff.Step = i
			return packets, diff
		}
	}
	return packets, nil
}

// compare gives the packet to both; taken says that d could be given it.
func (s Step) compare(d Datapath, twin *Twin, names func() map[uint32]string) (taken bool, diff *Difference) {
	defer func() {
		if p := recover(); p != nil {
			why, ok := p.(Impossible)
			if !ok {
				panic(p)
			}
			taken, diff = true, &Difference{Kind: KindImpossible, Text: string(why)}
		}
	}()
	reason, out, ok := d.Forward(s.Way, slices.Clone(s.Packet), s.Tick)
	if !ok && reason == forward.None {
		return false, nil
	}
	want, wants, _ := twin.Forward(s.Way, s.Packet, s.Tick)
	if !ok { // what came of it cannot be seen
		return false, nil
	}
	if reason != want {
		return true, &Difference{Kind: KindReason, Text: fmt.Sprintf("%s, twin: %s", reason, want)}
	}
	if !slices.EqualFunc(out, wants, func(a, b []byte) bool {
		return bytes.Equal(Comparable(reason, a), Comparable(want, b))
	}) {
		return true, &Difference{Kind: KindFrames, Text: fmt.Sprintf("%s: becomes\n%x\ntwin:\n%x", reason, out, wants)}
	}
	if why := forbidden(s.Packet, reason); why != "" {
		return true, &Difference{Kind: KindForbidden, Text: fmt.Sprintf("%s got %s", why, reason)}
	}
	return true, compareRecords(d.Records(), twin.Records(), names, s.Tick, reason)
}

// compareRecords compares what a Dump shows: ids are a node's own affair.
func compareRecords(got, want []flow.Record, names func() map[uint32]string, tick uint32, reason forward.Reason) *Difference {
	if slices.Equal(got, want) {
		return nil
	}
	known := names()
	gotDump, wantDump := Dump(got, known, tick), Dump(want, known, tick)
	if gotDump == wantDump {
		return nil
	}
	return &Difference{Kind: KindRecords, Text: fmt.Sprintf("after %s:\n%stwin:\n%s", reason, gotDump, wantDump)}
}

// forbidden says what is wrong with a frame that was neither passed nor dropped
// though it must have been.
func forbidden(frame []byte, reason forward.Reason) string {
	var p packet.Packet
	switch v := reason.Verdict(); {
	case v == forward.Pass || v == forward.Drop:
		return ""
	case !p.Parse(frame):
		return "no IP packet"
	case p.Malformed:
		return "a malformed packet"
	case p.Headers:
		return "a packet with headers that are not walked"
	case !p.HasPorts() && !p.IsEchoRequest() && !p.IsLater():
		return "neither TCP, UDP nor ping"
	}
	return ""
}
