// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
	"github.com/fairlead/fairlead/controller/desired/kube"
)

var (
	epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	web   = types.NamespacedName{Namespace: "default", Name: "web"}
)

func newWatcher() *Watcher {
	return New(kube.Class{Name: "fairlead.io/fairlead", Unclassed: true}, kube.Versions{})
}

// service is an unclassed LoadBalancer Service at a version, as changed by edits.
func service(version int, edits ...func(*corev1.Service)) *corev1.Service {
	o := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: web.Namespace, Name: web.Name, UID: "u1", ResourceVersion: fmt.Sprint(version)},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
			Ports: []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP}},
		},
	}
	for _, edit := range edits {
		edit(o)
	}
	return o
}

func slice(name string, family discoveryv1.AddressType, endpoints int) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: web.Namespace, Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: web.Name}},
		AddressType: family, Endpoints: make([]discoveryv1.Endpoint, endpoints),
	}
}

// look takes a snapshot, after the signal that there has to be, or not.
func look(t *testing.T, w *Watcher, signalled bool) *Snapshot {
	t.Helper()
	select {
	case <-w.Changed():
		if !signalled {
			t.Error("signalled without a change")
		}
	default:
		if signalled {
			t.Error("a change was not signalled")
		}
	}
	return w.Snapshot(epoch)
}

func expectTouched(t *testing.T, s *Snapshot, want ...types.NamespacedName) {
	t.Helper()
	if diff := cmp.Diff(want, s.Touched); diff != "" {
		t.Errorf("touched, -want +got:\n%s", diff)
	}
}

// handlers are what an informer of Services would call.
func handlers(w *Watcher) toolscache.ResourceEventHandler {
	return on(w, w.putService, func(o *corev1.Service) { w.dropService(client.ObjectKeyFromObject(o)) })
}

func TestServices(t *testing.T) {
	w := newWatcher()
	h := handlers(w)
	h.OnAdd(service(1), true)
	first := look(t, w, true)
	expectTouched(t, first, web)
	one := first.Services[web]
	if one == nil || !one.Ours || one.IPAM == nil || one.Marked() {
		t.Fatalf("service: %+v", one)
	}

	t.Run("what allocation does not read", func(t *testing.T) {
		h.OnUpdate(nil, service(2, func(o *corev1.Service) { o.Annotations = map[string]string{"a": "b"} }))
		s := look(t, w, true)
		expectTouched(t, s, web)
		if s.Revision != first.Revision || s.Services[web].IPAM != one.IPAM {
			t.Errorf("revision %d after %d", s.Revision, first.Revision)
		}
		if first.Services[web] != one || s.Services[web] == one {
			t.Error("a snapshot is not as it was taken")
		}
	})
	t.Run("an older version", func(t *testing.T) {
		h.OnUpdate(nil, service(1))
		expectTouched(t, look(t, w, false))
	})
	t.Run("what was written", func(t *testing.T) {
		w.Written(service(5, func(o *corev1.Service) { o.Annotations = map[string]string{v1beta1.AnnotationTableSize: "4093"} }))
		s := look(t, w, true)
		if !s.Services[web].Marked() || s.Services[web].Object.ResourceVersion != "5" {
			t.Errorf("service: %+v", s.Services[web].Object)
		}
		h.OnUpdate(nil, service(4)) // the informer is behind
		if s := look(t, w, false); s.Services[web].Object.ResourceVersion != "5" {
			t.Errorf("version %s", s.Services[web].Object.ResourceVersion)
		}
		w.Written(service(9, func(o *corev1.Service) { o.UID = "u2" })) // of one that is gone
		expectTouched(t, look(t, w, false))
	})
	t.Run("what allocation reads", func(t *testing.T) {
		before := w.Snapshot(epoch)
		h.OnUpdate(nil, service(6, func(o *corev1.Service) { o.Spec.LoadBalancerIP = "192.0.2.1" }))
		if s := look(t, w, true); s.Revision == before.Revision {
			t.Errorf("revision still %d", s.Revision)
		}
	})
	t.Run("another's class, with our marks", func(t *testing.T) {
		class := "example.com/other"
		h.OnUpdate(nil, service(7, func(o *corev1.Service) {
			o.Spec.LoadBalancerClass = &class
			o.Annotations = map[string]string{v1beta1.AnnotationTableSize: "4093"}
		}))
		if one := look(t, w, true).Services[web]; one == nil || one.Ours || one.IPAM != nil || !one.Marked() {
			t.Errorf("service: %+v", one)
		}
		h.OnUpdate(nil, service(8, func(o *corev1.Service) { o.Spec.LoadBalancerClass = &class }))
		s := look(t, w, true)
		expectTouched(t, s, web)
		if len(s.Services) != 0 {
			t.Errorf("services: %v", s.Services)
		}
	})
	t.Run("deleted unseen", func(t *testing.T) {
		h.OnAdd(service(10), false)
		before := look(t, w, true)
		h.OnDelete(toolscache.DeletedFinalStateUnknown{Obj: service(10)})
		s := look(t, w, true)
		expectTouched(t, s, web)
		if len(s.Services) != 0 || len(before.Services) != 1 || s.Revision == before.Revision {
			t.Errorf("services: %v, before %v", s.Services, before.Services)
		}
	})
}

