// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/controller/desired"
	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/cluster"
	"github.com/fairlead/fairlead/perf/lab/traffic"
)

// modes are the kernel datapath's, each of which is complete, and the userspace datapath.
var modes = []string{"native", "generic", "off", cluster.ModeUserspace}

const syncTimeout = 20 * time.Second

// pair is an IPv4 and an IPv6 address of the same thing.
type pair [2]netip.Addr

var clientAddrs = pair{lab.ClientAddr4, lab.ClientAddr6}

// vips are the addresses of VIP number n.
func vips(n byte) pair {
	v6 := netip.MustParseAddr("2001:db8:0:1::").As16()
	v6[15] = n
	return pair{netip.AddrFrom4([4]byte{192, 0, 2, n}), netip.AddrFrom16(v6)}
}

// newLab has three nodes, each with two Pods.
func newLab(t *testing.T, mode string, o lab.Options) *lab.Lab {
	t.Helper()
	o.Nodes, o.PodsPerNode, o.Native = 3, 2, cluster.NeedsNative(mode)
	return lab.ForTest(t, o)
}

// startCluster runs agents and Pods.
func startCluster(t *testing.T, l *lab.Lab, mode string) *cluster.Cluster {
	t.Helper()
	c := cluster.New(l, fairlead, mode)
	run(t, c)
	return c
}

// run starts a cluster. A test that fails shows what the agents said.
func run(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			showAgents(t, c)
		}
	})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func showAgents(t *testing.T, c *cluster.Cluster) {
	for _, n := range c.Lab.Nodes {
		log, _ := os.ReadFile(filepath.Join(n.Dir, "agent.log"))
		t.Logf("agent of %s:\n%s", n.Host, log)
	}
}

// serve adds a service and sends its VIPs to the nodes; none: to node 1.
func serve(t *testing.T, c *cluster.Cluster, s *cluster.Service, via ...*lab.Node) {
	t.Helper()
	c.Services = append(c.Services, s)
	sync(t, c)
	if len(via) == 0 {
		via = c.Lab.Nodes[:1]
	}
	route(t, c, s, via...)
}

func route(t *testing.T, c *cluster.Cluster, s *cluster.Service, via ...*lab.Node) {
	t.Helper()
	for _, vip := range s.VIPs {
		if err := c.Lab.SetVIPRoute(netip.MustParseAddr(vip), via...); err != nil {
			t.Fatal(err)
		}
	}
}

// sync gives the agents the services as they are now, and waits until every
// datapath has them.
func sync(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	if err := c.Apply(); err != nil {
		t.Fatal(err)
	}
	for _, n := range c.Lab.Nodes {
		waitSynced(t, c, n)
	}
}

func waitSynced(t *testing.T, c *cluster.Cluster, n *lab.Node) {
	t.Helper()
	data, err := os.ReadFile(cluster.ConfigFile(n))
	if err != nil {
		t.Fatal(err)
	}
	snapshot, err := desired.Parse(data, os.ReadFile)
	if err != nil {
		t.Fatalf("configuration of %s:\n%v", n.Host, err)
	}
	var last cluster.Status
	var lastErr error
	err = lab.Poll(t.Context(), syncTimeout, func() bool {
		last, lastErr = c.Status(t.Context(), n)
		return lastErr == nil && last.Tables.State == "synced" && last.Tables.Revision == snapshot.Revision
	})
	if err != nil {
		t.Fatalf("wait until %s has revision %s: %v: %+v, %v", n.Host, snapshot.Revision, err, last.Tables, lastErr)
	}
}

// restart kills the nodes' agents with SIGKILL, one after the other, and starts
// them with the cluster's XDP mode and configuration as they are now. No nodes
// means all.
func restart(t *testing.T, c *cluster.Cluster, nodes ...*lab.Node) {
	t.Helper()
	if err := c.Apply(); err != nil {
		t.Fatal(err)
	}
	if len(nodes) == 0 {
		nodes = c.Lab.Nodes
	}
	for _, n := range nodes {
		if err := c.Agent(n).Kill(); err != nil {
			t.Fatal(err)
		}
		if err := c.StartAgent(t.Context(), n); err != nil {
			t.Fatal(err)
		}
		waitSynced(t, c, n)
	}
}

