// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
)

// left is what exists on this machine of the lab with this id.
func left(t *testing.T, id, dir string) []string {
	t.Helper()
	found, _ := filepath.Glob(filepath.Join(netnsDir, prefixOf(id)+"*"))
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(mounts), "\n") {
		if strings.Contains(line, dir) || strings.Contains(line, prefixOf(id)) {
			found = append(found, line)
		}
	}
	if _, err := os.Stat(dir); err == nil {
		found = append(found, dir)
	}
	return found
}

func ownLinks(t *testing.T) []string {
	t.Helper()
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, link := range links {
		names = append(names, link.Attrs().Name)
	}
	return names
}

func TestCloseLeavesNothing(t *testing.T) {
	RequireRoot(t)
	links := ownLinks(t)
	l, err := New(discard, Options{Nodes: 2, PodsPerNode: 1})
	if err != nil {
		t.Fatal(err)
	}
	p, err := l.Nodes[0].Start(exec.Command("sleep", "1000"))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Pods()[0].Serve(testPort); err != nil {
		t.Fatal(err)
	}
	if len(left(t, l.ID, l.Dir)) == 0 {
		t.Fatal("a running lab is not seen")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got := left(t, l.ID, l.Dir); got != nil {
		t.Errorf("left behind:\n%s", strings.Join(got, "\n"))
	}
	if startTime(p.PID) != "" {
		t.Errorf("process %d still runs", p.PID)
	}
	if diff := cmp.Diff(links, ownLinks(t)); diff != "" {
		t.Errorf("links (-before +after):\n%s", diff)
	}
	if err := l.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
}

func TestFailedNewLeavesNothing(t *testing.T) {
	RequireRoot(t)
	t.Setenv("TMPDIR", t.TempDir())
	t.Setenv("PATH", "") // no nft: the first node fails after router and client
	links := ownLinks(t)
	_, err := New(discard, Options{Nodes: 2, PodsPerNode: 1})
	if err == nil {
		t.Fatal("new lab without nft succeeded")
	}
	id := regexp.MustCompile(`fl-([0-9a-f]{4})-node1`).FindStringSubmatch(err.Error())
	if id == nil {
		t.Fatalf("error names no namespace: %v", err)
	}
	if got := left(t, id[1], filepath.Join(stateRoot(), id[1])); got != nil {
		t.Errorf("left behind:\n%s", strings.Join(got, "\n"))
	}
	if entries, err := os.ReadDir(stateRoot()); err != nil || len(entries) != 0 {
		t.Errorf("state directory: %v, %v", entries, err)
	}
	if diff := cmp.Diff(links, ownLinks(t)); diff != "" {
		t.Errorf("links (-before +after):\n%s", diff)
	}
}

func TestSweep(t *testing.T) {
	RequireRoot(t)
	t.Setenv("TMPDIR", t.TempDir())
	owned := ForTest(t, Options{Nodes: 1})
	for _, kept := range []bool{false, true} {
		l, err := New(discard, Options{Nodes: 1})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		p, err := l.Nodes[0].Start(exec.Command("sleep", "1000"))
		if err != nil {
			t.Fatal(err)
		}
		if kept {
			if err := l.Keep(); err != nil {
				t.Fatal(err)
			}
		}
		l.lock.Close() // as the kernel does when the owner dies
		if kept {
			if ids, err := Sweep(false); err != nil || ids != nil {
				t.Errorf("sweep removed the kept lab: %v, %v", ids, err)
			}
		}
		ids, err := Sweep(kept)
		if diff := cmp.Diff([]string{l.ID}, ids); err != nil || diff != "" {
			t.Errorf("sweep(%v): %v, removed (-want +got):\n%s", kept, err, diff)
		}
		if got := left(t, l.ID, l.Dir); got != nil {
			t.Errorf("sweep(%v) left:\n%s", kept, strings.Join(got, "\n"))
		}
		if err := Poll(t.Context(), 5*time.Second, func() bool { return startTime(p.PID) == "" }); err != nil {
			t.Errorf("sweep(%v) left process %d: %v", kept, p.PID, err)
		}
	}
	if left(t, owned.ID, owned.Dir) == nil {
		t.Error("sweep removed a lab in use")
	}
}

func TestPollEnds(t *testing.T) {
	if err := Poll(context.Background(), time.Millisecond, func() bool { return false }); err != ErrDeadline {
		t.Errorf("poll of a false condition: %v, want %v", err, ErrDeadline)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := Poll(ctx, time.Hour, func() bool { return false }); err != context.Canceled {
		t.Errorf("poll with a cancelled context: %v", err)
	}
}
