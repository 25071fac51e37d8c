// SPDX-License-Identifier: Apache-2.0

// Package helm has the chart, and runs a Helm that it builds from Go modules,
// outside of this module's requirements.
package helm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// Version is the Helm that everything here is rendered and checked with.
const Version = "v3.22.0"

// What the chart is rendered for in manifests and tests.
const (
	Release     = "fairlead"
	Namespace   = "fairlead-system"
	KubeVersion = "1.30.0" // the oldest that the chart is for
)

// ErrNotBuilt says that Helm is not in the cache.
var ErrNotBuilt = errors.New("not built")

// Binary builds Helm if it is missing, and returns its path. A cold build
// takes minutes and a network; what was built stays in the user's cache
// directory.
func Binary(ctx context.Context) (string, error) {
	path, err := Built()
	if !errors.Is(err, ErrNotBuilt) {
		return path, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", fmt.Errorf("make cache directory: %w", err)
	}
	scratch, err := os.MkdirTemp(filepath.Dir(path), "build-")
	if err != nil {
		return "", fmt.Errorf("make build directory: %w", err)
	}
	defer os.RemoveAll(scratch)
	cmd := exec.CommandContext(ctx, "go", "install", "-trimpath", "-ldflags=-s -w", "helm.sh/helm/v3/cmd/helm@"+Version)
	cmd.Dir = scratch // outside every module
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOBIN="+scratch, "GOOS=", "GOARCH=", "GOWORK=off", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build helm %s: %w: %s", Version, err, bytes.TrimSpace(out))
	}
	if err := os.Rename(filepath.Join(scratch, "helm"), path); err != nil {
		return "", fmt.Errorf("put helm into the cache: %w", err)
	}
	return path, nil
}

// Built is Binary for one who does not want to wait: the error wraps
// ErrNotBuilt when Helm is not there.
func Built() (string, error) {
	root, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find cache directory: %w", err)
	}
	path := filepath.Join(root, "fairlead", "helm", Version+"-"+runtime.Version(), "helm")
	if _, err := os.Stat(path); err != nil {
		return path, fmt.Errorf("helm %s: %w, make manifests does it", Version, ErrNotBuilt)
	}
	return path, nil
}

// Helm is a Helm binary and a chart's directory; with a kubeconfig also a cluster.
type Helm struct{ Binary, Chart, Kubeconfig string }

// Lint checks the chart; warnings are errors.
func (h Helm) Lint(ctx context.Context) error {
	_, err := h.run(ctx, "lint", h.Chart, "--strict", "--kube-version", KubeVersion)
	return err
}

// Template renders the chart without a cluster; sets are of the form path=value.
func (h Helm) Template(ctx context.Context, sets []string, more ...string) ([]byte, error) {
	args := append([]string{"template", Release, h.Chart, "--namespace", Namespace, "--kube-version", KubeVersion}, more...)
	for _, set := range sets {
		args = append(args, "--set", set)
	}
	return h.run(ctx, args...)
}

// Apply installs the chart in the cluster, or upgrades to it, and waits for nothing.
func (h Helm) Apply(ctx context.Context, sets ...string) error {
	args := []string{"upgrade", Release, h.Chart, "--install", "--create-namespace", "--namespace", Namespace}
	for _, set := range sets {
		args = append(args, "--set", set)
	}
	_, err := h.run(ctx, args...)
	return err
}

// Uninstall removes it, and waits for the Job that frees the Services.
func (h Helm) Uninstall(ctx context.Context) error {
	_, err := h.run(ctx, "uninstall", Release, "--namespace", Namespace)
	return err
}

// run keeps Helm away from the user's own configuration and repositories.
func (h Helm) run(ctx context.Context, args ...string) ([]byte, error) {
	home, err := os.MkdirTemp("", "fairlead-helm-")
	if err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	defer os.RemoveAll(home)
	cmd := exec.CommandContext(ctx, h.Binary, args...)
	cmd.Env = []string{"HOME=" + home, "PATH=" + os.Getenv("PATH"), "KUBECONFIG=" + h.Kubeconfig}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		said := strings.TrimSpace(stdout.String() + stderr.String())
		return nil, fmt.Errorf("helm %s: %w: %s", args[0], err, said)
	}
	return stdout.Bytes(), nil
}
