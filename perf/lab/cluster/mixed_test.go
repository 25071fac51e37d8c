// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"testing"

	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/cluster"
)

// TestMixedModes has another XDP mode on every node, as an upgrade or different
// network cards have: what one leaves undone in a packet, the next must finish.
func TestMixedModes(t *testing.T) {
	lab.RequireRoot(t)
	c := startCluster(t, newLab(t, "native", lab.Options{}), "native")
	web := cluster.NewService("lab/web", "Cluster", c.Lab.Pods(), vipList(10)...)
	serve(t, c, web)
	for turn := range modes {
		t.Run(modes[turn]+" first", func(t *testing.T) {
			for i, n := range c.Lab.Nodes {
				c.XDPMode = modes[(turn+i)%len(modes)]
				restart(t, c, n)
			}
			before := countersOf(t, c)
			var streams []*stream
			for _, target := range targetsOf(vips(10), cluster.ServicePort) {
				expectShares(t, c, ask(t, c, target, requests), equal(c.Lab.Pods()))
				for range oldFlows {
					if target.Network == "tcp" {
						streams = append(streams, openStream(t, c, target.Target))
					}
				}
			}
			moveSlots(t, c, web, true)
			for _, s := range streams {
				if err := s.bulk(oldBulk); err != nil {
					t.Errorf("flow of %s: %v", s.pod, err)
				}
				s.conn.Close()
			}
			grown := countersOf(t, c).since(before)
			grown.expectOnly(t, "encap_home", "encap_past", "steer_past", "steer_home", "mine", "new", "translated")
			if grown["steer_past"] == 0 {
				t.Errorf("no packet was steered: %v", grown)
			}
			moveSlots(t, c, web, false)
		})
	}
}

// moveSlots gives a Pod of node 2 half of all slots, so that node 2 has to steer
// flows of others, or takes them back.
func moveSlots(t *testing.T, c *cluster.Cluster, s *cluster.Service, there bool) {
	t.Helper()
	weight := 1
	if there {
		weight = 5
	}
	weigh(s, c.Lab.Nodes[1].Pods[0], weight)
	sync(t, c)
}
