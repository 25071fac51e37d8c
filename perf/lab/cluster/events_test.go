// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"context"
	"net/netip"
	"slices"
	"testing"

	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/cluster"
	"github.com/fairlead/fairlead/perf/lab/traffic"
)

// What runs while things happen, for each family.
const (
	idleFlows     = 250
	transferFlows = 3 // each way
	localFlows    = 20
)

// otherMode is where the agents go and come back from.
var otherMode = map[string]string{"native": "generic", "generic": "off", "off": "generic", cluster.ModeUserspace: "native"}

// nextKey is what the wire's key is changed to.
const nextKey = "6e6577206b6579206f66207468652077"

// events is a cluster to which things happen.
type events struct {
	*cluster.Cluster
	web, iperf *cluster.Service
	flows      traffic.Flows
	running    *longIperf
}

// TestEvents lets happen what happens to a cluster, while iperf3 runs and 500
// idle connections wait, and counts the connections that break: none.
func TestEvents(t *testing.T) {
	lab.RequireRoot(t, "iperf3")
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			e := startEvents(t, mode)
			for _, event := range []struct {
				name string
				do   func(*events, *testing.T)
			}{
				{"agents killed and restarted", (*events).killAgents},
				{"key rotated", (*events).rotateKey},
				{"pod drains", (*events).drainPod},
				{"pod added", (*events).addPod},
				{"VIP route moved", (*events).moveRoute},
				{"XDP mode changed", (*events).changeMode},
				{"VIP route moved back", (*events).moveRouteBack},
			} {
				t.Run(event.name, func(t *testing.T) { e.happens(t, event.do) })
			}
			t.Run("pod dies", e.killPod)
			t.Run("local route moved", e.moveLocal)
		})
	}
}

func startEvents(t *testing.T, mode string) *events {
	c := startCluster(t, newLab(t, mode, lab.Options{}), mode)
	for _, p := range c.Lab.Pods() {
		serveIperf(t, c, p)
	}
	e := &events{
		Cluster: c,
		web:     cluster.NewService("lab/web", "Cluster", c.Lab.Pods(), vipList(10)...),
		iperf:   iperfService(c.Lab.Pods()),
	}
	serve(t, c, e.web)
	serve(t, c, e.iperf)
	t.Cleanup(e.flows.Close)
	for _, target := range targetsOf(vips(10), cluster.ServicePort)[:2] {
		for kind, n := range map[traffic.Kind]int{
			traffic.Idle: idleFlows, traffic.Download: transferFlows, traffic.Upload: transferFlows,
		} {
			if err := e.flows.Open(t.Context(), c.Lab.Client, target.Target, kind, n); err != nil {
				t.Fatal(err)
			}
		}
	}
	e.running = startLongIperf(t, c, vips(50)[0])
	return e
}

// happens lets one thing happen and has everything speak before and after.
func (e *events) happens(t *testing.T, do func(*events, *testing.T)) {
	t.Helper()
	before := countersOf(t, e.Cluster)
	e.flows.Run(context.WithoutCancel(t.Context()))
	do(e, t)
	e.running.expectProgress(t)
	if broken := e.flows.Pause(); broken > 0 {
		t.Errorf("%d of %d connections broke: %v", broken, len(e.flows.List), e.flows.Forget())
	}
	grown := countersOf(t, e.Cluster).since(before)
	t.Logf("counted: %v", grown)
	expected := []string{"encap_home", "encap_past", "steer_past", "steer_home", "mine", "new", "affinity", "translated"}
	if e.XDPMode == cluster.ModeUserspace {
		expected = append(expected, "no_agent") // while it is restarted
	}
	grown.expectOnly(t, expected...)
}

func (e *events) killAgents(t *testing.T) { restart(t, e.Cluster) }

// rotateKey changes the key of the wire on node after node, first by restarts:
// all accept both keys before the first uses the new one.
func (e *events) rotateKey(t *testing.T) {
	old := e.Key
	e.PreviousKey = nextKey
	restart(t, e.Cluster)
	e.Key, e.PreviousKey = nextKey, old
	sync(t, e.Cluster)
	e.PreviousKey = ""
	sync(t, e.Cluster)
}

