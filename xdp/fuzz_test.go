// SPDX-License-Identifier: Apache-2.0

package xdp

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/lb/forward/forwardtest"
	"github.com/fairlead/fairlead/perf/lab"
)

// The differential fuzzer: what is made up from a seed goes through the
// programs and through lb/forward, and both have to agree about every packet.
const (
	storySteps   = 200 // packets of a story
	spoiledSteps = 100 // packets added to a vector
	fuzzTests    = 2   // that share FAIRLEAD_FUZZTIME
)

// fuzzWays are the ways through the programs.
var fuzzWays = []struct {
	name         string
	native, veth bool
}{
	{"tc", false, false},
	{"native", true, false},
	{"native on veth", true, true},
}

// eachWay runs a test through TC and through native XDP.
func eachWay(t *testing.T, test func(*testing.T, *kernels)) {
	lab.RequireRoot(t)
	for _, way := range fuzzWays {
		t.Run(way.name, func(t *testing.T) {
			onOneCPU(t) // answers are limited on each
			test(t, &kernels{t: t, native: way.native, veth: way.veth, loaded: map[string]*Programs{}})
		})
	}
}

// campaign is a number of rounds, each made up from a seed of its own.
type campaign struct {
	seed   uint64    // of the first round; each later one has the next
	rounds int       // 0: until end
	end    time.Time // of the last round's beginning
}

// newCampaign has so many rounds, always the same ones. The environment asks
// for others: FAIRLEAD_FUZZTIME for so long, from a seed that is new each time;
// FAIRLEAD_SOAK=1 for ten times as many; FAIRLEAD_SEED for this seed, and
// without the others for its round alone.
func newCampaign(t *testing.T, rounds int) campaign {
	t.Helper()
	c := campaign{seed: 1, rounds: rounds}
	duration, seed := os.Getenv("FAIRLEAD_FUZZTIME"), os.Getenv("FAIRLEAD_SEED")
	switch {
	case duration != "":
		d, err := time.ParseDuration(duration)
		if err != nil || d <= 0 {
			t.Fatalf("FAIRLEAD_FUZZTIME=%q: want a duration like 10m", duration)
		}
		c = campaign{seed: rand.Uint64(), end: time.Now().Add(d / time.Duration(fuzzTests*len(fuzzWays)))}
	case os.Getenv("FAIRLEAD_SOAK") == "1":
		c = campaign{seed: rand.Uint64(), rounds: 10 * rounds}
	case seed != "":
		c.rounds = 1
	}
	if seed != "" {
		var err error
		if c.seed, err = strconv.ParseUint(seed, 10, 64); err != nil {
			t.Fatalf("FAIRLEAD_SEED=%q: want a number: %v", seed, err)
		}
	}
	t.Logf("seed %d", c.seed)
	return c
}

// run has the rounds, whose vectors are made by invent.
func (c campaign) run(t *testing.T, ks *kernels, invent func(seed uint64, rnd *rand.Rand) forwardtest.Vector) {
	t.Helper()
	packets, rounds := 0, 0
	for more := true; more; {
		seed := c.seed + uint64(rounds)
		v := invent(seed, rand.New(rand.NewPCG(seed, 0)))
		n, diff := ks.compare(t, v)
		if diff != nil {
			t.Fatalf("seed %d, %s", seed, findReport(t, ks, v, diff, fmt.Sprintf("FAIRLEAD_SEED=%d ", seed)))
		}
		packets += n
		rounds++
		more = rounds < c.rounds || c.rounds == 0 && time.Now().Before(c.end)
	}
	t.Logf("%d rounds, %d packets compared", rounds, packets)
}

// invented is what a round of TestFuzzStories is about.
func invented(t *testing.T) func(uint64, *rand.Rand) forwardtest.Vector {
	return func(_ uint64, rnd *rand.Rand) forwardtest.Vector { return forwardtest.Random(t, rnd, storySteps) }
}

