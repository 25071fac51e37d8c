// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/perf/lab/kube"
)

// TestDemo runs the whole, and everything holds.
func TestDemo(t *testing.T) {
	kube.Require(t)
	kube.Require(t, kube.Proxy)
	kube.RequireNodes(t)
	binary := filepath.Join(t.TempDir(), "fairlead")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "github.com/fairlead/fairlead/cmd/fairlead")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build fairlead: %v: %s", err, out)
	}
	var out strings.Builder
	err := run(t.Context(), []string{"-fairlead", binary, "-requests", "300"}, &out, t.Output())
	t.Log("\n" + out.String())
	if err != nil {
		t.Fatal(err)
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{"-requests", "many"}, {"more"}} {
		if err := run(t.Context(), args, t.Output(), t.Output()); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
}
