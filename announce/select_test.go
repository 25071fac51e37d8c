// SPDX-License-Identifier: Apache-2.0

package announce

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"k8s.io/apimachinery/pkg/labels"
)

var addr = netip.MustParseAddr

func is(text string) Choice {
	var c Choice
	for one := range strings.SplitSeq(text, "|") {
		s, err := labels.Parse(one)
		if err != nil {
			panic(err)
		}
		c = append(c, s)
	}
	return c
}

var (
	vip4 = addr("192.0.2.1")
	vip6 = addr("2001:db8::1")
)

// world is a cluster of nodes a, b and c, with one Service that is announced by
// both protocols from all of them, to the peers r4 and r6.
func world() *State {
	s := &State{
		Services: []Service{{Name: "ns/web", Labels: labels.Set{"app": "web"}, VIPs: []netip.Addr{vip4, vip6}, Serving: []string{"a", "b"}}},
		Pools: []Pool{
			{"lan", time.Unix(1, 0), []Range{{addr("192.0.2.0"), addr("192.0.2.127")}, {addr("2001:db8::"), addr("2001:db8::ff")}}},
			{"other", time.Unix(2, 0), []Range{{addr("192.0.2.0"), addr("192.0.2.255")}}}, // the older one has its half
		},
		L2:          []L2Advertisement{{Selection: Selection{Name: "l2", Pools: []string{"lan"}}}},
		BGP:         []BGPAdvertisement{{Selection: Selection{Name: "bgp", Pools: []string{"lan"}}, Length4: 32, Length6: 128}},
		Peers:       []Peer{{Name: "r6", Addr: addr("fd00::fe")}, {Name: "r4", Addr: addr("10.0.0.254")}},
		Communities: map[string]string{"no-export": "65535:65281", "mine": "large:1:2:3"},
		Held:        map[netip.Addr]bool{vip4: true, vip6: true},
	}
	for i, name := range []string{"c", "a", "b"} {
		s.Nodes = append(s.Nodes, Node{
			Name: name, Labels: labels.Set{"name": name}, Attached: true,
			Addrs: []netip.Addr{addr(fmt.Sprintf("10.0.0.%d", i+1)), addr(fmt.Sprintf("fd00::%d", i+1))},
		})
	}
	return s
}

func (s *State) node(name string) *Node {
	return &s.Nodes[slices.IndexFunc(s.Nodes, func(n Node) bool { return n.Name == name })]
}

// said is a plan in few words: routes by peer, then what is with each VIP.
func said(p Plan) []string {
	var lines []string
	for _, peer := range p.Peers {
		lines = append(lines, "peer "+peer.Name)
		for _, r := range peer.Routes {
			line := fmt.Sprintf("  %s", r.Prefix)
			if r.NextHop.IsValid() {
				line += " via " + r.NextHop.String()
			}
			if r.LocalPref+uint32(r.Prepend) > 0 {
				line += fmt.Sprintf(" pref %d prepend %d", r.LocalPref, r.Prepend)
			}
			lines = append(lines, strings.Join(append([]string{line}, r.Communities...), " "))
		}
	}
	for _, v := range p.VIPs {
		line := fmt.Sprintf("%s of %s: to %s", v.Addr, strings.Join(v.Services, ","), strings.Join(v.Peers, ","))
		if v.L2 != nil {
			line += ", l2"
			if v.L2.Key != v.Addr {
				line += " as " + v.L2.Key.String()
			}
			for _, c := range v.L2.Candidates {
				line += fmt.Sprintf(" %s/%d", c.Node, c.Weight)
			}
			if v.L2.Interfaces != nil {
				line += " on " + strings.Join(v.L2.Interfaces, ",")
			}
		}
		lines = append(lines, line)
		for _, n := range v.Not {
			lines = append(lines, strings.TrimSpace(fmt.Sprintf("  not %s", n.Protocol))+" "+string(n.Code)+": "+n.Text)
		}
	}
	for _, problem := range p.Problems {
		lines = append(lines, "problem of "+problem.Advertisement+": "+problem.Text)
	}
	return lines
}

// all is what node a does with world.
var all = []string{
	"peer r4", "  192.0.2.1/32",
	"peer r6", "  2001:db8::1/128",
	"192.0.2.1 of ns/web: to r4, l2 a/0 b/0 c/0",
	"2001:db8::1 of ns/web: to r6, l2 as 192.0.2.1 a/0 b/0 c/0",
}

