// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"

	"github.com/fairlead/fairlead/announce"
	"github.com/fairlead/fairlead/controller/api/v1beta1"
	"github.com/fairlead/fairlead/controller/config"
)

const namespace = "fairlead-system"

// meta is that of the object at a place in the list of ages.
func meta(name string, age int64) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name, CreationTimestamp: metav1.Unix(age, 0), Labels: map[string]string{"name": name}}
}

// spec reads YAML.
func spec[T any](t *testing.T, text string) (s T) {
	t.Helper()
	if err := yaml.UnmarshalStrict([]byte(text), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func world(t *testing.T) config.Objects {
	return config.Objects{
		Pools: []*v1beta1.IPAddressPool{
			{ObjectMeta: meta("lan", 1), Spec: spec[v1beta1.IPAddressPoolSpec](t, `addresses: [192.0.2.0/25, 2001:db8::1-2001:db8::9]`)},
			{ObjectMeta: meta("wan", 2), Spec: spec[v1beta1.IPAddressPoolSpec](t, `addresses: [198.51.100.0/24]`)},
		},
		L2Advertisements: []*v1beta1.L2Advertisement{{ObjectMeta: meta("l2", 3), Spec: spec[v1beta1.L2AdvertisementSpec](t, `
ipAddressPoolSelectors: [{matchLabels: {name: lan}}]
serviceSelectors: [{matchLabels: {app: web}}]
nodeSelectors: [{matchLabels: {rack: a}}, {matchExpressions: [{key: rack, operator: In}]}]
preferredNodeSelectors: [{weight: 7, preference: {matchLabels: {rack: b}}}]
interfaces: [eth1]`)}},
		BGPAdvertisements: []*v1beta1.BGPAdvertisement{
			{ObjectMeta: meta("plain", 4)},
			{ObjectMeta: meta("rich", 5), Spec: spec[v1beta1.BGPAdvertisementSpec](t, `
ipAddressPools: [lan]
peers: [r1]
aggregationLength: 26
aggregationLengthV6: 127
localPref: 200
asPathPrepend: 2
communities: [mine, no-export, "1:2"]`)},
		},
		BGPPeers: []*v1beta1.BGPPeer{
			{ObjectMeta: meta("r1", 6), Spec: spec[v1beta1.BGPPeerSpec](t, `{myASN: 1, peerASN: 2, peerAddress: "::ffff:10.0.0.1", dualStackAddressFamily: true, nodeSelectors: [{matchLabels: {rack: a}}]}`)},
			{ObjectMeta: meta("link", 7), Spec: spec[v1beta1.BGPPeerSpec](t, `{myASN: 1, peerASN: 2, interface: eth0}`)},
		},
		Communities: []*v1beta1.Community{{ObjectMeta: meta("names", 8), Spec: spec[v1beta1.CommunitySpec](t, `communities: [{name: mine, value: "large:1:2:3"}]`)}},
	}
}

var compare = cmp.Options{
	cmpopts.EquateComparable(netip.Addr{}),
	cmp.Comparer(func(a, b labels.Selector) bool {
		return a.String() == b.String() && fmt.Sprintf("%T", a) == fmt.Sprintf("%T", b)
	}),
}

func parsed(t *testing.T, text string) labels.Selector {
	t.Helper()
	s, err := labels.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func at(age int64) time.Time { return time.Unix(age, 0) }

func addr(text string) netip.Addr { return netip.MustParseAddr(text) }

// Every field arrives.
func TestConfig(t *testing.T) {
	objects := world(t)
	elsewhere := *objects.L2Advertisements[0]
	elsewhere.Namespace = "default"
	objects.L2Advertisements = append(objects.L2Advertisements, &elsewhere)
	rackA := parsed(t, "rack=a")
	want := announce.State{
		Pools: []announce.Pool{
			{Name: "lan", Created: at(1), Ranges: []announce.Range{{From: addr("192.0.2.0"), To: addr("192.0.2.127")}, {From: addr("2001:db8::1"), To: addr("2001:db8::9")}}},
			{Name: "wan", Created: at(2), Ranges: []announce.Range{{From: addr("198.51.100.0"), To: addr("198.51.100.255")}}},
		},
		L2: []announce.L2Advertisement{{
			Selection: announce.Selection{
				Name: "l2", Pools: []string{"lan"}, Services: announce.Choice{parsed(t, "app=web")},
				Nodes: announce.Choice{rackA, labels.Nothing()}, // In without values
			},
			Preferred: []announce.Preference{{Weight: 7, Nodes: parsed(t, "rack=b")}}, Interfaces: []string{"eth1"},
		}},
		BGP: []announce.BGPAdvertisement{
			{Selection: announce.Selection{Name: "plain", Pools: []string{"lan", "wan"}}, Created: at(4), Length4: 32, Length6: 128},
			{Selection: announce.Selection{Name: "rich", Pools: []string{"lan"}}, Created: at(5), Length4: 26, Length6: 127,
				Peers: []string{"r1"}, LocalPref: 200, Prepend: 2, Communities: []string{"large:1:2:3", "65535:65281", "1:2"}},
		},
		Peers: []announce.Peer{
			{Name: "r1", Nodes: announce.Choice{rackA}, Addr: addr("10.0.0.1"), DualStack: true},
			{Name: "link"},
		},
		Communities: communities(config.Result{Communities: map[string]string{"mine": "large:1:2:3"}}),
	}
	got := Config(objects, config.Check(objects, namespace), namespace, announce.State{})
	if diff := cmp.Diff(want, got, compare); diff != "" {
		t.Errorf("state (-want +got):\n%s", diff)
	}
}

// What cannot be used stays as it was; what never could be is not there.
func TestConfigUnused(t *testing.T) {
	objects := world(t)
	before := Config(objects, config.Check(objects, namespace), namespace, announce.State{})
	objects.Communities = nil
	rich := objects.BGPAdvertisements[1].DeepCopy()
	rich.Spec.LocalPref = 300
	objects.BGPAdvertisements[1] = rich
	objects.BGPPeers[0].Spec.VRFName = "red"
	result := config.Check(objects, namespace)

	after := Config(objects, result, namespace, before)
	if diff := cmp.Diff(before.BGP, after.BGP, compare); diff != "" {
		t.Errorf("advertisements (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff(before.Peers, after.Peers, compare); diff != "" {
		t.Errorf("peers (-before +after):\n%s", diff)
	}
	fresh := Config(objects, result, namespace, announce.State{})
	if len(fresh.BGP) != 1 || fresh.BGP[0].Name != "plain" || len(fresh.Peers) != 1 || fresh.Peers[0].Name != "link" {
		t.Errorf("without a state before: %+v, %+v", fresh.BGP, fresh.Peers)
	}
	objects.BGPAdvertisements, objects.BGPPeers = nil, nil
	if gone := Config(objects, config.Check(objects, namespace), namespace, before); gone.BGP != nil || gone.Peers != nil {
		t.Errorf("deleted ones stay: %+v, %+v", gone.BGP, gone.Peers)
	}
}

// A name that an object gives goes before a well-known one.
func TestCommunities(t *testing.T) {
	got := communities(config.Result{Communities: map[string]string{"no-export": "1:1"}})
	if got["no-export"] != "1:1" || got["graceful-shutdown"] != "65535:0" || config.WellKnown["no-export"] == "1:1" {
		t.Errorf("%v", got)
	}
}

func TestNode(t *testing.T) {
	o := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "a", Labels: map[string]string{"x": "y"}}, Status: corev1.NodeStatus{
		Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeHostName, Address: "a"},
			{Type: corev1.NodeExternalIP, Address: "203.0.113.1"},
			{Type: corev1.NodeInternalIP, Address: "127.0.0.1"},
			{Type: corev1.NodeInternalIP, Address: "10.0.0.1"},
			{Type: corev1.NodeInternalIP, Address: "fd00::1"},
		},
		Conditions: []corev1.NodeCondition{{Type: corev1.NodeNetworkUnavailable, Status: corev1.ConditionTrue}},
	}}
	want := announce.Node{
		Name: "a", Labels: labels.Set{"x": "y"}, Addrs: []netip.Addr{addr("10.0.0.1"), addr("fd00::1")}, NetworkUnavailable: true, Attached: true,
	}
	if diff := cmp.Diff(want, Node(o, true), compare); diff != "" {
		t.Errorf("node (-want +got):\n%s", diff)
	}
	o.Status.Conditions[0].Status = corev1.ConditionUnknown
	if n := Node(o, false); n.NetworkUnavailable || n.Attached {
		t.Errorf("%+v", n)
	}
}

func TestService(t *testing.T) {
	o := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", Labels: map[string]string{"app": "web"}}}
	o.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	for _, ip := range []string{"192.0.2.1", "", "2001:db8::1", "192.0.2.1"} {
		o.Status.LoadBalancer.Ingress = append(o.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: ip, Hostname: "web.example"})
	}
	want := announce.Service{
		Name: "ns/web", Labels: labels.Set{"app": "web"}, VIPs: []netip.Addr{addr("192.0.2.1"), addr("2001:db8::1")}, Local: true, Serving: []string{"a"},
	}
	if diff := cmp.Diff(want, Service(o, []string{"a"}), compare); diff != "" {
		t.Errorf("service (-want +got):\n%s", diff)
	}
	o.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyCluster
	if Service(o, nil).Local {
		t.Error("Cluster read as Local")
	}
}
