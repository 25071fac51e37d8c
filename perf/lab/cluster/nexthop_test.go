// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/cluster"
)

// startConfirmed is run, and waits until the nodes have confirmed the next hops to
// each other, neighbours or routers: from then on native XDP sends packets on by itself and does not
// leave them to TC.
func startConfirmed(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	run(t, c)
	for _, n := range c.Lab.Nodes {
		for _, other := range c.Lab.Nodes {
			if other == n {
				continue
			}
			addr := c.NodeAddrs(other)[0]
			if err := lab.Poll(t.Context(), 10*time.Second, func() bool { return reachable(n, addr) }); err != nil {
				t.Fatalf("next hop of %s to %s is not confirmed: %v", n.Host, addr, err)
			}
		}
	}
}

func reachable(n *lab.Node, addr netip.Addr) bool {
	family := netlink.FAMILY_V4
	if addr.Is6() {
		family = netlink.FAMILY_V6
	}
	routes, err := n.Netlink().RouteGet(addr.AsSlice())
	if err != nil || len(routes) == 0 {
		return false
	}
	hop := routes[0].Gw
	if hop == nil {
		hop = addr.AsSlice()
	}
	neighbours, err := n.Netlink().NeighList(0, family)
	return err == nil && slices.ContainsFunc(neighbours, func(n netlink.Neigh) bool {
		return n.IP.Equal(hop) && n.State&netlink.NUD_REACHABLE != 0
	})
}

// startOn is startConfirmed on a lab of its own.
func startOn(t *testing.T, mode string, o lab.Options) *cluster.Cluster {
	t.Helper()
	c := cluster.New(newLab(t, mode, o), fairlead, mode)
	startConfirmed(t, c)
	return c
}

// sentByXDP is how many packets the node's XDP program itself sent on.
func sentByXDP(t *testing.T, n *lab.Node) (packets int) {
	t.Helper()
	out, err := n.Output(t.Context(), "ethtool", "-S", lab.Uplink)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out) {
		var count int
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok && strings.HasSuffix(name, "_xdp_tx") {
			if _, err := fmt.Sscan(value, &count); err == nil {
				packets += count
			}
		}
	}
	return packets
}