// none is what it does where one reason forbids everything.
func none(why string) []string {
	return []string{
		"peer r4", "peer r6",
		"192.0.2.1 of ns/web: to ", "not " + why,
		"2001:db8::1 of ns/web: to ", "not " + why,
	}
}

func TestSelect(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*State)
		want   []string
	}{
		{"everything", func(s *State) {}, all},
		{"nothing", func(s *State) { *s = State{} }, nil},

		// What keeps a node from announcing at all.
		{"no such node", func(s *State) { s.node("a").Name = "z" }, []string{
			"192.0.2.1 of ns/web: to ", "not NoNode: the cluster has no Node object of this node",
			"2001:db8::1 of ns/web: to ", "not NoNode: the cluster has no Node object of this node",
		}},
		{"node excluded", func(s *State) { s.node("a").Labels[LabelExclude] = "" },
			none(`NodeExcluded: node "a" has the label node.kubernetes.io/exclude-from-external-load-balancers`)},
		{"other node excluded", func(s *State) { s.node("b").Labels[LabelExclude] = "" }, []string{
			"peer r4", "  192.0.2.1/32", "peer r6", "  2001:db8::1/128",
			"192.0.2.1 of ns/web: to r4, l2 a/0 c/0", "2001:db8::1 of ns/web: to r6, l2 as 192.0.2.1 a/0 c/0",
		}},
		{"network unavailable", func(s *State) { s.node("a").NetworkUnavailable = true },
			none(`NetworkUnavailable: node "a" has the condition NetworkUnavailable`)},
		{"not attached", func(s *State) { s.node("a").Attached = false },
			none(`NotAttached: node "a" does not forward: its NodeState does not say that the programs are attached`)},
		{"all nodes excluded", func(s *State) {
			s.node("a").NetworkUnavailable, s.node("b").NetworkUnavailable = true, true
			s.node("c").Labels[LabelExclude] = "true"
		}, none(`AllNodesExcluded: no node of the cluster may announce: here node "a" has the condition NetworkUnavailable`)},
		{"no endpoints", func(s *State) { s.Services[0].Serving = nil }, none("NoEndpoints: no endpoint serves")},
		{"local, here", func(s *State) { s.Services[0].Local = true }, []string{
			"peer r4", "  192.0.2.1/32", "peer r6", "  2001:db8::1/128",
			"192.0.2.1 of ns/web: to r4, l2 a/0 b/0", "2001:db8::1 of ns/web: to r6, l2 as 192.0.2.1 a/0 b/0",
		}},
		{"local, elsewhere", func(s *State) { s.Services[0].Local, s.Services[0].Serving = true, []string{"b"} },
			none(`NoLocalEndpoint: externalTrafficPolicy is Local, and no endpoint on node "a" serves`)},
		{"cluster, endpoints elsewhere", func(s *State) { s.Services[0].Serving = []string{"b"} }, all},
		{"not in the tables", func(s *State) { delete(s.Held, vip6) }, []string{
			"peer r4", "  192.0.2.1/32", "peer r6",
			"192.0.2.1 of ns/web: to r4, l2 a/0 b/0 c/0",
			"2001:db8::1 of ns/web: to ", `not NotProgrammed: the tables of node "a" do not have the address yet`,
		}},

		// Pools and what advertisements are for.
		{"other pool", func(s *State) { s.Pools[1].Created = time.Time{} }, []string{
			"peer r4", "peer r6", "  2001:db8::1/128",
			"192.0.2.1 of ns/web: to ", `not NoAdvertisement: no L2Advertisement or BGPAdvertisement is for IPAddressPool "other"`,
			"2001:db8::1 of ns/web: to r6, l2 as 192.0.2.1 a/0 b/0 c/0",
		}},
		{"no pool", func(s *State) { s.Pools = nil }, []string{
			"peer r4", "peer r6",
			"192.0.2.1 of ns/web: to ", "not NoPool: no IPAddressPool has 192.0.2.1",
			"2001:db8::1 of ns/web: to ", "not NoPool: no IPAddressPool has 2001:db8::1",
		}},
		{"no advertisement", func(s *State) { s.L2, s.BGP[0].Pools = nil, []string{"other"} },
			none(`NoAdvertisement: no L2Advertisement or BGPAdvertisement is for IPAddressPool "lan"`)},
		{"bgp alone", func(s *State) { s.L2 = nil }, []string{
			"peer r4", "  192.0.2.1/32", "peer r6", "  2001:db8::1/128", "192.0.2.1 of ns/web: to r4", "2001:db8::1 of ns/web: to r6",
		}},
		{"l2 alone", func(s *State) { s.BGP, s.Peers = nil, nil }, []string{
			"192.0.2.1 of ns/web: to , l2 a/0 b/0 c/0", "2001:db8::1 of ns/web: to , l2 as 192.0.2.1 a/0 b/0 c/0",
		}},
		{"service selected", func(s *State) { s.L2[0].Services, s.BGP[0].Services = is("app=web"), is("app=db|app") }, all},
		{"service not selected", func(s *State) { s.L2[0].Services, s.BGP[0].Services = is("app=db"), is("app=db") },
			none(`ServiceNotSelected: serviceSelectors of BGPAdvertisement "bgp", L2Advertisement "l2" do not match every Service that has the address: ns/web`)},
		{"shared address, one service selected", func(s *State) {
			s.Services = append(s.Services, Service{Name: "ns/db", VIPs: []netip.Addr{vip4}, Serving: []string{"c"}})
			s.L2[0].Services, s.BGP[0].Services = is("app=web"), is("app=web")
		}, []string{
			"peer r4", "  192.0.2.1/32", "peer r6", "  2001:db8::1/128",
			"192.0.2.1 of ns/db,ns/web: to r4", "2001:db8::1 of ns/web: to r6, l2 as 192.0.2.1 a/0 b/0 c/0",
		}},
		{"selector that makes no sense", func(s *State) {
			s.L2[0].Nodes, s.BGP[0].Nodes = Choice{labels.Nothing()}, Choice{labels.Nothing()}
		}, []string{
			"peer r4", "peer r6",
			"192.0.2.1 of ns/web: to ",
			`not bgp NodeNotSelected: nodeSelectors of BGPAdvertisement "bgp" do not match node "a"`,
			`not l2 NodeNotSelected: nodeSelectors of L2Advertisement "l2" do not match node "a"`,
			"2001:db8::1 of ns/web: to ",
			`not bgp NodeNotSelected: nodeSelectors of BGPAdvertisement "bgp" do not match node "a"`,
			`not l2 NodeNotSelected: nodeSelectors of L2Advertisement "l2" do not match node "a"`,
		}},

		// L2.
		{"preference and interfaces", func(s *State) {
			s.L2[0].Preferred = []Preference{{10, is("name in (b,c)")[0]}, {5, is("name=c")[0]}}
			s.L2[0].Interfaces = []string{"eth1", "bond*"}
		}, []string{
			"peer r4", "  192.0.2.1/32", "peer r6", "  2001:db8::1/128",
			"192.0.2.1 of ns/web: to r4, l2 c/15 b/10 a/0 on bond*,eth1", "2001:db8::1 of ns/web: to r6, l2 as 192.0.2.1 c/15 b/10 a/0 on bond*,eth1",
		}},
		{"several advertisements add up", func(s *State) {
			s.L2[0].Nodes, s.L2[0].Interfaces = is("name=a|name=c"), []string{"eth1"}
			s.L2[0].Preferred = []Preference{{10, is("name")[0]}}
			s.L2 = append(s.L2, L2Advertisement{Selection: Selection{Name: "more", Pools: []string{"lan"}, Nodes: is("name=a")},
				Interfaces: []string{"eth0", "eth1"}, Preferred: []Preference{{1, is("name")[0]}}})
		}, []string{
			"peer r4", "  192.0.2.1/32", "peer r6", "  2001:db8::1/128",
			"192.0.2.1 of ns/web: to r4, l2 a/11 c/10 on eth0,eth1", "2001:db8::1 of ns/web: to r6, l2 as 192.0.2.1 a/11 c/10 on eth0,eth1",
		}},
		{"one without interfaces is for all", func(s *State) {
			s.L2[0].Interfaces = []string{"eth1"}
			s.L2 = append(s.L2, L2Advertisement{Selection: Selection{Name: "more", Pools: []string{"lan"}}})
		}, all},
		{"one of another node says nothing of interfaces", func(s *State) {
			s.L2[0].Nodes = is("name!=a")
			s.L2 = append(s.L2, L2Advertisement{Selection: Selection{Name: "more", Pools: []string{"lan"}}, Interfaces: []string{"eth1"}})
		}, []string{
			"peer r4", "  192.0.2.1/32", "peer r6", "  2001:db8::1/128",
			"192.0.2.1 of ns/web: to r4, l2 a/0 b/0 c/0 on eth1", "2001:db8::1 of ns/web: to r6, l2 as 192.0.2.1 a/0 b/0 c/0 on eth1",
		}},

		{"services that share an address share a key", func(s *State) {
			s.Services = append(s.Services, Service{Name: "ns/z", VIPs: []netip.Addr{addr("2001:db8::2"), vip4}, Serving: []string{"c"}},
				Service{Name: "ns/db", VIPs: []netip.Addr{vip4, addr("192.0.2.2")}, Serving: []string{"c"}})
			s.Held[addr("2001:db8::2")], s.Held[addr("192.0.2.2")], s.BGP, s.Peers = true, true, nil, nil
		}, []string{
			"192.0.2.1 of ns/db,ns/web,ns/z: to , l2 a/0 b/0 c/0",
			"192.0.2.2 of ns/db: to , l2 as 192.0.2.1 a/0 b/0 c/0",
			"2001:db8::1 of ns/web: to , l2 as 192.0.2.1 a/0 b/0 c/0",
			"2001:db8::2 of ns/z: to , l2 a/0 b/0 c/0",
		}},

		// Peers.
		{"peer of other nodes", func(s *State) { s.Peers[1].Nodes = is("name=b") }, []string{
			"peer r6", "  2001:db8::1/128",
			"192.0.2.1 of ns/web: to , l2 a/0 b/0 c/0", `not bgp NoFamily: the session with BGPPeer "r6" does not carry IPv4: want dualStackAddressFamily`,
			"2001:db8::1 of ns/web: to r6, l2 as 192.0.2.1 a/0 b/0 c/0",
		}},
		{"named peer of other nodes", func(s *State) {
			s.Peers[1].Nodes, s.BGP[0].Peers, s.L2 = is("name=b"), []string{"r4"}, nil
		}, []string{
			"peer r6",
			"192.0.2.1 of ns/web: to ", `not bgp NoPeer: BGPAdvertisement "bgp": nodeSelectors of BGPPeer "r4" do not match node "a"`,
			"2001:db8::1 of ns/web: to ", `not bgp NoPeer: BGPAdvertisement "bgp": nodeSelectors of BGPPeer "r4" do not match node "a"`,
		}},
		{"peer of no node", func(s *State) {
			s.Peers, s.L2, s.Services[0].VIPs = []Peer{{Name: "r4", Addr: addr("10.0.0.254"), Nodes: is("name=x")}}, nil, []netip.Addr{vip4}
		}, []string{
			"192.0.2.1 of ns/web: to ", `not bgp NoPeer: BGPAdvertisement "bgp": nodeSelectors of BGPPeer "r4" match no node`,
		}},
		{"no such peer", func(s *State) { s.BGP[0].Peers, s.L2, s.Services[0].VIPs = []string{"x"}, nil, []netip.Addr{vip4} }, []string{
			"peer r4", "peer r6", "192.0.2.1 of ns/web: to ", `not bgp NoPeer: BGPAdvertisement "bgp": there is no BGPPeer "x"`,
		}},
		{"no peers", func(s *State) { s.Peers, s.L2, s.Services[0].VIPs = nil, nil, []netip.Addr{vip4} }, []string{
			"192.0.2.1 of ns/web: to ", `not bgp NoPeer: BGPAdvertisement "bgp": there is no BGPPeer`,
		}},

		// Families and next hops.
		{"both families", func(s *State) {
			s.Peers[0].DualStack, s.Peers[1].DualStack = true, true
			s.Peers = append(s.Peers, Peer{Name: "unnumbered", DualStack: true}, Peer{Name: "unnumbered6"})
			s.L2 = nil
		}, []string{
			"peer r4", "  192.0.2.1/32", "  2001:db8::1/128 via fd00::2",
			"peer r6", "  192.0.2.1/32 via 10.0.0.2", "  2001:db8::1/128",
			"peer unnumbered", "  192.0.2.1/32 via 10.0.0.2", "  2001:db8::1/128",
			"peer unnumbered6", "  2001:db8::1/128",
			"192.0.2.1 of ns/web: to r4,r6,unnumbered", "2001:db8::1 of ns/web: to r4,r6,unnumbered,unnumbered6",
		}},
		{"no next hop", func(s *State) {
			s.Peers, s.L2 = []Peer{{Name: "r4", Addr: addr("10.0.0.254"), DualStack: true}}, nil
			s.node("a").Addrs = s.node("a").Addrs[:1]
		}, []string{
			"peer r4", "  192.0.2.1/32",
			"192.0.2.1 of ns/web: to r4",
			"2001:db8::1 of ns/web: to ", `not bgp NoNextHop: node "a" has no IPv6 address that a route to BGPPeer "r4" could have as next hop`,
		}},

		// Attributes.
		{"attributes", func(s *State) {
			a := &s.BGP[0]
			a.LocalPref, a.Prepend, a.Communities, a.Peers, s.L2 = 200, 2, []string{"no-export", "mine", "1:2"}, []string{"r4"}, nil
			s.Services[0].VIPs = []netip.Addr{vip4}
		}, []string{"peer r4", "  192.0.2.1/32 pref 200 prepend 2 1:2 65535:65281 large:1:2:3", "peer r6", "192.0.2.1 of ns/web: to r4"}},
		{"unknown community", func(s *State) {
			s.BGP[0].Communities, s.L2, s.Services[0].VIPs = []string{"1:2", "theirs"}, nil, []netip.Addr{vip4}
		}, []string{
			"peer r4", "peer r6", "192.0.2.1 of ns/web: to ", `not bgp UnknownCommunity: BGPAdvertisement "bgp": no Community object has the name "theirs"`,
		}},
		{"aggregates live as long as one address", func(s *State) {
			s.BGP[0].Length4, s.BGP[0].Length6, s.L2 = 26, 64, nil
			s.Services = append(s.Services,
				Service{Name: "ns/x", VIPs: []netip.Addr{addr("192.0.2.2")}},
				Service{Name: "ns/y", VIPs: []netip.Addr{addr("192.0.2.63"), addr("192.0.2.64")}, Serving: []string{"c"}})
			s.Held[addr("192.0.2.63")], s.Held[addr("192.0.2.64")] = true, true
		}, []string{
			"peer r4", "  192.0.2.0/26", "  192.0.2.64/26", "peer r6", "  2001:db8::/64",
			"192.0.2.1 of ns/web: to r4",
			"192.0.2.2 of ns/x: to ", "not NoEndpoints: no endpoint serves",
			"192.0.2.63 of ns/y: to r4", "192.0.2.64 of ns/y: to r4", "2001:db8::1 of ns/web: to r6",
		}},
		{"several advertisements for one route", func(s *State) {
			s.BGP[0].Communities, s.BGP[0].Peers = []string{"1:1", "1:3"}, []string{"r4"}
			s.BGP = append(s.BGP, BGPAdvertisement{
				Selection: Selection{Name: "more", Pools: []string{"lan"}}, Length4: 32, Length6: 128, Communities: []string{"1:2", "1:3"},
			})
			s.L2 = nil
		}, []string{
			"peer r4", "  192.0.2.1/32 1:1 1:2 1:3", "peer r6", "  2001:db8::1/128 1:2 1:3",
			"192.0.2.1 of ns/web: to r4", "2001:db8::1 of ns/web: to r6",
		}},
		{"of two that contradict each other the older one counts", func(s *State) {
			s.BGP[0].Created, s.BGP[0].LocalPref, s.BGP[0].Communities = time.Unix(2, 0), 100, []string{"1:1"}
			s.BGP = append(s.BGP, BGPAdvertisement{
				Selection: Selection{Name: "older", Pools: []string{"lan"}, Services: is("app=web")}, Created: time.Unix(1, 0),
				Length4: 32, Length6: 64, LocalPref: 200, Communities: []string{"1:2"},
			})
			s.L2 = nil
		}, []string{
			"peer r4", "  192.0.2.1/32 pref 200 prepend 0 1:2",
			"peer r6", "  2001:db8::/64 pref 200 prepend 0 1:2", "  2001:db8::1/128 pref 100 prepend 0 1:1",
			"192.0.2.1 of ns/web: to r4", "2001:db8::1 of ns/web: to r6",
			`problem of bgp: 192.0.2.1/32 to BGPPeer "r4": BGPAdvertisement "older", which is older, has localPref 200 and asPathPrepend 0, this one 100 and 0: the advertisement is not used for the route`,
		}},
		{"advertisement of other nodes beside one of this", func(s *State) {
			s.BGP = append(s.BGP, BGPAdvertisement{
				Selection: Selection{Name: "more", Pools: []string{"lan"}, Nodes: is("name=b")}, Length4: 24, Length6: 64,
			})
		}, all},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := world()
			tt.change(s)
			if diff := cmp.Diff(tt.want, said(Select(*s, "a"))); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}