// Stories that are made up go the same way in the programs and in lb/forward.
func TestFuzzStories(t *testing.T) {
	eachWay(t, func(t *testing.T, ks *kernels) {
		newCampaign(t, 50).run(t, ks, invented(t))
	})
}

// wholeVectors are those whose maps are not spoiled.
func wholeVectors() []forwardtest.Vector {
	return slices.DeleteFunc(forwardtest.All(), func(v forwardtest.Vector) bool { return v.Break != nil })
}

// No packet is so broken that the programs and lb/forward differ about it: one
// round for each vector, with packets of it changed at random.
func TestFuzzPackets(t *testing.T) {
	vectors := wholeVectors()
	eachWay(t, func(t *testing.T, ks *kernels) {
		newCampaign(t, len(vectors)).run(t, ks, spoiled(vectors))
	})
}

// spoiled is what a round of TestFuzzPackets is about.
func spoiled(vectors []forwardtest.Vector) func(uint64, *rand.Rand) forwardtest.Vector {
	return func(seed uint64, rnd *rand.Rand) forwardtest.Vector {
		return vectors[seed%uint64(len(vectors))].Spoiled(rnd, spoiledSteps)
	}
}

// The packets of all vectors cut at every length.
func TestCutPackets(t *testing.T) {
	eachWay(t, func(t *testing.T, ks *kernels) {
		if ks.veth {
			return // as native: it differs behind the parser
		}
		done, packets := map[string]bool{}, 0
		for _, v := range wholeVectors() {
			v = v.Cut(done)
			n, diff := ks.compare(t, v)
			if diff != nil {
				t.Fatal(findReport(t, ks, v, diff, ""))
			}
			packets += n
		}
		t.Logf("%d packets compared", packets)
	})
}

// compare takes a vector through the programs and through lb/forward.
func (ks *kernels) compare(t *testing.T, v forwardtest.Vector) (packets int, diff *forwardtest.Difference) {
	t.Helper()
	k := ks.kernel(t, v.Settings)
	defer k.reset()
	k.t = contradictions{t}
	return v.Compare(t, k, forwardtest.NewTwin(t, v.Settings))
}

// contradictions makes a difference of what is wrong within the programs.
type contradictions struct{ testing.TB }

// Fatalf implements testing.TB.
func (contradictions) Fatalf(format string, args ...any) {
	panic(forwardtest.Impossible(fmt.Sprintf(format, args...)))
}

// findReport says what was found, how to see it again, and how to keep it.
func findReport(t *testing.T, ks *kernels, v forwardtest.Vector, diff *forwardtest.Difference, seed string) string {
	t.Helper()
	name, frame := v.Name, v.Steps[diff.Step].Packet
	small := v.Shrunk(diff.Kind, func(v forwardtest.Vector) *forwardtest.Difference {
		_, diff := ks.compare(t, v)
		return diff
	})
	small.Name = "found/NAME"
	var b strings.Builder
	fmt.Fprintf(&b, "%s, packet %d of %d: %s: programs: %s\n", name, diff.Step, len(v.Steps), diff.Kind, diff.Text)
	fmt.Fprintf(&b, "the packet, %s: %x\n\n", v.Steps[diff.Step].Way, frame)
	fmt.Fprintf(&b, "Again: %sgo test -count=1 -run '^%s$' ./xdp\n\n", seed, strings.ReplaceAll(t.Name(), "/", "$/^"))
	fmt.Fprintf(&b, "To keep it, put this vector with a name that says what it is about among foundVectors() of lb/forward/forwardtest,\n"+
		"beside All's others; it is what is left of the round without what the difference does not need. Its Reason, Want\n"+
		"and More are what lb/forward says: correct them where that is wrong. Then fix whichever side is wrong, and\n"+
		"rewrite the flow tables with: go test ./lb/forward -run TestGoldenFlows -update\n\n%s", small.Source(t))
	return b.String()
}
