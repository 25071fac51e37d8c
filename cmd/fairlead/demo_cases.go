// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/cluster"
	"github.com/fairlead/fairlead/perf/lab/traffic"
)

// The demo's two services, each with an IPv4 and an IPv6 VIP.
var (
	clusterVIPs = []netip.Addr{netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("2001:db8:0:1::10")}
	localVIPs   = []netip.Addr{netip.MustParseAddr("192.0.2.20"), netip.MustParseAddr("2001:db8:0:1::20")}
)

// demoReport is what --json prints.
type demoReport struct {
	OK       bool        `json:"ok"`
	Datapath string      `json:"datapath"`
	XDPMode  string      `json:"xdpMode"`
	Cases    []demoCase  `json:"cases"`
	Events   []demoEvent `json:"events"`
}

type demoCase struct {
	Name            string         `json:"name"`
	Requests        int            `json:"requests"`
	Failed          int            `json:"failed"`
	ClientPreserved bool           `json:"clientAddressPreserved"`
	Shares          map[string]int `json:"shares"`
}

// demo is one run over a lab.
type demo struct {
	options demoOptions
	cluster *cluster.Cluster
	web     *cluster.Service // under policy Cluster
	out     io.Writer        // for tables; io.Discard with --json
	errs    io.Writer        // for reasons that the JSON object has no place for
	report  demoReport
}

func newDemo(l *lab.Lab, o demoOptions, env *env) *demo {
	web := cluster.NewService("demo/web", "Cluster", l.Pods(), clusterVIPs...)
	local := cluster.NewService("demo/web-local", "Local", l.Pods(), localVIPs...)
	mode := o.xdpMode
	if o.datapath == datapathUserspace {
		mode = cluster.ModeUserspace
	}
	d := &demo{
		options: o,
		cluster: cluster.New(l, o.binary, mode, web, local),
		web:     web,
		out:     env.stdout,
		errs:    io.Discard,
		report:  demoReport{OK: true, Cases: []demoCase{}, Events: []demoEvent{}},
	}
	if o.json {
		d.out, d.errs = io.Discard, env.stderr
	}
	return d
}

// explain says why a case or an event did not hold, in its table or apart.
func (d *demo) explain(table io.Writer, name string, errs ...error) {
	for _, err := range errs {
		if err != nil {
			fmt.Fprintf(table, "  %v\n", err)
			fmt.Fprintf(d.errs, "%s: %v\n", name, err)
		}
	}
}

// run does all of the demo. What does not hold is in the report; the error says
// that it could not go on.
func (d *demo) run(ctx context.Context) error {
	l := d.cluster.Lab
	if err := d.cluster.Start(ctx); err != nil {
		return err
	}
	status, err := d.cluster.Status(ctx, l.Nodes[0])
	if err != nil {
		return err
	}
	d.report.XDPMode, d.report.Datapath = status.XDPMode, status.Datapath
	fmt.Fprintf(d.out, "client %s and %s, router, %d nodes with %d Pods each, %s datapath, XDP mode %s\n\n",
		lab.ClientAddr4, lab.ClientAddr6, demoNodes, demoPodsPerNode, status.Datapath, status.XDPMode)
	if err := d.runCases(ctx); err != nil {
		return err
	}
	return d.runEvents(ctx)
}

// runCases sends the requests of all eight combinations. The router spreads
// Cluster VIPs over all nodes and gives Local ones to node 1, whose own Pods
// are the only candidates then.
func (d *demo) runCases(ctx context.Context) error {
	l := d.cluster.Lab
	for _, vip := range clusterVIPs {
		if err := l.SetVIPRoute(vip, l.Nodes...); err != nil {
			return err
		}
	}
	for _, vip := range localVIPs {
		if err := l.SetVIPRoute(vip, l.Nodes[0]); err != nil {
			return err
		}
	}
	table := tabwriter.NewWriter(d.out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "CASE\tREQUESTS\tFAILED\tCLIENT SEEN\tOK\tANSWERS/EXPECTED PER POD\n")
	for _, network := range []string{"tcp", "udp"} {
		for family, client := range []netip.Addr{lab.ClientAddr4, lab.ClientAddr6} {
			name := network + []string{"4", "6"}[family]
			target := traffic.Target{Network: network, Client: client}
			target.Addr = netip.AddrPortFrom(clusterVIPs[family], cluster.ServicePort)
			d.runCase(ctx, table, name+"-cluster", target, l.Pods())
			target.Addr = netip.AddrPortFrom(localVIPs[family], cluster.ServicePort)
			d.runCase(ctx, table, name+"-local", target, l.Nodes[0].Pods)
		}
	}
	table.Flush()
	return ctx.Err()
}

// runCase sends the requests of one combination, of which every candidate is to
// answer the same share and all others none.
func (d *demo) runCase(ctx context.Context, w io.Writer, name string, t traffic.Target, candidates []*lab.Pod) {
	r := traffic.Requests(ctx, d.cluster.Lab.Client, t, demoRequests)
	c := demoCase{name, r.Requests, r.Failed, r.ClientPreserved(), r.Shares}
	ok := c.Failed == 0 && c.ClientPreserved
	var shares []string
	for _, p := range d.cluster.Lab.Pods() {
		share := 0.0
		if slices.Contains(candidates, p) {
			share = 1 / float64(len(candidates))
		}
		ok = ok && traffic.Fits(r.Shares[p.Host], r.Requests, share)
		shares = append(shares, fmt.Sprintf("%s %d/%.0f", p.Host, r.Shares[p.Host], share*float64(r.Requests)))
	}
	d.report.Cases = append(d.report.Cases, c)
	d.report.OK = d.report.OK && ok
	fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%s\t%s\n", name, c.Requests, c.Failed, clientsSeen(r), yesNo(ok), strings.Join(shares, "  "))
	d.explain(w, name, r.FirstError)
}

// clientsSeen names the one client address that Pods saw, or counts them.
func clientsSeen(r traffic.Result) string {
	for client := range r.Clients {
		if len(r.Clients) == 1 {
			return client
		}
	}
	return strconv.Itoa(len(r.Clients)) + " addresses"
}

func yesNo(ok bool) string {
	if ok {
		return "yes"
	}
	return "NO"
}