// drainPod drains the one that iperf3 talks to.
func (e *events) drainPod(t *testing.T) {
	pod := e.running.pod(t, e.Cluster)
	e.web.Drain(pod)
	e.iperf.Drain(pod)
	sync(t, e.Cluster)
}

func (e *events) addPod(t *testing.T) {
	addPod(t, e.Cluster, e.Lab.Nodes[1], e.web)
	sync(t, e.Cluster)
}

func (e *events) moveRoute(t *testing.T) { e.routeAll(t, e.Lab.Nodes[2]) }

func (e *events) moveRouteBack(t *testing.T) { e.routeAll(t, e.Lab.Nodes[1]) }

func (e *events) routeAll(t *testing.T, n *lab.Node) {
	t.Helper()
	route(t, e.Cluster, e.web, n)
	route(t, e.Cluster, e.iperf, n)
}

// changeMode restarts the agents in another XDP mode, and again in the first.
func (e *events) changeMode(t *testing.T) {
	mode := e.XDPMode
	for _, e.XDPMode = range []string{otherMode[mode], mode} {
		restart(t, e.Cluster)
		expectMode(t, e.Cluster, e.XDPMode)
		e.running.expectProgress(t)
	}
}

// killPod takes one of the six away; its connections break, and only those.
func (e *events) killPod(t *testing.T) {
	spared := e.running.pod(t, e.Cluster)
	pods := e.Lab.Pods()[:6]
	victim := pods[slices.IndexFunc(pods, func(p *lab.Pod) bool { return p != spared && e.flows.ByPod()[p.Host] > 0 })]
	its := e.flows.ByPod()[victim.Host]
	if err := e.Lab.RemovePod(victim); err != nil {
		t.Fatal(err)
	}
	e.web.Remove(victim)
	e.iperf.Remove(victim)
	sync(t, e.Cluster)
	e.flows.Run(context.WithoutCancel(t.Context()))
	e.running.expectProgress(t)
	broken := e.flows.Pause()
	for _, f := range e.flows.List {
		if f.Err != nil && f.Pod != victim.Host {
			t.Errorf("connection to %s broke: %v", f.Pod, f.Err)
		}
	}
	if broken != its {
		t.Errorf("%d connections broke, want the %d of %s", broken, its, victim.Host)
	}
	t.Logf("%s died: %d of %d connections broke, %d were its own", victim.Host, broken, len(e.flows.List), its)
	e.flows.Forget()
}

// moveLocal records what a moved route costs under Local, where nothing
// promises yet that connections hold.
func (e *events) moveLocal(t *testing.T) {
	local := cluster.NewService("lab/local", "Local", e.Lab.Pods(), vipList(20)...)
	serve(t, e.Cluster, local)
	var flows traffic.Flows
	defer flows.Close()
	for _, target := range targetsOf(vips(20), cluster.ServicePort)[:2] {
		if err := flows.Open(t.Context(), e.Lab.Client, target.Target, traffic.Idle, localFlows); err != nil {
			t.Fatal(err)
		}
	}
	before := countersOf(t, e.Cluster)
	route(t, e.Cluster, local, e.Lab.Nodes[2])
	flows.Run(t.Context())
	broken := flows.Pause()
	t.Logf("Local: %d of %d connections broke when the route moved: %v: %v",
		broken, len(flows.List), flows.Forget(), countersOf(t, e.Cluster).since(before))
}

// podOf is the Pod with the address.
func podOf(t *testing.T, c *cluster.Cluster, addr netip.Addr) *lab.Pod {
	t.Helper()
	for _, p := range c.Lab.Pods() {
		if p.Addr(addr) == addr {
			return p
		}
	}
	t.Fatalf("no pod has the address %s", addr)
	return nil
}

// established are the service's TCP flows in that state, on any node.
func established(t *testing.T, c *cluster.Cluster, service string) []flow {
	t.Helper()
	var all []flow
	for _, n := range c.Lab.Nodes {
		for _, f := range flowsOf(t, c, n, service) {
			if f.Kind == "own" && f.State == "established" && f.Protocol == "tcp" {
				all = append(all, f)
			}
		}
	}
	return all
}
