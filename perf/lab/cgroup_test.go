// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// cgroupsOf are the cgroups that exist of the lab with this id.
func cgroupsOf(t *testing.T, id string) []string {
	t.Helper()
	all, err := cgroupHierarchies()
	if errors.Is(err, fs.ErrNotExist) {
		t.Skipf("%v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, h := range all {
		dirs, _ := filepath.Glob(filepath.Join(h.path, prefixOf(id)+"*"))
		found = append(found, dirs...)
	}
	return found
}

// TestCgroups: a process in a cgroup and with mounts of its own is where it
// should be, and all that it leaves goes with the lab, grandchildren too.
func TestCgroups(t *testing.T) {
	l := ForTest(t, Options{Nodes: 1})
	cgroupsOf(t, l.ID) // or skip
	path, err := l.AddCgroup("node1")
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(l.Dir, "grandchild")
	private := filepath.Join(l.Dir, "private")
	if err := os.Mkdir(private, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", "setsid sleep 1000 & echo $! > "+out+"; touch "+private+"/seen; cat /proc/self/cgroup >> "+out+"; wait")
	p, err := l.Nodes[0].StartWith(cmd, path+"/below", func() error {
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return err
		}
		if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
			return err
		}
		return unix.Mount("tmpfs", private, "tmpfs", 0, "")
	})
	if err != nil {
		t.Fatal(err)
	}
	var said string
	err = Poll(t.Context(), 5*time.Second, func() bool {
		b, _ := os.ReadFile(out)
		said = string(b)
		return strings.Contains(said, ":/")
	})
	if err != nil || !strings.Contains(said, path+"/below\n") {
		t.Errorf("%v: the process is in %q", err, said)
	}
	if _, err := os.Stat(filepath.Join(private, "seen")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the mount is not private: %v", err)
	}
	var grandchild int
	if _, err := fmt.Sscan(said, &grandchild); err != nil {
		t.Fatal(err)
	}
	if startTime(grandchild) == "" || startTime(p.PID) == "" {
		t.Error("the processes do not run")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got := cgroupsOf(t, l.ID); got != nil {
		t.Errorf("left behind: %s", got)
	}
	if startTime(grandchild) != "" {
		t.Errorf("grandchild %d still runs", grandchild)
	}
}

// What DoWith changes stays on threads that end: none of this process sees it.
func TestDoWithLeavesNoTrace(t *testing.T) {
	l := ForTest(t, Options{Nodes: 1})
	own := map[string]string{}
	for _, kind := range []string{"net", "mnt"} {
		var err error
		if own[kind], err = os.Readlink("/proc/self/ns/" + kind); err != nil {
			t.Fatal(err)
		}
	}
	for range 200 {
		err := l.Nodes[0].DoWith(func() error { return unix.Unshare(unix.CLONE_NEWNS) }, func() error { return nil })
		if err != nil {
			t.Fatal(err)
		}
	}
	var odd []string
	err := Poll(t.Context(), 5*time.Second, func() bool {
		odd = nil
		for kind, name := range own {
			threads, _ := filepath.Glob("/proc/self/task/*/ns/" + kind)
			for _, thread := range threads {
				if seen, err := os.Readlink(thread); err == nil && seen != name {
					odd = append(odd, thread+" "+seen)
				}
			}
		}
		return odd == nil
	})
	if err != nil {
		t.Errorf("threads elsewhere: %v: %s", err, odd)
	}
}
