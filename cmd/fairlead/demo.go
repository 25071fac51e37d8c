// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/cluster"
)

// Sizes of the demo.
const (
	demoNodes       = 3
	demoPodsPerNode = 2
	demoRequests    = 1000
)

var (
	errDemoFailed = errors.New("not everything held")
	xdpModes      = []string{"auto", "native", "generic", "off"}
)

type demoOptions struct {
	xdpMode, datapath   string
	json, keep, cleanup bool
	softHop             bool
	binary              string
}

// runDemo shows the whole on one machine: real agents in namespaces, real
// connections. The error says that something did not hold.
func runDemo(ctx context.Context, env *env, args []string) error {
	o, err := parseDemo(env, args)
	if err != nil {
		return err
	}
	if err := lab.Missing(); err != nil {
		return err
	}
	removed, err := lab.Sweep(true)
	if err != nil {
		return fmt.Errorf("clean up earlier labs: %w", err)
	}
	if o.cleanup {
		fmt.Fprintf(env.stdout, "removed %d labs %s\n", len(removed), strings.Join(removed, " "))
		return nil
	}
	report, err := demonstrate(ctx, env, o)
	if err != nil {
		return err
	}
	if o.json {
		if err := json.NewEncoder(env.stdout).Encode(report); err != nil {
			return err
		}
	}
	if !report.OK {
		return errDemoFailed
	}
	return nil
}

func parseDemo(env *env, args []string) (demoOptions, error) {
	var o demoOptions
	flags := newFlags("demo")
	flags.StringVar(&o.xdpMode, "xdp-mode", "auto", "`MODE` of all agents: "+strings.Join(xdpModes, ", "))
	flags.StringVar(&o.datapath, "datapath", datapathKernel, "`NAME` of all agents' datapath: kernel or userspace")
	flags.BoolVar(&o.json, "json", false, "print one JSON object instead of tables")
	flags.BoolVar(&o.keep, "keep", false, "leave the lab up for exploring")
	flags.BoolVar(&o.cleanup, "cleanup", false, "remove labs that were kept or left, and end")
	flags.BoolVar(&o.softHop, "soft-hop", false, "let the links to the client and to nodes 2 and 3 send without offloads")
	if err := parseFlags(env, flags, args); err != nil {
		return o, err
	}
	if !slices.Contains(xdpModes, o.xdpMode) {
		return o, usageError{fmt.Errorf("unknown XDP mode %q: want one of %s", o.xdpMode, strings.Join(xdpModes, ", "))}
	}
	var err error
	if o.datapath, err = parseDatapath(o.datapath); err != nil {
		return o, usageError{err}
	}
	o.binary, err = os.Executable()
	return o, err
}

// demonstrate builds the lab, runs everything in it and removes it, unless it
// is to be kept and came up.
func demonstrate(ctx context.Context, env *env, o demoOptions) (report demoReport, err error) {
	options := lab.Options{Nodes: demoNodes, PodsPerNode: demoPodsPerNode, Native: o.xdpMode == "native" || o.datapath == datapathUserspace}
	if o.softHop {
		options.SoftHop = lab.SoftHopOwners
	}
	if err := lab.Missing("nft"); err != nil {
		options.NoFirewall = true
		fmt.Fprintf(env.stderr, "fairlead demo: %v: nodes get no masquerading and no FORWARD rules\n", err)
	}
	l, err := lab.New(slog.New(slog.NewTextHandler(env.stderr, nil)), options)
	if err != nil {
		return report, err
	}
	kept := false
	defer func() {
		if !kept {
			err = errors.Join(err, l.Close())
		}
	}()
	d := newDemo(l, o, env)
	if err := d.run(ctx); err != nil {
		return d.report, err
	}
	if o.keep {
		kept = true
		return d.report, errors.Join(l.Keep(), d.printHints(env))
	}
	return d.report, nil
}

// printHints says what can be done with a lab that was kept.
func (d *demo) printHints(env *env) error {
	out := env.stdout
	if d.options.json {
		out = env.stderr
	}
	node, pod := d.cluster.Lab.Nodes[0], d.cluster.Lab.Pods()[0]
	_, err := fmt.Fprintf(out, `
The lab stays up until the next demo, or: %[1]s demo --cleanup

  ip netns exec %[2]s bash -c 'exec 3<>/dev/tcp/%[3]s/%[4]d; echo hello >&3; head -1 <&3'
  ip netns exec %[5]s tcpdump -ni eth0 udp or host %[3]s
  ip netns exec %[6]s ss -tn
  %[1]s status --socket %[7]s
  %[1]s flows --socket %[7]s
  less %[8]s %[9]s/agent.log
`, d.options.binary, d.cluster.Lab.Client.Name, clusterVIPs[0], cluster.ServicePort, node.Name, pod.Name,
		cluster.Socket(node), cluster.ConfigFile(node), node.Dir)
	return err
}
