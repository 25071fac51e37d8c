// SPDX-License-Identifier: Apache-2.0

package proxy_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/cluster"
	"github.com/fairlead/fairlead/perf/lab/traffic"
)

const fewRequests = 10

// testInside asks from Pods and nodes: what begins inside of the cluster is
// kube-proxy's, and Pods see the Pod that asks, but for one that asks itself.
func testInside(t *testing.T, w *world, c *cluster.Cluster) {
	before := counted(t, c, "new") + counted(t, c, "encap_home")
	for _, vips := range []pair{webVIPs, nearVIPs, w.clusterIPs(t, "web")} {
		for _, p := range []*lab.Pod{w.pods[0], w.pods[pods-1]} {
			for _, target := range targetsOf(vips, cluster.ServicePort, pair{p.Addr4, p.Addr6}) {
				r := ask(t, p.Namespace, target, fewRequests)
				for seen := range r.Clients {
					addr := netip.MustParseAddr(seen)
					if addr != p.Addr(addr) && !w.isNodes(addr) {
						t.Errorf("%s %s: Pods saw %s, want %s", target.name, target.Addr, addr, p.Addr(addr))
					}
				}
			}
		}
		for _, n := range c.Lab.Nodes[:2] {
			for _, target := range targetsOf(vips, cluster.ServicePort, pair{n.Addrs[0], n.Addrs[1]}) {
				ask(t, n.Namespace, target, fewRequests)
			}
		}
	}
	if after := counted(t, c, "new") + counted(t, c, "encap_home"); after != before {
		t.Errorf("%d connections from inside of the cluster were taken for a client's", after-before)
	}
}

// isNodes says that the address is one of a node, on its uplink or towards its Pods.
func (w *world) isNodes(addr netip.Addr) bool {
	return slices.ContainsFunc(w.lab.Nodes, func(n *lab.Node) bool {
		cidrs := n.PodCIDRs()
		return n.Addr(addr) == addr || cidrs[0].Addr().Next() == addr || cidrs[1].Addr().Next() == addr
	})
}

func (w *world) clusterIPs(t *testing.T, name string) (ips pair) {
	t.Helper()
	for _, ip := range w.service(t, name).Spec.ClusterIPs {
		addr := netip.MustParseAddr(ip)
		if addr.Is4() {
			ips[0] = addr
		} else {
			ips[1] = addr
		}
	}
	return ips
}

// testNodePorts asks every node at the Services' node ports, from outside.
func testNodePorts(t *testing.T, w *world) {
	for _, name := range []string{"web", "near"} {
		for _, port := range w.service(t, name).Spec.Ports {
			for _, n := range w.lab.Nodes {
				for _, target := range targetsOf(pair{n.Addrs[0], n.Addrs[1]}, uint16(port.NodePort), clients) {
					if target.Network != strings.ToLower(string(port.Protocol)) {
						continue
					}
					if r := ask(t, w.lab.Client, target, fewRequests); name == "near" && r.WrongClient > 0 {
						t.Errorf("%s %s: Pods saw %v, want %s", target.name, target.Addr, r.Clients, target.Client)
					}
				}
			}
		}
	}
}

// testLeft asks the Service that shares web's address and is kube-proxy's.
func testLeft(t *testing.T, w *world, c *cluster.Cluster) {
	before := counted(t, c, "left")
	for _, target := range targetsOf(webVIPs, legacyPort, clients) {
		r := ask(t, w.lab.Client, target, requests)
		for seen := range r.Clients {
			if addr := netip.MustParseAddr(seen); addr != target.Client && !w.isNodes(addr) {
				t.Errorf("%s %s: Pods saw %s", target.name, target.Addr, addr)
			}
		}
	}
	for family, vip := range webVIPs {
		long := make([]byte, 4000) // in fragments
		copy(long, "long ago")
		if answer, err := exchange(t.Context(), w.lab.Client, clients[family], netip.AddrPortFrom(vip, legacyPort), long); err != nil {
			t.Errorf("fragments to %s: %v", vip, err)
		} else if !strings.Contains(answer, "long ago") {
			t.Errorf("fragments to %s: answered %q", vip, answer)
		}
	}
	if counted(t, c, "left") == before {
		t.Error("no packet was left to kube-proxy")
	}
	askDirect(t, w.lab.Client, targetsOf(webVIPs, cluster.ServicePort, clients)[0], fewRequests)
}

