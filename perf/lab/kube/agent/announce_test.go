// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/announce"
	"github.com/fairlead/fairlead/controller/api/v1beta1"
	settings "github.com/fairlead/fairlead/controller/desired"
	desired "github.com/fairlead/fairlead/controller/desired/kube"
	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/frr"
	"github.com/fairlead/fairlead/perf/lab/kube/agent"
)

const pools = `
apiVersion: fairlead.io/v1beta1
kind: IPAddressPool
metadata: {name: link, namespace: fairlead-system}
spec: {addresses: [10.1.0.200-10.1.0.210, "fd01::200-fd01::210"]}
---
apiVersion: fairlead.io/v1beta1
kind: IPAddressPool
metadata: {name: routed, namespace: fairlead-system}
spec: {addresses: [192.0.2.0/24, "2001:db8:0:1::/64"]}
`

const l2Advertisement = `
apiVersion: fairlead.io/v1beta1
kind: L2Advertisement
metadata: {name: link, namespace: fairlead-system}
spec: {ipAddressPools: [link]}
`

// answering is the node that answers for a VIP by ARP or NDP: all agents that
// run have to name the same one, and none but that one to say that it does.
func (w *world) answering(vip netip.Addr, running ...*lab.Node) (*lab.Node, error) {
	named := ""
	var found *lab.Node
	for _, n := range running {
		r, err := w.Announcements(w.t.Context(), n)
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(r.VIPs, func(v agent.AnnouncedVIP) bool { return v.VIP == vip.String() })
		if i < 0 || r.VIPs[i].L2 == nil {
			return nil, fmt.Errorf("%s: %+v", n.Host, r)
		}
		l2 := r.VIPs[i].L2
		if named != "" && l2.Node != named || l2.Node == "" {
			return nil, fmt.Errorf("%s: node %q answers: %s; another says %q: %+v", n.Host, l2.Node, l2.Reason, named, r)
		}
		named = l2.Node
		if (l2.Node == n.Host) != (len(l2.Interfaces) > 0) {
			return nil, fmt.Errorf("%s: node %q answers, on %v: %s", n.Host, l2.Node, l2.Interfaces, l2.Reason)
		}
		if l2.Node == n.Host {
			found = n
		}
	}
	if found == nil {
		return nil, fmt.Errorf("node %q, which does not run, is to answer", named)
	}
	return found, nil
}

// TestAnnounceLink reaches a Service whose addresses are on the link, through
// another key, and the end, the death and the return of the agent that answers.
func TestAnnounceLink(t *testing.T) {
	w := newWorld(t, "generic", 3)
	w.apply(pools + "---" + l2Advertisement)
	w.apply(web)
	w.pods("web", replicas)
	on4, on6 := netip.MustParseAddr("10.1.0.200"), netip.MustParseAddr("fd01::200")
	w.assign("web", on4, on6)
	w.backends("web", replicas, 0)
	var first *lab.Node
	expect := func(what string, running ...*lab.Node) *lab.Node {
		t.Helper()
		var of4, of6 *lab.Node
		w.waitFor(what, func() (err error) {
			if of4, err = w.answering(on4, running...); err == nil {
				of6, err = w.answering(on6, running...)
			}
			return err
		})
		if of4 != of6 {
			t.Errorf("%s: %s and %s answer for one Service", what, of4.Host, of6.Host)
		}
		w.ask(target("tcp", on4, 80), 20)
		w.ask(target("tcp", on6, 80), 20)
		return of4
	}
	first = expect("one node that answers", w.Lab.Nodes...)

	// Members' keys change with those for the wire, and nobody loses the others.
	const nextKey = "00112233445566778899aabbccddeeff"
	w.setKey(map[string]string{desired.KeyData: nextKey})
	key, err := settings.ParseKey(nextKey)
	w.must(err)
	w.waitFor("the next key on all nodes", func() error {
		for _, n := range w.Lab.Nodes {
			o := &v1beta1.NodeState{}
			if err := w.client.Get(t.Context(), types.NamespacedName{Namespace: agent.Namespace, Name: n.Host}, o); err != nil {
				return err
			}
			if !slices.Equal(o.Status.Keys, []string{desired.Fingerprint(key)}) {
				return fmt.Errorf("%s accepts %v", n.Host, o.Status.Keys)
			}
			r, err := w.Announcements(t.Context(), n)
			if err != nil || !r.Members.Quorum || len(r.Members.Live) != len(w.Lab.Nodes) {
				return errors.Join(err, fmt.Errorf("%s: members %+v", n.Host, r.Members))
			}
		}
		return nil
	})
	if same := expect("the same node with another key", w.Lab.Nodes...); same != first {
		t.Errorf("%s answers, not %s", same.Host, first.Host)
	}

	others := slices.DeleteFunc(slices.Clone(w.Lab.Nodes), func(n *lab.Node) bool { return n == first })
	w.open(10, target("tcp", on4, 80), target("tcp", on6, 80))
	for what, end := range map[string]func(*lab.Node) error{"end": w.End, "death": w.Stop} {
		w.during("the agent's "+what, func() {
			w.must(end(first))
			expect("another node that answers, after the "+what, others...)
			w.must(w.Start(first))
			if again := expect("the first node again, after the "+what, w.Lab.Nodes...); again != first {
				t.Errorf("%s answers, not %s", again.Host, first.Host)
			}
		})
	}
}

