// SPDX-License-Identifier: Apache-2.0

package xdp

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/lb/dataplane"
	"github.com/fairlead/fairlead/lb/forward"
	"github.com/fairlead/fairlead/lb/forward/forwardtest"
	"github.com/fairlead/fairlead/lb/packet"
	"github.com/fairlead/fairlead/perf/lab"
)

// fuzzing says how much is tried, and from which seed on.
type fuzzing struct {
	seed      uint64
	stories   int // of storySteps
	mutations int // of the packets of each vector
	cut       bool
}

const (
	storySteps = 200
	headersMax = 256 // more is payload
)

// fuzzSettings tries much more with FAIRLEAD_SOAK=1, and something else each time.
func fuzzSettings(t *testing.T, native, veth bool) fuzzing {
	f := fuzzing{seed: 1, stories: 60, mutations: 100, cut: !veth}
	if native { // a packet costs more: see runNative
		f.stories, f.mutations = 20, 30
	}
	if os.Getenv("FAIRLEAD_SOAK") == "1" {
		f = fuzzing{rand.Uint64(), 10 * f.stories, 20 * f.mutations, true}
	}
	t.Logf("seed %d", f.seed)
	return f
}

func (f fuzzing) rand() *rand.Rand { return rand.New(rand.NewPCG(f.seed, 0)) }

// eachWay runs a test through TC and through native XDP.
func eachWay(t *testing.T, test func(*testing.T, *kernels, fuzzing)) {
	lab.RequireRoot(t)
	for _, row := range []struct {
		name         string
		native, veth bool
	}{
		{"tc", false, false},
		{"native", true, false},
		{"native on veth", true, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			onOneCPU(t) // answers are limited on each
			ks := &kernels{t: t, native: row.native, veth: row.veth, loaded: map[string]*Programs{}}
			test(t, ks, fuzzSettings(t, row.native, row.veth))
		})
	}
}

// Stories that lb/forward made up go the same way in the programs.
func TestFuzzStories(t *testing.T) {
	eachWay(t, func(t *testing.T, ks *kernels, f fuzzing) {
		rnd := f.rand()
		for range f.stories {
			v := forwardtest.Random(t, rnd, storySteps)
			held := t.Run(v.Name, func(t *testing.T) {
				onOneCPU(t)
				v.Run(t, ks.get(t, v.Settings))
			})
			if !held {
				return
			}
		}
	})
}

// No packet is so broken that the programs and lb/forward differ about it: the
// packets of all vectors are cut at every length, and changed at random.
func TestFuzzPackets(t *testing.T) {
	eachWay(t, func(t *testing.T, ks *kernels, f fuzzing) {
		rnd := f.rand()
		cut := map[string]bool{}
		total := 0
		for _, v := range forwardtest.All() {
			if v.Break != nil {
				continue
			}
			held := t.Run(v.Name, func(t *testing.T) {
				onOneCPU(t)
				total += fuzzVector(t, ks.get(t, v.Settings), v, f, rnd, cut)
			})
			if !held {
				return
			}
		}
		t.Logf("%d packets", total)
	})
}

// fuzzVector spoils the packets of a vector; those in cut were cut before.
func fuzzVector(t *testing.T, k *kernel, v forwardtest.Vector, f fuzzing, rnd *rand.Rand, cut map[string]bool) int {
	both := &pair{t: t, kernel: k, twin: forwardtest.NewTwin(t, v.Settings)}
	both.setUp(v)
	for _, s := range v.Steps {
		both.forward(s.Way, s.Packet, "as it is")
		if !f.cut || cut[string(s.Packet)] || len(s.Packet) > headersMax {
			continue
		}
		cut[string(s.Packet)] = true
		for n := range s.Packet {
			both.forward(s.Way, s.Packet[:n], "cut")
			both.forward(s.Way, shortened(s.Packet, n), "shortened")
		}
	}
	for range f.mutations {
		s, other := v.Steps[rnd.IntN(len(v.Steps))], v.Steps[rnd.IntN(len(v.Steps))]
		both.forward(s.Way, mutated(rnd, s.Packet, other.Packet), "mutated")
	}
	both.compareRecords()
	return both.packets
}

