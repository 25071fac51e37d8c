// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"net/netip"
	"testing"

	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/cluster"
)

// requests are asked in each of the eight combinations.
const requests = 250

// paths are the places where offloads can be missing, and what else a network
// can be like: Pods on a bridge, nodes that know each other by IPv6, a switch that floods.
var paths = []struct {
	name    string
	options lab.Options
	nodesV6 bool
}{
	{name: "all-offloads"},
	{name: "soft-owners", options: lab.Options{SoftHop: lab.SoftHopOwners}},
	{name: "soft-owners-v6", options: lab.Options{SoftHop: lab.SoftHopOwners}, nodesV6: true},
	{name: "soft-all", options: lab.Options{SoftHop: lab.SoftHopAll, Bridged: true, Hub: true}},
}

// TestDatapath sends all kinds of traffic through every mode, with offloads as
// the kernel sets them and with hops that do checksums and segments in software.
func TestDatapath(t *testing.T) {
	lab.RequireRoot(t, "ping", "ethtool")
	for _, mode := range modes {
		for _, path := range paths {
			t.Run(mode+"/"+path.name, func(t *testing.T) {
				c := cluster.New(newLab(t, mode, path.options), fairlead, mode)
				c.NodesV6 = path.nodesV6
				startConfirmed(t, c)
				web := cluster.NewService("lab/web", "Cluster", c.Lab.Pods(), vipList(10)...)
				serve(t, c, web)
				t.Run("requests", func(t *testing.T) { testRequests(t, c, web) })
				t.Run("counters", func(t *testing.T) { testCounters(t, c) })
				t.Run("bulk", func(t *testing.T) { testBulk(t, c) })
				t.Run("udp-segments", func(t *testing.T) { testSegments(t, c) })
				t.Run("refused", func(t *testing.T) { testRefused(t, c) })
				t.Run("unknown-port", func(t *testing.T) { testUnknownPort(t, c) })
				t.Run("ping", func(t *testing.T) { testPing(t, c) })
				t.Run("mode", func(t *testing.T) { testMode(t, c, mode) })
			})
		}
	}
}

// testMode checks what the agents say, and who sent what went to other nodes.
func testMode(t *testing.T, c *cluster.Cluster, mode string) {
	expectMode(t, c, mode)
	if sent := sentByXDP(t, c.Lab.Nodes[0]); (sent > 0) != (mode == "native") {
		t.Errorf("XDP itself sent %d packets on", sent)
	}
}

func expectMode(t *testing.T, c *cluster.Cluster, mode string) {
	t.Helper()
	for _, n := range c.Lab.Nodes {
		s, err := c.Status(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		if s.Mode() != mode {
			t.Errorf("mode of %s: %q, want %q", n.Host, s.Mode(), mode)
		}
	}
}

// testRequests asks in all eight combinations: by way of every node at once and
// of node 1 alone, whose own Pods are the only candidates under Local.
func testRequests(t *testing.T, c *cluster.Cluster, web *cluster.Service) {
	local := cluster.NewService("lab/local", "Local", c.Lab.Pods(), vipList(20)...)
	serve(t, c, local)
	before := countersOf(t, c)
	for _, target := range targetsOf(vips(10), cluster.ServicePort) {
		r := ask(t, c, target, requests)
		expectShares(t, c, r, equal(c.Lab.Pods()))
	}
	for _, target := range targetsOf(vips(20), cluster.ServicePort) {
		r := ask(t, c, target, requests)
		expectShares(t, c, r, equal(c.Lab.Nodes[0].Pods))
	}
	route(t, c, web, c.Lab.Nodes...)
	route(t, c, local, c.Lab.Nodes...)
	for _, vip := range []byte{10, 20} {
		for _, target := range targetsOf(vips(vip), cluster.ServicePort) {
			ask(t, c, target, requests)
		}
	}
	route(t, c, web, c.Lab.Nodes[0])
	countersOf(t, c).since(before).expectOnly(t, "encap_home", "mine", "new", "translated")
}

// vipList is vips for those who want a list.
func vipList(n byte) []netip.Addr {
	addrs := vips(n)
	return addrs[:]
}
