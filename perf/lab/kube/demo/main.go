// SPDX-License-Identifier: Apache-2.0

// Command demo shows Fairlead in Kubernetes on one machine: a control plane, and
// nodes in namespaces with real kubelets, containers and kube-proxy, where
// Fairlead is installed by its manifests and a client outside the cluster reaches
// a Service by the address that it got. It ends with 1 where something did not
// hold. It needs root.
package main

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/kube"
	"github.com/fairlead/fairlead/perf/lab/kube/cluster"
)

//go:embed shop.yaml
var shop string

var errDemoFailed = errors.New("not everything held")

type options struct {
	binary, xdpMode string
	requests        int
	keep            bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var o options
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.binary, "fairlead", "bin/fairlead", "static `FILE` of fairlead, which becomes the nodes' image")
	flags.StringVar(&o.xdpMode, "xdp-mode", "auto", "`MODE` of all agents: auto, native, generic or off")
	flags.IntVar(&o.requests, "requests", 1000, "`NUMBER` of requests of each case")
	flags.BoolVar(&o.keep, "keep", false, "leave the cluster up for exploring, until fairlead demo --cleanup or the next demo")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if err := kube.MissingForNodes(); err != nil {
		return err
	}
	if _, err := lab.Sweep(true); err != nil {
		return fmt.Errorf("clean up earlier labs: %w", err)
	}
	return demonstrate(ctx, o, stdout, stderr)
}

// demonstrate runs everything and takes it away again, unless it is to be kept
// and came up.
func demonstrate(ctx context.Context, o options, stdout, stderr io.Writer) (err error) {
	binary, err := filepath.Abs(o.binary)
	if err != nil {
		return fmt.Errorf("find fairlead: %w", err)
	}
	c, err := cluster.Start(ctx, slog.New(slog.NewTextHandler(stderr, nil)), cluster.Options{
		Lab: lab.Options{Nodes: 3, Native: o.xdpMode == "native"}, Binary: binary, XDPMode: o.xdpMode,
	})
	if err != nil {
		return err
	}
	kept := false
	defer func() {
		if !kept {
			err = errors.Join(err, c.Close())
		}
	}()
	d := &demo{cluster: c, options: o, out: stdout, ok: true}
	if err := d.run(ctx); err != nil {
		return err
	}
	if o.keep {
		kept = true
		err = errors.Join(c.Lab.Keep(), d.hints())
	}
	if !d.ok {
		err = errors.Join(err, errDemoFailed)
	}
	return err
}