// One that is being deleted is not ours any more, and has still to be cleared.
func TestDeleting(t *testing.T) {
	w := newWatcher()
	now := metav1.NewTime(epoch)
	handlers(w).OnAdd(service(1, func(o *corev1.Service) {
		o.DeletionTimestamp = &now
		o.Status.Conditions = []metav1.Condition{{Type: v1beta1.ConditionAllocated}}
	}), true)
	if one := w.Snapshot(epoch).Services[web]; one == nil || one.Ours || !one.Marked() {
		t.Errorf("service: %+v", one)
	}
}

func TestEndpoints(t *testing.T) {
	w := newWatcher()
	handlers(w).OnAdd(service(1), true)
	h := on(w, w.putSlice, w.dropSlice)
	look(t, w, true)
	for _, step := range []struct {
		name    string
		do      func()
		want    int
		touches bool
	}{
		{"one slice", func() { h.OnAdd(slice("a", discoveryv1.AddressTypeIPv4, 3), true) }, 3, true},
		{"another family counts apart", func() { h.OnAdd(slice("b", discoveryv1.AddressTypeIPv6, 2), true) }, 3, false},
		{"a second of the family", func() { h.OnAdd(slice("c", discoveryv1.AddressTypeIPv4, 1), true) }, 4, true},
		{"fewer", func() { h.OnUpdate(nil, slice("a", discoveryv1.AddressTypeIPv4, 1)) }, 2, false},
		{"gone", func() { h.OnDelete(slice("c", discoveryv1.AddressTypeIPv4, 1)) }, 2, false},
	} {
		step.do()
		if got := w.Endpoints(web); got != step.want {
			t.Errorf("%s: %d endpoints, want %d", step.name, got, step.want)
		}
		if s := w.Snapshot(epoch); (len(s.Touched) > 0) != step.touches {
			t.Errorf("%s: touched %v", step.name, s.Touched)
		}
	}
}

// What nodes say of Services is found by Service, and concerns those that it
// was said of and those that it is not said of any more.
func TestNodeProblems(t *testing.T) {
	w := newWatcher()
	h := on(w, w.putNodeState, w.dropNodeState)
	api := types.NamespacedName{Namespace: "default", Name: "api"}
	state := func(node string, problems ...v1beta1.ServiceProblem) *v1beta1.NodeState {
		return &v1beta1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: node}, Status: v1beta1.NodeStateStatus{Problems: problems}}
	}
	full := v1beta1.ServiceProblem{Service: web.String(), Message: "no room"}
	h.OnAdd(state("n2", full), true)
	h.OnAdd(state("n1", full), true)
	expectTouched(t, look(t, w, true), web)
	want := []kube.Problem{{Reason: ReasonNode, Message: "node n1: no room"}, {Reason: ReasonNode, Message: "node n2: no room"}}
	if diff := cmp.Diff(want, w.Problems(service(1), epoch)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	h.OnUpdate(nil, state("n2", full))
	expectTouched(t, w.Snapshot(epoch))
	h.OnUpdate(nil, state("n1", v1beta1.ServiceProblem{Service: api.String(), Message: "no room"}))
	if s := look(t, w, true); len(s.Touched) != 2 {
		t.Errorf("touched %v, want both Services", s.Touched)
	}
	h.OnDelete(state("n2"))
	expectTouched(t, look(t, w, true), web)
	if got := w.nodeProblems(web); len(got) != 0 {
		t.Errorf("problems %v", got)
	}
}

