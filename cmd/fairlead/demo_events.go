// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"text/tabwriter"
	"time"

	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/cluster"
	"github.com/fairlead/fairlead/perf/lab/traffic"
)

// What runs during the events, and for how long before and after each.
const (
	// Each over IPv4 and again over IPv6.
	demoIdleFlows     = 46
	demoActiveFlows   = 46
	demoTransferFlows = 4 // each way
	demoEventTime     = time.Second
	demoSettleTimeout = 15 * time.Second
	// demoProbes are so many new connections that one of seven equal Pods gets
	// none of them once in ten million times.
	demoProbes = 100
)

type demoEvent struct {
	Name   string `json:"name"`
	Broken int    `json:"broken"`

	what string
	do   func(context.Context) error
}

// events are what happens to the cluster, in this order.
func (d *demo) events() []demoEvent {
	return []demoEvent{
		{Name: "drain-pod", what: "pod1-1 drains: old flows stay, new ones go elsewhere", do: d.drainPod},
		{Name: "add-pod", what: "pod2-3 starts and gets its share of new flows", do: d.addPod},
		{Name: "move-vip-route", what: "the router sends the VIPs to node2 instead of node1", do: d.moveRoute},
		{Name: "restart-agent", what: "the agent of node2 is killed (-9), later started again", do: d.restartAgent},
	}
}

// runEvents lets everything happen while flows run, and counts what breaks.
func (d *demo) runEvents(ctx context.Context) error {
	if err := d.routeTo(d.cluster.Lab.Nodes[0]); err != nil {
		return err
	}
	var flows traffic.Flows
	defer flows.Close()
	if err := d.openFlows(ctx, &flows); err != nil {
		return err
	}
	fmt.Fprintf(d.out, "\n%d TCP connections, %d of them idle and %d transferring, during all of this:\n\n",
		len(flows.List), 2*demoIdleFlows, 4*demoTransferFlows)
	table := tabwriter.NewWriter(d.out, 0, 0, 2, ' ', 0)
	defer table.Flush()
	fmt.Fprintf(table, "EVENT\tBROKEN\tWHAT\n")
	for _, e := range d.events() {
		if err := d.runEvent(ctx, table, &flows, e); err != nil {
			return err
		}
	}
	return nil
}

// runEvent lets one thing happen. Flows that broke are replaced afterwards, so
// that the next event meets as many.
func (d *demo) runEvent(ctx context.Context, w io.Writer, flows *traffic.Flows, e demoEvent) error {
	flows.Run(ctx)
	err := errors.Join(runFor(ctx, demoEventTime), e.do(ctx), runFor(ctx, demoEventTime))
	e.Broken = flows.Pause()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	d.report.Events = append(d.report.Events, e)
	d.report.OK = d.report.OK && e.Broken == 0 && err == nil
	fmt.Fprintf(w, "%s\t%d\t%s\n", e.Name, e.Broken, e.what)
	d.explain(w, e.Name, err, flows.Forget())
	return flows.Open(ctx, d.cluster.Lab.Client, d.target("tcp", 0, lab.ClientAddr4), traffic.Active, e.Broken)
}

// openFlows opens the same mix over IPv4 and IPv6.
func (d *demo) openFlows(ctx context.Context, flows *traffic.Flows) error {
	for family, client := range []netip.Addr{lab.ClientAddr4, lab.ClientAddr6} {
		for kind, n := range map[traffic.Kind]int{
			traffic.Idle: demoIdleFlows, traffic.Active: demoActiveFlows,
			traffic.Download: demoTransferFlows, traffic.Upload: demoTransferFlows,
		} {
			if err := flows.Open(ctx, d.cluster.Lab.Client, d.target("tcp", family, client), kind, n); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *demo) target(network string, family int, client netip.Addr) traffic.Target {
	addr := netip.AddrPortFrom(clusterVIPs[family], cluster.ServicePort)
	return traffic.Target{Network: network, Addr: addr, Client: client}
}

func (d *demo) routeTo(n *lab.Node) error {
	for _, vip := range clusterVIPs {
		if err := d.cluster.Lab.SetVIPRoute(vip, n); err != nil {
			return err
		}
	}
	return nil
}

// drainPod is done when new flows go to all other Pods and not to this one.
func (d *demo) drainPod(ctx context.Context) error {
	pod := d.cluster.Lab.Nodes[0].Pods[0]
	d.web.Drain(pod)
	if err := d.cluster.Apply(); err != nil {
		return err
	}
	return d.waitShare(ctx, pod, false)
}

// addPod is done when new flows reach the Pod.
func (d *demo) addPod(ctx context.Context) error {
	pod, err := d.cluster.Lab.AddPod(d.cluster.Lab.Nodes[1])
	if err != nil {
		return err
	}
	if err := d.cluster.StartPod(ctx, pod); err != nil {
		return err
	}
	d.web.Add(pod)
	if err := d.cluster.Apply(); err != nil {
		return err
	}
	return d.waitShare(ctx, pod, true)
}

// waitShare waits until new flows of both families do, or do not, reach the Pod.
func (d *demo) waitShare(ctx context.Context, pod *lab.Pod, wanted bool) error {
	var last traffic.Result
	var failed []error
	err := lab.Poll(ctx, demoSettleTimeout, func() bool {
		for family, client := range []netip.Addr{lab.ClientAddr4, lab.ClientAddr6} {
			last = traffic.Requests(ctx, d.cluster.Lab.Client, d.target("tcp", family, client), demoProbes)
			if last.Failed > 0 {
				failed = append(failed, fmt.Errorf("%d new connections failed: %w", last.Failed, last.FirstError))
				return true
			}
			if (last.Shares[pod.Host] > 0) != wanted {
				return false
			}
		}
		return true
	})
	if err != nil {
		failed = append(failed, fmt.Errorf("wait for new flows of %s: %w: by pod: %v", pod.Host, err, last.Shares))
	}
	return errors.Join(failed...)
}

func (d *demo) moveRoute(context.Context) error {
	return d.routeTo(d.cluster.Lab.Nodes[1])
}

// restartAgent leaves the node without its agent for a while: it forwards on.
func (d *demo) restartAgent(ctx context.Context) error {
	node := d.cluster.Lab.Nodes[1]
	if err := d.cluster.Agent(node).Kill(); err != nil {
		return err
	}
	if err := runFor(ctx, demoEventTime); err != nil {
		return err
	}
	return d.cluster.StartAgent(ctx, node)
}

// runFor lets time pass in which the flows run.
func runFor(ctx context.Context, t time.Duration) error {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
