// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fairlead/fairlead/controller/desired"
	"github.com/fairlead/fairlead/controller/watch/kube"
	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/dataplane"
	"github.com/fairlead/fairlead/xdp"
)

// opener opens a datapath.
type opener func(xdp.Config) (datapath, error)

// serveAgent runs until ctx ends or a part fails. Forwarding goes on afterwards,
// and before, while the agent waits for what it needs.
func serveAgent(ctx context.Context, f agentFlags, log *slog.Logger, open opener) (err error) {
	a := &agent{log: log, mode: f.mode, open: open, latency: newLatency(), started: time.Now()}
	if f.kube.on {
		if a.kube, err = newKubeSource(f.kube, f.config, log); err != nil {
			return err
		}
		a.source = a.kube
		if f.kube.announce.on {
			a.announcer = newAnnouncer(f.kube.announce, f.kube.node, f.kube.namespace, a.kube.cluster, a.passedOn, log)
		}
	} else {
		a.source = newFileSource(f.config, log)
	}
	settings, err := a.source.Settings()
	if err != nil {
		return fmt.Errorf("load %s:\n%w", f.config, err)
	}
	socket, err := listenSocket(ctx, settings.Socket)
	if err != nil {
		return err
	}
	defer socket.Close()
	var metrics net.Listener
	if f.metrics != "" {
		if metrics, err = net.Listen("tcp", f.metrics); err != nil {
			return fmt.Errorf("listen for metrics: %w", err)
		}
		defer metrics.Close()
	}
	// Handlers have ended by then, which read what Close unmaps.
	defer func() {
		if a.datapath != nil {
			err = errors.Join(err, a.datapath.Close())
		}
	}()
	log.Info("agent started", "version", version, "config", a.source.Place(), "socket", settings.Socket)
	defer log.Info("agent ended, forwarding goes on")
	return a.run(ctx, socket, metrics)
}

// passedOn counts packets that came from the network and went on to the nodes of
// their backends.
func (a *agent) passedOn() (n uint64) {
	if a.view().snapshot == nil {
		return 0
	}
	counters, err := a.datapath.Counters()
	if err != nil {
		a.log.Error("read counters", "err", err)
	}
	for _, c := range counters {
		if c.Verdict == "encap" {
			n += c.Packets
		}
	}
	return n
}

// run lets all parts work until ctx ends or one of them fails.
func (a *agent) run(ctx context.Context, socket, metrics net.Listener) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return a.source.Run(ctx) })
	group.Go(func() error { return serveHTTP(ctx, socket, a.socketHandler()) })
	if a.announcer != nil {
		group.Go(func() error { a.announcer.run(ctx); return nil })
	}
	if metrics != nil {
		group.Go(func() error { return serveHTTP(ctx, metrics, a.metricsHandler()) })
	}
	group.Go(func() error {
		if err := a.begin(ctx); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
		group.Go(func() error {
			if err := a.datapath.Run(ctx); err != nil && ctx.Err() == nil {
				return fmt.Errorf("keep next hops: %w", err)
			}
			return nil
		})
		a.loop(ctx)
		return nil
	})
	return group.Wait()
}

// begin opens the datapath once the source has said all that it takes. Handlers
// look at nothing before state has a snapshot, which comes last.
func (a *agent) begin(ctx context.Context) error {
	snapshot, err := a.await(ctx)
	if err != nil || snapshot == nil {
		return err
	}
	settings := snapshot.Settings
	d, err := a.open(datapathConfig(settings, a.mode, a.log))
	if err != nil {
		return fmt.Errorf("open datapath: %w", err)
	}
	a.datapath = d
	a.plane, err = dataplane.New(d.tables(), dataplane.Options{PastTicks: xdp.Ticks(settings.Past), Now: xdp.NowTick, Logger: a.log, Adopt: d.TracksConnections()})
	if err != nil {
		return fmt.Errorf("take over tables: %w", err)
	}
	if a.kube != nil {
		if snapshot, err = a.adopt(snapshot); err != nil {
			return err
		}
		a.reconfigure = !equalSettings(settings, snapshot.Settings)
	}
	a.log.Info("datapath opened", "node", settings.Node, "interfaces", settings.Interfaces)
	a.change(func(s *state) { s.snapshot, s.waiting = snapshot, nil })
	return nil
}

// retryInterval is how often the source is asked again while it is not ready.
const retryInterval = time.Second

// await returns the first snapshot, nil if ctx ends before.
func (a *agent) await(ctx context.Context) (*desired.Snapshot, error) {
	for {
		snapshot, err := a.source.Load()
		if err == nil || snapshot != nil {
			a.change(func(s *state) { s.configErr = err })
			return snapshot, nil
		}
		if !errors.Is(err, kube.ErrNotReady) {
			return nil, err
		}
		if before := a.view().waiting; before == nil || before.Error() != err.Error() {
			a.log.Info("waiting, forwarding goes on as it was", "reason", err)
		}
		a.change(func(s *state) { s.waiting = err })
		select {
		case <-ctx.Done():
			return nil, nil
		case <-a.source.Changed():
		case <-time.After(retryInterval):
		}
	}
}

// adopt tells the cluster's watcher which backends of this node have connections
// from before, and loads again with those that drain.
func (a *agent) adopt(snapshot *desired.Snapshot) (*desired.Snapshot, error) {
	held, err := a.datapath.tables().Load()
	if err != nil {
		return nil, fmt.Errorf("read tables: %w", err)
	}
	for key, endpoint := range held.Endpoints {
		backend, known := held.Backends[endpoint.Backend]
		if service, ok := held.Services[key.Service]; ok && known && backend.Node == lb.SelfNode {
			a.kube.cluster.Adopt(service.Key, backend.Addr)
		}
	}
	if len(held.Endpoints) == 0 {
		return snapshot, nil
	}
	again, err := a.source.Load()
	if again == nil {
		return nil, err
	}
	return again, nil
}
