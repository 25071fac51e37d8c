// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/perf/lab"
)

func TestMountBPFFS(t *testing.T) {
	lab.RequireRoot(t)
	path := t.TempDir()
	inMountNamespace(t, func() error {
		for range 2 { // again is success
			if err := mountBPFFS(path); err != nil {
				return err
			}
		}
		var st unix.Statfs_t
		if err := unix.Statfs(path, &st); err != nil {
			return err
		}
		if st.Type != unix.BPF_FS_MAGIC {
			t.Errorf("file system %x at the path, want %x", st.Type, unix.BPF_FS_MAGIC)
		}
		// A second one on top of the first would hide what is pinned.
		if err := unix.Unmount(path, 0); err != nil {
			return err
		}
		if err := unix.Statfs(path, &st); err != nil || st.Type == unix.BPF_FS_MAGIC {
			t.Errorf("a second mount below the first: %v", err)
		}
		return nil
	})
}

func TestMountBPFFSNowhere(t *testing.T) {
	if err := mountBPFFS("/nonexistent/bpf"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v, want %v", err, fs.ErrNotExist)
	}
}

// inMountNamespace calls do on a thread with mounts of its own, which ends with them.
func inMountNamespace(t *testing.T, do func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked
		done <- func() error {
			if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
				return err
			}
			if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
				return err
			}
			return do()
		}()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestWait(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- runWait(ctx, &env{stdout: io.Discard, stderr: io.Discard}, nil) }()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
