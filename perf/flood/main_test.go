// SPDX-License-Identifier: Apache-2.0

package flood

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
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// run builds what the tests need, if they can run at all, and runs them.
func run(m *testing.M) (code int, err error) {
	if lab.Missing() != nil {
		return m.Run(), nil
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
