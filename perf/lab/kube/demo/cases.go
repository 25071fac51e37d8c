// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/traffic"
)

// runCases sends requests to both Services by both protocols and families. The
// router spreads what is for policy Cluster over all nodes and gives that for
// Local to node 1, whose own Pods are the only candidates then.
func (d *demo) runCases(ctx context.Context) error {
	l := d.cluster.Lab
	if err := d.routeLocal(l.Nodes[0]); err != nil {
		return err
	}
	table := tabwriter.NewWriter(d.out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "CASE\tREQUESTS\tFAILED\tCLIENT SEEN\tOK\tANSWERS/EXPECTED PER POD\n")
	for _, network := range []string{"tcp", "udp"} {
		for family := range d.web {
			name := network + []string{"4", "6"}[family]
			if err := d.runCase(ctx, table, name+"-cluster", d.target(network, d.web[family])); err != nil {
				return err
			}
			if err := d.runCase(ctx, table, name+"-local", d.target(network, d.local[family]), l.Nodes[0]); err != nil {
				return err
			}
		}
	}
	return table.Flush()
}

// runCase sends the requests of one combination, of which every Pod on the nodes
// is to answer the same share and all others none.
func (d *demo) runCase(ctx context.Context, table *tabwriter.Writer, name string, t traffic.Target, nodes ...*lab.Node) error {
	pods, err := d.pods(ctx)
	if err != nil {
		return err
	}
	candidates, err := d.pods(ctx, nodes...)
	if err != nil {
		return err
	}
	r := traffic.Requests(ctx, d.cluster.Lab.Client, t, d.options.requests)
	ok := r.Failed == 0 && r.ClientPreserved()
	var shares []string
	for _, p := range pods {
		share := 0.0
		if slices.ContainsFunc(candidates, func(c corev1.Pod) bool { return c.Name == p.Name }) {
			share = 1 / float64(len(candidates))
		}
		ok = ok && traffic.Fits(r.Shares[p.Name], r.Requests, share)
		shares = append(shares, fmt.Sprintf("%s %d/%.0f", p.Name[strings.LastIndex(p.Name, "-")+1:], r.Shares[p.Name], share*float64(r.Requests)))
	}
	fmt.Fprintf(table, "%s\t%d\t%d\t%s\t%s\t%s\n", name, r.Requests, r.Failed, clientsSeen(r), d.held(ok), strings.Join(shares, "  "))
	if r.FirstError != nil {
		fmt.Fprintf(table, "  %v\n", r.FirstError)
	}
	return ctx.Err()
}

// held notes whether something held, and says so.
func (d *demo) held(ok bool) string {
	if ok {
		return "yes"
	}
	d.ok = false
	return "NO"
}

// clientsSeen names the one client address that Pods saw, or counts them.
func clientsSeen(r traffic.Result) string {
	for client := range r.Clients {
		if len(r.Clients) == 1 {
			return client
		}
	}
	return fmt.Sprintf("%d addresses", len(r.Clients))
}

// routeLocal tells the router which nodes have Pods for policy Local.
func (d *demo) routeLocal(nodes ...*lab.Node) error {
	var errs []error
	for _, vip := range d.local {
		errs = append(errs, d.cluster.Lab.SetVIPRoute(vip, nodes...))
	}
	return errors.Join(errs...)
}

// event is what happens while the client goes on.
type event struct {
	name, what string
	do         func(context.Context) error
}

// runEvents lets every event happen under a load of new connections to both
// Services over both families, none of which may fail.
func (d *demo) runEvents(ctx context.Context) error {
	c := d.cluster
	// Every node has Pods at all times of a rollout.
	if err := d.routeLocal(c.Lab.Nodes...); err != nil {
		return err
	}
	table := tabwriter.NewWriter(d.out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "\nUNDER LOAD\tTOOK\tREQUESTS\tFAILED\tSLOWEST\tOK\tWHAT\n")
	for _, e := range []event{
		{"rollout", "kubectl rollout restart deployment/web: all Pods are replaced", d.rollOut("shop", "deployment/web")},
		{"agents", "kubectl rollout restart daemonset/fairlead-agent: all agents are replaced", d.rollOut("fairlead-system", "daemonset/fairlead-agent")},
		{"api server", "gone for two seconds, and back", d.restartAPIServer},
	} {
		if err := d.runEvent(ctx, table, e); err != nil {
			return fmt.Errorf("%s: %w", e.name, err)
		}
	}
	return table.Flush()
}

func (d *demo) runEvent(ctx context.Context, table *tabwriter.Writer, e event) error {
	loading, stop := context.WithCancel(ctx)
	defer stop()
	var targets []traffic.Target
	for _, vip := range slices.Concat(d.web, d.local) {
		targets = append(targets, d.target("tcp", vip))
	}
	results := make(chan traffic.Result, len(targets))
	for _, t := range targets {
		go func() { results <- d.load(loading, t) }()
	}
	begun := time.Now()
	err := e.do(ctx)
	took := time.Since(begun)
	stop()
	var requests, failed int
	var slowest time.Duration
	var errs []error
	ok := err == nil
	for range targets {
		r := <-results
		requests, failed, slowest = requests+r.Requests, failed+r.Failed, max(slowest, r.Slowest)
		errs = append(errs, r.FirstError)
		ok = ok && r.Failed == 0 && r.ClientPreserved()
	}
	fmt.Fprintf(table, "%s\t%.1f s\t%d\t%d\t%.2f s\t%s\t%s\n",
		e.name, took.Seconds(), requests, failed, slowest.Seconds(), d.held(ok), e.what)
	if err := errors.Join(append(errs, err)...); err != nil {
		fmt.Fprintf(table, "  %v\n", strings.ReplaceAll(err.Error(), "\n", "\n  "))
	}
	return ctx.Err()
}

// load makes requests until the context ends, and returns what became of those
// that it did not interrupt.
func (d *demo) load(ctx context.Context, t traffic.Target) traffic.Result {
	const batch = 25
	sum := traffic.Result{Clients: map[string]int{}, Shares: map[string]int{}}
	for ctx.Err() == nil {
		// The requests of a batch run to their end.
		r := traffic.Requests(context.WithoutCancel(ctx), d.cluster.Lab.Client, t, batch)
		sum.Requests += r.Requests
		sum.Failed += r.Failed
		sum.WrongClient += r.WrongClient
		sum.Slowest = max(sum.Slowest, r.Slowest)
		if sum.FirstError == nil && r.FirstError != nil {
			sum.FirstError = fmt.Errorf("%s: %w", t.Addr, r.FirstError)
		}
		for pod, answers := range r.Shares {
			sum.Shares[pod] += answers
		}
	}
	return sum
}

// rollOut replaces all Pods of a workload.
func (d *demo) rollOut(namespace, workload string) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := d.cluster.Control.Kubectl(ctx, "", "rollout", "restart", "--namespace="+namespace, workload)
		if err != nil {
			return err
		}
		return d.cluster.WaitRollout(ctx, namespace, workload)
	}
}

// restartAPIServer leaves the cluster without its API server for a while.
func (d *demo) restartAPIServer(ctx context.Context) error {
	if err := d.cluster.Control.StopAPIServer(); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
	case <-time.After(2 * time.Second):
	}
	return d.cluster.Control.StartAPIServer(ctx)
}
