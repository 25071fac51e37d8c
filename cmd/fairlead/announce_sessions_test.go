// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/fairlead/fairlead/announce"
	"github.com/fairlead/fairlead/announce/bfd"
	"github.com/fairlead/fairlead/announce/bgp"
	"github.com/fairlead/fairlead/controller/api/v1beta1"
	configs "github.com/fairlead/fairlead/controller/config"
)

const ownNamespace = "fairlead-system"

var compareAddrs = cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{})

func peerObject(t *testing.T, name string, age int64, spec string) *v1beta1.BGPPeer {
	t.Helper()
	o := &v1beta1.BGPPeer{ObjectMeta: metav1.ObjectMeta{Namespace: ownNamespace, Name: name, CreationTimestamp: metav1.Unix(age, 0)}}
	if err := yaml.UnmarshalStrict([]byte(spec), &o.Spec); err != nil {
		t.Fatal(err)
	}
	return o
}

func ptr[T any](v T) *T { return &v }

// peersOf are BGPPeers with a profile "fast" and a Secret "r".
func peersOf(peers ...*v1beta1.BGPPeer) configs.Objects {
	profile := &v1beta1.BFDProfile{ObjectMeta: metav1.ObjectMeta{Namespace: ownNamespace, Name: "fast"}}
	profile.Spec = v1beta1.BFDProfileSpec{
		TransmitInterval: ptr[int32](50), ReceiveInterval: ptr[int32](60), DetectMultiplier: ptr[int32](5), MinimumTTL: ptr[int32](250), PassiveMode: ptr(true),
	}
	return configs.Objects{
		BGPPeers: peers, BFDProfiles: []*v1beta1.BFDProfile{profile}, SecretsKnown: true,
		Secrets: map[string]*corev1.Secret{"r": {Type: corev1.SecretTypeBasicAuth, Data: map[string][]byte{"password": []byte("secret")}}},
	}
}