// random is a state of all kinds of things, some of them contradicting.
func random(r *rand.Rand, services, nodes int) *State {
	pick := func(list ...string) []string {
		return list[:r.IntN(len(list)+1)]
	}
	names := func(i int) string { return fmt.Sprintf("node%d", i) }
	s := &State{Held: map[netip.Addr]bool{}, Communities: map[string]string{"mine": "1:9"}}
	for i := range nodes {
		n := Node{Name: names(i), Labels: labels.Set{"rack": fmt.Sprint(i % 3)}, Attached: r.IntN(10) > 0, NetworkUnavailable: r.IntN(10) == 0,
			Addrs: []netip.Addr{addr("10.0.0.1"), addr("fd00::1")}[:r.IntN(3)]}
		if i > 0 && r.IntN(10) == 0 {
			n.Labels[LabelExclude] = ""
		}
		s.Nodes = append(s.Nodes, n)
	}
	first := [2]netip.Addr{addr("192.0.2.0"), addr("2001:db8::")}
	for i := range services {
		one := Service{Name: fmt.Sprint("ns/", i), Labels: labels.Set{"app": fmt.Sprint(i % 4)}, Local: r.IntN(2) == 0}
		for n := range nodes {
			if r.IntN(3) == 0 {
				one.Serving = append(one.Serving, names(n))
			}
		}
		for f := range first {
			if r.IntN(4) > 0 { // else the address of the service before
				first[f] = first[f].Next()
			}
			one.VIPs = append(one.VIPs, first[f])
			s.Held[first[f]] = r.IntN(8) > 0
		}
		s.Services = append(s.Services, one)
	}
	s.Pools = []Pool{
		{"p0", time.Unix(int64(r.IntN(3)), 0), []Range{{addr("192.0.2.0"), addr("192.0.2.5")}, {addr("2001:db8::"), addr("2001:db8::5")}}},
		{"p1", time.Unix(1, 0), []Range{{addr("192.0.2.3"), addr("192.0.200.255")}, {addr("2001:db8::3"), addr("2001:db8::ffff")}}},
	}
	choices := []Choice{nil, is("rack=0"), is("rack=1|rack=2")}
	for i := range 3 {
		pools := pick("p1", "p0")
		s.L2 = append(s.L2, L2Advertisement{Selection{fmt.Sprint("l2-", i), pools, is("app!=" + fmt.Sprint(i)), choices[i]},
			[]Preference{{1 + r.IntN(9), is("rack=2")[0]}, {2, is("rack=1")[0]}}, pick("eth0", "eth1")})
		s.BGP = append(s.BGP, BGPAdvertisement{
			Selection{fmt.Sprint("bgp-", i), pools, nil, choices[i]}, time.Unix(int64(r.IntN(2)), 0), pick("r0", "r1", "r2"),
			32 - 4*r.IntN(2), 128 - 64*r.IntN(2), uint32(r.IntN(2)), r.IntN(2), pick("mine", "1:1", "1:2"),
		})
		s.Peers = append(s.Peers, Peer{fmt.Sprint("r", i), choices[2-i], addr([]string{"10.0.0.9", "fd00::9", "10.0.0.8"}[i]), r.IntN(2) == 0})
	}
	return s
}

