// SPDX-License-Identifier: Apache-2.0

// Command scale measures Fairlead in a large cluster: a real API server with
// Services and EndpointSlices by the thousand, the controller, and the agent of
// one node. It writes how much memory they take, how long an agent takes from
// nothing to all of it in its maps, and how long a change of one endpoint takes
// to the map, among few Services and among many. It needs root.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The goals of a run, which has to meet them all.
const (
	goalChange = 20 * time.Millisecond // p99, at any number of Services
	goalSync   = 10 * time.Second
	goalMemory = 400 << 20 // bytes of the agent, without maps
)

// options are the command line.
type options struct {
	file, binary string
	sizes        []int
	endpoints    int // of a Service
	nodes        int
	changes      int
	verbose      bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

func parse(args []string) (options, error) {
	o := options{sizes: []int{10, 1000, 10000}}
	flags := flag.NewFlagSet("scale", flag.ContinueOnError)
	flags.StringVar(&o.file, "o", "perf/results/scale.json", "`FILE` for the results")
	flags.StringVar(&o.binary, "binary", "bin/fairlead", "`FILE` that is measured")
	flags.IntVar(&o.endpoints, "endpoints", 10, "`ENDPOINTS` of each Service")
	flags.IntVar(&o.nodes, "nodes", 100, "`NODES` of the cluster, of which one is real")
	flags.IntVar(&o.changes, "changes", 300, "`CHANGES` that are timed at each number of Services")
	flags.BoolVar(&o.verbose, "v", false, "tell what is being done")
	flags.Func("services", "numbers of Services, rising, with commas between (default 10,1000,10000)", func(s string) error {
		o.sizes = nil
		for word := range strings.SplitSeq(s, ",") {
			n, err := strconv.Atoi(word)
			if err != nil || n < 1 || len(o.sizes) > 0 && n <= o.sizes[len(o.sizes)-1] {
				return fmt.Errorf("%q: want numbers from 1 that rise", s)
			}
			o.sizes = append(o.sizes, n)
		}
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	for name, n := range map[string]int{"endpoints": o.endpoints, "nodes": o.nodes, "changes": o.changes} {
		if n < 1 {
			return o, fmt.Errorf("-%s %d: want 1 at least", name, n)
		}
	}
	var err error
	o.binary, err = filepath.Abs(o.binary)
	return o, err
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	o, err := parse(args)
	if err != nil {
		return err
	}
	level := slog.LevelWarn
	if o.verbose {
		level = slog.LevelInfo
	}
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	report := Report{Cores: runtime.NumCPU(), Go: runtime.Version(), Nodes: o.nodes, EndpointsPerService: o.endpoints}
	w, err := newWorld(ctx, logger, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	for _, n := range o.sizes {
		size, err := w.measure(ctx, n)
		if err != nil {
			return fmt.Errorf("%d services: %w", n, err)
		}
		report.Sizes = append(report.Sizes, size)
		size.print(out)
	}
	report.judge()
	if err := report.write(o.file); err != nil {
		return err
	}
	for _, miss := range report.Missed {
		fmt.Fprintln(out, "missed:", miss)
	}
	if len(report.Missed) > 0 {
		return errors.New("not all goals are met")
	}
	fmt.Fprintln(out, "all goals are met")
	return nil
}

// Report is what scale.json holds.
type Report struct {
	Cores               int      `json:"cores"`
	Go                  string   `json:"go"`
	Nodes               int      `json:"nodes"`
	EndpointsPerService int      `json:"endpointsPerService"`
	Sizes               []Size   `json:"sizes"`
	Missed              []string `json:"missed"` // goals
}

// Size is what was measured at one number of Services.
type Size struct {
	Services int `json:"services"`
	// AssignSeconds is from the first of the new Services to the last one's
	// address; NewServices is how many these are.
	NewServices   int     `json:"newServices"`
	CreateSeconds float64 `json:"createSeconds"`
	AssignSeconds float64 `json:"assignSeconds"`
	// SyncSeconds is from the start of the agent's process, without any maps, to
	// the last Service in them; ResyncSeconds is that of a second start, which
	// takes them over, to the agent's word that it is ready.
	SyncSeconds   float64 `json:"syncSeconds"`
	ResyncSeconds float64 `json:"resyncSeconds"`
	Agent         Memory  `json:"agent"`
	Controller    Memory  `json:"controller"`
	MapBytes      uint64  `json:"mapBytes"` // in the kernel, all maps
	Changes       Changes `json:"changes"`
}

// Memory is that of a process. Bytes is what it has to itself and of files: all
// but the memory of maps, which Maps counts where the process has touched it.
type Memory struct {
	Bytes     uint64 `json:"bytes"`
	Anonymous uint64 `json:"anonymous"`
	Maps      uint64 `json:"maps"`
	Peak      uint64 `json:"peak"` // of everything, maps too
}

// Changes are the times of single changes of one endpoint.
type Changes struct {
	Count int `json:"count"`
	// Load is the machine's load average afterwards: far above the number of
	// cores, the higher quantiles tell of what else runs there.
	Load float64 `json:"load"`
	// Sent is from before the client's write, Returned from its return, Received
	// from the receipt of the change by a watch beside the agent's, all to the
	// write of the map. Returned and Received may be below 0: the agent was faster.
	Sent     Times `json:"sentMs"`
	Returned Times `json:"returnedMs"`
	Received Times `json:"receivedMs"`
	// AgentMS and ControllerMS are processor time for each change.
	AgentMS      float64 `json:"agentCpuMs"`
	ControllerMS float64 `json:"controllerCpuMs"`
}

// Times are quantiles in milliseconds.
type Times struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

func timesOf(all []time.Duration) Times {
	if len(all) == 0 {
		return Times{}
	}
	slices.Sort(all)
	at := func(q float64) float64 { return ms(all[int(q*float64(len(all)-1)+0.5)]) }
	return Times{P50: at(0.5), P99: at(0.99), Max: at(1)}
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// judge compares with the goals.
func (r *Report) judge() {
	r.Missed = []string{}
	miss := func(format string, args ...any) { r.Missed = append(r.Missed, fmt.Sprintf(format, args...)) }
	for _, s := range r.Sizes {
		if p99 := max(s.Changes.Returned.P99, s.Changes.Received.P99); p99 >= ms(goalChange) {
			miss("%d services: a change takes %.1f ms in the 99th percentile, want below %s", s.Services, p99, goalChange)
		}
		if s.SyncSeconds >= goalSync.Seconds() {
			miss("%d services: the initial sync takes %.1f s, want below %s", s.Services, s.SyncSeconds, goalSync)
		}
		if s.Agent.Bytes >= goalMemory {
			miss("%d services: the agent takes %.0f MiB, want below %d", s.Services, mib(s.Agent.Bytes), goalMemory>>20)
		}
	}
}

func mib(n uint64) float64 { return float64(n) / (1 << 20) }

func (r *Report) write(file string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o644)
}

func (s Size) print(out io.Writer) {
	fmt.Fprintf(out, "%d services: %d new ones written in %.1f s and with addresses after %.1f s; agent in sync after %.2f s, after a restart %.2f s\n",
		s.Services, s.NewServices, s.CreateSeconds, s.AssignSeconds, s.SyncSeconds, s.ResyncSeconds)
	fmt.Fprintf(out, "  memory in MiB: agent %.0f (%.0f its own, peak with maps %.0f), maps %.0f, controller %.0f\n",
		mib(s.Agent.Bytes), mib(s.Agent.Anonymous), mib(s.Agent.Peak), mib(s.MapBytes), mib(s.Controller.Bytes))
	c := s.Changes
	fmt.Fprintf(out, "  change to map in ms, p50/p99/max of %d: since sent %.1f/%.1f/%.1f, since the write returned %.1f/%.1f/%.1f, since it was received %.1f/%.1f/%.1f; processor per change: agent %.2f, controller %.2f; load %.0f\n",
		c.Count, c.Sent.P50, c.Sent.P99, c.Sent.Max, c.Returned.P50, c.Returned.P99, c.Returned.Max,
		c.Received.P50, c.Received.P99, c.Received.Max, c.AgentMS, c.ControllerMS, c.Load)
}
