// SPDX-License-Identifier: Apache-2.0

package members_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/fairlead/fairlead/announce/elect"
	"github.com/fairlead/fairlead/announce/l2"
	"github.com/fairlead/fairlead/announce/members"
	"github.com/fairlead/fairlead/perf/lab"
)

// deadline is for what happens within moments, on a machine with much else to do.
const deadline = 20 * time.Second

var (
	keyOne = []byte("0123456789abcdef0123456789abcdef")
	keyTwo = []byte("fedcba9876543210fedcba9876543210")
	vips   = []netip.Addr{netip.MustParseAddr("10.1.0.200"), wanVIP, netip.MustParseAddr("fd01::200")} // in order
	// wanVIP is on a second network, that no gossip goes over.
	wanVIP = netip.MustParseAddr("10.7.0.200")
)

const wan = "wan"

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// cluster is three nodes with agents and a client whose kernel is the judge.
type cluster struct {
	*lab.Lab
	t      *testing.T // whose end is that of the agents
	client *lab.Machine
	spec   agentSpec // but the name
	agents map[string]*running
}

// newCluster starts one that gossips over the nodes' addresses of a family: 0
// is IPv4, 1 IPv6.
func newCluster(t *testing.T, family int) *cluster {
	t.Helper()
	l := lab.ForTest(t, lab.Options{Nodes: 3})
	client, err := l.AddMachine("asker")
	must(t, err)
	c := &cluster{Lab: l, t: t, client: client, agents: map[string]*running{}}
	c.spec = agentSpec{Keys: [][]byte{keyOne}, Answers: []l2.Answer{{VIP: vips[0]}, {VIP: wanVIP, Interfaces: []string{"w?n"}}, {VIP: vips[2]}}}
	c.addWAN(t)
	for _, n := range l.Nodes {
		c.spec.Nodes = append(c.spec.Nodes, members.Node{Name: n.Host, Addr: netip.AddrPortFrom(n.Addrs[family], members.DefaultPort)})
	}
	for _, n := range l.Nodes {
		c.start(n.Host)
	}
	c.waitWhole(t)
	return c
}

// addWAN makes the second network, where only the client has an address.
func (c *cluster) addWAN(t *testing.T) {
	t.Helper()
	router := c.Router.Netlink()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "brwan"
	must(t, router.LinkAdd(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: new(bool)}))
	bridge, err := router.LinkByName("brwan")
	must(t, err)
	must(t, router.LinkSetUp(bridge))
	ends := map[string]*lab.Namespace{"asker": c.client.Namespace}
	for _, n := range c.Nodes {
		ends[n.Host] = n.Namespace
	}
	for host, end := range ends {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = wan + host
		must(t, router.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: wan, PeerNamespace: netlink.NsFd(end.FD())}))
		port, err := router.LinkByName(wan + host)
		must(t, err)
		must(t, router.LinkSetMaster(port, bridge))
		must(t, router.LinkSetUp(port))
		link, err := end.Netlink().LinkByName(wan)
		must(t, err)
		must(t, end.Netlink().LinkSetUp(link))
	}
	must(t, c.client.AddAddrs(wan, netip.MustParsePrefix("10.7.0.2/24")))
}

func (c *cluster) node(name string) *lab.Node {
	return c.Nodes[slices.IndexFunc(c.Nodes, func(n *lab.Node) bool { return n.Host == name })]
}

func (c *cluster) start(name string) {
	c.t.Helper()
	spec, n := c.spec, c.node(name)
	spec.Name = name
	spec.Bind = spec.Nodes[slices.IndexFunc(spec.Nodes, func(n members.Node) bool { return n.Name == name })].Addr
	c.agents[name] = start(c.t, n.Namespace, spec)
}

