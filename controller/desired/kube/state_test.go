// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
	"github.com/fairlead/fairlead/lb"
)

// expect applies and compares the services.
func (w *world) expect(t *testing.T, what string, lines ...string) {
	t.Helper()
	w.apply(t)
	want := strings.Join(append(lines, ""), "\n")
	if diff := cmp.Diff(want, w.String()); diff != "" {
		t.Errorf("%s: -want +got:\n%s", what, diff)
	}
}

// two has two nodes and a Pod with an endpoint on each, seen from node1.
func two(t *testing.T) *world {
	t.Helper()
	w := newWorld("node1")
	w.addNode(1)
	w.addNode(2)
	w.PutPod(podObject("10.244.1.2"))
	w.PutService(web())
	w.PutSlice(slice("a", 8080, "10.244.1.2@node1 ready serving", "10.244.2.2@node2 ready serving"))
	w.expect(t, "at first", "tcp/192.0.2.1:80 10.244.1.2:8080@node1 10.244.2.2:8080@node2")
	return w
}

const both = "tcp/192.0.2.1:80 10.244.1.2:8080@node1 10.244.2.2:8080@node2"

func TestNothingNew(t *testing.T) {
	w := two(t)
	if w.Dirty() {
		t.Error("dirty after Apply")
	}
	w.PutSlice(slice("a", 8080, "10.244.1.2@node1 ready serving", "10.244.2.2@node2 ready serving"))
	w.addNode(1)
	w.PutNodeState(stateObject(2))
	if d := w.apply(t); !d.Empty() {
		t.Errorf("delta %+v", d)
	}
}

// A Pod of this node that leaves the Service drains as long as it runs.
func TestOwnPodDrains(t *testing.T) {
	w := two(t)
	w.PutSlice(slice("a", 8080, "10.244.2.2@node2 ready serving"))
	w.expect(t, "relabelled", "tcp/192.0.2.1:80 (10.244.1.2:8080@node1) 10.244.2.2:8080@node2")
	want := []v1beta1.DrainingEndpoint{{Service: "default/web", Port: "http", Address: "10.244.1.2:8080"}}
	if diff := cmp.Diff(want, w.Draining()); diff != "" {
		t.Errorf("draining: -want +got:\n%s", diff)
	}
	w.now = w.now.Add(time.Hour)
	w.PutSlice(slice("b", 8080, "10.244.2.3@node2 ready serving"))
	w.expect(t, "an hour later", "tcp/192.0.2.1:80 (10.244.1.2:8080@node1) 10.244.2.2:8080@node2 10.244.2.3:8080@node2")
	w.DeletePod(uidOf("10.244.1.2"))
	w.expect(t, "Pod gone", "tcp/192.0.2.1:80 10.244.2.2:8080@node2 10.244.2.3:8080@node2")
	if w.Draining() != nil {
		t.Errorf("draining: %v", w.Draining())
	}
}

func TestOwnPodComesBack(t *testing.T) {
	w := two(t)
	w.PutSlice(slice("a", 8080, "10.244.2.2@node2 ready serving"))
	w.apply(t)
	w.PutSlice(slice("b", 8080, "10.244.1.2@node1 ready serving"))
	w.expect(t, "back in another slice", both)
	if w.Draining() != nil {
		t.Errorf("draining: %v", w.Draining())
	}
}

func TestOwnPodEnds(t *testing.T) {
	for name, end := range map[string]func(w *world){
		"deleted": func(w *world) { w.DeletePod(uidOf("10.244.1.2")) },
		"failed": func(w *world) {
			p := podObject("10.244.1.2")
			p.Status.Phase = corev1.PodFailed
			w.PutPod(p)
		},
	} {
		w := two(t)
		end(w)
		w.expect(t, name+", still in the slice", both)
		w.DeleteSlice(slice("a", 8080))
		w.PutSlice(slice("b", 8080, "10.244.2.2@node2 ready serving"))
		w.expect(t, name, "tcp/192.0.2.1:80 10.244.2.2:8080@node2")
	}
}

