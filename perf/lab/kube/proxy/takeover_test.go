// SPDX-License-Identifier: Apache-2.0

package proxy_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/cluster"
	"github.com/fairlead/fairlead/perf/lab/pod"
	"github.com/fairlead/fairlead/perf/lab/traffic"
)

// Connections to each address of each Service before Fairlead comes.
const (
	idleFlows     = 15
	activeFlows   = 5
	datagramFlows = 10
	requests      = 40
)

// before are connections that begin while kube-proxy alone is there.
type before struct {
	flows     traffic.Flows
	datagrams []*datagrams
}

// begin opens connections through kube-proxy, over all nodes.
func begin(t *testing.T, w *world) *before {
	t.Helper()
	b := &before{}
	t.Cleanup(b.flows.Close)
	for _, vips := range []pair{webVIPs, nearVIPs} {
		for _, target := range targetsOf(vips, cluster.ServicePort, clients) {
			if target.Network == "udp" {
				b.datagrams = append(b.datagrams, openDatagrams(t, w.lab.Client, target)...)
				continue
			}
			for kind, n := range map[traffic.Kind]int{traffic.Idle: idleFlows, traffic.Active: activeFlows, traffic.Download: 1, traffic.Upload: 1} {
				if err := b.flows.Open(t.Context(), w.lab.Client, target.Target, kind, n); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	return b
}

// hold lets something happen to the connections, and then all speak.
func (b *before) hold(t *testing.T, what string, happen func()) {
	t.Helper()
	b.flows.Run(context.WithoutCancel(t.Context()))
	ending := make(chan struct{})
	var running sync.WaitGroup
	for _, d := range b.datagrams {
		running.Go(func() { d.run(ending) })
	}
	happen()
	close(ending)
	running.Wait()
	if broken := b.flows.Pause(); broken > 0 {
		t.Errorf("%s: %d of %d connections broke: %v", what, broken, len(b.flows.List), b.flows.Forget())
	}
	lost := 0
	for _, d := range b.datagrams {
		if d.err != nil {
			if lost++; lost == 1 {
				t.Errorf("%s: %v", what, d.err)
			}
		}
	}
	if lost > 0 {
		t.Errorf("%s: %d of %d flows of datagrams broke", what, lost, len(b.datagrams))
	}
}

// end closes all of them.
func (b *before) end() {
	b.flows.Close()
	for _, d := range b.datagrams {
		d.conn.Close()
	}
}

// datagrams are a flow of them, to one Pod that sees them from one address.
type datagrams struct {
	conn   net.Conn
	pod    string
	client netip.AddrPort
	sent   int
	err    error // why it broke
}

func openDatagrams(t *testing.T, from *lab.Namespace, target target) []*datagrams {
	t.Helper()
	var all []*datagrams
	for range datagramFlows {
		conn, err := from.Dial(t.Context(), "udp", netip.AddrPortFrom(target.Client, 0), target.Addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		d := &datagrams{conn: conn}
		if err := d.ask(); err != nil {
			t.Fatal(err)
		}
		all = append(all, d)
	}
	return all
}

// run lets the flow go on, so that conntrack does not forget it.
func (d *datagrams) run(ending <-chan struct{}) {
	pace := time.NewTicker(datagramInterval)
	defer pace.Stop()
	for d.err == nil {
		select {
		case <-ending:
			d.err = d.ask()
			return
		case <-pace.C:
			d.err = d.ask()
		}
	}
}

const datagramInterval = 200 * time.Millisecond

// Tries of one question, for it may get lost on its way.
const (
	datagramTries   = 5
	datagramTimeout = time.Second
)

// ask wants an answer of the same Pod, and that the Pod sees the same client.
func (d *datagrams) ask() error {
	d.sent++
	answer, err := d.exchange(fmt.Appendf(nil, "datagram %d", d.sent))
	if err != nil {
		return err
	}
	a, err := pod.ParseAnswer(answer)
	switch {
	case err != nil:
		return err
	case d.pod == "":
		d.pod, d.client = a.Pod, a.Client
	case a.Pod != d.pod || a.Client != d.client:
		return fmt.Errorf("%s sees %s, before %s saw %s", a.Pod, a.Client, d.pod, d.client)
	}
	return nil
}

// exchange sends the datagram until something is answered.
func (d *datagrams) exchange(datagram []byte) (string, error) {
	buf := make([]byte, 512)
	for range datagramTries {
		if _, err := d.conn.Write(datagram); err != nil {
			return "", err
		}
		d.conn.SetReadDeadline(time.Now().Add(datagramTimeout))
		if n, err := d.conn.Read(buf); err == nil {
			return string(buf[:n]), nil
		}
	}
	return "", fmt.Errorf("no answer of %q to %d datagrams from %s", d.pod, datagramTries, d.conn.LocalAddr())
}

// testTakeOver starts the agents while connections run through kube-proxy: none
// breaks, and new ones are Fairlead's.
func testTakeOver(t *testing.T, w *world, c *cluster.Cluster) {
	b := begin(t, w)
	b.hold(t, "agents start", func() { start(t, c) })
	if counted(t, c, "conntracked") == 0 {
		t.Error("no packet was left to kube-proxy")
	}
	b.hold(t, "new connections", func() { askAll(t, w) })
	b.hold(t, "an agent is killed and starts again", func() { restart(t, c, c.Lab.Nodes[0]) })
	waitAdopted(t, c, func(n int) bool { return n > 0 })
	b.end()
	// What is left of the connections is in conntrack for a time, UDP at least.
	for _, n := range c.Lab.Nodes {
		for _, addr := range clients {
			if _, err := n.ForgetFlows(addr); err != nil {
				t.Fatal(err)
			}
		}
	}
	if c.XDPMode != "off" { // in one mode wait until they look once more; here they look at their start
		for _, n := range c.Lab.Nodes {
			restart(t, c, n)
		}
	}
	waitAdopted(t, c, func(n int) bool { return n == 0 })
	askAll(t, w)
}

// askAll makes requests from outside of the cluster, of which the Pods see who made them.
func askAll(t *testing.T, w *world) {
	t.Helper()
	for _, vips := range []pair{webVIPs, nearVIPs} {
		for _, target := range targetsOf(vips, cluster.ServicePort, clients) {
			askDirect(t, w.lab.Client, target, requests)
		}
	}
}

// restart kills the node's agent and starts another.
func restart(t *testing.T, c *cluster.Cluster, n *lab.Node) {
	t.Helper()
	if err := c.Agent(n).Kill(); err != nil {
		t.Fatal(err)
	}
	if err := c.StartAgent(t.Context(), n); err != nil {
		t.Fatal(err)
	}
}

// adoptionTimeout is the minute between two looks at conntrack, and more.
const adoptionTimeout = 90 * time.Second

// waitAdopted waits until done likes the connections that each node says that
// kube-proxy still has.
func waitAdopted(t *testing.T, c *cluster.Cluster, done func(int) bool) {
	t.Helper()
	for _, node := range c.Lab.Nodes {
		last := 0
		err := lab.Poll(t.Context(), adoptionTimeout, func() bool {
			s, err := c.Status(t.Context(), node)
			if err != nil {
				return false
			}
			last = 0
			for _, service := range s.Services {
				if service.Adopted != nil {
					last += *service.Adopted
				}
			}
			return done(last)
		})
		if err != nil {
			t.Errorf("%s says that kube-proxy has %d connections: %v", node.Host, last, err)
		}
	}
}