const routers = `
apiVersion: v1
kind: Secret
metadata: {name: router, namespace: fairlead-system}
type: kubernetes.io/basic-auth
stringData: {password: between-us}
---
apiVersion: fairlead.io/v1beta1
kind: BFDProfile
metadata: {name: fast, namespace: fairlead-system}
spec: {transmitInterval: 100, receiveInterval: 100}
---
apiVersion: fairlead.io/v1beta1
kind: BGPPeer
metadata: {name: router, namespace: fairlead-system}
spec:
  myASN: 64512
  peerASN: 64513
  peerAddress: 10.1.0.1
  passwordSecret: {name: router}
  bfdProfile: fast
  dualStackAddressFamily: true
---
apiVersion: fairlead.io/v1beta1
kind: BGPAdvertisement
metadata: {name: routed, namespace: fairlead-system}
spec: {ipAddressPools: [routed], communities: [no-export]}
`

// routerConfig has FRR take what nodes announce, with their password and BFD.
const routerConfig = `
router bgp 64513
 bgp router-id 10.1.0.1
 no bgp ebgp-requires-policy
 no bgp default ipv4-unicast
 neighbor nodes peer-group
 neighbor nodes remote-as 64512
 neighbor nodes password between-us
 neighbor nodes bfd
 neighbor nodes timers connect 1
 bgp listen range 10.1.0.0/24 peer-group nodes
 address-family ipv4 unicast
  neighbor nodes activate
  maximum-paths 8
 exit-address-family
 address-family ipv6 unicast
  neighbor nodes activate
  maximum-paths 8
 exit-address-family
`