// An endpoint of another node drains for a while, until its agent has said
// whether it goes on, or not at all if it had been terminating.
func TestOtherPodDrains(t *testing.T) {
	const drained = "tcp/192.0.2.1:80 10.244.1.2:8080@node1 (10.244.2.2:8080@node2)"
	const alone = "tcp/192.0.2.1:80 10.244.1.2:8080@node1"
	gone := func(w *world) { w.PutSlice(slice("a", 8080, "10.244.1.2@node1 ready serving")) }
	t.Run("for a while", func(t *testing.T) {
		w := two(t)
		gone(w)
		w.expect(t, "vanished", drained)
		if at, ok := w.NextExpiry(); !ok || !at.Equal(w.now.Add(DefaultHold)) {
			t.Errorf("next expiry %v %t", at, ok)
		}
		w.now = w.now.Add(DefaultHold)
		w.expect(t, "held", alone)
		if _, ok := w.NextExpiry(); ok {
			t.Error("something is to expire")
		}
	})
	t.Run("as its agent says", func(t *testing.T) {
		w := two(t)
		gone(w)
		w.apply(t)
		w.PutNodeState(stateObject(2, v1beta1.DrainingEndpoint{Service: "default/web", Port: "http", Address: "10.244.2.2:8080"}))
		w.expect(t, "said", drained)
		w.PutNodeState(stateObject(2))
		w.expect(t, "no more, long before its time", alone)
	})
	t.Run("as long as its agent says", func(t *testing.T) {
		w := two(t)
		gone(w)
		w.PutNodeState(stateObject(2, v1beta1.DrainingEndpoint{Service: "default/web", Port: "http", Address: "10.244.2.2:8080"}))
		w.apply(t)
		w.now = w.now.Add(time.Hour)
		w.expect(t, "an hour later", drained)
	})
	t.Run("terminating", func(t *testing.T) {
		w := two(t)
		w.PutSlice(slice("a", 8080, "10.244.1.2@node1 ready serving", "10.244.2.2@node2 serving terminating"))
		w.expect(t, "terminating", drained)
		gone(w)
		w.expect(t, "gone", alone)
	})
	t.Run("its node leaves", func(t *testing.T) {
		w := two(t)
		gone(w)
		w.apply(t)
		w.DeleteNode("node2")
		w.expect(t, "left", alone)
	})
}

// What the tables held before the agent started drains, if its Pod runs still.
func TestAdopt(t *testing.T) {
	w := newWorld("node1")
	w.addNode(1)
	w.PutPod(podObject("10.244.1.2"))
	w.PutPod(podObject("10.244.1.3"))
	hostPod := podObject("10.1.0.1")
	hostPod.Spec.HostNetwork = true
	w.PutPod(hostPod)
	w.PutService(web())
	w.PutSlice(slice("a", 8080, "10.244.1.3@node1 ready serving"))
	row := web()
	key := mustKey(row)
	for _, addr := range []string{"10.244.1.2", "10.244.1.3", "10.244.1.4", "10.1.0.1"} {
		w.Adopt(key, mustAddrPort(addr+":8080"))
	}
	other := key
	other.Port = 81
	w.Adopt(other, mustAddrPort("10.244.1.2:8081"))
	w.expect(t, "taken over", "tcp/192.0.2.1:80 (10.244.1.2:8080@node1) 10.244.1.3:8080@node1")
	w.DeletePod(uidOf("10.244.1.2"))
	w.expect(t, "Pod gone", "tcp/192.0.2.1:80 10.244.1.3:8080@node1")
}

func TestMembers(t *testing.T) {
	const alone = "tcp/192.0.2.1:80 10.244.1.2:8080@node1"
	for _, test := range []struct {
		name   string
		change func(w *world)
		want   string
	}{
		{"rebooted", func(w *world) { w.PutNode(nodeObject(2, "another boot")) }, alone},
		{"detached", func(w *world) {
			s := stateObject(2)
			s.Status.Attached = false
			w.PutNodeState(s)
		}, alone},
		{"another wire version", func(w *world) {
			s := stateObject(2)
			s.Status.WireVersion = 2
			w.PutNodeState(s)
		}, alone},
		{"another hash version", func(w *world) {
			s := stateObject(2)
			s.Status.HashVersion = 2
			w.PutNodeState(s)
		}, alone},
		{"without a NodeState", func(w *world) { w.DeleteNodeState("node2") }, alone},
		{"without a Node", func(w *world) { w.DeleteNode("node2") }, alone},
		{"without addresses", func(w *world) {
			n := nodeObject(2, "boot")
			n.Status.Addresses = nil
			w.PutNode(n)
		}, alone},
		{"this node, whatever its NodeState says", func(w *world) { w.DeleteNodeState("node1") }, both},
		{"another address", func(w *world) {
			n := nodeObject(2, "boot")
			n.Status.Addresses[0].Address = "10.1.0.22"
			w.PutNode(n)
		}, both},
	} {
		w := two(t)
		test.change(w)
		w.expect(t, test.name, test.want)
		if _, listed := w.nodes["node2"]; listed != (test.want == both) {
			t.Errorf("%s: nodes %v", test.name, w.nodes)
		}
		w.addNode(1)
		w.addNode(2)
		w.expect(t, "back from "+test.name, both)
	}
}

func TestNodeAddressChange(t *testing.T) {
	w := two(t)
	n := nodeObject(2, "boot")
	n.Status.Addresses[0].Address = "10.1.0.22"
	w.PutNode(n)
	d := w.apply(t)
	want := lb.Delta{PutNodes: []lb.Node{{Name: "node2", Addrs: addrs("10.1.0.22", "fd01::2")}}}
	if diff := cmp.Diff(want, d, cmp.Comparer(equalAddr)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	// This node stays in its own table, whatever becomes of its Node.
	w.DeleteNode("node1")
	if d := w.apply(t); len(d.DeleteNodes) != 0 {
		t.Errorf("deleted %v", d.DeleteNodes)
	}
}

// A node that takes a VIP for its own address gets it at once.
func TestNodeTakesVIP(t *testing.T) {
	w := two(t)
	w.PutNode(nodeObject(9, "boot", "192.0.2.1"))
	w.expect(t, "taken")
	if got, want := w.complaints("default/web"), "NodeAddress: 192.0.2.1 is an address of node node9, which needs it for itself: exclude it from its pool\n"; got != want {
		t.Errorf("problems: %q", got)
	}
	w.DeleteNode("node9")
	w.expect(t, "given back", both)
}

// named changes a Service's name and age.
func named(name string, age time.Duration) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Name, s.CreationTimestamp = name, metav1.NewTime(start.Add(-age)) }
}

