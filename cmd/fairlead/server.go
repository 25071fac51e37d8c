// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/xdp"
)

const (
	headerTimeout   = 5 * time.Second
	shutdownTimeout = 2 * time.Second
	answerTimeout   = 2 * time.Second // of another agent on our socket
)

// listenSocket takes the place of a socket that nobody answers on any more.
func listenSocket(ctx context.Context, path string) (net.Listener, error) {
	if answers(ctx, path) {
		return nil, fmt.Errorf("listen on %s: another agent serves there", path)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make socket directory: %w", err)
	}
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() == fs.ModeSocket {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("remove old socket: %w", err)
		}
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("protect socket: %w", err), listener.Close())
	}
	return listener, nil
}

// answers says whether somebody accepts connections on the socket.
func answers(ctx context.Context, path string) bool {
	dialer := net.Dialer{Timeout: answerTimeout}
	conn, err := dialer.DialContext(ctx, "unix", path)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// serveHTTP serves until ctx ends. No handler runs after it has returned, so
// that what they read can be unmapped.
func serveHTTP(ctx context.Context, listener net.Listener, handler http.Handler) error {
	var running sync.RWMutex
	server := &http.Server{
		ReadHeaderTimeout: headerTimeout,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !running.TryRLock() {
				return
			}
			defer running.RUnlock()
			handler.ServeHTTP(w, r)
		}),
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve on %s: %w", listener.Addr(), err)
	case <-ctx.Done():
	}
	patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if server.Shutdown(patience) != nil {
		server.Close() // nothing to be done about a client that hangs
	}
	<-ended
	running.Lock()
	return nil
}

// socketHandler answers fairlead status, flows, explain and drain.
func (a *agent) socketHandler() http.Handler {
	mux := http.NewServeMux()
	a.handleHealth(mux)
	mux.HandleFunc("GET /status", a.handleStatus)
	mux.HandleFunc("GET /announcements", a.handleAnnouncements)
	mux.HandleFunc("POST /drain", a.handleDrain)
	mux.HandleFunc("GET /flows", a.once(a.handleFlows))
	mux.HandleFunc("GET /explain", a.once(a.handleExplain))
	return mux
}

// once there is a datapath the handler answers.
func (a *agent) once(handler http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if s := a.view(); s.snapshot == nil {
			http.Error(w, fmt.Sprintf("the agent is waiting: %v", s.waiting), http.StatusServiceUnavailable)
			return
		}
		handler(w, r)
	}
}

// metricsHandler answers Prometheus and probes.
func (a *agent) metricsHandler() http.Handler {
	mux := http.NewServeMux()
	a.handleHealth(mux)
	registry := newRegistry(a)
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError, ErrorLog: errorLog{a.log},
	}))
	return mux
}

// handleHealth: the agent is healthy as long as it answers, whatever the state
// of its configuration, which a restart would not mend.
func (a *agent) handleHealth(mux *http.ServeMux) {
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "ok\nconfig: %s\n", configState(a.view()))
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !a.view().ready {
			http.Error(w, "the datapath does not have the configuration yet", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
}

func (a *agent) handleStatus(w http.ResponseWriter, _ *http.Request) {
	report, err := a.report()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(report) // the client is gone then
}

// handleFlows streams one JSON object a line. What fails amid the stream is a
// last line with an error.
func (a *agent) handleFlows(w http.ResponseWriter, r *http.Request) {
	limit, err := strconv.Atoi(r.FormValue("limit"))
	if err != nil || limit < 0 {
		http.Error(w, fmt.Sprintf("limit: %q: want 0 or more", r.FormValue("limit")), http.StatusBadRequest)
		return
	}
	state := a.view()
	wanted, err := state.servicesNamed(r.FormValue("service"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	encoder := json.NewEncoder(w)
	sent := 0
	var broken error
	err = a.datapath.Flows(func(f xdp.Flow) bool {
		if broken = r.Context().Err(); broken != nil {
			return false
		}
		if name, ok := wanted[f.Service]; ok {
			broken = encoder.Encode(reportFlow(f, name))
			sent++
		}
		return broken == nil && (limit == 0 || sent < limit)
	})
	if err != nil {
		_ = encoder.Encode(flowReport{Error: err.Error()})
	}
}

// servicesNamed finds service ports by the name of the service, of the port, or
// by key. The empty name finds all.
func (s state) servicesNamed(name string) (map[lb.ServiceID]string, error) {
	found := map[lb.ServiceID]string{}
	if s.table == nil {
		return found, nil
	}
	for _, service := range s.table.Services() {
		whole := serviceName(service.Name)
		id, ok := s.id(service.Key)
		if ok && (name == "" || name == whole || name == service.Name || name == service.Key.String()) {
			found[id] = service.Name
		}
	}
	if len(found) == 0 && name != "" {
		return nil, fmt.Errorf("no service %q", name)
	}
	return found, nil
}