// shortened is a frame of n bytes whose IP header says so, so that only what
// lies deeper is missing.
func shortened(frame []byte, n int) []byte {
	b := slices.Clone(frame[:n])
	switch {
	case n < packet.EthernetLen+packet.IPv6Len:
	case b[packet.EthernetLen]>>4 == 4:
		binary.BigEndian.PutUint16(b[packet.EthernetLen+2:], uint16(n-packet.EthernetLen))
	case b[packet.EthernetLen]>>4 == 6:
		binary.BigEndian.PutUint16(b[packet.EthernetLen+4:], uint16(n-packet.EthernetLen-packet.IPv6Len))
	}
	return b
}

// mutated is a frame with some of it changed, headers more often than payload.
func mutated(rnd *rand.Rand, frame, other []byte) []byte {
	b := slices.Clone(frame)
	for range 1 + rnd.IntN(4) {
		if len(b) <= packet.EthernetLen {
			return b
		}
		at := 12 + rnd.IntN(min(len(b), headersMax)-12)
		switch rnd.IntN(8) {
		case 0, 1, 2:
			b[at] ^= 1 << rnd.IntN(8)
		case 3:
			b[at] = byte(rnd.Uint32())
		case 4:
			b[at] = []byte{0, 1, 0x7f, 0x80, 0xff}[rnd.IntN(5)]
		case 5:
			b = b[:packet.EthernetLen+rnd.IntN(len(b)-packet.EthernetLen)]
		case 6:
			b = append(b, make([]byte, rnd.IntN(64))...)
		case 7: // the end of another packet
			if at < len(other) {
				b = append(b[:at], other[at:]...)
			}
		}
	}
	return b
}

// pair gives packets to the programs and to lb/forward.
type pair struct {
	t       *testing.T
	kernel  *kernel
	twin    *forwardtest.Twin
	tick    uint32
	packets int
}

// setUp configures both as the vector says.
func (p *pair) setUp(v forwardtest.Vector) {
	p.t.Helper()
	p.tick = v.Steps[0].Tick
	for _, d := range []forwardtest.Datapath{p.kernel, p.twin} {
		plane, err := dataplane.New(d.Maps(), dataplane.Options{
			PastTicks: forwardtest.PastTicks, Now: func() uint32 { return p.tick },
		})
		if err != nil {
			p.t.Fatal(err)
		}
		for _, table := range v.Tables {
			if err := plane.Sync(table); err != nil {
				p.t.Fatal(err)
			}
		}
	}
}

// forward compares what both make of a packet, and with what may be made of it.
func (p *pair) forward(way forwardtest.Way, frame []byte, what string) {
	p.t.Helper()
	if (way != forwardtest.In || !p.kernel.native) && refused(frame) {
		return
	}
	reason, out, ok := p.kernel.Forward(way, slices.Clone(frame), p.tick)
	if !ok {
		return
	}
	p.packets++
	want, wantOut, _ := p.twin.Forward(way, frame, p.tick)
	if reason != want {
		p.t.Fatalf("%s, %s: programs say %s, lb/forward %s:\n%x", what, way, reason, want, frame)
	}
	if !slices.EqualFunc(out, wantOut, func(a, b []byte) bool {
		return bytes.Equal(forwardtest.Comparable(reason, a), forwardtest.Comparable(want, b))
	}) {
		p.t.Fatalf("%s, %s, %s:\n%x\nbecomes  %x\nin lb/forward %x", what, way, reason, frame, out, wantOut)
	}
	if why := forbidden(frame, reason); why != "" {
		p.t.Fatalf("%s, %s: %s got %s:\n%x", what, way, why, reason, frame)
	}
}

// refused says whether test runs of TC programs do not take the frame, with
// EINVAL: it has less than the header that its EtherType promises.
func refused(frame []byte) bool {
	if len(frame) <= packet.EthernetLen {
		return true
	}
	switch packet.EtherType(binary.BigEndian.Uint16(frame[12:])) {
	case packet.EtherTypeIPv4:
		return len(frame) < packet.EthernetLen+packet.IPv4Len
	case packet.EtherTypeIPv6:
		return len(frame) < packet.EthernetLen+packet.IPv6Len
	}
	return false
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

func (p *pair) compareRecords() {
	p.t.Helper()
	if diff := cmp.Diff(p.twin.Records(), p.kernel.Records()); diff != "" {
		p.t.Errorf("flow table (-lb/forward +programs):\n%s", diff)
	}
}
