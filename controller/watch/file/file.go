// SPDX-License-Identifier: Apache-2.0

// Package file is the edge at which the standalone configuration enters roads A
// and B: one YAML file becomes an immutable Snapshot, and a change of it a
// signal to look again.
package file

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/fairlead/fairlead/controller/desired"
)

const (
	// settle lets a writer finish before the file is looked at.
	settle = 50 * time.Millisecond
	// pollInterval finds what no event tells: a network file system, a symbolic
	// link swapped higher up, no inotify instance left.
	pollInterval = 5 * time.Second
)

// Load reads and checks the file once. The error joins all problems.
func Load(path string) (*desired.Snapshot, error) {
	snapshot, _, err := load(path, desired.Parse)
	return snapshot, err
}

// LoadSettings is Load for the file of an agent in Kubernetes. Without a path
// everything is as where a file says nothing.
func LoadSettings(path string) (*desired.Snapshot, error) {
	if path == "" {
		return desired.ParseSettings(nil)
	}
	snapshot, _, err := load(path, parseSettings)
	return snapshot, err
}

// parse is desired.Parse or parseSettings.
type parse func(data []byte, readFile func(string) ([]byte, error)) (*desired.Snapshot, error)

func parseSettings(data []byte, _ func(string) ([]byte, error)) (*desired.Snapshot, error) {
	return desired.ParseSettings(data)
}

// digest stands for the content of a file, or for the reason why there is none.
type digest [sha256.Size]byte

// load also returns what was read: the file and its key file, if it names one.
func load(path string, parse parse) (*desired.Snapshot, map[string]digest, error) {
	seen := map[string]digest{}
	readFile := func(name string) ([]byte, error) {
		data, sum, err := read(name)
		seen[name] = sum
		return data, err
	}
	data, err := readFile(path)
	if err != nil {
		return nil, seen, err
	}
	snapshot, err := parse(data, readFile)
	return snapshot, seen, err
}

func read(name string) ([]byte, digest, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, sha256.Sum256([]byte("error: " + err.Error())), err
	}
	return data, sha256.Sum256(data), nil
}

// Watcher tells when what Load returned is out of date.
type Watcher struct {
	path    string
	parse   parse
	log     *slog.Logger
	poll    time.Duration
	changed chan struct{} // to whoever loads
	loaded  chan struct{} // to Run: other files may be worth watching

	mu   sync.Mutex
	seen map[string]digest
}

// NewWatcher is for one path. Nothing is watched until Run.
func NewWatcher(path string, log *slog.Logger) *Watcher { return newWatcher(path, desired.Parse, log) }

// NewSettingsWatcher is NewWatcher for the file of an agent in Kubernetes.
func NewSettingsWatcher(path string, log *slog.Logger) *Watcher {
	return newWatcher(path, parseSettings, log)
}

func newWatcher(path string, parse parse, log *slog.Logger) *Watcher {
	return &Watcher{
		path: path, parse: parse, log: log, poll: pollInterval,
		changed: make(chan struct{}, 1), loaded: make(chan struct{}, 1),
	}
}

// Load reads and checks the file as it is now; only a later difference, also
// in a bad file, counts as a change.
func (w *Watcher) Load() (*desired.Snapshot, error) {
	snapshot, seen, err := load(w.path, w.parse)
	w.mu.Lock()
	w.seen = seen
	w.mu.Unlock()
	signal(w.loaded)
	return snapshot, err
}

// Changed gets a value when the content differs from what Load saw. Several
// changes may be one value.
func (w *Watcher) Changed() <-chan struct{} { return w.changed }

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run watches until ctx ends. Without inotify it polls.
func (w *Watcher) Run(ctx context.Context) {
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		w.log.Warn("no file events, polling", "path", w.path, "err", err)
		notify = &fsnotify.Watcher{}
	} else {
		defer notify.Close()
	}
	poll := time.NewTicker(w.poll)
	defer poll.Stop()
	var settled <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.loaded:
			w.watch(notify)
			w.look()
		case <-notify.Events:
			if settled == nil {
				settled = time.After(settle)
			}
		case err := <-notify.Errors:
			w.log.Warn("file events lost", "path", w.path, "err", err)
			w.look()
		case <-settled:
			settled = nil
			w.watch(notify)
			w.look()
		case <-poll.C:
			w.watch(notify)
			w.look()
		}
	}
}

// watch adds the directories in which a change shows: the file's own, since a
// rename replaces the file, and the one that a symbolic link leads to.
func (w *Watcher) watch(notify *fsnotify.Watcher) {
	if notify.Events == nil {
		return
	}
	for _, name := range w.names() {
		directories := []string{filepath.Dir(name)}
		if target, err := filepath.EvalSymlinks(name); err == nil {
			directories = append(directories, filepath.Dir(target))
		}
		for _, directory := range directories {
			if err := notify.Add(directory); err != nil {
				w.log.Debug("directory not watched", "path", directory, "err", err)
			}
		}
	}
}

func (w *Watcher) names() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	names := make([]string, 0, len(w.seen))
	for name := range w.seen {
		names = append(names, name)
	}
	return names
}

// look signals if a file differs from what was seen last.
func (w *Watcher) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name, before := range w.seen {
		if _, now, _ := read(name); now != before {
			w.seen[name] = now
			signal(w.changed)
		}
	}
}
