// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/fairlead/fairlead/perf/lab"
)

// RunTests is for the TestMain of packages whose tests run agents: it builds
// fairlead, which *binary names from then on, runs the tests and returns the
// exit code. Where no lab can be built it only runs them, for they skip.
func RunTests(m interface{ Run() int }, binary *string) (code int) {
	code, err := buildAndRun(m, binary)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func buildAndRun(m interface{ Run() int }, binary *string) (code int, err error) {
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
	*binary = filepath.Join(dir, "fairlead")
	build := exec.Command("go", "build", "-o", *binary, "github.com/fairlead/fairlead/cmd/fairlead")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("build fairlead: %w: %s", err, out)
	}
	return m.Run(), nil
}
