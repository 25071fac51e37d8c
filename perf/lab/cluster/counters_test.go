// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/cluster"
)

// counts are packets by reason.
type counts map[string]uint64

// background are the reasons of packets that have nothing to do with services;
// there may be any number of them.
var background = []string{"not_ip", "other_mac", "not_vip", "not_reply"}

// countersOf sums what the nodes' agents say; no nodes means all.
func countersOf(t *testing.T, c *cluster.Cluster, nodes ...*lab.Node) counts {
	t.Helper()
	if len(nodes) == 0 {
		nodes = c.Lab.Nodes
	}
	sum := counts{}
	for _, n := range nodes {
		s, err := c.Status(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		for _, counter := range s.Counters {
			sum[counter.Reason] += counter.Packets
		}
	}
	return sum
}

// since is what was counted after before, without the background.
func (c counts) since(before counts) counts {
	grown := maps.Clone(c)
	for reason := range grown {
		grown[reason] -= before[reason]
	}
	maps.DeleteFunc(grown, func(reason string, n uint64) bool { return n == 0 || slices.Contains(background, reason) })
	return grown
}

// sum adds the counts of some reasons.
func (c counts) sum(reasons ...string) (n uint64) {
	for _, r := range reasons {
		n += c[r]
	}
	return n
}

// delivered are the packets that went on to a Pod.
func (c counts) delivered() uint64 { return c.sum("mine", "new", "affinity", "judge") }

// expectOnly reports every reason beside the named ones that was counted.
func (c counts) expectOnly(t *testing.T, reasons ...string) {
	t.Helper()
	for reason, n := range c {
		if !slices.Contains(reasons, reason) {
			t.Errorf("%d packets counted as %q, want none; all: %v", n, reason, c)
		}
	}
}

// waitCounts polls until done likes what all nodes counted since before.
func waitCounts(t *testing.T, c *cluster.Cluster, before counts, done func(counts) bool) counts {
	t.Helper()
	var grown counts
	err := lab.Poll(t.Context(), syncTimeout, func() bool {
		grown = countersOf(t, c).since(before)
		return done(grown)
	})
	if err != nil {
		t.Errorf("counters: %v: %v", err, grown)
	}
	return grown
}
