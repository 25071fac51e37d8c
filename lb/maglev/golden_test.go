// SPDX-License-Identifier: Apache-2.0

package maglev

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/lb"
)

var update = flag.Bool("update", false, "rewrite testdata")

// Two machines that disagree here would send one flow to two backends.
func TestGolden(t *testing.T) {
	v6 := []lb.Backend{
		{Addr: netip.MustParseAddrPort("[fd00::1]:53"), Weight: 1},
		{Addr: netip.MustParseAddrPort("[fd00::2]:53"), Weight: 1},
		{Addr: netip.MustParseAddrPort("[fd00::3]:53"), Weight: 2},
	}
	drained := backends(4)
	drained[2].Draining = true
	tests := []struct {
		name string
		m    int
		set  []lb.Backend
	}{
		{"three", 251, backends(3)},
		{"weighted", 251, weighted(1, 2, 5)},
		{"drained", 251, drained},
		{"v6", 251, v6},
		{"ten-default", DefaultSize, backends(10)},
		{"hundred-largest", 65521, backends(100)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join("testdata", tt.name+".golden")
			got := dump(Build(tt.m, tt.set))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// dump writes all slots of a small table as run lengths ("3x2": backend 3 in two
// slots in a row), of a large one the first runs and a hash over all slots.
func dump(t Table) string {
	var b strings.Builder
	fmt.Fprintf(&b, "hash %016x\n", t.Hash)
	n := counts(t)
	for i, be := range t.Backends {
		fmt.Fprintf(&b, "backend %d %s weight %d: %d slots\n", i, be.Addr, be.Weight, n[i])
	}
	shown := t.Slots
	if len(shown) > 300 {
		shown = shown[:300]
		h := newHash()
		for _, s := range t.Slots {
			h = h.uint16(s)
		}
		fmt.Fprintf(&b, "%d slots, fnv %016x, the first %d:\n", len(t.Slots), uint64(h), len(shown))
	} else {
		fmt.Fprintf(&b, "%d slots:\n", len(t.Slots))
	}
	for i, run := range runs(shown) {
		b.WriteString(run)
		if i%16 == 15 {
			b.WriteByte('\n')
		} else {
			b.WriteByte(' ')
		}
	}
	return strings.TrimRight(b.String(), " \n") + "\n"
}

func runs(slots []uint16) []string {
	var out []string
	for i := 0; i < len(slots); {
		j := i
		for j < len(slots) && slots[j] == slots[i] {
			j++
		}
		run := fmt.Sprint(slots[i])
		if j-i > 1 {
			run += fmt.Sprintf("x%d", j-i)
		}
		out = append(out, run)
		i = j
	}
	return out
}
