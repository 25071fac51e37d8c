// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/cluster"
	"github.com/fairlead/fairlead/perf/lab/traffic"
)

// moreClients are addresses that the client gets beside its own.
const moreClients = 8

// TestServices tries what a service can ask for.
func TestServices(t *testing.T) {
	lab.RequireRoot(t)
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			l := newLab(t, mode, lab.Options{SoftHop: lab.SoftHopOwners})
			clients := addClients(t, l)
			c := startCluster(t, l, mode)
			t.Run("weights", func(t *testing.T) { testWeights(t, c) })
			t.Run("draining", func(t *testing.T) { testDraining(t, c) })
			t.Run("source ranges", func(t *testing.T) { testSourceRanges(t, c, clients[0]) })
			t.Run("affinity", func(t *testing.T) { testAffinity(t, c, clients) })
			t.Run("affinity ends", func(t *testing.T) { testAffinityEnds(t, c) })
			t.Run("one tuple", func(t *testing.T) { testTuples(t, c) })
		})
	}
}

// addClients gives the client more addresses.
func addClients(t *testing.T, l *lab.Lab) []pair {
	t.Helper()
	var clients []pair
	for i := range byte(moreClients) {
		v4, v6 := lab.ClientAddr4.As4(), lab.ClientAddr6.As16()
		v4[3], v6[15] = v4[3]+1+i, v6[15]+1+i
		p := pair{netip.AddrFrom4(v4), netip.AddrFrom16(v6)}
		if err := l.Client.AddAddrs(lab.Uplink, netip.PrefixFrom(p[0], 24), netip.PrefixFrom(p[1], 64)); err != nil {
			t.Fatal(err)
		}
		clients = append(clients, p)
	}
	return clients
}

// weigh gives the Pod's backends a weight.
func weigh(s *cluster.Service, p *lab.Pod, weight int) {
	for _, port := range s.Ports {
		for i, b := range port.Backends {
			if b.Address == p.Addr4.String() || b.Address == p.Addr6.String() {
				port.Backends[i].Weight = weight
			}
		}
	}
}

func testWeights(t *testing.T, c *cluster.Cluster) {
	s := cluster.NewService("lab/weights", "Cluster", c.Lab.Pods(), vipList(70)...)
	shares, total := map[*lab.Pod]float64{}, 0.0
	for i, p := range c.Lab.Pods() {
		weigh(s, p, i+1)
		shares[p] = float64(i + 1)
		total += shares[p]
	}
	for p := range shares {
		shares[p] /= total
	}
	serve(t, c, s)
	for _, target := range targetsOf(vips(70), cluster.ServicePort) {
		expectShares(t, c, ask(t, c, target, 500), shares)
	}
}

// testDraining drains Pods, the last of a node too: old connections stay, new
// ones go to the others.
func testDraining(t *testing.T, c *cluster.Cluster) {
	s := cluster.NewService("lab/draining", "Cluster", c.Lab.Pods(), vipList(71)...)
	serve(t, c, s)
	var flows traffic.Flows
	defer flows.Close()
	for _, target := range targetsOf(vips(71), cluster.ServicePort)[:2] {
		if err := flows.Open(t.Context(), c.Lab.Client, target.Target, traffic.Idle, 60); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range c.Lab.Nodes[1].Pods {
		if flows.ByPod()[p.Host] == 0 {
			t.Errorf("%s has no connection to keep", p.Host)
		}
		s.Drain(p)
	}
	sync(t, c)
	rest := slices.DeleteFunc(c.Lab.Pods(), func(p *lab.Pod) bool { return p.Node == c.Lab.Nodes[1] })
	for _, target := range targetsOf(vips(71), cluster.ServicePort) {
		expectShares(t, c, ask(t, c, target, requests), equal(rest))
	}
	flows.Run(t.Context())
	if broken := flows.Pause(); broken > 0 {
		t.Errorf("%d of %d connections broke: %v", broken, len(flows.List), flows.Forget())
	}
}

// testSourceRanges admits the lab's client and not the stranger.
func testSourceRanges(t *testing.T, c *cluster.Cluster, stranger pair) {
	s := cluster.NewService("lab/ranges", "Cluster", c.Lab.Pods(), vipList(72)...)
	s.SourceRanges = []string{"10.2.0.2/32", "192.0.2.128/25", "fd02::2/128"}
	serve(t, c, s)
	for _, target := range targetsOf(vips(72), cluster.ServicePort) {
		before := countersOf(t, c)
		ask(t, c, target, 20)
		countersOf(t, c).since(before).expectOnly(t, "encap_home", "mine", "new", "translated")

		before = countersOf(t, c)
		target.Client = stranger[target.family]
		expectSilence(t, c, target)
		dropped := countersOf(t, c).since(before)
		dropped.expectOnly(t, "source_range")
		if dropped["source_range"] == 0 {
			t.Errorf("%s from %s: not counted", target.name, target.Client)
		}
	}
}

// expectSilence asks once and wants no answer at all.
func expectSilence(t *testing.T, c *cluster.Cluster, target target) {
	t.Helper()
	err := tryOnce(t.Context(), c, target, "hello\n", silence)
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("%s from %s: %v, want a timeout", target.name, target.Client, err)
	}
}