// The order of what goes in makes no difference.
func TestOrder(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		s := random(r, 1+r.IntN(12), 1+r.IntN(6))
		want := Select(*s, "node0")
		shuffle(r, s.Nodes)
		shuffle(r, s.Services)
		shuffle(r, s.Pools)
		shuffle(r, s.L2)
		shuffle(r, s.BGP)
		shuffle(r, s.Peers)
		for i := range s.Services {
			shuffle(r, s.Services[i].Serving)
		}
		for i := range s.L2 {
			s.L2[i].Pools, s.L2[i].Interfaces = shuffle(r, slices.Clone(s.L2[i].Pools)), shuffle(r, s.L2[i].Interfaces)
			s.BGP[i].Pools, s.BGP[i].Peers = shuffle(r, slices.Clone(s.BGP[i].Pools)), shuffle(r, s.BGP[i].Peers)
			shuffle(r, s.BGP[i].Communities)
			shuffle(r, s.L2[i].Preferred)
		}
		for i := range s.Pools {
			shuffle(r, s.Pools[i].Ranges)
		}
		if diff := cmp.Diff(want, Select(*s, "node0"), cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
			t.Fatalf("seed %d (-before +after the shuffle):\n%s", seed, diff)
		}
	}
}

func shuffle[T any](r *rand.Rand, list []T) []T {
	r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}