// exchange sends a datagram until it is answered.
func exchange(ctx context.Context, from *lab.Namespace, local netip.Addr, to netip.AddrPort, datagram []byte) (string, error) {
	conn, err := from.Dial(ctx, "udp", netip.AddrPortFrom(local, 0), to)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	d := &datagrams{conn: conn}
	return d.exchange(datagram)
}

// testTracked looks at what the nodes' conntrack knows of a connection that is
// Fairlead's: one, of the client to its Pod, on the Pod's node alone, that
// nobody translates.
func testTracked(t *testing.T, w *world) {
	for _, target := range targetsOf(webVIPs, cluster.ServicePort, clients)[:2] {
		conn, err := w.lab.Client.Dial(t.Context(), "tcp", netip.AddrPortFrom(target.Client, 0), target.Addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := fmt.Fprintln(conn, "hello"); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(make([]byte, 512)); err != nil {
			t.Fatal(err)
		}
		port := uint16(conn.LocalAddr().(*net.TCPAddr).Port)
		var known []string
		for _, n := range w.lab.Nodes {
			for _, f := range tracked(t, n, target.Client, port) {
				dst, _ := netip.AddrFromSlice(f.Forward.DstIP)
				dst = dst.Unmap()
				p := slices.IndexFunc(w.pods, func(p *lab.Pod) bool { return p.Addr(dst) == dst })
				if p < 0 || w.pods[p].Node != n || !f.Reverse.SrcIP.Equal(f.Forward.DstIP) || !f.Reverse.DstIP.Equal(f.Forward.SrcIP) ||
					f.Reverse.SrcPort != f.Forward.DstPort || f.Reverse.DstPort != f.Forward.SrcPort {
					t.Errorf("%s tracks %s", n.Host, f)
				}
				known = append(known, n.Host)
			}
		}
		if len(known) != 1 {
			t.Errorf("connection to %s is tracked on %v, want one node", target.Addr, known)
		}
	}
}

// tracked are the connections of the client's port that the node knows.
func tracked(t *testing.T, n *lab.Node, client netip.Addr, port uint16) []*netlink.ConntrackFlow {
	t.Helper()
	family := netlink.InetFamily(netlink.FAMILY_V4)
	if client.Is6() {
		family = netlink.FAMILY_V6
	}
	var found []*netlink.ConntrackFlow
	err := n.Do(func() error {
		all, err := netlink.ConntrackTableList(netlink.ConntrackTable, family)
		for _, f := range all {
			if f.Forward.SrcIP.Equal(client.AsSlice()) && f.Forward.SrcPort == port {
				found = append(found, f)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// Rules as a NetworkPolicy makes them, against one client: on the forward path
// of every node, and on the Pods' own links.
const (
	forwardPolicy = `
table inet networkpolicy {
	chain forward {
		type filter hook forward priority -5;
		ip saddr %[1]s counter drop
		ip6 saddr %[2]s counter drop
	}
}
`
	linkPolicy = `
table netdev networkpolicy {
	chain in {
		type filter hook ingress device eth0 priority 0;
		ip saddr %[1]s counter drop
		ip6 saddr %[2]s counter drop
	}
}
`
)

// testPolicies drops the client by its own address.
func testPolicies(t *testing.T, w *world) {
	var nodes, links []*lab.Namespace
	for _, n := range w.lab.Nodes {
		nodes = append(nodes, n.Namespace)
	}
	for _, p := range w.pods {
		links = append(links, p.Namespace)
	}
	for _, test := range []struct {
		name, rules, table string
		at                 []*lab.Namespace
	}{
		{"forward path", forwardPolicy, "inet networkpolicy", nodes},
		{"pods' links", linkPolicy, "netdev networkpolicy", links},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, ns := range test.at {
				nft(t, ns, fmt.Sprintf(test.rules, lab.ClientAddr4, lab.ClientAddr6))
			}
			for _, target := range targetsOf(webVIPs, cluster.ServicePort, clients) {
				if r := traffic.Requests(t.Context(), w.lab.Client, target.Target, 2); r.Failed != 2 {
					t.Errorf("%s: %d of 2 requests were answered all the same", target.name, 2-r.Failed)
				}
			}
			for _, ns := range test.at {
				nft(t, ns, "delete table "+test.table)
			}
			askAll(t, w)
		})
	}
}

func nft(t *testing.T, ns *lab.Namespace, rules string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	if _, err := ns.OutputWith(cmd); err != nil {
		t.Fatal(err)
	}
}