func TestPortConflict(t *testing.T) {
	w := two(t)
	w.PutService(web(named("young", -time.Second), ports(corev1.ServicePort{Name: "http", Port: 80}, corev1.ServicePort{Name: "alt", Port: 81})))
	w.expect(t, "a younger one", both, "tcp/192.0.2.1:81")
	if got := w.complaints("default/young"); !strings.HasPrefix(got, "NoEndpoints: ") || !strings.HasSuffix(got, "PortConflict: tcp/192.0.2.1:80 is Service default/web's, which is older\n") {
		t.Errorf("problems: %q", got)
	}
	w.PutService(web(named("old", time.Second)))
	w.expect(t, "an older one", "tcp/192.0.2.1:80", "tcp/192.0.2.1:81")
	if diff := cmp.Diff([]types.NamespacedName{{Namespace: "default", Name: "old"}, {Namespace: "default", Name: "web"}, {Namespace: "default", Name: "young"}}, w.Worsened()); diff != "" {
		t.Errorf("worsened: -want +got:\n%s", diff)
	}
	w.DeleteService(types.NamespacedName{Namespace: "default", Name: "old"})
	w.expect(t, "the older one gone", both, "tcp/192.0.2.1:81")
	// Deleted and made again it has no older right.
	w.DeleteService(types.NamespacedName{Namespace: "default", Name: "web"})
	w.PutService(web(named("web", -2*time.Second)))
	w.expect(t, "made again", "tcp/192.0.2.1:80", "tcp/192.0.2.1:81")
}

// Ports that are kube-proxy's are told to the datapath only where it knows the VIP.
func TestLeft(t *testing.T) {
	w := two(t)
	w.PutService(web(named("manual", 0), ports(corev1.ServicePort{Name: "http", Port: 5432})))
	manual := slice("m", 5432, "198.51.100.7")
	manual.Labels["kubernetes.io/service-name"] = "manual"
	w.PutSlice(manual)
	w.expect(t, "shared VIP", both, "tcp/192.0.2.1:5432 left")
	w.DeleteService(types.NamespacedName{Namespace: "default", Name: "web"})
	w.expect(t, "alone")
	if got := w.VIPs(); !slices.Equal(got, addrs("192.0.2.1")) {
		t.Errorf("VIPs %v", got)
	}
	w.PutService(web())
	w.expect(t, "shared again", both, "tcp/192.0.2.1:5432 left")
	manual = manual.DeepCopy()
	manual.Endpoints = slice("x", 1, "10.244.2.9@node2").Endpoints
	w.PutSlice(manual)
	w.expect(t, "Pods at last", both, "tcp/192.0.2.1:5432 10.244.2.9:5432@node2")
}

func TestServiceEnds(t *testing.T) {
	other := "example.com/lb"
	for name, end := range map[string]func(w *world){
		"deleted":     func(w *world) { w.DeleteService(types.NamespacedName{Namespace: "default", Name: "web"}) },
		"other class": func(w *world) { w.PutService(web(func(s *corev1.Service) { s.Spec.LoadBalancerClass = &other })) },
		"other type": func(w *world) {
			w.PutService(web(func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP }))
		},
		"no address": func(w *world) { w.PutService(web(ingress())) },
	} {
		w := two(t)
		end(w)
		w.expect(t, name)
		w.PutService(web())
		w.expect(t, "back from "+name, both)
		end(w)
		w.DeleteSlice(slice("a", 8080))
		w.expect(t, name+" with its slices")
		if name != "no address" && len(w.State.services) > 0 {
			t.Errorf("%s: something stays: %v", name, w.State.services)
		}
		if n := w.Counts().Endpoints; n != 0 {
			t.Errorf("%s: %d endpoints stay", name, n)
		}
	}
}

// The controller has no node and no flows: nothing drains for it.
func TestController(t *testing.T) {
	w := newWorld("")
	w.addNode(1)
	w.addNode(2)
	w.PutService(web())
	w.PutSlice(slice("a", 8080, "10.244.1.2@node1", "10.244.2.2@node2"))
	w.expect(t, "at first", both)
	w.PutSlice(slice("a", 8080, "10.244.2.2@node2"))
	w.expect(t, "one vanished", "tcp/192.0.2.1:80 10.244.2.2:8080@node2")
	w.DeleteNodeState("node2")
	w.expect(t, "no member")
	if got := w.complaints("default/web"); got != "EndpointsElsewhere: port \"http\" is left to kube-proxy: its endpoints are on node2, where Fairlead does not forward\n" {
		t.Errorf("problems: %q", got)
	}
}
