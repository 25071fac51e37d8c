// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/cluster"
)

// TestReplay captures what goes to a node and comes from it while clients do
// all that they do, and odd frames come. fairlead replay then has to count every
// verdict and reason as often as the node's agent did: also of what has nothing
// to do with services, such as the search for neighbours. There is no exception.
func TestReplay(t *testing.T) {
	lab.RequireRoot(t)
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			// Without offloads on the way, what is captured is what XDP gets:
			// whole segments with checksums.
			c := cluster.New(newLab(t, mode, lab.Options{SoftHop: lab.SoftHopAll}), fairlead, mode)
			services := replayServices(c.Lab.Pods())
			for _, name := range slices.Sorted(maps.Keys(services)) {
				c.Services = append(c.Services, services[name])
			}
			startConfirmed(t, c)
			for _, n := range c.Lab.Nodes {
				waitSynced(t, c, n)
			}
			for _, s := range services {
				route(t, c, s, c.Lab.Nodes[0])
			}
			// By the second node, tunnels come to the first.
			route(t, c, services["web"], c.Lab.Nodes[:2]...)
			serveEchoes(t, c)

			tap, before := beginCapture(t, c, c.Lab.Nodes[0])
			sendOdd(t, c, tap)
			replayTraffic(t, c)
			expectReplayed(t, c, tap, before)
		})
	}
}

// replayServices are all that traffic needs.
func replayServices(pods []*lab.Pod) map[string]*cluster.Service {
	services := map[string]*cluster.Service{
		"web":    cluster.NewService("lab/web", "Cluster", pods, vipList(10)...),
		"local":  cluster.NewService("lab/local", "Local", pods, vipList(20)...),
		"empty":  cluster.NewService("lab/empty", "Cluster", nil, vipList(40)...),
		"ranged": cluster.NewService("lab/ranged", "Cluster", pods, vipList(50)...),
		"echo":   cluster.NewService("lab/echo", "Cluster", pods, vipList(60)...),
	}
	services["ranged"].SourceRanges = []string{"203.0.113.0/24", "2001:db8:ffff::/48"}
	for _, port := range services["echo"].Ports {
		for i := range port.Backends {
			port.Backends[i].Port = echoPort
		}
	}
	return services
}

// oddReasons are what odd frames and traffic have to come to, or little is shown.
var oddReasons = strings.Fields(`foreign_tunnel malformed headers fragment martian proto icmp tunnel_error
	unknown_port source_range ttl bad_option bad_mac congested unknown_service not_local
	encap_home mine new related echo refused packet_too_big translated`)

// beginCapture returns what the node had counted when the capture began.
func beginCapture(t *testing.T, c *cluster.Cluster, n *lab.Node) (*tap, counts) {
	t.Helper()
	var p *tap
	var before counts
	err := lab.Poll(t.Context(), syncTimeout, func() bool {
		before = liveVerdicts(t, c, n)
		p = openTap(t, c.Lab, n)
		if maps.Equal(before, liveVerdicts(t, c, n)) {
			return true // no packet came meanwhile
		}
		p.close()
		return false
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	return p, before
}

// verdicts are counters by verdict and reason.
func verdicts(all []cluster.Counter) counts {
	totals := counts{}
	for _, c := range all {
		if c.Packets > 0 {
			totals[c.Verdict+" "+c.Reason] += c.Packets
		}
	}
	return totals
}

// minus takes away what was counted before.
func (c counts) minus(before counts) counts {
	left := maps.Clone(c)
	for key, n := range before {
		if left[key] -= n; left[key] == 0 {
			delete(left, key)
		}
	}
	return left
}

func liveVerdicts(t *testing.T, c *cluster.Cluster, n *lab.Node) counts {
	t.Helper()
	s, err := c.Status(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	return verdicts(s.Counters)
}

// expectReplayed compares the agent's counters with the replay of the capture.
// The last packets of connections may be on their way still.
func expectReplayed(t *testing.T, c *cluster.Cluster, p *tap, before counts) {
	t.Helper()
	var live, replayed counts
	err := lab.Poll(t.Context(), syncTimeout, func() bool {
		live = liveVerdicts(t, c, p.node).minus(before)
		p.drain(t)
		replayed = p.replay(t, c)
		return maps.Equal(live, replayed)
	})
	if err != nil {
		t.Errorf("%v: verdicts -live +replayed:\n%s", err, cmp.Diff(live, replayed))
	}
	for _, reason := range oddReasons {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(live)), func(key string) bool { return strings.HasSuffix(key, " "+reason) }) {
			t.Errorf("no packet had the reason %q", reason)
		}
	}
	t.Logf("%v", live)
}
