// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
	"github.com/fairlead/fairlead/controller/desired/kube"
	"github.com/fairlead/fairlead/controller/status"
	"github.com/fairlead/fairlead/controller/watch/cluster"
	"github.com/fairlead/fairlead/xdp"
)

// leaseName is that of the lease which the leading controller holds.
const leaseName = "fairlead-controller"

// keyInterval is how often the controller looks whether the wire key is there.
const keyInterval = time.Minute

// controllerFlags are the flags of fairlead controller.
type controllerFlags struct {
	clusterFlags
	metrics           string
	delay, lease      time.Duration
	twoPools, cleanup bool
	level             slog.Level
}

func parseControllerFlags(env *env, args []string) (controllerFlags, error) {
	var f controllerFlags
	flags := newFlags("controller")
	f.clusterFlags.register(env, flags)
	flags.DurationVar(&f.delay, "freed-address-delay", 30*time.Second, "`TIME` that a freed address rests before another Service gets it")
	flags.BoolVar(&f.twoPools, "dual-stack-from-two-pools", false, "a dual-stack Service may have its two addresses from two pools")
	flags.StringVar(&f.metrics, "metrics-address", "", "`HOST:PORT` for Prometheus metrics, /healthz and /readyz; default: none")
	flags.DurationVar(&f.lease, "lease-duration", 8*time.Second, "`TIME` without a sign of life after which another controller takes the lead, 1s at least")
	flags.BoolVar(&f.cleanup, "cleanup", false, "wait until no controller runs, take all addresses, finalizers and conditions back, and end")
	flags.TextVar(&f.level, "log-level", slog.LevelInfo, "`LEVEL` debug, info, warn or error")
	switch err := parseFlags(env, flags, args); {
	case err != nil:
		return f, err
	case f.class.Name == "":
		return f, usageError{errors.New("--load-balancer-class is empty")}
	case f.delay < 0:
		return f, usageError{fmt.Errorf("--freed-address-delay is %s: want 0s or more", f.delay)}
	case f.lease < time.Second:
		return f, usageError{fmt.Errorf("--lease-duration is %s: want 1s or more", f.lease)}
	}
	return f, nil
}

func runController(ctx context.Context, env *env, args []string) error {
	f, err := parseControllerFlags(env, args)
	if err != nil {
		return err
	}
	log := newLog(env, f.level)
	config, err := f.config()
	if err != nil {
		return err
	}
	return serveController(ctx, f, log, config)
}

// serveController runs until ctx ends, the lead is lost or a part fails.
func serveController(ctx context.Context, f controllerFlags, log *slog.Logger, config *rest.Config) error {
	var metrics net.Listener
	if f.metrics != "" {
		var err error
		if metrics, err = net.Listen("tcp", f.metrics); err != nil {
			return fmt.Errorf("listen for metrics: %w", err)
		}
		defer metrics.Close()
	}
	c, err := newController(f, log, config)
	if err != nil {
		return err
	}
	log.Info("controller started", "version", version, "namespace", f.namespace, "class", f.class.Name, "unclassed", f.class.Unclassed)
	defer log.Info("controller ended")
	ctx, end := context.WithCancel(ctx)
	defer end()
	if err := c.watcher.Watch(ctx, c.manager.GetCache()); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	c.end = end
	if metrics != nil {
		group.Go(func() error { return serveHTTP(ctx, metrics, c.handler()) })
	}
	group.Go(func() error {
		defer end()
		if err := c.manager.Start(ctx); err != nil {
			return fmt.Errorf("run controller: %w", err)
		}
		return c.result
	})
	return group.Wait()
}

// controller is a running fairlead controller.
type controller struct {
	flags   controllerFlags
	log     *slog.Logger
	manager manager.Manager
	watcher *cluster.Watcher
	writer  *status.Writer
	end     context.CancelFunc // ends the program, with result
	result  error
}

func newController(f controllerFlags, log *slog.Logger, config *rest.Config) (*controller, error) {
	config = rest.CopyConfig(config)
	config.QPS = -1 // requests under way are bounded, and the API server has queues of its own
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1beta1.AddToScheme(scheme)); err != nil {
		return nil, fmt.Errorf("register types: %w", err)
	}
	renew, retry := f.lease*2/3, f.lease/8
	m, err := manager.New(config, manager.Options{
		Scheme: scheme, Cache: cluster.CacheOptions(f.namespace), Logger: ctrl.Log,
		Metrics:        metricsserver.Options{BindAddress: "0"},
		LeaderElection: true, LeaderElectionID: leaseName, LeaderElectionNamespace: f.namespace, LeaderElectionReleaseOnCancel: true,
		LeaseDuration: &f.lease, RenewDeadline: &renew, RetryPeriod: &retry,
	})
	if err != nil {
		return nil, fmt.Errorf("make manager: %w", err)
	}
	if f.cleanup {
		f.class = kube.Class{}
	}
	c := &controller{flags: f, log: log, manager: m}
	c.watcher = cluster.New(f.class, kube.Versions{Wire: int32(xdp.ABI.Wire), Hash: int32(xdp.ABI.Hash)})
	c.writer = status.NewWriter(c.watcher, status.Options{
		Client: m.GetClient(), Reader: m.GetAPIReader(), Recorder: m.GetEventRecorder("fairlead-controller"),
		Namespace: f.namespace, Log: log, Delay: f.delay, TwoPools: f.twoPools, Metrics: status.NewMetrics(ctrlmetrics.Registry),
	})
	return c, m.Add(c)
}

// NeedLeaderElection lets Start run in the leading controller alone.
func (c *controller) NeedLeaderElection() bool { return true }

// Start leads until ctx ends. It is the manager's to call.
func (c *controller) Start(ctx context.Context) error {
	if c.flags.cleanup {
		c.log.Info("no controller runs, taking everything back")
		err := c.writer.Cleanup(ctx)
		c.result = err
		c.end()
		return nil
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return c.writer.Run(ctx) })
	group.Go(func() error {
		c.keepKey(ctx)
		return nil
	})
	return group.Wait()
}

// keepKey sees to it that the wire key is there.
func (c *controller) keepKey(ctx context.Context) {
	tick := time.NewTicker(keyInterval)
	defer tick.Stop()
	for {
		err := status.EnsureWireKey(ctx, c.manager.GetAPIReader(), c.manager.GetClient(), c.flags.namespace, c.log)
		if err != nil && ctx.Err() == nil {
			c.log.Error("make wire key", "err", err, "retry", keyInterval)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// handler serves metrics and probes.
func (c *controller) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(ctrlmetrics.Registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !c.watcher.Synced() {
			http.Error(w, "caches are not filled yet", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	return mux
}