// TestAnnounceRouter reaches a Service by routes that a router learns from all
// nodes, but for one that is excluded.
func TestAnnounceRouter(t *testing.T) {
	lab.RequireRoot(t, frr.Tools...)
	w := newWorld(t, "generic", 3)
	router, err := frr.Start(t.Context(), w.Lab, w.Lab.Router, routerConfig)
	w.must(err)
	w.apply(pools + "---" + routers)
	w.apply(web)
	w.pods("web", replicas)
	w.assign("web", vip4, vip6)
	w.backends("web", replicas, 0)
	expect := func(what string, nodes ...*lab.Node) {
		t.Helper()
		for _, vip := range []netip.Addr{vip4, vip6} {
			w.waitFor(fmt.Sprintf("%s: %s", what, vip), func() error {
				if hops, err := nextHops(t, router, vip); err != nil || len(hops) != len(nodes) {
					said, _ := w.Announcements(t.Context(), w.Lab.Nodes[0])
					return errors.Join(err, fmt.Errorf("%d next hops, want %d; %s says %+v", len(hops), len(nodes), said.Node, said))
				}
				return nil
			})
			w.ask(target("tcp", vip, 80), 20)
		}
	}
	expect("all nodes", w.Lab.Nodes...)
	for _, n := range w.Lab.Nodes {
		w.waitFor("a session with BFD of "+n.Host, func() error {
			r, err := w.Announcements(t.Context(), n)
			if err == nil && (len(r.Peers) != 1 || r.Peers[0].Prefixes != 2 || r.Peers[0].BFD == nil || r.Peers[0].BFD.State != "up") {
				err = fmt.Errorf("%+v", r)
			}
			return err
		})
	}

	w.waitFor("what NodeStates say", func() error {
		for _, n := range w.Lab.Nodes {
			o := &v1beta1.NodeState{}
			if err := w.client.Get(t.Context(), types.NamespacedName{Namespace: agent.Namespace, Name: n.Host}, o); err != nil {
				return err
			}
			var addrs []string
			for _, a := range o.Status.Announcements {
				if a.Protocol == "bgp" && slices.Equal(a.To, []string{"router"}) {
					addrs = append(addrs, a.Addresses...)
				}
			}
			if !slices.Equal(addrs, []string{vip4.String(), vip6.String()}) || len(o.Status.NotAnnounced) > 0 {
				return fmt.Errorf("%s: %+v", n.Host, o.Status)
			}
		}
		return nil
	})

	// Connections by way of a node that drains go on by the others.
	w.open(10, target("tcp", vip4, 80), target("tcp", vip6, 80))
	drain := func(want string, args ...string) {
		t.Helper()
		if said, err := w.Drain(t.Context(), w.Lab.Nodes[0], args...); err != nil || strings.TrimSpace(said) != want {
			t.Errorf("drain %q: %v: %q, want %q", args, err, said, want)
		}
	}
	w.during("a drain", func() {
		drain("drained")
		expect("but the drained one", w.Lab.Nodes[1:]...)
		drain("announcing", "--undo")
		expect("all nodes again", w.Lab.Nodes...)
	})

	// A router that is silent is given up by BFD, long before the hold time of 90 s.
	last := w.Lab.Nodes[2]
	link := func(args ...string) {
		t.Helper()
		_, err := w.Lab.Router.Output(t.Context(), "ip", append([]string{"link", "set", last.Host}, args...)...)
		w.must(err)
	}
	link("nomaster")
	var said agent.Announcements
	if err := lab.Poll(t.Context(), 30*time.Second, func() bool {
		said, err = w.Announcements(t.Context(), last)
		return err == nil && len(said.Peers) == 1 && said.Peers[0].State != "established" && strings.Contains(said.Peers[0].Error, "bfd")
	}); err != nil {
		t.Errorf("the session goes on: %v: %+v", err, said)
	}
	link("master", "br0")
	expect("all nodes, after a silence", w.Lab.Nodes...)

	node := &corev1.Node{}
	w.must(w.client.Get(t.Context(), types.NamespacedName{Name: w.Lab.Nodes[2].Host}, node))
	node.Labels[announce.LabelExclude] = ""
	w.must(w.client.Update(t.Context(), node))
	expect("but the excluded one", w.Lab.Nodes[:2]...)
	r, err := w.Announcements(t.Context(), w.Lab.Nodes[2])
	w.must(err)
	if len(r.VIPs) != 2 || len(r.VIPs[0].Not) != 1 || r.VIPs[0].Not[0].Reason != string(announce.CodeNodeExcluded) {
		t.Errorf("excluded: %+v", r)
	}
}

// nextHops are those of the router's kernel route for a VIP.
func nextHops(t *testing.T, router *frr.Router, vip netip.Addr) ([]string, error) {
	family, bits := "ip", 32
	if vip.Is6() {
		family, bits = "ipv6", 128
	}
	prefix := netip.PrefixFrom(vip, bits).String()
	var routes map[string][]struct {
		Nexthops []struct {
			IP     string
			Active bool
		}
	}
	if err := router.JSON(t.Context(), fmt.Sprintf("show %s route %s json", family, prefix), &routes); err != nil {
		return nil, err
	}
	var hops []string
	for _, r := range routes[prefix] {
		for _, hop := range r.Nexthops {
			if hop.Active {
				hops = append(hops, hop.IP)
			}
		}
	}
	return hops, nil
}
