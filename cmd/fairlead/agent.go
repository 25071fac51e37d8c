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
	"github.com/fairlead/fairlead/controller/watch/file"
	"github.com/fairlead/fairlead/lb/dataplane"
	"github.com/fairlead/fairlead/xdp"
)

// agentFlags are the flags of fairlead agent.
type agentFlags struct {
	config, metrics string
	mode            xdp.Mode // "": as the file says
	check, cleanup  bool
	userspace       bool
	sockets         userspaceFlags
	level           slog.Level
}

func runAgent(ctx context.Context, env *env, args []string) error {
	f, err := parseAgentFlags(env, args)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(env.stderr, &slog.HandlerOptions{Level: f.level}))
	switch {
	case f.check:
		if _, err := file.Load(f.config); err != nil {
			return fmt.Errorf("check %s:\n%w", f.config, err)
		}
		_, err := fmt.Fprintln(env.stdout, "ok")
		return err
	case f.cleanup:
		return cleanup(f.config)
	}
	open := openKernel
	if f.userspace {
		open = func(c xdp.Config) (datapath, error) { return openUserspace(c, f.sockets) }
	}
	return serveAgent(ctx, f, log, open)
}

func parseAgentFlags(env *env, args []string) (agentFlags, error) {
	var f agentFlags
	flags := newFlags("agent")
	flags.StringVar(&f.config, "config", "", "configuration `FILE`")
	flags.Func("xdp-mode", "`MODE` auto, native, generic or off; goes before the file's", func(s string) (err error) {
		f.mode, err = xdp.ParseMode(s)
		return err
	})
	flags.Func("datapath", "`NAME` kernel or userspace: who forwards; default: kernel", func(s string) error {
		name, err := parseDatapath(s)
		f.userspace = name == datapathUserspace
		return err
	})
	f.sockets.register(flags)
	flags.BoolVar(&f.check, "check", false, "check the configuration, print what is wrong, and end")
	flags.BoolVar(&f.cleanup, "cleanup", false, "remove programs, maps and pins, and end; connections break")
	flags.StringVar(&f.metrics, "metrics-address", "", "`HOST:PORT` for Prometheus metrics, /healthz and /readyz; default: none")
	flags.TextVar(&f.level, "log-level", slog.LevelInfo, "`LEVEL` debug, info, warn or error")
	switch err := parseFlags(env, flags, args); {
	case err != nil:
		return f, err
	case f.config == "" && !f.cleanup:
		return f, usageError{errors.New("--config is missing")}
	case f.userspace && f.mode == xdp.Off:
		return f, usageError{errors.New("--xdp-mode=off and --datapath=userspace exclude each other: sockets need XDP")}
	case f.check && f.cleanup:
		return f, usageError{errors.New("--check and --cleanup exclude each other")}
	}
	return f, nil
}

// cleanup removes everything that an agent left in the kernel. Without a
// configuration it takes the default place. It fails while an agent runs.
func cleanup(config string) error {
	pinPath := desired.DefaultPinPath
	if config != "" {
		snapshot, err := file.Load(config)
		if err != nil {
			return fmt.Errorf("load %s:\n%w", config, err)
		}
		pinPath = snapshot.Settings.PinPath
	}
	return xdp.Cleanup(pinPath)
}

// serveAgent runs until ctx ends or a part fails. Forwarding goes on afterwards.
func serveAgent(ctx context.Context, f agentFlags, log *slog.Logger, open func(xdp.Config) (datapath, error)) (err error) {
	watcher := file.NewWatcher(f.config, log)
	snapshot, err := watcher.Load()
	if err != nil {
		return fmt.Errorf("load %s:\n%w", f.config, err)
	}
	socket, err := listenSocket(ctx, snapshot.Settings.Socket)
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
	d, err := open(datapathConfig(snapshot.Settings, f.mode, log))
	if err != nil {
		return fmt.Errorf("open datapath: %w", err)
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	plane, err := dataplane.New(d.tables(), dataplane.Options{
		PastTicks: xdp.Ticks(snapshot.Settings.Past), Now: xdp.NowTick, Logger: log,
	})
	if err != nil {
		return fmt.Errorf("take over tables: %w", err)
	}
	a := &agent{
		log: log, path: f.config, mode: f.mode, watcher: watcher, datapath: d, plane: plane, started: time.Now(),
	}
	a.state.snapshot = snapshot
	log.Info("agent started", "node", snapshot.Settings.Node, "version", version, "config", f.config, "socket", snapshot.Settings.Socket)
	defer log.Info("agent ended, forwarding goes on")
	return a.run(ctx, socket, metrics)
}

// run lets all parts work until ctx ends or one of them fails.
func (a *agent) run(ctx context.Context, socket, metrics net.Listener) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		a.watcher.Run(ctx)
		return nil
	})
	group.Go(func() error {
		a.loop(ctx)
		return nil
	})
	group.Go(func() error {
		if err := a.datapath.Run(ctx); err != nil && ctx.Err() == nil {
			return fmt.Errorf("keep next hops: %w", err)
		}
		return nil
	})
	group.Go(func() error { return serveHTTP(ctx, socket, a.socketHandler()) })
	if metrics != nil {
		group.Go(func() error { return serveHTTP(ctx, metrics, a.metricsHandler()) })
	}
	return group.Wait()
}