// target is a service port, of which the Pods are to see the lab's client.
type target struct {
	name   string // "tcp4"
	family int    // index into a pair
	traffic.Target
}

// targetsOf are the VIPs over TCP and UDP.
func targetsOf(addrs pair, port uint16) []target {
	var all []target
	for _, network := range []string{"tcp", "udp"} {
		for family, addr := range addrs {
			all = append(all, target{
				name: fmt.Sprintf("%s%d", network, 4+2*family), family: family,
				Target: traffic.Target{Network: network, Addr: netip.AddrPortFrom(addr, port), Client: clientAddrs[family]},
			})
		}
	}
	return all
}

// ask makes n requests that all must be answered to the right client.
func ask(t *testing.T, c *cluster.Cluster, target target, n int) traffic.Result {
	t.Helper()
	r := traffic.Requests(t.Context(), c.Lab.Client, target.Target, n)
	if r.Failed > 0 || !r.ClientPreserved() {
		t.Errorf("%s %s: %d of %d requests failed: %v; clients seen: %v, want %s",
			target.name, target.Addr, r.Failed, n, r.FirstError, r.Clients, target.Client)
		showTCP(t, c)
	}
	return r
}

// showTCP logs what the kernels of client and Pods counted about TCP, for a
// request that broke without a word of ours about it.
func showTCP(t *testing.T, c *cluster.Cluster) {
	namespaces := []*lab.Namespace{c.Lab.Client}
	for _, p := range c.Lab.Pods() {
		namespaces = append(namespaces, p.Namespace)
	}
	for _, n := range namespaces {
		err := n.Do(func() error {
			for _, file := range []string{"/proc/thread-self/net/snmp", "/proc/thread-self/net/netstat"} {
				data, err := os.ReadFile(file)
				if err != nil {
					return err
				}
				t.Logf("%s: %s", n.Name, grown(string(data)))
			}
			return nil
		})
		if err != nil {
			t.Log(err)
		}
	}
}

// grown are the counters of TCP that are not 0 in a file of pairs of lines, names and values.
func grown(file string) string {
	var found []string
	lines := strings.Split(file, "\n")
	for i := 0; i+1 < len(lines); i += 2 {
		names, values := strings.Fields(lines[i]), strings.Fields(lines[i+1])
		if len(names) != len(values) || !strings.HasPrefix(lines[i], "Tcp") {
			continue
		}
		for j, v := range values[1:] {
			if v != "0" {
				found = append(found, names[1+j]+"="+v)
			}
		}
	}
	return strings.Join(found, " ")
}

// expectShares holds the answers of each Pod against its share; a Pod that is
// not in shares is to have none.
func expectShares(t *testing.T, c *cluster.Cluster, r traffic.Result, shares map[*lab.Pod]float64) {
	t.Helper()
	for _, p := range c.Lab.Pods() {
		if got := r.Shares[p.Host]; !traffic.Fits(got, r.Requests, shares[p]) {
			t.Errorf("%s answered %d of %d requests, want %.0f", p.Host, got, r.Requests, shares[p]*float64(r.Requests))
		}
	}
}

// equal gives each of the Pods the same share.
func equal(pods []*lab.Pod) map[*lab.Pod]float64 {
	shares := map[*lab.Pod]float64{}
	for _, p := range pods {
		shares[p] = 1 / float64(len(pods))
	}
	return shares
}

// nodeOf is the node of the Pod with this name.
func nodeOf(t *testing.T, c *cluster.Cluster, host string) *lab.Node {
	t.Helper()
	for _, p := range c.Lab.Pods() {
		if p.Host == host {
			return p.Node
		}
	}
	t.Fatalf("no pod has the name %q", host)
	return nil
}