// order is that of the nodes for a VIP.
func (c *cluster) order(vip netip.Addr) (names []string) {
	var nodes []elect.Node
	for _, n := range c.Nodes {
		nodes = append(nodes, elect.Node{Name: n.Host, Live: true, Serving: true, Able: true})
	}
	for _, s := range elect.Elect(vip, nodes) {
		names = append(names, s.Node)
	}
	return names
}

// winner is the first of the order that is not one of those that are out.
func (c *cluster) winner(vip netip.Addr, out ...string) string {
	order := c.order(vip)
	return order[slices.IndexFunc(order, func(name string) bool { return !slices.Contains(out, name) })]
}

// waitWhole waits until all nodes see each other, and the client's kernel sends
// the VIPs to those that are elected.
func (c *cluster) waitWhole(t *testing.T) {
	t.Helper()
	c.waitWithout(t)
	for _, a := range c.agents {
		a.wait(t, "fellows", func(s state) bool { return s.Fellows >= 2 })
	}
}

// waitWithout is waitWhole for a cluster that some nodes are cut off from.
func (c *cluster) waitWithout(t *testing.T, out ...string) {
	t.Helper()
	var want []string
	for _, n := range c.Nodes {
		if !slices.Contains(out, n.Host) {
			want = append(want, n.Host)
		}
	}
	for _, name := range want {
		var wins []netip.Addr
		for _, vip := range vips {
			if c.winner(vip, out...) == name {
				wins = append(wins, vip)
			}
		}
		c.agents[name].wait(t, fmt.Sprintf("sees %v and answers for %v", want, wins), func(s state) bool {
			return s.Quorum && slices.Equal(s.Live, want) && slices.Equal(s.Answered, wins)
		})
	}
	for _, vip := range vips {
		c.waitNeighbor(t, vip, c.winner(vip, out...))
	}
}

// waitNeighbor waits until the client's kernel has the node's MAC address for the VIP.
func (c *cluster) waitNeighbor(t *testing.T, vip netip.Addr, name string) {
	t.Helper()
	on := lab.Uplink
	if vip == wanVIP {
		on = wan
	}
	link, err := c.node(name).Netlink().LinkByName(on)
	must(t, err)
	want := link.Attrs().HardwareAddr.String()
	conn, err := c.client.Dial(t.Context(), "udp", netip.AddrPort{}, netip.AddrPortFrom(vip, 9))
	must(t, err)
	defer conn.Close()
	var got string
	err = lab.Poll(t.Context(), deadline, func() bool {
		conn.Write([]byte("x")) // it asks if it does not know
		all, err := c.client.Netlink().NeighList(0, netlink.FAMILY_ALL)
		must(t, err)
		for _, e := range all {
			if addr, _ := netip.AddrFromSlice(e.IP); addr.Unmap() == vip {
				got = e.HardwareAddr.String()
			}
		}
		return got == want
	})
	if err != nil {
		t.Fatalf("client: neighbor %s is %s, want %s of %s: %v", vip, got, want, name, err)
	}
}

// nft runs commands in the router, which is the switch.
func (c *cluster) nft(t *testing.T, commands ...string) {
	t.Helper()
	_, err := c.Router.Output(t.Context(), "nft", strings.Join(commands, "; "))
	must(t, err)
}

// cut drops all between the node and the others, but nothing of the client's.
func (c *cluster) cut(t *testing.T, name string) {
	t.Helper()
	var others []string
	for _, n := range c.Nodes {
		if n.Host != name {
			others = append(others, n.Host)
		}
	}
	set := "{ " + strings.Join(others, ", ") + " }"
	c.nft(t,
		"add table bridge cut",
		"add chain bridge cut forward { type filter hook forward priority 0; }",
		fmt.Sprintf("add rule bridge cut forward iifname %s oifname %s drop", name, set),
		fmt.Sprintf("add rule bridge cut forward iifname %s oifname %s drop", set, name),
	)
}

