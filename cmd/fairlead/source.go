// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"log/slog"

	"github.com/fairlead/fairlead/controller/desired"
	"github.com/fairlead/fairlead/controller/watch/file"
)

// source is where an agent hears what it has to do.
type source interface {
	// Settings are those that the file has, before anything else is known.
	Settings() (desired.Settings, error)
	// Load returns what is wanted now. An error may come beside a Snapshot: then
	// a part is refused, and the Snapshot has what was before in its place. One
	// that wraps kube.ErrNotReady comes only before the first Snapshot.
	Load() (*desired.Snapshot, error)
	// Changed gets a value when Load has something new.
	Changed() <-chan struct{}
	// Run follows the source until ctx ends.
	Run(ctx context.Context) error
	// Place is what people know the configuration by.
	Place() string
}

// fileSource is the standalone configuration.
type fileSource struct {
	*file.Watcher
	path string
	last *desired.Snapshot // as last accepted; of one goroutine at a time
}

func newFileSource(path string, log *slog.Logger) *fileSource {
	return &fileSource{Watcher: file.NewWatcher(path, log), path: path}
}

// Place is the file's path.
func (s *fileSource) Place() string { return s.path }

// Settings are those of the file.
func (s *fileSource) Settings() (desired.Settings, error) {
	snapshot, err := s.Load()
	if err != nil {
		return desired.Settings{}, err
	}
	return snapshot.Settings, nil
}

// Load refuses a file as a whole.
func (s *fileSource) Load() (*desired.Snapshot, error) {
	snapshot, err := s.Watcher.Load()
	if err == nil && s.last != nil {
		err = checkFixed(s.last.Settings, snapshot.Settings)
	}
	if err != nil {
		return s.last, err
	}
	s.last = snapshot
	return snapshot, nil
}

// Run watches the file.
func (s *fileSource) Run(ctx context.Context) error {
	s.Watcher.Run(ctx)
	return nil
}
