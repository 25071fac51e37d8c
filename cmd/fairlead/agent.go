// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/fairlead/fairlead/controller/desired"
	"github.com/fairlead/fairlead/controller/watch/file"
	"github.com/fairlead/fairlead/xdp"
)

// agentFlags are the flags of fairlead agent.
type agentFlags struct {
	config, metrics        string
	kube                   kubeFlags
	mode                   xdp.Mode // "": as the file says
	onlyCheck, onlyCleanup bool
	userspace              bool
	sockets                userspaceFlags
	level                  slog.Level
}

func runAgent(ctx context.Context, env *env, args []string) error {
	f, err := parseAgentFlags(env, args)
	if err != nil {
		return err
	}
	log := newLog(env, f.level)
	switch {
	case f.onlyCheck:
		if err := f.check(); err != nil {
			return err
		}
		_, err := fmt.Fprintln(env.stdout, "ok")
		return err
	case f.onlyCleanup:
		return f.cleanup(ctx)
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
	f.kube.register(env, flags)
	flags.BoolVar(&f.onlyCheck, "check", false, "check the configuration, print what is wrong, and end")
	flags.BoolVar(&f.onlyCleanup, "cleanup", false, "remove programs, maps and pins, and end; connections break")
	flags.StringVar(&f.metrics, "metrics-address", "", "`HOST:PORT` for Prometheus metrics, /healthz and /readyz; default: none")
	flags.TextVar(&f.level, "log-level", slog.LevelInfo, "`LEVEL` debug, info, warn or error")
	switch err := parseFlags(env, flags, args); {
	case err != nil:
		return f, err
	case f.config == "" && !f.onlyCleanup && !f.kube.on:
		return f, usageError{errors.New("--config is missing")}
	case f.userspace && f.mode == xdp.Off:
		return f, usageError{errors.New("--xdp-mode=off and --datapath=userspace exclude each other: sockets need XDP")}
	case f.onlyCheck && f.onlyCleanup:
		return f, usageError{errors.New("--check and --cleanup exclude each other")}
	case f.onlyCheck:
		return f, nil
	}
	return f, f.kube.check()
}

// check reads the configuration file and nothing else.
func (f *agentFlags) check() error {
	load := file.Load
	if f.kube.on {
		load = file.LoadSettings
	}
	if _, err := load(f.config); err != nil {
		return fmt.Errorf("check %s:\n%w", f.config, err)
	}
	return nil
}

// cleanup removes everything that an agent left in the kernel, and first tells
// the cluster, so that nobody sends to this node any more. Without a configuration
// it takes the default place. It fails while an agent runs.
func (f *agentFlags) cleanup(ctx context.Context) error {
	pinPath := desired.DefaultPinPath
	if f.config != "" {
		load := file.Load
		if f.kube.on {
			load = file.LoadSettings
		}
		snapshot, err := load(f.config)
		if err != nil {
			return fmt.Errorf("load %s:\n%w", f.config, err)
		}
		pinPath = snapshot.Settings.PinPath
	}
	var err error
	if f.kube.on {
		err = f.kube.detach(ctx)
	}
	return errors.Join(err, xdp.Cleanup(pinPath))
}
