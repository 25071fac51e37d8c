// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"text/tabwriter"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead/fairlead/deploy/manifests"
	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/kube/agent"
	"github.com/fairlead/fairlead/perf/lab/kube/cluster"
	"github.com/fairlead/fairlead/perf/lab/traffic"
)

const (
	// answerTimeout is how long addresses and the first answer may take.
	answerTimeout = time.Minute
	// requestTimeout is far above what the network takes: the Pods, three nodes and
	// a control plane share one machine's processors.
	requestTimeout = 15 * time.Second
)

// pool is where shop.yaml's addresses are.
var pool = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/28"), netip.MustParsePrefix("2001:db8:0:1::/124")}

// demo is one run over a cluster.
type demo struct {
	cluster    *cluster.Cluster
	options    options
	out        io.Writer
	ok         bool
	web, local []netip.Addr // of the two Services, IPv4 first
}

func (d *demo) run(ctx context.Context) error {
	c := d.cluster
	if err := c.Install(ctx); err != nil {
		return err
	}
	fmt.Fprintf(d.out, "client %s and %s, router, %d nodes\n\n", lab.ClientAddr4, lab.ClientAddr6, len(c.Lab.Nodes))
	table := tabwriter.NewWriter(d.out, 0, 0, 2, ' ', 0)
	for _, step := range c.Took {
		fmt.Fprintf(table, "%s\t%.1f s\n", step.Name, step.Took.Seconds())
	}
	table.Flush()
	// The routers know of the pool; which of its addresses are in use, and on
	// which nodes, is what announcements will tell them.
	for _, prefix := range pool {
		if err := c.Lab.RouteNet(prefix, c.Lab.Nodes...); err != nil {
			return err
		}
	}
	if err := d.openShop(ctx); err != nil {
		return err
	}
	if err := d.runCases(ctx); err != nil {
		return err
	}
	return d.runEvents(ctx)
}

// openShop applies the shop, and waits for the first answer and then for all Pods,
// also in the tables of the nodes.
func (d *demo) openShop(ctx context.Context) (err error) {
	c := d.cluster
	begun := time.Now()
	if err := c.Apply(ctx, shop); err != nil {
		return err
	}
	if d.web, err = d.addresses(ctx, "web"); err != nil {
		return err
	}
	allocated := time.Since(begun)
	target := d.target("tcp", d.web[0])
	target.Timeout = time.Second
	var last error
	err = lab.Poll(ctx, answerTimeout, func() bool {
		last = traffic.Requests(ctx, c.Lab.Client, target, 1).FirstError
		return last == nil
	})
	if err != nil {
		return fmt.Errorf("wait for the first answer: %w", errors.Join(err, last))
	}
	fmt.Fprintf(d.out, "\n$ kubectl apply -f shop.yaml\n  address after %.2f s, first answer after %.2f s\n",
		allocated.Seconds(), time.Since(begun).Seconds())
	if d.local, err = d.addresses(ctx, "web-local"); err != nil {
		return err
	}
	if err := c.WaitRollout(ctx, "shop", "deployment/web"); err != nil {
		return err
	}
	if err := d.waitForTables(ctx); err != nil {
		return err
	}
	for _, args := range []string{
		"get svc -n shop", "get pods -n shop -o wide", "get ipaddresspools,nodestates -n fairlead-system",
	} {
		said, err := c.Control.Kubectl(ctx, "", strings.Fields(args)...)
		if err != nil {
			return err
		}
		fmt.Fprintf(d.out, "\n$ kubectl %s\n%s", args, said)
	}
	fmt.Fprintln(d.out)
	return nil
}

// waitForTables waits until each agent's tables have all Pods: shares are those
// of fewer before.
func (d *demo) waitForTables(ctx context.Context) error {
	pods, err := d.pods(ctx)
	if err != nil {
		return err
	}
	agents, err := d.cluster.Control.ReadyPods(ctx, manifests.Namespace, "app.kubernetes.io/component=agent")
	if err != nil {
		return err
	}
	for _, a := range agents {
		var missing error
		if err := lab.Poll(ctx, answerTimeout, func() bool {
			missing = d.checkTables(ctx, a.Name, len(pods))
			return missing == nil
		}); err != nil {
			return fmt.Errorf("wait for the tables of %s: %w: %w", a.Name, err, missing)
		}
	}
	return nil
}

// checkTables says what an agent's tables lack.
func (d *demo) checkTables(ctx context.Context, name string, pods int) error {
	out, err := d.cluster.Control.Kubectl(ctx, "", "exec", "--namespace="+manifests.Namespace, name, "--", "/fairlead", "status", "-o", "json")
	if err != nil {
		return err
	}
	status, err := agent.ParseStatus(out)
	if err != nil {
		return err
	}
	return errors.Join(status.CheckBackends("shop/web", pods, 0), status.CheckBackends("shop/web-local", pods, 0))
}

// addresses waits for those of both families.
func (d *demo) addresses(ctx context.Context, service string) (addrs []netip.Addr, err error) {
	waited := lab.Poll(ctx, answerTimeout, func() bool {
		addrs, err = d.cluster.Addresses(ctx, "shop", service)
		return len(addrs) == 2
	})
	if waited != nil {
		return nil, fmt.Errorf("wait for addresses of %s: %w: has %v", service, errors.Join(waited, err), addrs)
	}
	return addrs, nil
}

// pods are the ready ones, those on the nodes that are named, or all.
func (d *demo) pods(ctx context.Context, nodes ...*lab.Node) ([]corev1.Pod, error) {
	all, err := d.cluster.Control.ReadyPods(ctx, "shop", "app=web")
	if err != nil {
		return nil, err
	}
	var pods []corev1.Pod
	for _, p := range all {
		on := len(nodes) == 0
		for _, n := range nodes {
			on = on || p.Spec.NodeName == n.Host
		}
		if on {
			pods = append(pods, p)
		}
	}
	return pods, nil
}

func (d *demo) target(network string, vip netip.Addr) traffic.Target {
	client := lab.ClientAddr4
	if vip.Is6() {
		client = lab.ClientAddr6
	}
	return traffic.Target{
		Network: network, Addr: netip.AddrPortFrom(vip, cluster.ServicePort), Client: client, Timeout: requestTimeout,
	}
}

// hints say what can be done with a cluster that is kept.
func (d *demo) hints() error {
	c := d.cluster
	kubeconfig, err := c.Control.AdminKubeconfig()
	if err != nil {
		return err
	}
	node := c.Lab.Nodes[0]
	_, err = fmt.Fprintf(d.out, `
The cluster stays up until the next demo, or: %[1]s demo --cleanup

  ip netns exec %[2]s %[3]s --kubeconfig %[4]s get pods -A -o wide
  ip netns exec %[5]s bash -c 'exec 3<>/dev/tcp/%[6]s/%[7]d; echo hello >&3; head -1 <&3'
  ip netns exec %[8]s tcpdump -ni eth0 udp or host %[6]s
`, d.options.binary, c.Control.Machine().Name, c.Control.Program("kubectl"), kubeconfig,
		c.Lab.Client.Name, d.web[0], cluster.ServicePort, node.Name)
	return err
}
