// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/perf/lab"
)

// ErrNotBuilt says that a program is not in the cache.
var ErrNotBuilt = errors.New("not built")

// Binaries builds what is missing of the named programs of one module, of all that
// the control plane needs when none is named, and returns the directory that holds
// them. It needs the go command and a working directory inside the main module. A cold
// build takes minutes and a network; what was built stays in the user's cache
// directory, by a hash of all that went into it. Builds exclude each other.
func Binaries(ctx context.Context, names ...string) (dir string, err error) {
	s, err := sourceOf(names)
	if err != nil {
		return "", err
	}
	return s.build(ctx, names)
}

// Built is Binaries for one who does not want to wait: the error wraps
// ErrNotBuilt when a program is missing.
func Built(ctx context.Context, names ...string) (dir string, err error) {
	s, err := sourceOf(names)
	if err != nil {
		return "", err
	}
	_, dir, missing, err := s.find(ctx, names)
	if err == nil && len(missing) > 0 {
		err = fmt.Errorf("%s: %w, make kube does it", strings.Join(missing, " "), ErrNotBuilt)
	}
	return dir, err
}

// find returns the module's directory, that of the programs, and which of the
// named ones are not there.
func (s *source) find(ctx context.Context, names []string) (module, dir string, missing []string, err error) {
	if len(names) == 0 {
		names = controlPlane
	}
	if module, err = s.module(ctx); err != nil {
		return "", "", nil, err
	}
	if dir, err = s.cache(ctx, module); err != nil {
		return "", "", nil, err
	}
	for _, name := range names {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			missing = append(missing, name)
		}
	}
	return module, dir, missing, nil
}

// module is the directory of the source's go.mod.
func (s *source) module(ctx context.Context) (string, error) {
	gomod, err := goCommand(ctx, ".", "env", "GOMOD")
	if err != nil {
		return "", err
	}
	dir := filepath.Join(filepath.Dir(gomod), s.folder)
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err != nil {
		return "", fmt.Errorf("find sources of Kubernetes from the working directory: %w", err)
	}
	return dir, nil
}

// cache is where programs built from this module by this compiler belong.
func (s *source) cache(ctx context.Context, module string) (string, error) {
	root, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find cache directory: %w", err)
	}
	toolchain, err := goCommand(ctx, module, "env", "GOVERSION", "GOOS", "GOARCH")
	if err != nil {
		return "", err
	}
	hash := sha256.New()
	fmt.Fprintln(hash, toolchain, s.ldflags, s.tags)
	err = filepath.WalkDir(module, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		fmt.Fprintln(hash, strings.TrimPrefix(path, module), len(content))
		hash.Write(content)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("hash sources of Kubernetes: %w", err)
	}
	return filepath.Join(root, "fairlead", "kube", hex.EncodeToString(hash.Sum(nil)[:8])), nil
}

func (s *source) build(ctx context.Context, names []string) (string, error) {
	module, dir, missing, err := s.find(ctx, names)
	if err != nil || len(missing) == 0 {
		return dir, err
	}
	unlock, err := lock(ctx, dir)
	if err != nil {
		return "", err
	}
	defer unlock()
	// Another may have built them meanwhile.
	if _, _, missing, err = s.find(ctx, names); err != nil {
		return "", err
	}
	scratch, err := os.MkdirTemp(dir, "build-")
	if err != nil {
		return "", fmt.Errorf("make build directory: %w", err)
	}
	defer os.RemoveAll(scratch)
	// One after the other: a build that breaks off keeps what it has.
	for _, name := range missing {
		file := filepath.Join(scratch, name)
		_, err := goCommand(ctx, module, "build", "-trimpath", "-buildvcs=false",
			"-tags", s.tags, "-ldflags", s.ldflags, "-o", file, s.packages[name])
		if err != nil {
			return "", fmt.Errorf("build %s: %w", name, err)
		}
		if err := os.Rename(file, filepath.Join(dir, name)); err != nil {
			return "", fmt.Errorf("put %s into the cache: %w", name, err)
		}
	}
	return dir, nil
}

// lock waits until no other process builds into the directory.
func lock(ctx context.Context, dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make cache directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	var last error
	err = lab.Poll(ctx, buildTimeout, func() bool {
		last = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		return !errors.Is(last, unix.EWOULDBLOCK)
	})
	if err = cmp.Or(err, last); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %q: %w", f.Name(), err)
	}
	return func() { f.Close() }, nil
}

// buildTimeout is far above a cold build of everything on two busy cores.
const buildTimeout = time.Hour

// goCommand runs the go command without cgo and without a workspace, and
// returns what it wrote.
func goCommand(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = slices.Concat(os.Environ(), []string{"CGO_ENABLED=0", "GOWORK=off"})
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
	}
	if err != nil {
		return "", fmt.Errorf("go %s: %w", args[0], err)
	}
	return strings.TrimSpace(string(out)), nil
}
