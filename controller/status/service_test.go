// SPDX-License-Identifier: Apache-2.0

package status

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
	"github.com/fairlead/fairlead/controller/desired/kube"
	"github.com/fairlead/fairlead/controller/ipam"
	"github.com/fairlead/fairlead/controller/watch/cluster"
	"github.com/fairlead/fairlead/lb/maglev"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func TestTableSize(t *testing.T) {
	largest := maglev.Sizes[len(maglev.Sizes)-1]
	for _, test := range []struct {
		annotation string
		endpoints  int
		want       int
	}{
		{"", 0, maglev.DefaultSize},
		{"", 40, maglev.DefaultSize},
		{"", 41, 8191},
		{"", 82, 16381},
		{"", 1 << 20, largest},
		{"16381", 1, 16381},
		{"16381", 300, 32749},
		{"251", 1, maglev.DefaultSize},
		{"4094", 1, maglev.DefaultSize},
		{"many", 50, 8191},
	} {
		o := &corev1.Service{}
		metav1.SetMetaDataAnnotation(&o.ObjectMeta, v1beta1.AnnotationTableSize, test.annotation)
		if got := tableSize(o, test.endpoints); got != test.want {
			t.Errorf("%q, %d endpoints: %d, want %d", test.annotation, test.endpoints, got, test.want)
		}
	}
}

// TestMark: mark and unmark are each other's inverse, and say nothing when
// there is nothing to do.
func TestMark(t *testing.T) {
	o := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Finalizers: []string{"other"}, Annotations: map[string]string{"keep": "me"}}}
	marked := mark(o, 0)
	if marked == nil || !slices.Equal(marked.Finalizers, []string{"other", cluster.Finalizer}) || marked.Annotations[v1beta1.AnnotationTableSize] != "4093" {
		t.Fatalf("marked: %+v", marked)
	}
	if mark(marked, 40) != nil {
		t.Error("marked twice")
	}
	grown := mark(marked, 41)
	if grown == nil || grown.Annotations[v1beta1.AnnotationTableSize] != "8191" || mark(grown, 0) != nil {
		t.Errorf("grown: %+v", grown)
	}
	if diff := cmp.Diff(o, unmark(grown)); diff != "" {
		t.Errorf("unmarked (-want +got):\n%s", diff)
	}
	if unmark(o) != nil {
		t.Error("unmarked twice")
	}
}

func TestShowAndHide(t *testing.T) {
	a4, a6, foreign := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1"), "198.51.100.1"
	none := func(*corev1.Service) []kube.Problem { return nil }
	o := &corev1.Service{}
	o.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: foreign, Hostname: ""}}
	o.Status.Conditions = []metav1.Condition{{Type: "other", Status: "True"}}
	given := ipam.Assignment{Addrs: []netip.Addr{a4, a6}, Complete: true, Reason: ipam.ReasonAllocated, Message: "both"}

	shown := show(o, given, none, cluster.Announced{}, epoch)
	mode := corev1.LoadBalancerIPModeVIP
	want := corev1.ServiceStatus{
		LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: "192.0.2.1", IPMode: &mode}, {IP: "2001:db8::1", IPMode: &mode}}},
		Conditions: []metav1.Condition{
			{Type: "other", Status: "True"},
			{Type: "fairlead.io/Allocated", Status: "True", Reason: "Allocated", Message: "both", LastTransitionTime: metav1.NewTime(epoch)},
			{Type: "fairlead.io/DatapathReady", Status: "True", Reason: "Ready", Message: "nodes forward for all ports", LastTransitionTime: metav1.NewTime(epoch)},
		},
	}
	if diff := cmp.Diff(want, shown.Status); diff != "" {
		t.Fatalf("shown (-want +got):\n%s", diff)
	}
	if show(shown, given, none, cluster.Announced{}, epoch.Add(time.Hour)) != nil {
		t.Error("an equal status is written again")
	}
	lost := show(shown, ipam.Assignment{Reason: ipam.ReasonNoPool, Message: "create one"}, none, cluster.Announced{}, epoch.Add(time.Hour))
	want.LoadBalancer.Ingress = nil
	want.Conditions = []metav1.Condition{
		{Type: "other", Status: "True"},
		{Type: "fairlead.io/Allocated", Status: "False", Reason: "NoPool", Message: "create one", LastTransitionTime: metav1.NewTime(epoch.Add(time.Hour))},
		{Type: "fairlead.io/DatapathReady", Status: "False", Reason: "NoAddress", Message: "the Service has no address", LastTransitionTime: metav1.NewTime(epoch.Add(time.Hour))},
	}
	if diff := cmp.Diff(want, lost.Status); diff != "" {
		t.Fatalf("lost (-want +got):\n%s", diff)
	}

	both := shown.DeepCopy()
	both.Status.LoadBalancer.Ingress = append(both.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: foreign})
	hidden := hide(both, func(a netip.Addr) bool { return a == a4 || a == a6 })
	if diff := cmp.Diff(o.Status, hidden.Status); diff != "" {
		t.Errorf("hidden (-want +got):\n%s", diff)
	}
	if hide(hidden, func(a netip.Addr) bool { return a == a4 }) != nil {
		t.Error("hidden twice")
	}
}

