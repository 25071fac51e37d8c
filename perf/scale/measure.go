// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"time"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/dataplane"
	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/xdp"
)

const (
	syncTimeout   = 5 * time.Minute
	changeTimeout = 30 * time.Second
	// settle is how long a program gets to give back what it needed for its start
	// before its memory is read.
	settle = 10 * time.Second
	// pause between changes, so that they do not wait for each other.
	pause = 20 * time.Millisecond
	// glance is how often the map is looked at.
	glance = 50 * time.Microsecond
)

// measure brings the cluster to n Services and measures everything there.
func (w *world) measure(ctx context.Context, n int) (size Size, err error) {
	size = Size{Services: n, NewServices: n - len(w.services)}
	created, assigned, err := w.grow(ctx, n)
	if err != nil {
		return size, err
	}
	size.CreateSeconds, size.AssignSeconds = created.Seconds(), assigned.Seconds()
	agent, err := w.startAgent()
	if err != nil {
		return size, err
	}
	defer func() { err = errors.Join(err, agent.stop(), w.cleanUpAgent()) }()
	view, err := w.openView(ctx, agent)
	if err != nil {
		return size, err
	}
	defer view.Close()
	synced, err := w.awaitSync(ctx, agent, view)
	if err != nil {
		return size, err
	}
	size.SyncSeconds = synced.Seconds()
	w.logger.Info("agent is in sync", "services", n, "took", synced)
	if size.Changes, err = w.changes(ctx, agent, view); err != nil {
		return size, err
	}
	if err := sleep(ctx, settle); err != nil {
		return size, err
	}
	if size.Agent, err = memoryOf(agent.process.PID); err != nil {
		return size, err
	}
	if size.Controller, err = memoryOf(w.controller.process.PID); err != nil {
		return size, err
	}
	maps, err := view.Memory()
	if err != nil {
		return size, err
	}
	for _, bytes := range maps {
		size.MapBytes += bytes
	}
	if err := agent.stop(); err != nil {
		return size, err
	}
	agent, size.ResyncSeconds, err = w.restart(ctx)
	return size, err
}

// restart starts the agent on the maps of the one before.
func (w *world) restart(ctx context.Context) (agent *program, seconds float64, err error) {
	if agent, err = w.startAgent(); err != nil {
		return nil, 0, err
	}
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", w.socket())
		},
	}}
	defer client.CloseIdleConnections()
	err = w.await(ctx, agent, syncTimeout, func() (bool, error) {
		answer, err := client.Get("http://agent/readyz")
		if err != nil {
			return false, nil // it does not answer yet
		}
		return answer.StatusCode == http.StatusOK, answer.Body.Close()
	})
	return agent, time.Since(agent.started).Seconds(), err
}

// await polls until done, for as long as the program lives.
func (w *world) await(ctx context.Context, p *program, timeout time.Duration, done func() (bool, error)) error {
	var last error
	err := lab.Poll(ctx, timeout, func() bool {
		select {
		case <-p.process.Done():
			last = errors.New("program ended")
			return true
		default:
		}
		var ok bool
		ok, last = done()
		return ok || last != nil
	})
	if err = errors.Join(err, last); err != nil {
		return fmt.Errorf("%w: %s", err, p.tail())
	}
	return nil
}

// openView opens the maps as soon as the agent has made them.
func (w *world) openView(ctx context.Context, agent *program) (view *xdp.View, err error) {
	err = w.await(ctx, agent, syncTimeout, func() (bool, error) {
		view, err = xdp.OpenView(w.pins())
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return err == nil, err
	})
	return view, err
}

// awaitSync returns how long after its start the agent has all Services in the maps.
func (w *world) awaitSync(ctx context.Context, agent *program, view *xdp.View) (time.Duration, error) {
	next := 0 // the first that was not there
	err := w.await(ctx, agent, syncTimeout, func() (bool, error) {
		for ; next < len(w.services); next++ {
			id, ok, err := view.ServiceID(w.services[next].key)
			if err != nil || !ok || view.Table(id).Size == 0 {
				return false, err
			}
		}
		return true, nil
	})
	if err != nil {
		return 0, fmt.Errorf("wait for service %d of %d: %w", next+1, len(w.services), err)
	}
	return time.Since(agent.started), nil
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// changes times single changes of endpoints.
func (w *world) changes(ctx context.Context, agent *program, view *xdp.View) (c Changes, err error) {
	if err := sleep(ctx, settle); err != nil { // the start is over
		return c, err
	}
	used := func() (agentTime, controllerTime time.Duration) {
		var errs [2]error
		agentTime, errs[0] = processorTime(agent.process.PID)
		controllerTime, errs[1] = processorTime(w.controller.process.PID)
		err = errors.Join(err, errs[0], errs[1])
		return agentTime, controllerTime
	}
	agentBefore, controllerBefore := used()
	var sent, returned, received []time.Duration
	for range w.options.changes {
		one, err := w.change(ctx, view)
		if err != nil {
			return c, fmt.Errorf("%w: %s", err, agent.tail())
		}
		sent = append(sent, one.mapped.Sub(one.sent))
		returned = append(returned, one.mapped.Sub(one.returned))
		received = append(received, one.mapped.Sub(one.received))
		if err := sleep(ctx, pause); err != nil {
			return c, err
		}
	}
	agentAfter, controllerAfter := used()
	each := func(d time.Duration) float64 { return ms(d) / float64(w.options.changes) }
	c = Changes{
		Count: w.options.changes, Sent: timesOf(sent), Returned: timesOf(returned), Received: timesOf(received),
		AgentMS: each(agentAfter - agentBefore), ControllerMS: each(controllerAfter - controllerBefore),
	}
	if err == nil {
		c.Load, err = loadAverage()
	}
	return c, err
}

// moments of one change.
type moments struct{ sent, returned, received, mapped time.Time }

// change turns an endpoint of any Service over.
func (w *world) change(ctx context.Context, view *xdp.View) (m moments, err error) {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	s := w.services[rand.IntN(len(w.services))]
	id, ok, err := view.ServiceID(s.key)
	if err != nil || !ok {
		return m, fmt.Errorf("find service %s in the maps: %v, %w", s.name, ok, err)
	}
	mapped := make(chan time.Time, 1)
	w.watch.expect()
	go look(ctx, view, id, view.Table(id), mapped)
	m.sent = time.Now()
	version, err := w.toggle(ctx, s, rand.IntN(w.options.endpoints))
	if err != nil {
		return m, err
	}
	m.returned = time.Now()
	if m.received, err = w.watch.arrival(ctx, version); err != nil {
		return m, fmt.Errorf("receive change of %s: %w", s.name, err)
	}
	if m.mapped, ok = <-mapped; !ok {
		return m, fmt.Errorf("change of %s does not reach the maps", s.name)
	}
	return m, nil
}

// look sends the time at which the Service's record names another table, or
// closes the channel when ctx ends.
func look(ctx context.Context, view *xdp.View, id lb.ServiceID, before dataplane.TableRef, mapped chan<- time.Time) {
	defer close(mapped)
	for ctx.Err() == nil {
		if view.Table(id) != before {
			mapped <- time.Now()
			return
		}
		time.Sleep(glance)
	}
}
