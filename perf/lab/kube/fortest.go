// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"errors"
	"log/slog"
	"os"

	"github.com/fairlead/fairlead/perf/lab"
)

// TB is the part of testing.TB that this package uses.
type TB interface {
	lab.TB
	Context() context.Context
	Failed() bool
	Logf(format string, args ...any)
	TempDir() string
}

// logLines is how much of every log a failed test shows.
const logLines = 25

// Require skips the test when one of the programs is not built, those of the
// control plane when none is named. With REQUIRE_ROOT=1 in the environment it
// builds them instead, which takes minutes the first time.
func Require(t TB, names ...string) {
	t.Helper()
	require := Built
	if os.Getenv("REQUIRE_ROOT") == "1" {
		require = Binaries
	}
	switch _, err := require(t.Context(), names...); {
	case errors.Is(err, ErrNotBuilt):
		t.Skipf("%v", err)
	case err != nil:
		t.Fatalf("%v", err)
	}
}

// ForTest starts a control plane for one test and closes it after it; where it
// cannot run the test is skipped as Require says. When the test fails it shows
// the ends of all logs.
func ForTest(t TB, o Options) *ControlPlane {
	t.Helper()
	Require(t)
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	c, err := Start(t.Context(), slog.New(slog.DiscardHandler), o)
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			showLogs(t, c.etcd, c.apiserver, c.manager, c.scheduler)
		}
		if err := c.Close(); err != nil {
			t.Errorf("close control plane: %v", err)
		}
	})
	return c
}

func showLogs(t TB, programs ...*component) {
	for _, program := range programs {
		if _, err := os.Stat(program.log); err == nil {
			t.Logf("end of %s:\n%s", program.log, program.tail(logLines))
		}
	}
}

// RequireNodes skips the test where real nodes cannot run; with REQUIRE_ROOT=1
// in the environment it fails instead.
func RequireNodes(t TB) {
	t.Helper()
	lab.RequireRoot(t, NodeTools...)
	Require(t, Kubelet)
	Require(t, Containerd, Shim, Ctr)
	err := MissingForNodes()
	switch {
	case err == nil:
	case os.Getenv("REQUIRE_ROOT") == "1":
		t.Fatalf("REQUIRE_ROOT=1: %v", err)
	default:
		t.Skipf("%v", err)
	}
}

// NodesForTest starts real nodes for one test and closes them after it. When the
// test fails it shows the ends of their logs.
func NodesForTest(t TB, c *ControlPlane, l *lab.Lab, images ...Image) *Nodes {
	t.Helper()
	RequireNodes(t)
	nodes, err := c.StartNodes(t.Context(), l, images...)
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() {
		for _, n := range nodes.List {
			if t.Failed() {
				showLogs(t, n.runtime, n.kubelet)
			}
		}
		if err := nodes.Close(); err != nil {
			t.Errorf("close nodes: %v", err)
		}
	})
	return nodes
}