// The condition Announced is there when nodes say something.
func TestShowAnnounced(t *testing.T) {
	none := func(*corev1.Service) []kube.Problem { return nil }
	given := ipam.Assignment{Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Complete: true, Reason: ipam.ReasonAllocated}
	o := &corev1.Service{}
	for _, test := range []struct {
		said cluster.Announced
		want metav1.Condition
	}{
		{cluster.Announced{Known: true, All: true, Message: "by BGP"}, metav1.Condition{Type: "fairlead.io/Announced", Status: "True", Reason: "Announced", Message: "by BGP"}},
		{
			cluster.Announced{Known: true, Reason: "NoEndpoints", Message: strings.Repeat("x", 5000)},
			metav1.Condition{Type: "fairlead.io/Announced", Status: "False", Reason: "NoEndpoints", Message: strings.Repeat("x", 4096) + "…"},
		},
		{cluster.Announced{Reason: "NotAnnounced", Message: "no node"}, metav1.Condition{}},
	} {
		o = show(o, given, none, test.said, epoch)
		got := condition(o, v1beta1.ConditionAnnounced)
		got.LastTransitionTime = metav1.Time{}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
	o = show(o, given, none, cluster.Announced{Known: true, All: true}, epoch)
	if hidden := hide(o, func(netip.Addr) bool { return true }); len(hidden.Status.Conditions) > 0 {
		t.Errorf("hidden: %+v", hidden.Status.Conditions)
	}
}

func TestDatapath(t *testing.T) {
	long := kube.Problem{Reason: "Long", Message: strings.Repeat("ä", 4000)}
	for _, test := range []struct {
		name     string
		problems []kube.Problem
		ready    bool
		reason   string
		length   int
	}{
		{"none", nil, true, "Ready", len("nodes forward for all ports")},
		{"minor", []kube.Problem{{Reason: "Small", Message: "1234", Minor: true}}, true, "Ready", 4},
		{"bad before minor", []kube.Problem{{Reason: "Bad", Message: "12"}, {Reason: "Small", Message: "1234", Minor: true}}, false, "Bad", 8},
		{"two bad ones", []kube.Problem{{Reason: "Bad", Message: "12"}, {Reason: "Worse", Message: "1234"}}, false, "Bad", 8},
		{"too long", []kube.Problem{long}, false, "Long", 4096 + len("…")},
	} {
		ready, reason, message := datapath(test.problems)
		if ready != test.ready || reason != test.reason || len(message) != test.length {
			t.Errorf("%s: %t %s %d bytes", test.name, ready, reason, len(message))
		}
	}
}

// touched always makes another object, however fast the clock runs.
func TestTouched(t *testing.T) {
	o := touched(&corev1.Service{}, epoch)
	for range 3 {
		next := touched(o, epoch)
		if cmp.Equal(o.Status, next.Status) {
			t.Fatal("the same status")
		}
		o = next
	}
}
