// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const smaps = `00400000-01a3c000 r-xp 00000000 fe:00 1234567  /usr/bin/fairlead
Size:              22768 kB
Rss:                 100 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
c000000000-c000400000 rw-p 00000000 00:00 0
Rss:                 200 kB
Anonymous:           200 kB
7f0000000000-7f0001000000 rw-s 00000000 00:0f 1057  anon_inode:bpf-map
Rss:                1000 kB
Anonymous:             0 kB
7f0001000000-7f0001001000 rw-p 00000000 00:00 0  [stack]
Rss:                   4 kB
Anonymous:             4 kB
`

func TestParseSmaps(t *testing.T) {
	got, err := parseSmaps(strings.NewReader(smaps))
	want := Memory{Bytes: 304 << 10, Anonymous: 204 << 10, Maps: 1000 << 10}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("error %v (-want +got):\n%s", err, diff)
	}
	for _, broken := range []string{"Rss: many kB\n", "Rss:\n", "Anonymous: -1 kB\n"} {
		if _, err := parseSmaps(strings.NewReader(broken)); err == nil {
			t.Errorf("%q: no error", broken)
		}
	}
}

func TestMemoryOfThisProcess(t *testing.T) {
	m, err := memoryOf(os.Getpid())
	if err != nil || m.Anonymous == 0 || m.Anonymous > m.Bytes || m.Peak < m.Bytes {
		t.Errorf("%+v, %v", m, err)
	}
	if _, err := processorTime(os.Getpid()); err != nil {
		t.Error(err)
	}
	if load, err := loadAverage(); err != nil || load < 0 {
		t.Errorf("load %v, %v", load, err)
	}
}

func TestParseStat(t *testing.T) {
	got, err := parseStat("17 (a name) with) S 1 17 17 0 -1 4194560 900 0 0 0 250 50 0 0 20 0 9 0 4711 1 2\n")
	if err != nil || got != 3*time.Second {
		t.Errorf("%v, %v; want 3 s", got, err)
	}
	for _, broken := range []string{"", "17 (x) S 1", "17 (x) S 1 17 17 0 -1 4194560 900 0 0 0 x 50 0", "17 (x) S 1 17 17 0 -1 4194560 900 0 0 0 1 x 0"} {
		if _, err := parseStat(broken); err == nil {
			t.Errorf("%q: no error", broken)
		}
	}
}

func TestTimesOf(t *testing.T) {
	var all []time.Duration
	for i := range 101 {
		all = append(all, time.Duration(100-i)*time.Millisecond)
	}
	if got, want := timesOf(all), (Times{P50: 50, P99: 99, Max: 100}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := timesOf(nil); got != (Times{}) {
		t.Errorf("of none %+v", got)
	}
}

func TestJudge(t *testing.T) {
	good := Size{Services: 10, SyncSeconds: 9.9, Agent: Memory{Bytes: 399 << 20}}
	good.Changes.Returned.P99, good.Changes.Received.P99 = 19.9, 3
	late, slow, large := good, good, good
	late.Changes.Received.P99 = 20
	slow.SyncSeconds = 10
	large.Agent.Bytes = 400 << 20
	r := Report{Sizes: []Size{good, late, slow, large}}
	r.judge()
	want := []string{
		"10 services: a change takes 20.0 ms in the 99th percentile, want below 20ms",
		"10 services: the initial sync takes 10.0 s, want below 10s",
		"10 services: the agent takes 400 MiB, want below 400",
	}
	if diff := cmp.Diff(want, r.Missed); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestParse(t *testing.T) {
	o, err := parse([]string{"-services", "3,5", "-changes", "7"})
	if diff := cmp.Diff([]int{3, 5}, o.sizes); err != nil || diff != "" || o.changes != 7 {
		t.Errorf("%+v, %v", o, err)
	}
	for _, args := range [][]string{{"-services", "5,3"}, {"-services", "0"}, {"-services", "x"}, {"-services", ""}, {"-changes", "0"}, {"-nodes", "-1"}} {
		if _, err := parse(args); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
}
