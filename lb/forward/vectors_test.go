// SPDX-License-Identifier: Apache-2.0

package forward_test

import (
	"flag"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/lb/forward"
	"github.com/fairlead/fairlead/lb/forward/forwardtest"
)

var update = flag.Bool("update", false, "rewrite forwardtest/testdata/flows.txt")

func TestVectors(t *testing.T) {
	for _, v := range forwardtest.All() {
		t.Run(v.Name, func(t *testing.T) {
			twin := forwardtest.NewTwin(t, v.Settings)
			v.Run(t, twin)
			counted := uint64(0)
			for _, n := range twin.Forwarder.Counters() {
				counted += n
			}
			if counted != uint64(len(v.Steps)) {
				t.Errorf("%d packets counted, want %d", counted, len(v.Steps))
			}
		})
	}
}

// Every reason has a vector, but those that no packet can bring about here.
func TestVectorsCoverReasons(t *testing.T) {
	seen := map[forward.Reason]bool{forward.None: true, forward.FlowsBusy: true, forward.NoAgent: true, forward.Error: true}
	names := map[string]bool{}
	for _, v := range forwardtest.All() {
		if names[v.Name] {
			t.Errorf("two vectors are named %q", v.Name)
		}
		names[v.Name] = true
		for _, s := range v.Steps {
			seen[s.Reason] = true
		}
	}
	for r := range forward.ReasonCount {
		if !seen[r] {
			t.Errorf("no vector has the reason %s", r)
		}
	}
}

// TestGoldenFlows keeps the golden file free of what no vector has, and
// rewrites it on demand; Run compares.
func TestGoldenFlows(t *testing.T) {
	var b strings.Builder
	for _, v := range forwardtest.All() {
		dump := v.WantRecords()
		if *update {
			dump = v.Records(t, forwardtest.NewTwin(t, v.Settings))
		}
		b.WriteString(forwardtest.GoldenEntry(v.Name, dump))
	}
	const path = "forwardtest/testdata/flows.txt"
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	golden, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(golden) != b.String() {
		t.Errorf("%s has entries without a vector, or in another order; run the test with -update", path)
	}
}

// Stories that were made up come to the same end when they are told again.
func TestRandomStories(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	for range 20 {
		v := forwardtest.Random(t, rnd, 200)
		v.Run(t, forwardtest.NewTwin(t, v.Settings))
	}
}

// Stories tell of everything, and of nothing alone.
func TestRandomCoversReasons(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 0))
	seen, cut, total := map[forward.Reason]int{}, 0, 0
	for range 60 {
		for _, s := range forwardtest.Random(t, rnd, 200).Steps {
			seen[s.Reason]++
			total++
			if len(s.More) > 0 {
				cut++
			}
		}
	}
	for r := range forward.ReasonCount {
		t.Logf("%s: %d", r, seen[r])
		switch r {
		case forward.None, forward.Proto, forward.Ports, forward.Rate, forward.StaleTable, forward.FlowsFull, forward.FlowsBusy,
			forward.ForeignTunnel, forward.NoAgent, forward.Error: // rare, or for vectors only
		default:
			if seen[r] == 0 {
				t.Errorf("no story has the reason %s", r)
			}
		}
	}
	if cut == 0 || seen[forward.Malformed]+seen[forward.BadMAC] > total/3 {
		t.Errorf("of %d packets %d were cut, %d malformed", total, cut, seen[forward.Malformed])
	}
}