// Every field of a BGPPeer arrives.
func TestPeerings(t *testing.T) {
	o := peersOf(
		peerObject(t, "all", 1, `
myASN: 64512
localASN: 64600
peerASN: 64513
peerAddress: 10.0.0.1
sourceAddress: 10.0.0.2
peerPort: 1179
holdTime: 9s
keepaliveTime: 3s
connectTime: 7s
routerID: 1.2.3.4
passwordSecret: {name: r}
bfdProfile: fast
enableGracefulRestart: true
ebgpMultiHop: true
dualStackAddressFamily: true`),
		peerObject(t, "internal", 2, `{myASN: 64512, dynamicASN: internal, peerAddress: "fd00::1", password: plain}`),
		peerObject(t, "link", 3, `{myASN: 64512, peerASN: 1, interface: eth0}`),
	)
	want := map[string]peering{
		"all": {
			peer: bgp.Peer{
				Address: netip.MustParseAddr("10.0.0.1"), Port: 1179, Source: netip.MustParseAddr("10.0.0.2"), LocalASN: 64600, PeerASN: 64513,
				RouterID: netip.MustParseAddr("1.2.3.4"), HoldTime: ptr(9 * time.Second), KeepaliveTime: ptr(3 * time.Second), ConnectTime: 7 * time.Second,
				Password: "secret", MultiHop: true, DualStack: true, GracefulRestart: true,
			},
			created: time.Unix(1, 0), profile: &bfd.Profile{Transmit: 50 * time.Millisecond, Receive: 60 * time.Millisecond, Multiplier: 5, MinimumTTL: 250, Passive: true},
		},
		"internal": {
			peer:     bgp.Peer{Address: netip.MustParseAddr("fd00::1"), LocalASN: 64512, DynamicASN: "internal", Password: "plain"},
			internal: true, created: time.Unix(2, 0),
		},
		"link": {peer: bgp.Peer{Interface: "eth0", LocalASN: 64512, PeerASN: 1}, created: time.Unix(3, 0)},
	}
	got := peerings(o, configs.Check(o, ownNamespace), ownNamespace, nil)
	if diff := cmp.Diff(want, got, compareAddrs, cmp.AllowUnexported(peering{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}

	// What is valid no more stays as it was; what never was is not there.
	delete(o.Secrets, "r")
	kept := peerings(o, configs.Check(o, ownNamespace), ownNamespace, got)
	if diff := cmp.Diff(want, kept, compareAddrs, cmp.AllowUnexported(peering{})); diff != "" {
		t.Errorf("without the Secret: -before +after:\n%s", diff)
	}
	if fresh := peerings(o, configs.Check(o, ownNamespace), ownNamespace, nil); len(fresh) != 2 {
		t.Errorf("fresh, without the Secret: %+v", fresh)
	}
}

func TestNewSessions(t *testing.T) {
	o := peersOf(
		peerObject(t, "r1", 5, `{myASN: 64512, peerASN: 64513, peerAddress: 10.0.0.1, dualStackAddressFamily: true, bfdProfile: fast}`),
		peerObject(t, "r2", 6, `{myASN: 64512, peerASN: 64512, peerAddress: 10.9.0.1, bfdProfile: fast}`),
		peerObject(t, "r3", 7, `{myASN: 64512, peerASN: 64513, interface: eth0, bfdProfile: fast}`),
	)
	peers := peerings(o, configs.Check(o, ownNamespace), ownNamespace, nil)
	prefix4, prefix6 := netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("2001:db8::1/128")
	nextHop := netip.MustParseAddr("fd00::5")
	plan := announce.Plan{Peers: []announce.PeerPlan{
		{Name: "gone"},
		{Name: "r1", Routes: []announce.Route{
			{Prefix: prefix4, LocalPref: 7, Prepend: 2, Communities: []string{"64512:100", "large:64512:1:2"}}, {Prefix: prefix6, NextHop: nextHop},
		}},
		{Name: "r2", Routes: []announce.Route{{Prefix: prefix4}, {Prefix: prefix6, Communities: []string{"1:65536"}}}},
		{Name: "r3", Routes: []announce.Route{{Prefix: prefix4}}},
	}}
	self := announce.Node{Name: "node1", Addrs: []netip.Addr{nextHop, netip.MustParseAddr("10.0.0.5")}}
	link := netip.MustParsePrefix("10.0.0.0/24")
	got := newSessions(plan, peers, self, link.Contains)
	id := netip.MustParseAddr("10.0.0.5")
	r1, r2 := netip.MustParseAddrPort("10.0.0.1:179"), netip.MustParseAddrPort("10.9.0.1:179")
	want := bgp.Desired{
		Peers: []bgp.Peer{
			{Address: r1.Addr(), LocalASN: 64512, PeerASN: 64513, RouterID: id, DualStack: true, NextHop6: nextHop},
			{Address: r2.Addr(), LocalASN: 64512, PeerASN: 64512, RouterID: id},
		},
		Routes: []bgp.Route{
			{Prefix: prefix4, Peers: []netip.AddrPort{r1}, LocalPref: 7, Prepend: 2, Communities: []uint32{64512<<16 | 100}, LargeCommunities: [][3]uint32{{64512, 1, 2}}},
			{Prefix: prefix6, Peers: []netip.AddrPort{r1}},
			{Prefix: prefix4, Peers: []netip.AddrPort{r2}},
		},
	}
	if diff := cmp.Diff(want, got.bgp, compareAddrs); diff != "" {
		t.Errorf("bgp: -want +got:\n%s", diff)
	}
	// The internal peer is not on the link.
	profile := bfd.Profile{Transmit: 50 * time.Millisecond, Receive: 60 * time.Millisecond, Multiplier: 5, MinimumTTL: 250, Passive: true}
	wantBFD := []bfd.Peer{{Path: bfd.Path{Addr: r1.Addr()}, Profile: profile}, {Path: bfd.Path{Addr: r2.Addr(), Multihop: true}, Profile: profile}}
	if diff := cmp.Diff(wantBFD, got.bfd, compareAddrs); diff != "" {
		t.Errorf("bfd: -want +got:\n%s", diff)
	}
	if diff := cmp.Diff(map[netip.AddrPort]string{r1: "r1", r2: "r2"}, got.names, compareAddrs); diff != "" {
		t.Errorf("names: -want +got:\n%s", diff)
	}
	for name, text := range map[string]string{"r2": `route 2001:db8::1/128: community "1:65536": "65536" is no number of 16 bits`, "r3": `spec.interface: "eth0": `} {
		if err := got.refused[name]; err == nil || !strings.HasPrefix(err.Error(), text) {
			t.Errorf("%s refused: %v, want %q", name, err, text)
		}
	}
	if len(got.refused) != 2 {
		t.Errorf("refused: %v", got.refused)
	}
}

func TestRouterID(t *testing.T) {
	plan := announce.Plan{Peers: []announce.PeerPlan{{Name: "a"}, {Name: "b"}}}
	given := func(a, b string) map[string]peering {
		return map[string]peering{
			"a": {created: time.Unix(2, 0), peer: bgp.Peer{RouterID: addressIn(a)}}, "b": {created: time.Unix(1, 0), peer: bgp.Peer{RouterID: addressIn(b)}},
		}
	}
	v6 := announce.Node{Name: "node1", Addrs: []netip.Addr{netip.MustParseAddr("fd00::1")}}
	v4 := announce.Node{Name: "node1", Addrs: []netip.Addr{netip.MustParseAddr("fd00::1"), netip.MustParseAddr("10.0.0.1")}}
	for _, test := range []struct {
		name  string
		peers map[string]peering
		node  announce.Node
		want  string
	}{
		{"the older one's", given("1.1.1.1", "2.2.2.2"), v4, "2.2.2.2"},
		{"the only one", given("1.1.1.1", ""), v4, "1.1.1.1"},
		{"the node's address", given("", ""), v4, "10.0.0.1"},
	} {
		if got := routerID(plan, test.peers, test.node); got.String() != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
	other := v6
	other.Name = "node2"
	if a, b := routerID(plan, given("", ""), v6), routerID(plan, given("", ""), other); !a.Is4() || a.IsUnspecified() || a.IsMulticast() || a == b {
		t.Errorf("by names: %s and %s", a, b)
	}
}

func TestParseCommunity(t *testing.T) {
	for _, text := range []string{"", "1", "1:2:3", "large:1:2", "1:-2", "65536:1", "large:1:2:4294967296", "no-export"} {
		if numbers, _, err := parseCommunity(text); err == nil {
			t.Errorf("%q: %v", text, numbers)
		}
	}
}
