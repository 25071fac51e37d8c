// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
	desired "github.com/fairlead/fairlead/controller/desired/kube"
	"github.com/fairlead/fairlead/lb"
)

func ptr[T any](v T) *T { return &v }

// richMeta is metadata as an API server sends it.
func richMeta(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: namespace, Name: name, UID: types.UID("uid-" + name), ResourceVersion: "7", Generation: 3,
		CreationTimestamp: metav1.NewTime(time.Unix(1000, 0)),
		Labels:            map[string]string{discoveryv1.LabelServiceName: "web", "team": "shop"},
		Annotations:       map[string]string{v1beta1.AnnotationTableSize: "16381", "kubectl.kubernetes.io/last-applied-configuration": "{…}"},
		Finalizers:        []string{"service.kubernetes.io/load-balancer-cleanup"},
		ManagedFields:     []metav1.ManagedFieldsEntry{{Manager: "kubectl", FieldsV1: metav1.NewFieldsV1("{}")}},
	}
}

func richService() *corev1.Service {
	s := &corev1.Service{ObjectMeta: richMeta("default", "web")}
	s.Spec = corev1.ServiceSpec{
		Type: corev1.ServiceTypeLoadBalancer, LoadBalancerClass: ptr(desired.DefaultClass), Selector: map[string]string{"app": "web"},
		ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyLocal, SessionAffinity: corev1.ServiceAffinityClientIP,
		SessionAffinityConfig:    &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: ptr(int32(77))}},
		LoadBalancerSourceRanges: []string{"203.0.113.0/24", "2001:db8::/32"},
		Ports:                    []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP, NodePort: 30080}},
	}
	s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.1", IPMode: ptr(corev1.LoadBalancerIPModeVIP)}, {IP: "192.0.2.2", IPMode: ptr(corev1.LoadBalancerIPModeProxy)}}
	return s
}

// richSlice has endpoints of all conditions on two nodes.
func richSlice() *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{ObjectMeta: richMeta("default", "web-1"), AddressType: discoveryv1.AddressTypeIPv4}
	s.Ports = []discoveryv1.EndpointPort{{Name: ptr("http"), Port: ptr(int32(8080)), Protocol: ptr(corev1.ProtocolTCP), AppProtocol: ptr("h2c")}}
	for i, c := range []discoveryv1.EndpointConditions{
		{}, {Ready: ptr(true), Serving: ptr(true), Terminating: ptr(false)}, {Ready: ptr(false), Serving: ptr(true), Terminating: ptr(true)}, {Ready: ptr(false)},
	} {
		for n := range 2 {
			addr := fmt.Sprintf("10.244.%d.%d", n+1, i+2)
			s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
				Addresses: []string{addr}, Conditions: c, NodeName: ptr(fmt.Sprintf("node%d", n+1)), Zone: ptr("a"),
				TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: "web-" + addr, UID: types.UID("pod-" + addr)},
				Hints:     &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: "a"}}},
			})
		}
	}
	return s
}

func richNode(i int) *corev1.Node {
	n := &corev1.Node{ObjectMeta: richMeta("", fmt.Sprintf("node%d", i))}
	n.Status.NodeInfo = corev1.NodeSystemInfo{BootID: "boot", KernelVersion: "6.18"}
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("10.1.0.%d", i)}}
	n.Status.Images = []corev1.ContainerImage{{Names: []string{"x"}}}
	return n
}

// firstKey is aKey.
var firstKey = [16]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}

func richState(i int) *v1beta1.NodeState {
	return &v1beta1.NodeState{ObjectMeta: richMeta("fairlead-system", fmt.Sprintf("node%d", i)), Status: v1beta1.NodeStateStatus{
		Attached: true, BootID: "boot", WireVersion: 1, HashVersion: 1, Keys: []string{desired.Fingerprint(firstKey)},
		Draining: []v1beta1.DrainingEndpoint{{Service: "default/web", Port: "http", Address: "10.244.2.77:8080"}},
	}}
}

