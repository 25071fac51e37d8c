// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/fairlead/fairlead/perf/lab/kube"
)

func TestTimes(t *testing.T) {
	var samples []sample
	for i := range 200 {
		samples = append(samples, sample{answer: time.Duration(i+1) * time.Millisecond})
	}
	got := timesOf(samples, func(s sample) time.Duration { return s.answer })
	if want := (Times{Median: 101, P99: 199, Max: 200}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := timesOf(samples[:1], func(s sample) time.Duration { return s.answer }); got != (Times{1, 1, 1}) {
		t.Errorf("of one: %+v", got)
	}
}

// TestRun runs a few rounds; an answer cannot come before the address.
func TestRun(t *testing.T) {
	kube.Require(t)
	kube.Require(t, kube.Proxy)
	kube.RequireNodes(t)
	dir := t.TempDir()
	binary, file := filepath.Join(dir, "fairlead"), filepath.Join(dir, "results", "first-answer.json")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "github.com/fairlead/fairlead/cmd/fairlead")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build fairlead: %v: %s", err, out)
	}
	if err := run(t.Context(), []string{"-fairlead", binary, "-rounds", "3", "-o", file}, t.Output(), t.Output()); err != nil {
		t.Fatal(err)
	}
	written, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var report Report
	if err := json.Unmarshal(written, &report); err != nil {
		t.Fatal(err)
	}
	if report.Rounds != 3 || report.Kubectl.Median <= 0 || report.Answer.Max < report.Address.Median {
		t.Errorf("report %+v", report)
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{"-rounds", "0"}, {"-rounds", "251"}, {"more"}} {
		if err := run(t.Context(), args, t.Output(), t.Output()); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
}
