// SPDX-License-Identifier: Apache-2.0

// Command firstanswer times how long a user of Kubernetes waits: from the start
// of `kubectl apply` of a pool and a Service, whose Pods run, until a client
// outside the cluster has the first answer from the Service's address. It runs
// on a lab's cluster with real kubelets, and needs root.
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
	"slices"
	"syscall"
	"time"

	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/kube"
	"github.com/fairlead/fairlead/perf/lab/kube/cluster"
)

// Report is what the file holds. All times are in milliseconds.
type Report struct {
	Rounds int `json:"rounds"`
	// Kubectl is how long kubectl itself ran, Address until the Service's status
	// had its address, Answer until the client had an answer.
	Kubectl Times `json:"kubectl"`
	Address Times `json:"address"`
	Answer  Times `json:"answer"`
}

// Times are of one event over all rounds.
type Times struct {
	Median float64 `json:"median"`
	P99    float64 `json:"p99"`
	Max    float64 `json:"max"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "firstanswer:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("firstanswer", flag.ContinueOnError)
	flags.SetOutput(stderr)
	binary := flags.String("fairlead", "bin/fairlead", "static `FILE` of fairlead, which becomes the nodes' image")
	file := flags.String("o", "perf/results/first-answer.json", "`FILE` for the results")
	rounds := flags.Int("rounds", 200, "`NUMBER` of Services, one after the other, 1 to 250")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *rounds < 1 || *rounds > 250 || flags.NArg() > 0 {
		return fmt.Errorf("%d rounds, %d arguments: want 1 to 250, and none", *rounds, flags.NArg())
	}
	if err := kube.MissingForNodes(); err != nil {
		return err
	}
	if _, err := lab.Sweep(false); err != nil {
		return fmt.Errorf("clean up earlier labs: %w", err)
	}
	path, err := filepath.Abs(*binary)
	if err != nil {
		return fmt.Errorf("find fairlead: %w", err)
	}
	samples, err := measure(ctx, path, *rounds, stderr)
	if err != nil {
		return err
	}
	report := Report{
		Rounds:  *rounds,
		Kubectl: timesOf(samples, func(s sample) time.Duration { return s.kubectl }),
		Address: timesOf(samples, func(s sample) time.Duration { return s.address }),
		Answer:  timesOf(samples, func(s sample) time.Duration { return s.answer }),
	}
	for name, times := range map[string]Times{"kubectl": report.Kubectl, "address": report.Address, "answer": report.Answer} {
		fmt.Fprintf(stdout, "%-8s median %7.1f ms  p99 %7.1f ms  max %7.1f ms\n", name, times.Median, times.P99, times.Max)
	}
	return write(*file, report)
}

// measure runs all rounds on one cluster.
func measure(ctx context.Context, binary string, rounds int, stderr io.Writer) (samples []sample, err error) {
	c, err := cluster.Start(ctx, slog.New(slog.NewTextHandler(stderr, nil)), cluster.Options{Lab: lab.Options{Nodes: 3}, Binary: binary})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if err := c.Install(ctx); err != nil {
		return nil, err
	}
	w := world{c}
	if err := w.prepare(ctx); err != nil {
		return nil, err
	}
	for i := range rounds {
		s, err := w.round(ctx, i)
		if err != nil {
			return nil, fmt.Errorf("round %d: %w", i, err)
		}
		samples = append(samples, s)
	}
	return samples, nil
}

func timesOf(samples []sample, of func(sample) time.Duration) Times {
	all := make([]float64, 0, len(samples))
	for _, s := range samples {
		all = append(all, float64(of(s).Microseconds())/1000)
	}
	slices.Sort(all)
	at := func(q float64) float64 { return all[min(int(q*float64(len(all))), len(all)-1)] }
	return Times{Median: at(0.5), P99: at(0.99), Max: all[len(all)-1]}
}

func write(path string, report Report) error {
	encoded, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return fmt.Errorf("encode report: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	if err := os.WriteFile(path, append(encoded, '\n'), 0o644); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}