// What a plan says of a VIP and of routes is the same, every VIP is announced or
// has a reason, candidates are the same on every node, and nobody answers who is none.
func TestPlansAgree(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 2))
		s := random(r, 1+r.IntN(12), 1+r.IntN(6))
		candidates := map[netip.Addr][]Candidate{}
		for _, n := range s.Nodes {
			plan := Select(*s, n.Name)
			for _, v := range plan.VIPs {
				if v.L2 == nil && len(v.Peers) == 0 && len(v.Not) == 0 {
					t.Fatalf("seed %d: %s on %s: not announced without a reason", seed, v.Addr, n.Name)
				}
				for _, p := range plan.Peers {
					covered := slices.ContainsFunc(p.Routes, func(r Route) bool { return r.Prefix.Contains(v.Addr) })
					if slices.Contains(v.Peers, p.Name) && !covered {
						t.Fatalf("seed %d: %s on %s: no route to %s", seed, v.Addr, n.Name, p.Name)
					}
				}
				if v.L2 == nil {
					continue
				}
				if !slices.ContainsFunc(v.L2.Candidates, func(c Candidate) bool { return c.Node == n.Name }) {
					t.Fatalf("seed %d: %s is no candidate for %s", seed, n.Name, v.Addr)
				}
				if other, known := candidates[v.Addr]; known && !slices.Equal(other, v.L2.Candidates) {
					t.Fatalf("seed %d: %s: %v on one node, %v on %s", seed, v.Addr, other, v.L2.Candidates, n.Name)
				}
				candidates[v.Addr] = v.L2.Candidates
			}
			for _, p := range plan.Peers {
				for _, route := range p.Routes {
					if !slices.ContainsFunc(plan.VIPs, func(v VIP) bool { return route.Prefix.Contains(v.Addr) && slices.Contains(v.Peers, p.Name) }) {
						t.Fatalf("seed %d: %s to %s for no address", seed, route.Prefix, p.Name)
					}
				}
			}
		}
	}
}

func BenchmarkSelect(b *testing.B) {
	for _, local := range []bool{false, true} {
		b.Run(fmt.Sprintf("1000VIPs/100nodes/local=%t", local), func(b *testing.B) {
			s := random(rand.New(rand.NewPCG(1, 1)), 500, 100)
			for i := range s.Services {
				s.Services[i].Local = local
				s.Services[i].VIPs = []netip.Addr{
					netip.AddrFrom4([4]byte{192, 0, 3 + byte(i>>8), byte(i)}), addr(fmt.Sprintf("2001:db8::%x", i)),
				}
				for _, vip := range s.Services[i].VIPs {
					s.Held[vip] = true
				}
			}
			s.Nodes[0].Attached, s.Nodes[0].NetworkUnavailable = true, false
			b.ReportAllocs()
			for b.Loop() {
				if plan := Select(*s, "node0"); len(plan.VIPs) != 1000 {
					b.Fatal(len(plan.VIPs))
				}
			}
		})
	}
}
