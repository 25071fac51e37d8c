// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/fairlead/fairlead/announce/bgp"
)

// Tuning of drains.
const (
	// settleTime is what routers get to turn to other nodes at least: a node whose
	// Pods are all its own cannot see that they have.
	settleTime = 2 * time.Second
	// quietTime is how long nothing may have come for other nodes.
	quietTime = time.Second

	defaultDrainTimeout = 30 * time.Second
)

// drain is how a node stops announcing without a failed connection: routes get
// the community GRACEFUL_SHUTDOWN and the lowest preference (RFC 8326), and go
// when packets do not come any more; VIPs on the link are handed over. It does
// not change; what becomes of it is another one.
type drain struct {
	began     time.Time
	timeout   time.Duration
	withdrawn bool
	quiet     *quiet // of the announcer's goroutine
}

// quiet finds out when packets stop.
type quiet struct {
	packets uint64
	moved   time.Time
}

func newDrain(now time.Time, timeout time.Duration) *drain {
	return &drain{began: now, timeout: timeout, quiet: &quiet{moved: now}}
}

// done says that the routes can go, by how many packets have come.
func (d *drain) done(now time.Time, packets uint64) bool {
	if packets != d.quiet.packets {
		d.quiet.packets, d.quiet.moved = packets, now
	}
	lasts := now.Sub(d.began)
	return lasts >= d.timeout || lasts >= settleTime && now.Sub(d.quiet.moved) >= quietTime
}

// end is the drain once the routes go.
func (d *drain) end() *drain {
	ended := *d
	ended.withdrawn = true
	return &ended
}

// of are the sessions of a node that drains. They stay, without routes at last.
func (d *drain) of(s sessions) sessions {
	s.bgp.Shutdown = true
	if d.withdrawn {
		s.bgp.Routes = nil
	}
	return s
}

// String is for status.
func (d *drain) String() string {
	switch {
	case d == nil:
		return ""
	case d.withdrawn:
		return "drained"
	}
	return "draining"
}

func (n *announcer) draining() *drain {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.drain
}

func (n *announcer) setDrain(d *drain) {
	n.mu.Lock()
	n.drain = d
	n.mu.Unlock()
	notify(n.replan)
}

// beginDrain drains, unless that is so already.
func (n *announcer) beginDrain(timeout time.Duration) {
	if n.draining() == nil {
		n.log.Info("draining", "timeout", timeout)
		n.setDrain(newDrain(time.Now(), timeout))
	}
}

// turnAway marks the routes and waits until routers have turned to other nodes.
func (n *announcer) turnAway(ctx context.Context, speaker *bgp.Speaker) error {
	if d := n.draining(); d != nil && d.withdrawn || len(n.last.bgp.Routes) == 0 {
		return nil
	}
	d := newDrain(time.Now(), endTimeout)
	err := speaker.Sync(ctx, d.of(n.last).bgp)
	tick := time.NewTicker(quietTime / 4)
	defer tick.Stop()
	for !d.done(<-tick.C, n.packets()) {
	}
	return err
}

// handleDrain begins a drain, with a timeout, or ends it.
func (a *agent) handleDrain(w http.ResponseWriter, r *http.Request) {
	if a.announcer == nil {
		http.Error(w, announcesNothing, http.StatusNotFound)
		return
	}
	if r.FormValue("undo") == "true" {
		a.log.Info("announcing again")
		a.announcer.setDrain(nil)
	} else {
		timeout, err := time.ParseDuration(r.FormValue("timeout"))
		if err != nil || timeout < 0 {
			http.Error(w, fmt.Sprintf("timeout: %q: want a duration such as 30s", r.FormValue("timeout")), http.StatusBadRequest)
			return
		}
		a.announcer.beginDrain(timeout)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(drainReport{a.announcer.draining().String()}) // the client is gone then
}

// drainReport is the answer to a drain.
type drainReport struct {
	State string `json:"state"` // draining, drained; "": announcing
}

func runDrain(ctx context.Context, env *env, args []string) error {
	var f clientFlags
	flags := newFlags("drain")
	f.registerSocket(env, flags)
	timeout := flags.Duration("timeout", defaultDrainTimeout, "`TIME` after which routes go though packets still come")
	undo := flags.Bool("undo", false, "announce again")
	if err := parseFlags(env, flags, args); err != nil {
		return err
	}
	for {
		query := url.Values{"timeout": {timeout.String()}, "undo": {strconv.FormatBool(*undo)}}
		var r drainReport
		if err := post(ctx, f.socket, "/drain", query, &r); err != nil {
			return err
		}
		if r.State != "draining" {
			if r.State == "" {
				r.State = "announcing"
			}
			_, err := fmt.Fprintln(env.stdout, r.State)
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(quietTime / 4):
		}
	}
}
