// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/fairlead/fairlead/perf/lab"
)

// fairlead is the program that all agents and Pods run; built by TestMain.
var fairlead string

func TestMain(m *testing.M) {
	code, err := buildAndRun(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// buildAndRun builds what the tests need, if they can run at all, and runs them.
func buildAndRun(m *testing.M) (code int, err error) {
	if lab.Missing() != nil {
		return m.Run(), nil
	}
	if _, err := lab.Sweep(false); err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp("", "fairlead-test-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	fairlead = filepath.Join(dir, "fairlead")
	build := exec.Command("go", "build", "-o", fairlead, "github.com/fairlead/fairlead/cmd/fairlead")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("build fairlead: %w: %s", err, out)
	}
	return m.Run(), nil
}