func TestNamespacesAndNodes(t *testing.T) {
	w := newWatcher()
	namespaces, nodes := on(w, w.putNamespace, w.dropNamespace), on(w, w.putNode, w.dropNode)
	namespace := func(set labels.Set) *corev1.Namespace {
		return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default", Labels: set}}
	}
	node := func(set labels.Set) *corev1.Node {
		return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: set}}
	}
	namespaces.OnAdd(namespace(labels.Set{"a": "b"}), true)
	nodes.OnAdd(node(labels.Set{"a": "b"}), true)
	first := look(t, w, true)
	if first.Namespaces["default"]["a"] != "b" || first.Config.Nodes["n1"]["a"] != "b" {
		t.Errorf("snapshot: %+v", first)
	}
	namespaces.OnUpdate(nil, namespace(labels.Set{"a": "b"}))
	if s := look(t, w, false); s.Revision != first.Revision || s.Configured != first.Configured {
		t.Errorf("revisions %d %d, before %d %d", s.Revision, s.Configured, first.Revision, first.Configured)
	}
	namespaces.OnUpdate(nil, namespace(labels.Set{"a": "c"}))
	nodes.OnUpdate(nil, node(labels.Set{"a": "c"}))
	second := look(t, w, true)
	if second.Revision == first.Revision || second.Configured == first.Configured || first.Namespaces["default"]["a"] != "b" {
		t.Errorf("revisions %d %d, before %d %d; %v", second.Revision, second.Configured, first.Revision, first.Configured, first.Namespaces)
	}
	namespaces.OnDelete(namespace(nil))
	nodes.OnDelete(node(nil))
	if s := look(t, w, true); len(s.Namespaces) != 0 || len(s.Config.Nodes) != 0 || s.Revision == second.Revision || s.Configured == second.Configured {
		t.Errorf("snapshot: %+v", s)
	}
}

// The status of one of our own objects is the controller's own writing: to look
// again is enough, what follows from the object stays.
func TestOwnObjects(t *testing.T) {
	w := newWatcher()
	h := on(w, w.putOwn, w.dropOwn)
	pool := func(generation int64, set labels.Set) *v1beta1.IPAddressPool {
		return &v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Namespace: "fairlead-system", Name: "p", UID: "u", Generation: generation, Labels: set}}
	}
	h.OnAdd(pool(1, nil), true)
	configured := look(t, w, true).Configured
	for _, step := range []struct {
		name    string
		do      func()
		changes bool
	}{
		{"status", func() { h.OnUpdate(nil, pool(1, nil)) }, false},
		{"spec", func() { h.OnUpdate(nil, pool(2, nil)) }, true},
		{"labels", func() { h.OnUpdate(nil, pool(2, labels.Set{"a": "b"})) }, true},
		{"deleted", func() { h.OnDelete(pool(2, nil)) }, true},
	} {
		step.do()
		s := look(t, w, true)
		if (s.Configured != configured) != step.changes {
			t.Errorf("%s: configured %d after %d", step.name, s.Configured, configured)
		}
		configured = s.Configured
	}
	if s := w.Snapshot(epoch); len(s.Config.Pools) != 0 {
		t.Errorf("pools: %v", s.Config.Pools)
	}
}
