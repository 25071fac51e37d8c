// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/fairlead/fairlead/controller/desired"
	"github.com/fairlead/fairlead/controller/watch/file"
	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/dataplane"
	"github.com/fairlead/fairlead/xdp"
)

// How long to wait before what failed is tried again; it doubles each time.
const (
	firstRetry = 100 * time.Millisecond
	lastRetry  = 30 * time.Second
)

// agent carries the configuration into the datapath and answers questions.
type agent struct {
	log      *slog.Logger
	path     string
	mode     xdp.Mode
	watcher  *file.Watcher
	datapath datapath
	plane    *dataplane.Dataplane // of the loop alone
	started  time.Time

	// Of the loop alone.
	reconfigure bool          // the datapath does not have the settings yet
	retry       time.Duration // until the next try; 0: nothing failed

	mu    sync.Mutex // for state
	state state
}

// state is what questions are answered from. What its fields point to never
// changes, so that a copy of the struct is a view of one moment.
type state struct {
	snapshot  *desired.Snapshot // the running one
	table     *lb.Table         // of snapshot
	ids       map[lb.ServiceKey]lb.ServiceID
	configErr error  // the file as it is now is refused
	applyErr  error  // the datapath does not have all of snapshot yet
	applied   string // revision that apply was last done for
	ready     bool   // the datapath had everything once

	reloads, refused, applyErrors uint64
}

func (a *agent) view() state {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.state
}

func (a *agent) change(f func(*state)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f(&a.state)
}

// loop is the only one that writes to the datapath's tables.
func (a *agent) loop(ctx context.Context) {
	a.apply()
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.watcher.Changed():
			a.reload()
		case <-time.After(a.wait()):
			failed := a.retry > 0
			a.expire()
			if failed {
				a.apply()
			}
		}
	}
}

// wait is the time until something is to be done without a change.
func (a *agent) wait() time.Duration {
	wait := time.Hour
	if next, ok := a.plane.NextExpiry(); ok {
		// Ticks wrap around; the difference does not.
		wait = max(0, time.Duration(int32(next-xdp.NowTick()))*xdp.Tick) + xdp.Tick
	}
	if a.retry > 0 {
		wait = min(wait, a.retry)
	}
	return wait
}

func (a *agent) expire() {
	if err := a.plane.Expire(xdp.NowTick()); err != nil {
		a.failed("forget past backends", err)
	}
}

// reload takes the changed file over. A bad one changes nothing but is told.
func (a *agent) reload() {
	before := a.view().snapshot
	snapshot, err := a.watcher.Load()
	if err == nil {
		err = checkFixed(before.Settings, snapshot.Settings)
	}
	if err != nil {
		for _, problem := range problemsOf(err) {
			a.log.Error("configuration refused, the one before stays", "config", a.path, "problem", problem)
		}
		a.change(func(s *state) { s.configErr, s.refused = err, s.refused+1 })
		return
	}
	a.log.Info("configuration loaded", "config", a.path, "revision", snapshot.Revision)
	a.change(func(s *state) { s.snapshot, s.configErr, s.reloads = snapshot, nil, s.reloads+1 })
	a.reconfigure = a.reconfigure || !reflect.DeepEqual(before.Settings, snapshot.Settings)
	a.retry = 0
	a.apply()
}

// checkFixed reports settings that a running agent cannot change.
func checkFixed(before, after desired.Settings) error {
	var problems []error
	for _, s := range []struct {
		name          string
		before, after any
	}{
		{"node", before.Node, after.Node},
		{"pinPath", before.PinPath, after.PinPath},
		{"socket", before.Socket, after.Socket},
		{"limits", before.Limits, after.Limits},
		{"pastTimeout", before.Past, after.Past},
	} {
		if s.before != s.after {
			problems = append(problems, fmt.Errorf("%s: %+v: was %+v at the start of the agent: restart it for a change", s.name, s.after, s.before))
		}
	}
	return errors.Join(problems...)
}

// apply brings the datapath to the snapshot, as far as it goes, and sets the
// time of the next try if something failed.
func (a *agent) apply() {
	snapshot := a.view().snapshot
	var errs []error
	if a.reconfigure {
		if err := a.datapath.Reconfigure(datapathConfig(snapshot.Settings, a.mode, a.log)); err != nil {
			errs = append(errs, fmt.Errorf("reconfigure: %w", err))
		} else {
			a.reconfigure = false
		}
	}
	table, err := snapshot.Table()
	if err == nil {
		err = a.plane.Sync(table)
	}
	if err = errors.Join(append(errs, err)...); err != nil {
		a.failed("apply configuration", err)
	} else {
		a.retry = 0
	}
	ids := a.serviceIDs(table)
	a.change(func(s *state) {
		s.table, s.ids, s.applyErr, s.applied = table, ids, err, snapshot.Revision
		s.ready = s.ready || err == nil
	})
}

// failed logs, counts, and doubles the time until the next try.
func (a *agent) failed(what string, err error) {
	a.retry = min(max(2*a.retry, firstRetry), lastRetry)
	a.log.Error(what, "err", err, "retry", a.retry)
	a.change(func(s *state) { s.applyErrors++ })
}

func (a *agent) serviceIDs(table *lb.Table) map[lb.ServiceKey]lb.ServiceID {
	ids := map[lb.ServiceKey]lb.ServiceID{}
	if table == nil {
		return ids
	}
	for _, s := range table.Services() {
		if id, ok := a.plane.ServiceID(s.Key); ok {
			ids[s.Key] = id
		}
	}
	return ids
}

// problemsOf takes joined errors apart.
func problemsOf(err error) []string {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []string{err.Error()}
	}
	var problems []string
	for _, e := range joined.Unwrap() {
		problems = slices.Concat(problems, problemsOf(e))
	}
	return problems
}
