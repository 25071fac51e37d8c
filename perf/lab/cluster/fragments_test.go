// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"strings"
	"testing"

	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/cluster"
)

// TestFragments sends datagrams that travel in pieces both ways, to a Pod on
// the ingress node and to one behind the tunnel, where pieces get smaller.
func TestFragments(t *testing.T) {
	atEveryPlace(t, testFragments)
}

// testFragments lets the client learn the path MTU first: IPv6 is fragmented by
// its sender only.
func testFragments(t *testing.T, c *cluster.Cluster, p *place, family int) {
	wide := limits{linkMTU, linkMTU}
	if family == 1 && !p.bothWays(t, c, family, want, 16384, wide) {
		return
	}
	before := countersOf(t, c)
	for _, d := range []discovery{want, dont} {
		for _, size := range []int{2000, 16384, 60000} {
			if !p.bothWays(t, c, family, d, size, wide) {
				t.Fatal(countersOf(t, c).since(before))
			}
		}
	}
	grown := countersOf(t, c).since(before)
	grown.expectOnly(t, "encap_home", "mine", "new", "translated")
	// Every way takes so many packets of 1500 bytes at least.
	const packets = 2 * (2 + 12 + 41)
	if grown.delivered() < packets || grown["translated"] < packets {
		t.Errorf("packets delivered: %d, translated: %d, want %d or more of each", grown.delivered(), grown["translated"], packets)
	}
}

// TestPingSizes asks the VIPs for echoes: small, of a whole packet, and in pieces.
func TestPingSizes(t *testing.T) {
	lab.RequireRoot(t, "ping")
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			c := startOn(t, mode, lab.Options{})
			serve(t, c, cluster.NewService("lab/web", "Cluster", c.Lab.Pods(), vipList(10)...))
			before := countersOf(t, c)
			for _, vip := range vips(10) {
				for _, size := range []string{"56", "1472", "8000"} {
					out, err := c.Lab.Client.Output(t.Context(), "ping", "-n", "-i", "0.01", "-W", "2", "-c", "2", "-s", size, vip.String())
					if err != nil || !strings.Contains(out, " 2 received") {
						t.Errorf("ping %s with %s bytes: %v: %s", vip, size, err, out)
					}
				}
			}
			countersOf(t, c).since(before).expectOnly(t, "echo")
		})
	}
}
