// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/go-logr/logr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/fairlead/fairlead/controller/desired/kube"
	"github.com/fairlead/fairlead/controller/status"
	"github.com/fairlead/fairlead/controller/watch/cluster"
)

// TestTwoLeaders has three controllers at work at once, all of which believe
// that they lead, two of them with views that are late, requests that arrive
// late and answers that get lost: nothing but the fence of the API server keeps them from
// giving an address to two Services.
func TestTwoLeaders(t *testing.T) {
	length := 10 * time.Second
	if text := os.Getenv("FAIRLEAD_CHAOS"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatalf("FAIRLEAD_CHAOS: %v", err)
		}
	}
	w := newWorld(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	// Few addresses, so that all controllers want the same ones.
	w.pool("a", "10.1.0.0/26 2001:db8:1::/122")
	w.pool("b", "10.2.0.0/27 2001:db8:2::/123")
	w.pool("c", poolC)
	h, err := follow(t.Context(), w.namespace)
	w.ok(err)

	ctx, end := context.WithCancel(t.Context())
	defer end()
	ended := make(chan error, 3)
	for i := range 3 {
		go func() { ended <- w.lead(ctx, i > 0) }()
	}
	c := &churn{world: w, services: 80}
	churning := c.atLeast(ctx, length, func() bool { return c.deleted.Load() > 80 })
	w.ok(c.run(churning, seed, chaosRate))
	end()
	for range 3 {
		w.ok(<-ended)
	}
	w.settle()
	w.checkClaims()
	var r Report
	w.judge(h, &r)
	t.Logf("%d Services made, %d removed; %d versions, %d addresses assigned, %d released",
		c.created.Load(), c.deleted.Load(), r.Versions, r.Assigned, r.Released)
	if r.Assigned < 50 || r.Released < 20 {
		t.Error("the test showed nothing")
	}
}

// lead runs a controller in this process that asks for no lease.
func (w *world) lead(ctx context.Context, behind bool) error {
	config := control.RESTConfig()
	if behind {
		config.Wrap(func(next http.RoundTripper) http.RoundTripper { return &bad{next} })
	}
	m, err := manager.New(config, manager.Options{
		Scheme: w.Scheme(), Cache: cluster.CacheOptions(w.system), Metrics: metricsserver.Options{BindAddress: "0"},
	})
	if err != nil {
		return err
	}
	watcher := cluster.New(kube.Class{Name: w.class}, kube.Versions{})
	writer := status.NewWriter(watcher, status.Options{
		Client: m.GetClient(), Reader: m.GetAPIReader(), Recorder: m.GetEventRecorder("test"),
		Namespace: w.system, Log: slog.New(slog.DiscardHandler), Delay: 500 * time.Millisecond,
	})
	if err := watcher.Watch(ctx, m.GetCache()); err != nil {
		return err
	}
	if err := m.Add(manager.RunnableFunc(writer.Run)); err != nil {
		return err
	}
	return m.Start(ctx)
}

func init() { ctrl.SetLogger(logr.Discard()) }

// bad is a connection that is late and loses answers.
type bad struct {
	next http.RoundTripper
}

var errLost = errors.New("answer lost on purpose")

// RoundTrip delays requests before they are sent, and answers of watches in
// pieces; some answers to writes never come.
func (b *bad) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Query().Get("watch") != "" {
		response, err := b.next.RoundTrip(r)
		if err == nil {
			response.Body = &late{ReadCloser: response.Body, ctx: r.Context()}
		}
		return response, err
	}
	switch rand.IntN(20) {
	case 0, 1, 2:
		delay(r.Context(), 100*time.Millisecond)
	case 3:
		delay(r.Context(), time.Second)
	}
	// What is on its way arrives, even if the controller gave up waiting.
	response, err := b.next.RoundTrip(r)
	if err == nil && r.Method != http.MethodGet && rand.IntN(100) == 0 {
		response.Body.Close()
		return nil, errLost
	}
	return response, err
}

// late reads a stream with pauses.
type late struct {
	io.ReadCloser
	ctx context.Context
}

func (l *late) Read(p []byte) (int, error) {
	if rand.IntN(10) == 0 {
		delay(l.ctx, time.Second)
	}
	return l.ReadCloser.Read(p)
}

// delay lets up to a time pass.
func delay(ctx context.Context, most time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(rand.N(most)):
	}
}