// affine is a service that remembers clients.
func affine(c *cluster.Cluster, name string, vip byte, remember string) *cluster.Service {
	s := cluster.NewService(name, "Cluster", c.Lab.Pods(), vipList(vip)...)
	s.Affinity, s.Remember = "ClientIP", remember
	return s
}

// onlyPod asks a few times and returns the one Pod that answers them all.
func onlyPod(t *testing.T, c *cluster.Cluster, target target) string {
	t.Helper()
	r := ask(t, c, target, 20)
	if len(r.Shares) != 1 {
		t.Fatalf("%s from %s: answers by pod %v, want one pod", target.name, target.Client, r.Shares)
	}
	for name := range r.Shares {
		return name
	}
	return ""
}

// testAffinity sends every client to one Pod, and keeps it there when its slot
// moves, until the Pod drains.
func testAffinity(t *testing.T, c *cluster.Cluster, clients []pair) {
	s := affine(c, "lab/affinity", 73, "1h")
	serve(t, c, s)
	for _, target := range targetsOf(vips(73), cluster.ServicePort) {
		pods := map[string]bool{}
		for _, client := range clients {
			target.Client = client[target.family]
			pods[onlyPod(t, c, target)] = true
		}
		if len(pods) < 2 {
			t.Errorf("%s: all of %d clients have the pods %v", target.name, len(clients), pods)
		}
	}
	for _, target := range targetsOf(vips(73), cluster.ServicePort)[:2] {
		old := onlyPod(t, c, target)
		other := c.Lab.Pods()[slices.IndexFunc(c.Lab.Pods(), func(p *lab.Pod) bool { return p.Host != old })]
		before := countersOf(t, c)
		weigh(s, other, 1000) // takes nearly every slot
		sync(t, c)
		if now := onlyPod(t, c, target); now != old {
			t.Errorf("%s: the client's slot moved and took it from %s to %s", target.name, old, now)
		}
		if got := countersOf(t, c).since(before); got["affinity"] == 0 {
			t.Errorf("%s: no flow by affinity: %v", target.name, got)
		}
		pod := c.Lab.Pods()[slices.IndexFunc(c.Lab.Pods(), func(p *lab.Pod) bool { return p.Host == old })]
		s.Drain(pod)
		sync(t, c)
		if now := onlyPod(t, c, target); now == old {
			t.Errorf("%s: %s drains and still gets new connections", target.name, old)
		}
		s.Remove(pod)
		s.Add(pod)
		weigh(s, other, 1)
		sync(t, c)
	}
}

// testAffinityEnds waits until the client is forgotten; then its slot counts.
func testAffinityEnds(t *testing.T, c *cluster.Cluster) {
	s := affine(c, "lab/affinity-ends", 74, "1s")
	serve(t, c, s)
	for _, target := range targetsOf(vips(74), cluster.ServicePort)[:2] {
		old := onlyPod(t, c, target)
		others := slices.DeleteFunc(c.Lab.Pods(), func(p *lab.Pod) bool { return p.Host == old })
		weigh(s, others[0], 1000)
		sync(t, c)
		err := lab.Poll(t.Context(), 10*time.Second, func() bool { return !remembered(t, c, "lab/affinity-ends") })
		if err != nil {
			t.Fatalf("%s: client is still remembered: %v", target.name, err)
		}
		if now := onlyPod(t, c, target); now != others[0].Host {
			t.Errorf("%s: a client that was forgotten went to %s, want %s", target.name, now, others[0].Host)
		}
		weigh(s, others[0], 1)
		sync(t, c)
	}
}

// remembered says whether any node remembers a client of the service.
func remembered(t *testing.T, c *cluster.Cluster, service string) bool {
	t.Helper()
	for _, n := range c.Lab.Nodes {
		if slices.ContainsFunc(flowsOf(t, c, n, service), func(f flow) bool { return f.Kind == "affinity" }) {
			return true
		}
	}
	return false
}
