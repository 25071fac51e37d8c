// SPDX-License-Identifier: Apache-2.0

// Package controller_test runs fairlead controller, the real program with the
// rights of its ServiceAccount, against a real API server.
package controller_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/fairlead/fairlead/controller/api/v1beta1/crd"
	"github.com/fairlead/fairlead/deploy/manifests"
	"github.com/fairlead/fairlead/perf/lab/kube"
)

// One control plane serves all tests: each has a namespace and a class of its own.
var (
	control *kube.ControlPlane
	binary  string // fairlead
)

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	ctx := context.Background()
	if os.Getenv("REQUIRE_ROOT") != "1" {
		if _, err := kube.Built(ctx); errors.Is(err, kube.ErrNotBuilt) {
			return m.Run(), nil // the tests skip
		}
	}
	dir, err := os.MkdirTemp("", "fairlead-test-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "fairlead")
	build := exec.Command("go", "build", "-o", binary, "github.com/fairlead/fairlead/cmd/fairlead")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("build fairlead: %w: %s", err, out)
	}
	control, err = kube.Start(ctx, slog.New(slog.DiscardHandler), kube.Options{Dir: dir, DualStack: true, CRDs: crd.Files})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, control.Close()) }()
	if err := control.CreateNamespace(ctx, manifests.Namespace); err != nil {
		return 0, err
	}
	return m.Run(), nil
}
