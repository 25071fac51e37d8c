// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
)

func nodeState(name string, announced []v1beta1.Announcement, not ...v1beta1.NotAnnounced) *v1beta1.NodeState {
	return &v1beta1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: v1beta1.NodeStateStatus{Announcements: announced, NotAnnounced: not}}
}

func announcement(protocol, to string, after time.Duration, addrs ...string) v1beta1.Announcement {
	return v1beta1.Announcement{Protocol: protocol, To: []string{to}, Since: metav1.NewTime(epoch.Add(after)), Addresses: addrs}
}

func node(name string, ready corev1.ConditionStatus) *corev1.Node {
	o := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	o.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}
	return o
}

func TestAnnounced(t *testing.T) {
	one, two := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	w := newWatcher()
	w.putService(service(1, func(o *corev1.Service) {
		o.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: one.String()}, {IP: two.String()}}
	}))
	look(t, w, true)
	expect := func(what string, touched bool, want Announced) {
		t.Helper()
		s := look(t, w, touched)
		if touched {
			expectTouched(t, s, web)
		}
		if diff := cmp.Diff(want, w.Announced([]netip.Addr{one, two})); diff != "" {
			t.Errorf("%s: -want +got:\n%s", what, diff)
		}
	}
	expect("nobody says anything", false, Announced{Reason: "NotAnnounced", Message: "192.0.2.1: no node announces it; 2001:db8::1: no node announces it"})

	why := v1beta1.NotAnnounced{Reason: "NoEndpoints", Message: "no endpoint serves", Addresses: []string{one.String(), two.String()}}
	w.putNodeState(nodeState("a", nil, why))
	expect("why not", true, Announced{Known: true, Reason: "NoEndpoints", Message: "192.0.2.1: no endpoint serves; 2001:db8::1: no endpoint serves"})
	w.putNodeState(nodeState("a", nil, why))
	expect("the same again", false, Announced{Known: true, Reason: "NoEndpoints", Message: "192.0.2.1: no endpoint serves; 2001:db8::1: no endpoint serves"})

	w.putNodeState(nodeState("a", []v1beta1.Announcement{announcement("bgp", "r1", 0, one.String(), two.String())}))
	w.putNodeState(nodeState("b", []v1beta1.Announcement{announcement("bgp", "r1", 0, one.String()), announcement("l2", "eth0", 0, one.String())}))
	expect("routes and an answer", true, Announced{Known: true, All: true,
		Message: "192.0.2.1: by BGP to r1 from a, b, by ARP and NDP on eth0 of b; 2001:db8::1: by BGP to r1 from a"})

	// Of two that say that they answer the later one does.
	w.putNodeState(nodeState("c", []v1beta1.Announcement{announcement("l2", "eth1", time.Second, one.String())}))
	expect("two answers", true, Announced{Known: true, All: true,
		Message: "192.0.2.1: by BGP to r1 from a, b, by ARP and NDP on eth1 of c; 2001:db8::1: by BGP to r1 from a"})

	// What a dead node says is old.
	w.putNode(node("a", corev1.ConditionTrue))
	look(t, w, true)
	w.putNode(node("a", corev1.ConditionUnknown))
	expect("a dead node", true, Announced{Known: true, Reason: "NotAnnounced",
		Message: "192.0.2.1: by BGP to r1 from b, by ARP and NDP on eth1 of c; 2001:db8::1: no node announces it"})
	w.putNode(node("a", corev1.ConditionTrue))
	expect("and alive again", true, Announced{Known: true, All: true,
		Message: "192.0.2.1: by BGP to r1 from a, b, by ARP and NDP on eth1 of c; 2001:db8::1: by BGP to r1 from a"})

	conflict := v1beta1.NotAnnounced{Protocol: "l2", Reason: v1beta1.ReasonAddressConflict, Message: "somebody claims it", Addresses: []string{one.String()}}
	w.putNodeState(nodeState("c", []v1beta1.Announcement{announcement("l2", "eth1", time.Second, one.String())}, conflict))
	expect("a stranger", true, Announced{Known: true, Reason: "AddressConflict",
		Message: "192.0.2.1: node c: somebody claims it; 2001:db8::1: by BGP to r1 from a"})

	for _, name := range []string{"a", "b", "c"} {
		w.dropNodeState(nodeState(name, nil))
	}
	expect("all gone", true, Announced{Reason: "NotAnnounced", Message: "192.0.2.1: no node announces it; 2001:db8::1: no node announces it"})
}

func TestSome(t *testing.T) {
	if got := some([]string{"a", "b", "c", "d", "e", "f", "g"}); got != "a, b, c, d, e and 2 more nodes" {
		t.Error(got)
	}
}