func richPod() *corev1.Pod {
	return &corev1.Pod{ObjectMeta: func() metav1.ObjectMeta { m := richMeta("default", "p"); m.UID = "pod-10.244.1.2"; return m }(),
		Spec:   corev1.PodSpec{NodeName: "node1", Containers: []corev1.Container{{Name: "c"}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIPs: []corev1.PodIP{{IP: "10.244.1.2"}}}}
}

// What strip leaves out changes nothing of what a State says.
func TestStripKeepsWhatCounts(t *testing.T) {
	strip := &stripper{node: "node1", names: map[string]*string{}}
	outcome := func(prepare func(any) any) (first, later lb.Delta) {
		s := desired.New(desired.Options{Self: "node1", Class: desired.Class{Name: desired.DefaultClass}, Versions: desired.Versions{Wire: 1, Hash: 1}})
		for i := range 2 {
			s.PutNode(prepare(richNode(i + 1)).(*corev1.Node))
			s.PutNodeState(prepare(richState(i + 1)).(*v1beta1.NodeState))
		}
		s.PutPod(prepare(richPod()).(*corev1.Pod))
		s.PutService(prepare(richService()).(*corev1.Service))
		s.PutSlice(prepare(richSlice()).(*discoveryv1.EndpointSlice))
		first = s.Apply(time.Unix(1, 0))
		fewer := richSlice()
		fewer.Endpoints = fewer.Endpoints[1:]
		s.PutSlice(prepare(fewer).(*discoveryv1.EndpointSlice))
		return first, s.Apply(time.Unix(2, 0))
	}
	whole, wholeLater := outcome(func(o any) any { return o })
	cut, cutLater := outcome(func(o any) any {
		o, err := strip.strip(o)
		if err != nil {
			t.Fatal(err)
		}
		return o
	})
	compare := cmp.Comparer(func(a, b lb.Service) bool { return fmt.Sprintf("%+v", a) == fmt.Sprintf("%+v", b) })
	if diff := cmp.Diff(fmt.Sprint(whole), fmt.Sprint(cut), compare); diff != "" || len(whole.PutServices) != 1 {
		t.Errorf("at first: -whole +stripped:\n%s", diff)
	}
	// One of our own left its slice; it drains, since its Pod runs.
	if diff := cmp.Diff(fmt.Sprint(wholeLater), fmt.Sprint(cutLater), compare); diff != "" || len(wholeLater.PutServices) != 1 {
		t.Errorf("later: -whole +stripped:\n%s", diff)
	}
}

func TestStripDrops(t *testing.T) {
	strip := &stripper{node: "node1", names: map[string]*string{}}
	for _, o := range []metav1.ObjectMetaAccessor{richService(), richSlice(), richNode(1), richState(1), richPod()} {
		cut, err := strip.strip(o)
		if err != nil {
			t.Fatal(err)
		}
		m := cut.(metav1.ObjectMetaAccessor).GetObjectMeta()
		selected := false // by labels
		switch o.(type) {
		case *corev1.Service, *corev1.Node:
			selected = true
		}
		if m.GetManagedFields() != nil || m.GetFinalizers() != nil || (m.GetLabels()["team"] != "") != selected || m.GetResourceVersion() != "7" || m.GetName() == "" {
			t.Errorf("%T: metadata %+v", o, m)
		}
	}
	// What other nodes announce is not kept, what this one does is compared.
	for i, want := range map[int]int{1: 1, 2: 0} {
		o := richState(i)
		o.Status.Announcements, o.Status.NotAnnounced = make([]v1beta1.Announcement, 1), make([]v1beta1.NotAnnounced, 1)
		cut, _ := strip.strip(o)
		if s := cut.(*v1beta1.NodeState).Status; len(s.Announcements) != want || len(s.NotAnnounced) != want {
			t.Errorf("of node%d: %+v", i, s)
		}
	}
	// A tombstone passes.
	if o, err := strip.strip("unknown"); o != "unknown" || err != nil {
		t.Errorf("%v %v", o, err)
	}
}

// BenchmarkEndpoints is the memory of 100,000 endpoints in 10,000 slices, as they
// come off the wire, stripped and in a State.
func BenchmarkEndpoints(b *testing.B) {
	wire := make([][]byte, 10000)
	for i := range wire {
		o := richSlice()
		o.Name, o.Labels[discoveryv1.LabelServiceName] = fmt.Sprintf("s%d-1", i), fmt.Sprintf("s%d", i)
		for len(o.Endpoints) < 10 {
			o.Endpoints = append(o.Endpoints, o.Endpoints[0])
		}
		for k := range o.Endpoints {
			o.Endpoints[k].Addresses = []string{fmt.Sprintf("10.%d.%d.%d", i/256, i%256, k)}
		}
		var err error
		if wire[i], err = o.Marshal(); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		before := heap()
		strip := &stripper{node: "node1", names: map[string]*string{}}
		s := desired.New(desired.Options{Self: "node1", Class: desired.Class{Name: desired.DefaultClass}, Versions: desired.Versions{Wire: 1, Hash: 1}})
		for i := range wire {
			o := &discoveryv1.EndpointSlice{}
			if err := o.Unmarshal(wire[i]); err != nil {
				b.Fatal(err)
			}
			cut, _ := strip.strip(o)
			s.PutSlice(cut.(*discoveryv1.EndpointSlice))
		}
		b.ReportMetric(float64(heap()-before)/100000, "B/endpoint")
		runtime.KeepAlive(s)
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
