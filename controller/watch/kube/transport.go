// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"k8s.io/client-go/rest"
)

// connection is how requests to the API server do. Informers try again by
// themselves and keep most errors to themselves, so it is seen here.
type connection struct {
	errors uint64
	last   string // "": the last request succeeded
	at     time.Time
}

// observed returns the configuration with every request noted.
func (w *Watcher) observed(config *rest.Config) *rest.Config {
	config = rest.CopyConfig(config)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return roundTripper{w, next} })
	return config
}

type roundTripper struct {
	watcher *Watcher
	next    http.RoundTripper
}

// RoundTrip asks and notes what became of it.
func (t roundTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := t.next.RoundTrip(r)
	switch {
	case errors.Is(err, context.Canceled):
	case err != nil:
		t.watcher.note(err)
	case response.StatusCode >= http.StatusBadRequest && response.StatusCode != http.StatusGone:
		t.watcher.note(fmt.Errorf("%s %s: %s", r.Method, r.URL.Path, response.Status))
	default:
		t.watcher.note(nil)
	}
	return response, err
}

func (w *Watcher) note(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil {
		w.connection.last = ""
		return
	}
	w.connection.errors++
	w.connection.last, w.connection.at = err.Error(), time.Now()
}
