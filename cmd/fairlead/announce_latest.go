// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"sync"
	"time"
)

// latest does something with the newest of the values that it is given, in one
// goroutine, which whoever gives one does not wait for.
type latest[T any] struct {
	again time.Duration // until what failed is tried again
	wake  chan struct{}
	mu    *sync.Mutex
	value *T
}

func newLatest[T any](again time.Duration) latest[T] {
	return latest[T]{again: again, wake: make(chan struct{}, 1), mu: &sync.Mutex{}}
}

func (l *latest[T]) set(v T) {
	l.mu.Lock()
	l.value = &v
	l.mu.Unlock()
	notify(l.wake)
}

// run calls do until ctx ends, again for the same value when it fails.
func (l *latest[T]) run(ctx context.Context, do func(context.Context, T) error) {
	var again <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.wake:
		case <-again:
		}
		l.mu.Lock()
		value := *l.value
		l.mu.Unlock()
		again = nil
		if err := do(ctx, value); err != nil {
			again = time.After(l.again)
		}
	}
}
