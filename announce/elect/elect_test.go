// SPDX-License-Identifier: Apache-2.0

package elect

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func able(name string, weight int64) Node {
	return Node{Name: name, Live: true, Serving: true, Able: true, Weight: weight}
}

// The order is that of `printf '%s#%s' NODE ADDRESS | sha256sum`.
func TestOrderOfHashes(t *testing.T) {
	nodes := []Node{able("worker-1", 0), able("worker-2", 0), able("worker-3", 0)}
	for address, want := range map[string][]string{
		"192.0.2.1":        {"worker-1", "worker-2", "worker-3"}, // 8da8868699a5 ab6f442e0768 f5cc619ddf91
		"192.0.2.2":        {"worker-3", "worker-1", "worker-2"}, // 2249c934aaf5 4110465b2d56 92cc6120f3fd
		"192.0.2.3":        {"worker-1", "worker-2", "worker-3"}, // 7663ec0b2262 b6641609670e ba9a44623dce
		"2001:db8::1":      {"worker-2", "worker-1", "worker-3"}, // 54f592102a92 b8199dbc9f31 d79282d18465
		"::ffff:192.0.2.2": {"worker-3", "worker-1", "worker-2"},
		"2001:DB8:0::0:1":  {"worker-2", "worker-1", "worker-3"}, // written otherwise, the same address
	} {
		var got []string
		for i, s := range Elect(netip.MustParseAddr(address), nodes) {
			if (s.Reason == None) != (i == 0) || i > 0 && s.Reason != Outranked {
				t.Errorf("%s: place %d: %s %s", address, i, s.Node, s.Reason)
			}
			got = append(got, s.Node)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", address, diff)
		}
	}
}

func TestElect(t *testing.T) {
	vip := netip.MustParseAddr("192.0.2.1") // worker-1, worker-2, worker-3
	change := func(n Node, f func(*Node)) Node { f(&n); return n }
	dead := func(n *Node) { n.Live = false }
	excluded := func(n *Node) { n.Excluded = true }
	empty := func(n *Node) { n.Serving = false }
	stuck := func(n *Node) { n.Able = false }
	for _, tt := range []struct {
		name  string
		nodes []Node
		want  []Standing
	}{
		{"none", nil, []Standing{}},
		{"one", []Node{able("a", 0)}, []Standing{{"a", None}}},
		{"one dead", []Node{change(able("a", 9), dead)}, []Standing{{"a", NotLive}}},
		{"weight before hash", []Node{able("worker-1", 1), able("worker-2", 1), able("worker-3", 2)},
			[]Standing{{"worker-3", None}, {"worker-1", Outranked}, {"worker-2", Outranked}}},
		{"each reason, in spite of weight", []Node{
			change(able("z", 100), dead), change(able("y", 100), excluded), change(able("x", 100), empty),
			change(able("w", 100), stuck), able("worker-2", 0), able("worker-1", 0)},
			[]Standing{{"worker-1", None}, {"worker-2", Outranked}, {"w", NotAble}, {"x", NotServing}, {"y", Excluded}, {"z", NotLive}}},
		{"first reason counts", []Node{{Name: "a", Excluded: true}, {Name: "b", Live: true, Excluded: true}, {Name: "c", Live: true}},
			[]Standing{{"a", NotLive}, {"b", Excluded}, {"c", NotServing}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := Elect(vip, tt.nodes)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			winner, ok := Winner(got)
			if ok != (len(got) > 0 && got[0].Reason == None) || ok && winner != got[0].Node {
				t.Errorf("winner %q, %t of %v", winner, ok, got)
			}
		})
	}
}

// The order of the input does not count, and a node that goes only moves what was its own.
func TestStable(t *testing.T) {
	var nodes []Node
	for i := range 7 {
		nodes = append(nodes, able(fmt.Sprintf("node-%d", i), int64(i%2)))
	}
	random := rand.New(rand.NewPCG(1, 2))
	wins := map[string]int{}
	for i := range 300 {
		vip := netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})
		want := Elect(vip, nodes)
		random.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
		if diff := cmp.Diff(want, Elect(vip, nodes)); diff != "" {
			t.Fatalf("%s in another order (-want +got):\n%s", vip, diff)
		}
		lost := nodes[random.IntN(len(nodes))].Name
		var rest []Node
		for _, n := range nodes {
			n.Live = n.Name != lost
			rest = append(rest, n)
		}
		first, _ := Winner(want)
		wins[first]++
		expect := first
		if first == lost {
			expect = want[1].Node
		}
		if got, _ := Winner(Elect(vip, rest)); got != expect {
			t.Fatalf("%s without %s: %s, want %s", vip, lost, got, expect)
		}
	}
	if len(wins) != 3 { // those of weight 1, and each of them
		t.Errorf("winners %v, want the three of weight 1", wins)
	}
}
