// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/announce"
	"github.com/fairlead/fairlead/announce/ability"
	"github.com/fairlead/fairlead/announce/l2"
	"github.com/fairlead/fairlead/announce/members"
	"github.com/fairlead/fairlead/controller/watch/kube"
	"github.com/fairlead/fairlead/lb"
)

func testVIP(i byte) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, i}) }

func tableOf(t *testing.T, services ...lb.Service) *lb.Table {
	t.Helper()
	for i := range services {
		services[i].TableSize, services[i].Name = 251, fmt.Sprintf("default/s%d:", i)
	}
	table, err := lb.NewTable("node1", []lb.Node{{Name: "node1"}}, services)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func TestHeldVIPs(t *testing.T) {
	key := func(vip byte, port uint16) lb.ServiceKey {
		return lb.ServiceKey{VIP: testVIP(vip), Port: port, Proto: lb.TCP}
	}
	failed := func(k lb.ServiceKey) error { return errors.Join(errFake, &lb.ServiceError{Key: k, Err: errFake}) }
	table := tableOf(t, lb.Service{Key: key(1, 80)}, lb.Service{Key: key(1, 81)}, lb.Service{Key: key(2, 80)}, lb.Service{Key: key(2, 81), Left: true})
	before := map[netip.Addr]bool{testVIP(2): true, testVIP(9): true}
	for _, test := range []struct {
		name   string
		err    error
		before map[netip.Addr]bool
		off    bool
		want   []netip.Addr
	}{
		{"all", nil, before, false, []netip.Addr{testVIP(1), testVIP(2)}},
		{"one port of two", failed(key(1, 80)), nil, false, []netip.Addr{testVIP(1), testVIP(2)}},
		{"no port", failed(key(2, 80)), nil, false, []netip.Addr{testVIP(1)}},
		{"no port, and it was there before", failed(key(2, 80)), before, false, []netip.Addr{testVIP(1), testVIP(2)}},
		{"not attached", nil, before, true, nil},
	} {
		held := heldVIPs(tables{table: table, err: test.err, attached: !test.off}, test.before)
		if diff := cmp.Diff(test.want, slices.SortedFunc(maps.Keys(held), netip.Addr.Compare), compareAddrs); diff != "" {
			t.Errorf("%s: -want +got:\n%s", test.name, diff)
		}
	}
}

// planOf has an L2 candidate for each VIP on all nodes.
func planOf(vips ...byte) announce.Plan {
	plan := announce.Plan{}
	for _, v := range vips {
		plan.VIPs = append(plan.VIPs, announce.VIP{Addr: testVIP(v), L2: &announce.L2{
			Key: testVIP(v), Candidates: []announce.Candidate{{Node: "node1"}, {Node: "node2"}, {Node: "node3"}},
		}})
	}
	return plan
}

// abilities are what nodes say of themselves, each with all but some VIPs.
func abilities(t *testing.T, version string, unable map[string][]netip.Addr) map[string]ability.Told {
	t.Helper()
	all := map[string]ability.Told{}
	for _, node := range []string{"node1", "node2", "node3"} {
		b, err := ability.Ability{Version: version, Unable: unable[node]}.Append(nil, node)
		if err != nil {
			t.Fatal(err)
		}
		if all[node], err = ability.Parse(node, b); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// A node is elected only for what it has said that it has, while it lives.
func TestElectAll(t *testing.T) {
	nodes := []string{"node1", "node2", "node3"}
	plan := planOf(1)
	since := map[netip.Addr]string{testVIP(1): "7"}
	first := electAll(plan, nodes, abilities(t, "7", nil), since, nil)[testVIP(1)].Winner
	if first == "" {
		t.Fatal("nobody is elected")
	}
	without := electAll(plan, nodes, abilities(t, "7", map[string][]netip.Addr{first: {testVIP(1)}}), since, nil)[testVIP(1)].Winner
	if without == "" || without == first {
		t.Errorf("%q is elected, and %q does not have it", without, first)
	}
	others := slices.DeleteFunc(slices.Clone(nodes), func(n string) bool { return n == first })
	if got := electAll(plan, others, abilities(t, "7", nil), since, nil)[testVIP(1)].Winner; got != without {
		t.Errorf("%q is elected, want %q: %q does not live", got, without, first)
	}
	none := electAll(plan, nodes, abilities(t, "6", nil), since, nil)[testVIP(1)]
	if none.Winner != "" || !strings.Contains(none.Why, `node "node2" has no datapath or link for it`) {
		t.Errorf("%+v, and nobody has heard of it", none)
	}
	// Elections before count as long as a VIP is what it was.
	before := map[netip.Addr]election{testVIP(1): {Winner: "before", of: plan.VIPs[0].L2, since: "7"}}
	if got := electAll(planOf(1), nodes, abilities(t, "7", nil), since, before)[testVIP(1)].Winner; got != "before" {
		t.Errorf("%q is elected, want the one before", got)
	}
	fewer := planOf(1)
	fewer.VIPs[0].L2.Candidates = fewer.VIPs[0].L2.Candidates[:2]
	later := map[netip.Addr]string{testVIP(1): "8"}
	if a, b := electAll(fewer, nodes, abilities(t, "8", nil), since, before)[testVIP(1)].Winner, electAll(plan, nodes, abilities(t, "8", nil), later, before)[testVIP(1)].Winner; a == "before" || b == "before" {
		t.Errorf("%q and %q are elected, and the VIP has changed", a, b)
	}
	plan.VIPs[0].L2 = nil
	if got := electAll(plan, nodes, abilities(t, "7", nil), since, nil); len(got) > 0 {
		t.Errorf("%+v, and this node is not to answer", got)
	}
}

// What another node takes is yielded for a while, what nobody does is dropped.
func TestAnswer(t *testing.T) {
	k := newLink(1, "node1", nil, nil)
	k.plan = planOf(1, 2)
	now := time.Now()
	expect := func(what string, first, second string, quorum bool, want ...l2.Answer) {
		t.Helper()
		k.answer(map[netip.Addr]election{testVIP(1): {Winner: first}, testVIP(2): {Winner: second}}, quorum, now)
		if diff := cmp.Diff(want, k.answers, compareAddrs); diff != "" {
			t.Errorf("%s: -want +got:\n%s", what, diff)
		}
	}
	one, two := l2.Answer{VIP: testVIP(1)}, l2.Answer{VIP: testVIP(2)}
	yielded := one
	yielded.Yield = true
	expect("another's", "node2", "node1", true, two)
	expect("both", "node1", "node1", true, one, two)
	expect("one goes", "node2", "node1", true, yielded, two)
	now = now.Add(l2.HandOverTime / 2)
	expect("still", "node3", "node1", true, yielded, two)
	now = now.Add(l2.HandOverTime)
	expect("gone", "node3", "node1", true, two)
	expect("back", "node1", "node1", true, one, two)
	expect("nobody's", "", "node1", true, two)
	expect("both again", "node1", "node1", true, one, two)
	expect("no quorum", "node2", "node1", false)
	expect("and after it", "node2", "node1", true, two)
}

func TestMemberKeys(t *testing.T) {
	a, b := [16]byte{1}, [16]byte{2}
	keys := memberKeys([][16]byte{a, b})
	if len(keys) != 2 || len(keys[0]) != 32 || bytes.Equal(keys[0], keys[1]) || bytes.Contains(keys[0], a[:]) {
		t.Errorf("%x", keys)
	}
	if again := memberKeys([][16]byte{b}); !bytes.Equal(again[0], keys[1]) {
		t.Error("another key from the same one")
	}
}

// A majority is one of the nodes with an agent, dead or alive.
func TestMemberNodes(t *testing.T) {
	node := func(name string, known bool, addrs ...string) kube.Node {
		o := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
		for _, a := range addrs {
			o.Status.Addresses = append(o.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a})
		}
		return kube.Node{Object: o, Known: known}
	}
	bind := netip.MustParseAddrPort("10.0.0.1:7949")
	got := memberNodes([]kube.Node{
		node("node5", true, "10.0.0.5"), node("node1", true, "10.0.0.1"), node("node2", true, "fd00::2", "10.0.0.2"),
		node("node3", false, "10.0.0.3"), node("node4", true, "fd00::4"),
	}, "node1", bind)
	want := []members.Node{
		{Name: "node1", Addr: bind}, {Name: "node2", Addr: netip.MustParseAddrPort("10.0.0.2:7949")}, {Name: "node5", Addr: netip.MustParseAddrPort("10.0.0.5:7949")},
	}
	if diff := cmp.Diff(want, got, compareAddrs); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// The newest value counts, and one that fails is tried again.
func TestLatest(t *testing.T) {
	l := newLatest[int](time.Millisecond)
	l.set(1)
	l.set(2)
	ctx, cancel := context.WithCancel(t.Context())
	calls := make(chan int)
	done := make(chan struct{})
	go func() {
		defer close(done)
		failed := false
		l.run(ctx, func(ctx context.Context, v int) error {
			select {
			case calls <- v:
			case <-ctx.Done():
			}
			if !failed {
				failed = true
				return errFake
			}
			return nil
		})
	}()
	for _, want := range []int{2, 2} {
		if got := <-calls; got != want {
			t.Errorf("%d, want %d", got, want)
		}
	}
	l.set(3)
	if got := <-calls; got != 3 {
		t.Errorf("%d, want 3", got)
	}
	cancel()
	<-done
}

func TestAnnounceFlags(t *testing.T) {
	for args, want := range map[string]string{
		"--members-port=0":   "want 1 to 65535",
		"--bgp-listen=70000": "want 0 to 65535",
		"--announce=maybe":   "invalid boolean value",
	} {
		code, _, stderr := runCommand("agent", "--kubernetes", args)
		if code != exitUsage || !strings.Contains(stderr, want) {
			t.Errorf("%s: %d %q, want %q", args, code, stderr, want)
		}
	}
}
