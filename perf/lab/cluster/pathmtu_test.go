// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"net/netip"
	"testing"

	"github.com/fairlead/fairlead/lb/packet"
	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/cluster"
)

const (
	linkMTU   = 1500
	narrowMTU = 1400
	mtuBulk   = 1_000_000 // each way
)

// narrowPaths are networks with a link that only a router knows of. limits are
// the path MTUs to the first Pod of each node and back that the ends have to
// find out; a node without is left out.
var narrowPaths = []struct {
	name    string
	options lab.Options
	nodesV6 bool
	limits  [3]limits
	counted []string
}{
	{
		name: "client", options: lab.Options{ClientMTU: narrowMTU},
		limits:  [3]limits{{narrowMTU, narrowMTU}, {narrowMTU, narrowMTU}},
		counted: []string{"related"},
	},
	{
		name: "far-node", options: lab.Options{FarMTU: narrowMTU},
		limits: [3]limits{
			{linkMTU, linkMTU},
			{linkMTU - packet.EncapLenV4, linkMTU},
			{narrowMTU - packet.EncapLenV4, narrowMTU},
		},
		counted: []string{"related", "packet_too_big", "tunnel_error"},
	},
	{
		name: "far-node-v6", options: lab.Options{FarMTU: narrowMTU, SoftHop: lab.SoftHopOwners}, nodesV6: true,
		limits:  [3]limits{2: {narrowMTU - packet.EncapLenV6, narrowMTU}},
		counted: []string{"related", "packet_too_big", "tunnel_error"},
	},
	{
		// The far node's agent sees the narrow link and clamps for it.
		name: "far-uplink", options: lab.Options{FarMTU: narrowMTU, FarUplinkMTU: narrowMTU},
		limits:  [3]limits{2: {narrowMTU - packet.EncapLenV4, narrowMTU}},
		counted: []string{"packet_too_big", "tunnel_error"},
	},
}

// TestPathMTU sends what does not fit over paths with a narrow link, between
// router and client or between nodes. Whoever sends has to learn it: nothing
// vanishes for good.
func TestPathMTU(t *testing.T) {
	lab.RequireRoot(t)
	for _, mode := range modes {
		for _, path := range narrowPaths {
			t.Run(mode+"/"+path.name, func(t *testing.T) {
				c := cluster.New(newLab(t, mode, path.options), fairlead, mode)
				c.NodesV6 = path.nodesV6
				startConfirmed(t, c)
				before := countersOf(t, c)
				for i, limit := range path.limits {
					if limit.toPod == 0 {
						continue
					}
					n := c.Lab.Nodes[i]
					testMTUOverTCP(t, c, newPlace(t, c, n.Host+"-tcp", n.Pods[0], byte(80+i)))
					testMTUOverUDP(t, c, newPlace(t, c, n.Host+"-udp", n.Pods[1], byte(90+i)), limit)
				}
				grown := countersOf(t, c).since(before)
				// IPv6 routers do not fragment: of a datagram whose first fragment is
				// answered with packet_too_big, the later ones are too big.
				grown.expectOnly(t, "encap_home", "mine", "new", "translated", "related", "packet_too_big", "too_big", "tunnel_error")
				for _, reason := range path.counted {
					if grown[reason] == 0 {
						t.Errorf("no packet counted as %q: %v", reason, grown)
					}
				}
			})
		}
	}
}

func testMTUOverTCP(t *testing.T, c *cluster.Cluster, p *place) {
	t.Helper()
	for _, target := range targetsOf(p.vips, cluster.ServicePort)[:2] {
		s := openStream(t, c, target.Target)
		if err := s.bulk(mtuBulk); err != nil {
			t.Errorf("%s to %s: %v", target.name, p.name, err)
		}
		s.conn.Close()
	}
}

// testMTUOverUDP sends datagrams around the limits and far beyond them.
func testMTUOverUDP(t *testing.T, c *cluster.Cluster, p *place, l limits) {
	t.Helper()
	for family := range clientAddrs {
		for _, d := range []discovery{do, want, dont} {
			for _, size := range []int{1200, 1390, 1450, 1472, 16384} {
				if !p.bothWays(t, c, family, d, size, l) {
					break // what is longer only takes time
				}
			}
		}
		expectPathMTU(t, c.Lab.Client, p.vips[family], l.toPod)
		expectPathMTU(t, p.pod.Namespace, clientAddrs[family], l.toClient)
	}
}

// expectPathMTU looks what the kernel has learned.
func expectPathMTU(t *testing.T, n *lab.Namespace, to netip.Addr, want int) {
	t.Helper()
	if got, err := n.PathMTU(to); err != nil || got != want {
		t.Errorf("%s: path MTU to %s: %d, %v, want %d", n.Name, to, got, err, want)
	}
}
