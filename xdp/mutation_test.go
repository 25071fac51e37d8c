// SPDX-License-Identifier: Apache-2.0

package xdp

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/fairlead/fairlead/lb/forward/forwardtest"
	"github.com/fairlead/fairlead/perf/lab"
)

const (
	mutationPackets = 400_000 // in which a mutation has to be seen
	controlRounds   = 4       // in which the unchanged programs must not be
)

// The differential fuzzer sees what it is for: of programs that were broken on
// purpose, each one. FAIRLEAD_MUTATIONS=1 tries all of them.
func TestMutations(t *testing.T) {
	cc := clang(t)
	lab.RequireRoot(t, cc[0])
	tried := mutations
	if os.Getenv("FAIRLEAD_MUTATIONS") != "1" {
		tried = slices.DeleteFunc(slices.Clone(mutations), func(m mutation) bool { return !m.always })
	}
	t.Run("none", func(t *testing.T) {
		onOneCPU(t)
		if s := seek(t, compiled(t, cc, mutation{}), func(round, _ int) bool { return round < controlRounds }); s.diff != nil {
			t.Fatalf("unchanged programs: %s", s)
		}
	})
	for _, m := range tried {
		t.Run(m.name, func(t *testing.T) {
			onOneCPU(t)
			read := compiled(t, cc, m)
			begin := time.Now()
			s := seek(t, read, func(_, packets int) bool { return packets < mutationPackets })
			if s.diff == nil {
				t.Fatalf("not seen in %s: %s", time.Since(begin).Round(time.Second), s)
			}
			t.Logf("%-26s %5.1fs  %s", m.name, time.Since(begin).Seconds(), s)
		})
	}
}

// search is what came of looking for a difference.
type search struct {
	diff    *forwardtest.Difference
	where   string // way and vector
	packets int    // compared until then
}

// String is one line.
func (s search) String() string {
	if s.diff == nil {
		return fmt.Sprintf("no difference in %d packets", s.packets)
	}
	text, _, _ := strings.Cut(s.diff.Text, "\n")
	return fmt.Sprintf("after %6d packets, %s: %s: %s", s.packets, s.where, s.diff.Kind, text)
}

// seek has the rounds of both fuzz tests by turns, each way, from seed 1 on.
func seek(t *testing.T, read objectReader, more func(round, packets int) bool) search {
	t.Helper()
	var s search
	var all []*kernels
	for _, way := range fuzzWays {
		all = append(all, &kernels{t: t, native: way.native, veth: way.veth, read: read, loaded: map[string]*Programs{}})
	}
	invent := []func(uint64, *rand.Rand) forwardtest.Vector{invented(t), spoiled(wholeVectors())}
	for round := 0; more(round, s.packets); round++ {
		seed := uint64(round + 1)
		for i, way := range fuzzWays {
			for _, vector := range invent {
				v := vector(seed, rand.New(rand.NewPCG(seed, 0)))
				n, diff := all[i].compare(t, v)
				s.packets += n
				if diff != nil {
					s.diff, s.where = diff, way.name+", "+v.Name
					return s
				}
			}
		}
	}
	return s
}

// compiled is the object of the programs with the mutation in them.
func compiled(t *testing.T, cc []string, m mutation) objectReader {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("bpf")); err != nil {
		t.Fatal(err)
	}
	if m.file != "" {
		path := filepath.Join(dir, m.file)
		source, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(source, []byte(m.from)); n != 1 {
			t.Fatalf("%s has this %d times, want once: %q", m.file, n, m.from)
		}
		source = bytes.Replace(source, []byte(m.from), []byte(m.to), 1)
		if err := os.WriteFile(path, source, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	object := filepath.Join(dir, "lb.o")
	// What a mutation leaves unused is no error of its own.
	args := append(slices.Clone(cc[1:]), "-Wno-error", "-target", "bpfel", "-c", filepath.Join(dir, "lb.bpf.c"), "-o", object)
	if out, err := exec.CommandContext(t.Context(), cc[0], args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cc[0], err, out)
	}
	return func() (*ebpf.CollectionSpec, error) { return ebpf.LoadCollectionSpec(object) }
}

// clang is the compiler that the Makefile pins, and what gen.go gives it.
func clang(t *testing.T) []string {
	t.Helper()
	pinned := func(path, pattern string) string {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		match := regexp.MustCompile(pattern).FindSubmatch(b)
		if match == nil {
			t.Fatalf("%s has no line like %s", path, pattern)
		}
		return string(match[1])
	}
	name := pinned("../Makefile", `(?m)^CLANG\s*\?=\s*(\S+)$`)
	return append([]string{name}, strings.Fields(pinned("gen.go", `(?m)^//go:generate .* -- (.*)$`))...)
}
