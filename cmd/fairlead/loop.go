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

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
	"github.com/fairlead/fairlead/controller/desired"
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
	log       *slog.Logger
	mode      xdp.Mode
	source    source
	kube      *kubeSource // source in Kubernetes, else nil
	open      opener
	announcer *announcer           // nil: nothing is announced
	datapath  datapath             // nil until state has a snapshot
	plane     *dataplane.Dataplane // likewise
	latency   prometheus.Histogram
	started   time.Time

	// Of the loop alone.
	reconfigure bool          // the datapath does not have the settings yet
	retry       time.Duration // until the next try; 0: nothing failed
	received    []time.Time   // when what the datapath does not have yet was told
	published   *v1beta1.NodeStateStatus
	accepted    []string // fingerprints of the keys that the datapath has
	adoption    adoption

	mu    sync.Mutex // for state
	state state
}

// state is what questions are answered from. What its fields point to never
// changes, so that a copy of the struct is a view of one moment.
type state struct {
	waiting  error             // what has to come before the first snapshot
	snapshot *desired.Snapshot // the running one
	table    *lb.Table         // of snapshot
	id       func(lb.ServiceKey) (lb.ServiceID, bool)
	// adopted are services taken over from kube-proxy, with the connections that
	// it still has as far as they have been counted.
	adopted   map[lb.ServiceKey]int
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
	var announced <-chan struct{}
	if a.announcer != nil {
		announced = a.announcer.news
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-announced:
			a.publish()
		case <-a.source.Changed():
			a.reload()
		case <-time.After(a.wait()):
			failed := a.retry > 0
			a.expire()
			if failed {
				a.apply()
			}
			a.publish()
		}
		a.followAdoption(time.Now())
	}
}

// wait is the time until something is to be done without a change.
func (a *agent) wait() time.Duration {
	wait := time.Hour
	if next, ok := a.plane.NextExpiry(); ok {
		// Ticks wrap around; the difference does not.
		wait = max(0, time.Duration(int32(next-xdp.NowTick()))*xdp.Tick) + xdp.Tick
	}
	if a.kube != nil {
		wait = min(wait, publishInterval)
	}
	if !a.adoption.next.IsZero() {
		wait = min(wait, max(0, time.Until(a.adoption.next)))
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

// reload takes over what changed. What is bad changes nothing but is told.
func (a *agent) reload() {
	before := a.view()
	snapshot, err := a.source.Load()
	if err != nil && !told(err, before.configErr) {
		for _, problem := range problemsOf(err) {
			a.log.Error("configuration refused, the one before stays", "config", a.source.Place(), "problem", problem)
		}
		a.change(func(s *state) { s.refused++ })
	}
	a.change(func(s *state) { s.configErr = err })
	if snapshot == nil || snapshot == before.snapshot {
		return
	}
	if a.kube == nil {
		a.log.Info("configuration loaded", "config", a.source.Place(), "revision", snapshot.Revision)
	}
	a.change(func(s *state) { s.snapshot, s.reloads = snapshot, s.reloads+1 })
	a.reconfigure = a.reconfigure || !equalSettings(before.snapshot.Settings, snapshot.Settings)
	a.received = append(a.received, snapshot.Received...)
	a.retry = 0
	a.apply()
}

// told says that an error is the one that was told before. In Kubernetes there is
// something to load every moment, and each time the file is still as bad.
func told(err, before error) bool { return before != nil && err.Error() == before.Error() }

func equalSettings(a, b desired.Settings) bool { return reflect.DeepEqual(a, b) }

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
	for _, at := range a.received {
		a.latency.Observe(time.Since(at).Seconds())
	}
	a.received = nil
	if a.announcer != nil && table != nil {
		a.announcer.applied(tables{
			table: table, err: err, version: a.kube.cluster.Version(), attached: len(a.datapath.Attachments()) > 0,
			keys: snapshot.Settings.Keys, addrs: snapshot.Settings.Addrs,
		})
	}
	adopted := a.plane.Adopted()
	a.adoption.begin(adopted, time.Now())
	a.reportAdoption(adopted)
	a.change(func(s *state) {
		s.table, s.id, s.applyErr, s.applied = table, a.plane.ServiceID, err, snapshot.Revision
		// A cluster always has a Service that is odd; it makes the others wait for nothing.
		s.ready = s.ready || err == nil || a.kube != nil
	})
	a.publish()
}

// failed logs, counts, and doubles the time until the next try.
func (a *agent) failed(what string, err error) {
	a.retry = min(max(2*a.retry, firstRetry), lastRetry)
	a.log.Error(what, "err", err, "retry", a.retry)
	a.change(func(s *state) { s.applyErrors++ })
}

// problemsOf takes joined errors apart.
func problemsOf(err error) []string {
	var problems []string
	for _, e := range leaves(err) {
		problems = append(problems, e.Error())
	}
	return problems
}

// leaves takes joined errors apart.
func leaves(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = slices.Concat(all, leaves(e))
	}
	return all
}
