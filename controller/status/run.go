// SPDX-License-Identifier: Apache-2.0

package status

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// How long to wait before what failed is tried again; it doubles each time.
const (
	firstRetry = 100 * time.Millisecond
	lastRetry  = 30 * time.Second
)

// Run makes one Pass after the other until ctx ends, each when there is
// something to look at. It starts when the watcher has been told of everything.
func (w *Writer) Run(ctx context.Context) error {
	if err := w.watcher.WaitForSync(ctx); err != nil {
		return err
	}
	w.Log.Info("controller leads")
	var retry time.Duration
	for {
		start := time.Now()
		again, err := w.Pass(ctx, start)
		if ctx.Err() != nil {
			return nil
		}
		w.Metrics.passed(w, time.Since(start), err)
		changed := w.watcher.Changed()
		if err != nil {
			retry = min(max(2*retry, firstRetry), lastRetry)
			w.Log.Error("carry out decisions", "err", err, "retry", retry)
			again = earliest(again, time.Now().Add(retry))
			if !wait(ctx, time.Now().Add(min(retry, time.Second)), nil) { // changes do not make it a busy loop
				return nil
			}
		} else {
			retry = 0
		}
		if !wait(ctx, again, changed) {
			return nil
		}
	}
}

// wait returns true at a time, zero for never, or when changed has a value, and
// false when ctx ended.
func wait(ctx context.Context, until time.Time, changed <-chan struct{}) bool {
	var timer <-chan time.Time
	if !until.IsZero() {
		t := time.NewTimer(time.Until(until))
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-ctx.Done():
		return false
	case <-changed:
	case <-timer:
	}
	return true
}

// Cleanup takes everything back that the controller ever wrote, so that Services
// and CRDs can be deleted without it. The watcher is to be of a class that no
// Service has. It returns when nothing is left.
func (w *Writer) Cleanup(ctx context.Context) error {
	if err := w.watcher.WaitForSync(ctx); err != nil {
		return err
	}
	w.Delay = 0
	for {
		again, err := w.Pass(ctx, time.Now())
		if ctx.Err() != nil {
			return fmt.Errorf("clean up: %w", context.Cause(ctx))
		}
		if err != nil {
			w.Log.Error("clean up", "err", err)
			again = time.Now().Add(firstRetry)
		} else if len(w.todo) == 0 && w.idleClaims() == 0 {
			return w.book.clear(ctx)
		}
		if !wait(ctx, earliest(again, time.Now().Add(oldView)), w.watcher.Changed()) {
			return fmt.Errorf("clean up: %w", context.Cause(ctx))
		}
	}
}

// idleClaims is the number of claims in the book that no Service is to have.
func (w *Writer) idleClaims() int {
	w.findIdle()
	return len(w.idle)
}

// clear deletes all blocks.
func (b *book) clear(ctx context.Context) error {
	var errs []error
	for p, one := range b.blocks {
		if _, err := b.writeBlock(ctx, p, &block{object: one.object}, nil, time.Now(), 0); err != nil && !refused(err) {
			errs = append(errs, err)
		}
	}
	b.stale = true
	return errors.Join(errs...)
}