func TestOverIPv6(t *testing.T) {
	c := newCluster(t, 1)
	victim := c.order(vips[0])[0]
	must(t, c.agents[victim].Kill())
	c.waitWithout(t, victim)
	c.start(victim)
	c.waitWhole(t)
}

func TestCluster(t *testing.T) {
	c := newCluster(t, 0)
	victim := c.order(vips[0])[0]

	t.Run("death", func(t *testing.T) {
		must(t, c.agents[victim].Kill())
		c.waitWithout(t, victim)
		c.start(victim)
		c.waitWhole(t)
	})

	t.Run("split", func(t *testing.T) {
		c.cut(t, victim)
		c.waitWithout(t, victim)
		c.agents[victim].wait(t, "stops", func(s state) bool { return !s.Quorum && len(s.Answered) == 0 })
		c.nft(t, "delete table bridge cut")
		c.waitWhole(t)
	})

	t.Run("no majority at all", func(t *testing.T) {
		for _, n := range c.Nodes {
			if n.Host != victim {
				must(t, c.agents[n.Host].Signal(syscall.SIGSTOP))
			}
		}
		c.agents[victim].wait(t, "stops", func(s state) bool { return !s.Quorum && len(s.Answered) == 0 })
		for _, n := range c.Nodes {
			if n.Host != victim {
				must(t, c.agents[n.Host].Signal(syscall.SIGCONT))
			}
		}
		c.waitWhole(t)
	})

	t.Run("frozen", func(t *testing.T) {
		must(t, c.agents[victim].Signal(syscall.SIGSTOP))
		c.waitWithout(t, victim)
		must(t, c.agents[victim].Signal(syscall.SIGCONT))
		c.waitWhole(t)
	})

	t.Run("link down", func(t *testing.T) {
		port, err := c.Router.Netlink().LinkByName(victim)
		must(t, err)
		must(t, c.Router.Netlink().LinkSetDown(port))
		c.waitWithout(t, victim)
		c.agents[victim].wait(t, "stops", func(s state) bool { return len(s.Answered) == 0 })
		must(t, c.Router.Netlink().LinkSetUp(port))
		c.waitWhole(t)
	})

	t.Run("second link down", func(t *testing.T) {
		first, second := c.order(wanVIP)[0], c.order(wanVIP)[1]
		port, err := c.Router.Netlink().LinkByName(wan + first)
		must(t, err)
		must(t, c.Router.Netlink().LinkSetDown(port))
		c.agents[second].wait(t, "takes over", func(s state) bool { return slices.Contains(s.Answered, wanVIP) })
		c.agents[first].wait(t, "stays a member", func(s state) bool { return s.Quorum && !slices.Contains(s.Answered, wanVIP) })
		c.waitNeighbor(t, wanVIP, second)
		must(t, c.Router.Netlink().LinkSetUp(port))
		c.waitWhole(t)
	})

	t.Run("leave", func(t *testing.T) {
		c.agents[victim].order(t, order{Leave: true})
		c.waitWithout(t, victim)
		c.agents[victim].wait(t, "stops", func(s state) bool { return !s.Quorum && len(s.Answered) == 0 })
		must(t, c.agents[victim].Kill())
		c.start(victim)
		c.waitWhole(t)
	})

	t.Run("keys", func(t *testing.T) {
		for _, keys := range [][][]byte{{keyOne, keyTwo}, {keyTwo, keyOne}, {keyTwo}} {
			for _, a := range c.agents {
				a.order(t, order{Keys: keys})
			}
			c.waitWhole(t)
		}
		// Who only has the old one is not let in, and sees nobody.
		must(t, c.agents[victim].Kill())
		c.waitWithout(t, victim)
		c.start(victim)
		c.agents[victim].wait(t, "alone", func(s state) bool { return slices.Equal(s.Live, []string{victim}) })
		c.waitWithout(t, victim)
		c.agents[victim].order(t, order{Keys: [][]byte{keyTwo}})
		c.waitWhole(t)
	})
}
