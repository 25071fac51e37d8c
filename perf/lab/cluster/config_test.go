// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"net/netip"
	"os"
	"testing"

	"github.com/fairlead/fairlead/controller/desired"
	"github.com/fairlead/fairlead/perf/lab"
)

// fakeLab has the names and addresses of a lab, and no namespaces.
func fakeLab(t *testing.T) *lab.Lab {
	t.Helper()
	l := &lab.Lab{}
	for i, host := range []string{"node1", "node2"} {
		n := &lab.Node{Index: i + 1, Host: host, Dir: t.TempDir()}
		n.BPF = n.Dir + "/bpf"
		n.Addrs = []netip.Addr{netip.AddrFrom4([4]byte{10, 1, 0, byte(11 + i)})}
		v6 := n.PodCIDRs()[1].Addr().Next()
		n.Pods = []*lab.Pod{{Host: "pod-" + host, Node: n, Addr4: n.PodCIDRs()[0].Addr().Next(), Addr6: v6}}
		l.Nodes = append(l.Nodes, n)
	}
	return l
}

// parsed is what an agent makes of the node's file.
func parsed(t *testing.T, c *Cluster, n *lab.Node) *desired.Snapshot {
	t.Helper()
	if err := c.Apply(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(ConfigFile(n))
	if err != nil {
		t.Fatal(err)
	}
	s, err := desired.Parse(data, os.ReadFile)
	if err != nil {
		t.Fatalf("parse:\n%v\nof:\n%s", err, data)
	}
	return s
}

func TestConfigIsWhatAgentsRead(t *testing.T) {
	l := fakeLab(t)
	vips := []netip.Addr{netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("2001:db8:0:1::10")}
	web := NewService("demo/web", "Cluster", l.Pods(), vips...)
	c := New(l, "fairlead", "auto", web)
	for _, tc := range []struct {
		name               string
		change             func()
		backends, draining int
	}{
		{"all", func() {}, 4, 0},
		{"one drains", func() { web.Drain(l.Nodes[0].Pods[0]) }, 4, 2},
		{"it goes", func() { web.Remove(l.Nodes[0].Pods[0]) }, 2, 0},
		{"it comes back", func() { web.Add(l.Nodes[0].Pods[0]) }, 4, 0},
	} {
		tc.change()
		for _, n := range l.Nodes {
			s := parsed(t, c, n)
			if len(s.Services) != 1 || len(s.Services[0].Ports) != 2 || len(s.Services[0].VIPs) != 2 || len(s.Nodes) != 2 {
				t.Fatalf("%s: %+v", tc.name, s)
			}
			draining := 0
			backends := s.Services[0].Ports[1].Backends
			for _, b := range backends {
				if b.Draining {
					draining++
				}
			}
			if len(backends) != tc.backends || draining != tc.draining {
				t.Errorf("%s: %d backends, %d draining, want %d and %d", tc.name, len(backends), draining, tc.backends, tc.draining)
			}
		}
	}
}
