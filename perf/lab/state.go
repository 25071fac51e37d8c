// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A lab's directory is <temp>/fairlead-lab/<id>. Its owner holds a lock on it
// as long as it lives, so that Sweep can tell a living lab from a left one.
const (
	stateDirName = "fairlead-lab"
	pidsFile     = "pids" // "pid starttime" a line
	keptFile     = "kept"
	killDeadline = 5 * time.Second
)

func stateRoot() string { return filepath.Join(os.TempDir(), stateDirName) }

// prefix begins the names of the lab's namespaces.
func (l *Lab) prefix() string { return prefixOf(l.ID) }

func prefixOf(id string) string { return "fl-" + id + "-" }

// newState makes the directory under an id that nobody has, and locks it.
func (l *Lab) newState() error {
	if err := os.MkdirAll(stateRoot(), 0o755); err != nil {
		return fmt.Errorf("make state directory: %w", err)
	}
	for range 100 {
		var id [2]byte
		rand.Read(id[:])
		l.ID = hex.EncodeToString(id[:])
		l.Dir = filepath.Join(stateRoot(), l.ID)
		err := os.Mkdir(l.Dir, 0o755)
		if errors.Is(err, os.ErrExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("make lab directory: %w", err)
		}
		// A sweeper may take the fresh directory for a left one; then try anew.
		if l.lock, err = lockDir(l.Dir); err == nil {
			return nil
		}
	}
	return fmt.Errorf("find a free lab id under %q", stateRoot())
}

// errOwned says that a living process holds the lab.
var errOwned = errors.New("lab is in use")

// lockDir locks the directory without waiting.
func lockDir(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %q: %w", dir, errOwned)
	}
	held, herr := f.Stat()
	named, nerr := os.Stat(dir)
	if herr != nil || nerr != nil || !os.SameFile(held, named) {
		f.Close()
		return nil, fmt.Errorf("lock %q: %w", dir, errOwned)
	}
	return f, nil
}

// Keep leaves the lab behind when its owner exits without Close: its processes
// run on, and only Sweep(true) removes it.
func (l *Lab) Keep() error {
	return os.WriteFile(filepath.Join(l.Dir, keptFile), nil, 0o644)
}

// Sweep removes the labs whose owner is dead: processes, mounts, namespaces
// and directories. Those left on purpose with Keep go only if kept is true.
// It returns the ids that it removed.
func Sweep(kept bool) ([]string, error) {
	entries, err := os.ReadDir(stateRoot())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read state directory: %w", err)
	}
	var removed []string
	var errs []error
	for _, e := range entries {
		dir := filepath.Join(stateRoot(), e.Name())
		lock, err := lockDir(dir)
		if err != nil {
			continue // in use, or gone meanwhile
		}
		if _, err := os.Stat(filepath.Join(dir, keptFile)); err != nil || kept {
			errs = append(errs, remove(e.Name(), dir))
			removed = append(removed, e.Name())
		}
		lock.Close()
	}
	return removed, errors.Join(errs...)
}

// remove takes away all that a lab of this id can have left. It goes on after
// a failure, and what is absent is success.
func remove(id, dir string) error {
	errs := []error{killRecorded(filepath.Join(dir, pidsFile)), removeCgroups(id), unmountBelow(dir)}
	names, _ := filepath.Glob(filepath.Join(netnsDir, prefixOf(id)+"*"))
	for _, path := range names {
		errs = append(errs, deleteNamespace(filepath.Base(path)))
	}
	if err := os.RemoveAll(dir); err != nil {
		errs = append(errs, fmt.Errorf("remove lab directory: %w", err))
	}
	return errors.Join(errs...)
}

// recordPID notes a started process for a later Sweep.
func (l *Lab) recordPID(pid int) error {
	f, err := os.OpenFile(filepath.Join(l.Dir, pidsFile), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("record pid: %w", err)
	}
	defer f.Close()
	if _, err := fmt.Fprintf(f, "%d %s\n", pid, startTime(pid)); err != nil {
		return fmt.Errorf("record pid: %w", err)
	}
	return nil
}

// startTime tells a process from a later one with the same pid; "" when there is none.
func startTime(pid int) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	// The command name, in parentheses, may hold spaces; field 22 counts from the pid.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" {
		return ""
	}
	return fields[19]
}

// killRecorded kills what still runs of the recorded processes and waits for it.
func killRecorded(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read pids: %w", err)
	}
	defer f.Close()
	var errs []error
	for s := bufio.NewScanner(f); s.Scan(); {
		var pid int
		var start string
		if n, _ := fmt.Sscanf(s.Text(), "%d %s", &pid, &start); n != 2 || startTime(pid) != start {
			continue
		}
		unix.Kill(pid, unix.SIGKILL)
		gone := func() bool { return startTime(pid) != start }
		if err := Poll(context.Background(), killDeadline, gone); err != nil {
			errs = append(errs, fmt.Errorf("kill process %d: %w", pid, err))
		}
	}
	return errors.Join(errs...)
}

// unmountBelow unmounts every mount at or under dir, the latest first.
func unmountBelow(dir string) error {
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("read mounts: %w", err)
	}
	lines := strings.Split(string(info), "\n")
	var errs []error
	for i := len(lines) - 1; i >= 0; i-- {
		fields := strings.Fields(lines[i])
		if len(fields) < 5 || !strings.HasPrefix(fields[4], dir+"/") {
			continue
		}
		if err := unix.Unmount(fields[4], unix.MNT_DETACH); err != nil {
			errs = append(errs, fmt.Errorf("unmount %q: %w", fields[4], err))
		}
	}
	return errors.Join(errs...)
}
