// SPDX-License-Identifier: Apache-2.0

package main

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/announce/bgp"
)

// Routes go when packets stop, not before routers had their time, and in any case at last.
func TestDrainDone(t *testing.T) {
	type look struct {
		after   time.Duration
		packets uint64
		want    bool
	}
	for _, test := range []struct {
		name  string
		looks []look
	}{
		{"nothing comes", []look{{time.Second, 0, false}, {settleTime - 1, 0, false}, {settleTime, 0, true}}},
		{"it stops", []look{{time.Second, 5, false}, {settleTime, 6, false}, {settleTime + quietTime - 1, 6, false}, {settleTime + quietTime, 6, true}}},
		{"it does not stop", []look{{10 * time.Second, 5, false}, {20 * time.Second, 6, false}, {30 * time.Second, 7, true}}},
	} {
		start := time.Now()
		d := newDrain(start, 30*time.Second)
		for _, l := range test.looks {
			if got := d.done(start.Add(l.after), l.packets); got != l.want {
				t.Errorf("%s: %t after %s", test.name, got, l.after)
			}
		}
	}
}

func TestDrainOf(t *testing.T) {
	s := sessions{bgp: bgp.Desired{Peers: []bgp.Peer{{}}, Routes: []bgp.Route{{Prefix: netip.MustParsePrefix("192.0.2.1/32")}}}}
	d := newDrain(time.Now(), 0)
	if got := d.of(s).bgp; !got.Shutdown || len(got.Routes) != 1 || len(got.Peers) != 1 {
		t.Errorf("draining: %+v", got)
	}
	if got := d.end().of(s).bgp; len(got.Routes) != 0 || len(got.Peers) != 1 {
		t.Errorf("drained: %+v", got)
	}
	if s.bgp.Shutdown || d.withdrawn {
		t.Error("what was given is another")
	}
	if !(&sessions{}).restarts() || s.restarts() {
		t.Error("a router without graceful restart keeps routes")
	}
}

func TestDrainHandler(t *testing.T) {
	a := &agent{log: slog.New(slog.DiscardHandler)}
	post := func(query string) (int, string) {
		t.Helper()
		recorder := httptest.NewRecorder()
		a.socketHandler().ServeHTTP(recorder, httptest.NewRequest(http.MethodPost, "/drain?"+query, nil))
		return recorder.Code, strings.TrimSpace(recorder.Body.String())
	}
	if code, body := post("timeout=1s"); code != http.StatusNotFound || !strings.Contains(body, "announces nothing") {
		t.Errorf("without an announcer: %d %s", code, body)
	}
	a.announcer = &announcer{log: a.log, replan: make(chan struct{}, 1)}
	if code, body := post("timeout=soon"); code != http.StatusBadRequest || body != `timeout: "soon": want a duration such as 30s` {
		t.Errorf("no time: %d %s", code, body)
	}
	for _, step := range []struct{ query, want string }{
		{"timeout=1s", `{"state":"draining"}`}, {"timeout=5s", `{"state":"draining"}`}, {"undo=true", `{"state":""}`},
	} {
		if code, body := post(step.query); code != http.StatusOK || body != step.want {
			t.Errorf("%s: %d %s, want %s", step.query, code, body, step.want)
		}
		if d := a.announcer.draining(); d != nil && d.timeout != time.Second {
			t.Errorf("%s: a second drain of %s", step.query, d.timeout)
		}
	}
}
