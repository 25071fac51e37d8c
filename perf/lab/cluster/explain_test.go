// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"testing"

	"github.com/fairlead/fairlead/lb/packet"
	"github.com/fairlead/fairlead/lb/packet/packettest"
	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/cluster"
)

// explained is what of `fairlead explain -o json` is looked at.
type explained struct {
	Packets []struct {
		Verdict string
		Tunnel  *struct {
			Node           string
			MTU            int
			LearnedSeconds *int64
			LargestPacket  int
		}
	}
}

func explain(t *testing.T, c *cluster.Cluster, n *lab.Node, proto string, client, vip netip.AddrPort) explained {
	t.Helper()
	out, err := n.Output(t.Context(), c.Binary, "explain", proto, client.String(), vip.String(), "-o", "json", "--socket", cluster.Socket(n))
	if err != nil {
		t.Fatal(err)
	}
	var e explained
	if err := json.Unmarshal([]byte(out), &e); err != nil || len(e.Packets) == 0 {
		t.Fatalf("explanation: %v: %s", err, out)
	}
	return e
}

// TestExplainPathMTU has a router tell a node that the way to another one is
// narrow. The node's agent has to know how long a client's packet may be from
// then on, to the byte, and that nothing changed for the third node.
func TestExplainPathMTU(t *testing.T) {
	lab.RequireRoot(t)
	const narrow = 1400
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			c := startCluster(t, newLab(t, mode, lab.Options{}), mode)
			serve(t, c, cluster.NewService("lab/web", "Cluster", c.Lab.Pods(), vipList(10)...))
			ingress := c.Lab.Nodes[0]
			p := openTap(t, c.Lab, ingress)
			t.Cleanup(p.close)
			sent := packettest.UDP(ingress.Addrs[0].String()+":50000", fmt.Sprintf("%s:%d", c.Lab.Nodes[1].Addrs[0], geneve), "too long")
			tooBig := packettest.ICMPError("10.1.0.1", sent, packet.ICMPUnreachable, packet.ICMPCodeTooBig, 8)
			before := countersOf(t, c)
			p.send(t, tooBig.WithMTU(narrow).Bytes())
			waitCounts(t, c, before, func(g counts) bool { return g["tunnel_error"] == 1 })

			for _, target := range targetsOf(vips(10), cluster.ServicePort)[2:] {
				limits := map[string]int{}
				for port := uint16(41000); len(limits) < 2; port++ {
					client := netip.AddrPortFrom(target.Client, port)
					tunnel := explain(t, c, ingress, "udp", client, target.Addr).Packets[0].Tunnel
					if tunnel == nil || limits[tunnel.Node] != 0 {
						continue
					}
					limits[tunnel.Node] = tunnel.LargestPacket
					mtu, learned := linkLength, tunnel.LearnedSeconds != nil
					if tunnel.Node == c.Lab.Nodes[1].Host {
						mtu = narrow
						if learned = learned && *tunnel.LearnedSeconds > 550 && *tunnel.LearnedSeconds <= 600; !learned {
							t.Errorf("%s to %s: not learned, or for another time than 10 minutes", target.name, tunnel.Node)
						}
					}
					if tunnel.MTU != mtu || tunnel.LargestPacket != mtu-packet.EncapLenV4 || learned != (mtu == narrow) {
						t.Errorf("%s to %s: %+v, want an MTU of %d", target.name, tunnel.Node, *tunnel, mtu)
					}
					expectLargest(t, c, target, client, tunnel.LargestPacket)
				}
			}
		})
	}
}

// expectLargest sends a packet that just fits, and one that just does not.
func expectLargest(t *testing.T, c *cluster.Cluster, target target, client netip.AddrPort, largest int) {
	t.Helper()
	// The socket stays open: a Pod's answer to a closed one would come back as an error.
	p := newProber(t, c, target, client)
	for i, want := range []string{"encap_home", "packet_too_big"} {
		before := countersOf(t, c, c.Lab.Nodes[0])
		p.send(t, largest+i)
		var grown counts
		err := lab.Poll(t.Context(), syncTimeout, func() bool {
			grown = countersOf(t, c, c.Lab.Nodes[0]).since(before)
			return len(grown) > 0
		})
		if grown[want] != 1 || len(grown) != 1 {
			t.Errorf("%s from %s with %d bytes: %v: %v, want one %s", target.name, client, largest+i, err, grown, want)
		}
	}
}
