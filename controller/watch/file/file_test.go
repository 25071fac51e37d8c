// SPDX-License-Identifier: Apache-2.0

package file

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const deadline = 10 * time.Second

func config(node string) string {
	return "node: " + node + `
interfaces: [eth0]
key: "000102030405060708090a0b0c0d0e0f"
nodes: [{name: ` + node + `, addresses: [10.1.0.11]}]
`
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// start returns a running watcher that does not poll and has loaded node1.
func start(t *testing.T, path string) *Watcher {
	t.Helper()
	w := NewWatcher(path, slog.New(slog.DiscardHandler))
	w.poll = time.Hour
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	wantNode(t, w, "node1")
	return w
}

func wantNode(t *testing.T, w *Watcher, node string) {
	t.Helper()
	snapshot, err := w.Load()
	if err != nil {
		t.Fatal(err)
	}
	if snapshot.Settings.Node != node {
		t.Errorf("node %q, want %q", snapshot.Settings.Node, node)
	}
}

// wantChange waits until a signal leads to the node's configuration.
func wantChange(t *testing.T, w *Watcher, node string) {
	t.Helper()
	timeout := time.After(deadline)
	for {
		select {
		case <-w.Changed():
			// A signal may come amid several changes; the last one tells.
			if s, err := w.Load(); err == nil && s.Settings.Node == node {
				return
			}
		case <-timeout:
			t.Fatalf("no signal that leads to %q within %s", node, deadline)
		}
	}
}

func TestWatch(t *testing.T) {
	for _, test := range []struct {
		name   string
		before func(t *testing.T, directory, path string)
		change func(t *testing.T, directory, path string)
	}{
		{
			name:   "written in place",
			before: func(t *testing.T, _, path string) { write(t, path, config("node1")) },
			change: func(t *testing.T, _, path string) { write(t, path, config("node2")) },
		},
		{
			name:   "renamed over",
			before: func(t *testing.T, _, path string) { write(t, path, config("node1")) },
			change: func(t *testing.T, directory, path string) {
				write(t, filepath.Join(directory, "new"), config("node2"))
				rename(t, filepath.Join(directory, "new"), path)
			},
		},
		{
			name:   "removed and made again",
			before: func(t *testing.T, _, path string) { write(t, path, config("node1")) },
			change: func(t *testing.T, _, path string) {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
				write(t, path, config("node2"))
			},
		},
		{
			name: "ConfigMap volume",
			before: func(t *testing.T, directory, path string) {
				write(t, filepath.Join(mkdir(t, directory, "..1"), "config.yaml"), config("node1"))
				symlink(t, "..1", filepath.Join(directory, "..data"))
				symlink(t, "..data/config.yaml", path)
			},
			change: func(t *testing.T, directory, _ string) {
				write(t, filepath.Join(mkdir(t, directory, "..2"), "config.yaml"), config("node2"))
				symlink(t, "..2", filepath.Join(directory, "..data_tmp"))
				rename(t, filepath.Join(directory, "..data_tmp"), filepath.Join(directory, "..data"))
			},
		},
		{
			name: "link to a file elsewhere",
			before: func(t *testing.T, directory, path string) {
				write(t, filepath.Join(mkdir(t, directory, "elsewhere"), "real.yaml"), config("node1"))
				symlink(t, "elsewhere/real.yaml", path)
			},
			change: func(t *testing.T, directory, _ string) {
				write(t, filepath.Join(directory, "elsewhere/real.yaml"), config("node2"))
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			directory := t.TempDir()
			path := filepath.Join(directory, "config.yaml")
			test.before(t, directory, path)
			w := start(t, path)
			waitForWatch(t, w)
			test.change(t, directory, path)
			wantChange(t, w, "node2")
		})
	}
}

// waitForWatch returns when Run has taken note of the last Load; a change after
// that is seen by it, or by an event.
func waitForWatch(t *testing.T, w *Watcher) {
	t.Helper()
	for end := time.Now().Add(deadline); len(w.loaded) > 0; {
		if time.Now().After(end) {
			t.Fatal("Run does not look")
		}
		time.Sleep(time.Millisecond)
	}
}

func mkdir(t *testing.T, elements ...string) string {
	t.Helper()
	path := filepath.Join(elements...)
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func symlink(t *testing.T, target, path string) {
	t.Helper()
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func TestWatchKeyFile(t *testing.T) {
	directory := t.TempDir()
	key := filepath.Join(mkdir(t, directory, "secret"), "key")
	path := filepath.Join(directory, "config.yaml")
	write(t, key, "000102030405060708090a0b0c0d0e0f")
	write(t, path, strings.Replace(config("node1"), `key: "000102030405060708090a0b0c0d0e0f"`, "keyFile: "+key, 1))
	w := start(t, path)
	waitForWatch(t, w)
	write(t, key, "ff0102030405060708090a0b0c0d0e0f")
	wantChange(t, w, "node1")
	if s, err := w.Load(); err != nil || s.Settings.Keys[0][0] != 0xff {
		t.Errorf("key not read again: %v", err)
	}
}

// The content decides, not the event.
func TestLook(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yaml")
	write(t, path, config("node1"))
	w := NewWatcher(path, slog.New(slog.DiscardHandler))
	wantNode(t, w, "node1")
	look := func(want int, when string) {
		t.Helper()
		w.look()
		if got := len(w.changed); got != want {
			t.Errorf("%s: %d signals, want %d", when, got, want)
		}
	}
	look(0, "untouched")
	write(t, path, config("node1"))
	look(0, "same content written")
	write(t, path, "node: [")
	look(1, "bad content")
	<-w.changed
	look(0, "bad content again")
	if _, err := w.Load(); err == nil || !strings.Contains(err.Error(), "yaml: line 1") {
		t.Errorf("bad content: %v", err)
	}
	look(0, "bad content loaded")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	look(1, "removed")
	<-w.changed
	if _, err := w.Load(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("removed: %v", err)
	}
	look(0, "still removed")
	write(t, path, config("node1"))
	look(1, "back")
}
