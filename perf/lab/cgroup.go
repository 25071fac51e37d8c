// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// cgroupHierarchy is a mounted hierarchy of cgroups.
type cgroupHierarchy struct {
	path string
	v1   bool
}

// cgroupHierarchies are all that are mounted: one, or with version 1 one for
// each controller.
func cgroupHierarchies() ([]cgroupHierarchy, error) {
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("read mounts: %w", err)
	}
	var all []cgroupHierarchy
	for line := range strings.Lines(string(info)) {
		left, right, _ := strings.Cut(line, " - ")
		mount, kind := strings.Fields(left), strings.Fields(right)
		if len(mount) < 5 || len(kind) < 1 || !strings.HasPrefix(kind[0], "cgroup") {
			continue
		}
		h := cgroupHierarchy{mount[4], kind[0] == "cgroup"}
		if !slices.Contains(all, h) {
			all = append(all, h)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("find cgroups: %w", fs.ErrNotExist)
	}
	return all, nil
}

// cgroupShares give a lab's cgroup as much of the processors as ten processes
// outside of all cgroups have: it is a whole machine that shares this one.
var cgroupShares = map[string]string{"cpu.shares": "10240", "cpu.weight": "1000"}

// AddCgroup makes a cgroup in every hierarchy and returns its path below their
// roots. The lab ends with it whatever runs in it and below it.
func (l *Lab) AddCgroup(name string) (path string, err error) {
	all, err := cgroupHierarchies()
	if err != nil {
		return "", err
	}
	path = "/" + l.prefix() + name
	for _, h := range all {
		if err := os.Mkdir(filepath.Join(h.path, path), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return "", fmt.Errorf("make cgroup: %w", err)
		}
		for file, value := range cgroupShares {
			err := os.WriteFile(filepath.Join(h.path, path, file), []byte(value), 0)
			if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
				return "", fmt.Errorf("set share of cgroup: %w", err)
			}
		}
	}
	return path, nil
}

// enterCgroup makes children that the calling thread makes with attr start in a
// cgroup below one of AddCgroup, until leave: with version 1 in one hierarchy
// only, which is enough to find them again. The thread is one of DoWith, which
// has no way back.
func enterCgroup(attr *syscall.SysProcAttr, path string) (leave func(), err error) {
	all, err := cgroupHierarchies()
	if err != nil {
		return nil, err
	}
	// A fresh cpuset takes nobody in before it has processors.
	i := slices.IndexFunc(all, func(h cgroupHierarchy) bool { return filepath.Base(h.path) == "pids" })
	h := all[max(i, 0)]
	dir := filepath.Join(h.path, path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make cgroup: %w", err)
	}
	if h.v1 {
		if err := os.WriteFile(filepath.Join(dir, "tasks"), []byte(strconv.Itoa(unix.Gettid())), 0); err != nil {
			return nil, fmt.Errorf("enter cgroup %q: %w", path, err)
		}
		return func() {}, nil
	}
	// In version 2 a thread does not change over without its process.
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("open cgroup: %w", err)
	}
	attr.UseCgroupFD, attr.CgroupFD = true, int(f.Fd())
	return func() { f.Close() }, nil
}

// removeCgroups kills what runs in the cgroups of the lab with this id, and
// removes them.
func removeCgroups(id string) error {
	all, err := cgroupHierarchies()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, h := range all {
		tops, _ := filepath.Glob(filepath.Join(h.path, prefixOf(id)+"*"))
		for _, top := range tops {
			errs = append(errs, removeCgroup(top))
		}
	}
	return errors.Join(errs...)
}

// removeCgroup removes a tree of cgroups. What ends may still make others.
func removeCgroup(top string) error {
	var last error
	err := Poll(context.Background(), killDeadline, func() bool {
		last = nil
		for _, dir := range deepestFirst(top) {
			if err := killCgroup(dir); err != nil {
				last = err
			}
			if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
				last = err
			}
		}
		return last == nil
	})
	if err != nil {
		return fmt.Errorf("remove cgroup %q: %w: %w", top, err, last)
	}
	return nil
}

// deepestFirst lists the folders of a tree, each after all below it.
func deepestFirst(top string) []string {
	var dirs []string
	filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			dirs = append(dirs, path)
		}
		return nil // what is gone is well
	})
	slices.Reverse(dirs)
	return dirs
}

// killCgroup kills what is in the cgroup itself.
func killCgroup(dir string) error {
	pids, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
			return nil
		}
		return fmt.Errorf("read cgroup: %w", err)
	}
	// What is frozen cannot die.
	os.WriteFile(filepath.Join(dir, "freezer.state"), []byte("THAWED"), 0)
	for field := range strings.FieldsSeq(string(pids)) {
		// 0 is a process of another pid namespace, which is not the lab's, and a
		// thread of this one may be about to end.
		if pid, err := strconv.Atoi(field); err == nil && pid > 0 && pid != os.Getpid() {
			unix.Kill(pid, unix.SIGKILL)
		}
	}
	return nil
}
