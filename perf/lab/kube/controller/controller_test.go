// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/xdp"
)

func annotate(key, value string) func(*corev1.Service) {
	return func(o *corev1.Service) { metav1.SetMetaDataAnnotation(&o.ObjectMeta, key, value) }
}

func port(number int32) func(*corev1.Service) {
	return func(o *corev1.Service) { o.Spec.Ports[0].Port = number }
}

func dual(policy corev1.IPFamilyPolicy) func(*corev1.Service) {
	return func(o *corev1.Service) { o.Spec.IPFamilyPolicy = &policy }
}

// TestOne has one Service on its way from no pool to its end, and looks at all
// that is written.
func TestOne(t *testing.T) {
	w := newWorld(t)
	p := w.controller()
	w.service("web")
	w.lacks("web", "NoPool", "there is no IPAddressPool: create one")
	w.pool("a", "192.0.2.0/24 2001:db8::/64")
	o := w.has("web", "192.0.2.0")
	if got := o.Annotations[v1beta1.AnnotationTableSize]; got != "4093" {
		t.Errorf("table size %q", got)
	}
	if o.Spec.Ports[0].NodePort != 0 {
		t.Errorf("node port %d", o.Spec.Ports[0].NodePort)
	}
	w.until("DatapathReady", func() bool {
		c := w.condition(w.get("web"), v1beta1.ConditionDatapathReady)
		return c.Status == "False" && c.Reason == "NoEndpoints" && c.Message == `port "web": no endpoint is ready, connections are refused`
	})
	w.until("pool status", func() bool {
		var pool v1beta1.IPAddressPool
		w.ok(w.Get(t.Context(), types.NamespacedName{Namespace: w.system, Name: "a"}, &pool))
		s := pool.Status
		return s.AssignedIPv4 == 1 && s.AvailableIPv4 == 255 && s.AssignedIPv6 == 0 && s.AvailableIPv6 == 1<<63-1 &&
			len(s.Conditions) == 1 && s.Conditions[0].Type == "Valid" && s.Conditions[0].Status == "True"
	})
	w.until("events", func() bool {
		var list eventsv1.EventList
		w.ok(w.List(t.Context(), &list, client.InNamespace(w.namespace)))
		var got []string
		for _, e := range list.Items {
			if e.Regarding.UID == o.UID {
				got = append(got, e.Type+" "+e.Reason+" "+e.Note)
			}
		}
		slices.Sort(got)
		return slices.Equal(got, []string{
			"Normal Allocated 192.0.2.0 from pool a",
			"Warning NoEndpoints port \"web\": no endpoint is ready, connections are refused",
			"Warning NoPool there is no IPAddressPool: create one",
		})
	})
	w.until("readyz", func() bool { return fetch(p, "readyz") == "ok\n" })
	if text := fetch(p, "metrics"); !strings.Contains(text, `fairlead_controller_pool_addresses{family="IPv4",pool="a",state="assigned"} 1`) {
		t.Errorf("no metric of the pool: %s", text)
	}

	// The finalizer holds the Service until its address is taken back.
	w.remove("web")
	w.gone("web")
	w.until("claim withdrawn", func() bool { return len(w.claims()) == 0 })
}

func fetch(p *program, path string) string {
	response, err := http.Get("http://" + p.metrics + "/" + path)
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func TestWireKey(t *testing.T) {
	w := newWorld(t)
	w.controller()
	name := types.NamespacedName{Namespace: w.system, Name: "fairlead-wire-key"}
	var made corev1.Secret
	w.until("secret", func() bool { return w.Get(t.Context(), name, &made) == nil })
	if key, err := hex.DecodeString(string(made.Data["key"])); err != nil || len(key) != 16 {
		t.Errorf("key %q: want 32 hex digits", made.Data["key"])
	}
}

func TestFamiliesAndRequests(t *testing.T) {
	w := newWorld(t)
	w.pool("a", "192.0.2.0/24")
	w.pool("b", "192.0.3.0/24 2001:db8::/120")
	w.controller()
	for _, one := range []struct {
		name string
		edit func(*corev1.Service)
		want string
	}{
		{"single", func(*corev1.Service) {}, "192.0.2.0"},
		{"require", dual(corev1.IPFamilyPolicyRequireDualStack), "192.0.3.0 2001:db8::"},
		{"prefer", dual(corev1.IPFamilyPolicyPreferDualStack), "192.0.3.1 2001:db8::1"},
		{"address", annotate("metallb.universe.tf/loadBalancerIPs", "192.0.3.77"), "192.0.3.77"},
		{"spec", func(o *corev1.Service) { o.Spec.LoadBalancerIP = "192.0.2.77" }, "192.0.2.77"},
		{"pool", annotate("metallb.io/address-pool", "b"), "192.0.3.2"},
	} {
		w.service(one.name, one.edit)
		w.has(one.name, one.want)
	}
	w.service("shared1", annotate(v1beta1.AnnotationAllowSharedIP, "k"), annotate(v1beta1.AnnotationAddressPool, "b"))
	shared := addresses(w.has("shared1", "192.0.3.3"))
	w.service("shared2", annotate(v1beta1.AnnotationAllowSharedIP, "k"), port(443))
	w.has("shared2", shared)
	w.service("taken", annotate(v1beta1.AnnotationLoadBalancerIPs, "192.0.3.77"))
	w.lacks("taken", "AddressInUse", fmt.Sprintf("192.0.3.77 belongs to Service %s/address: ask for another address; "+
		"to share it, give both Services the same annotation fairlead.io/allow-shared-ip", w.namespace))
	w.edit("single", dual(corev1.IPFamilyPolicyRequireDualStack))
	o := w.lacks("single", "FamilyMissing", "pool a has no IPv6 addresses: add some; until then the Service keeps 192.0.2.0 from pool a")
	if addresses(o) != "192.0.2.0" {
		t.Errorf("single has %s", addresses(o))
	}
	w.pool("a", "192.0.2.0/24 2001:db8:1::/120")
	w.has("single", "192.0.2.0 2001:db8:1::")
	w.edit("address", annotate(v1beta1.AnnotationLoadBalancerIPs, "192.0.2.9"))
	w.has("address", "192.0.2.9")
}

// TestTakeover: what another load balancer gave stays, and goes before new ones.
func TestTakeover(t *testing.T) {
	w := newWorld(t)
	w.pool("a", "192.0.2.0/24")
	w.service("new")
	w.service("old") // of the same second, or later
	w.service("other")
	w.shows("old", "192.0.2.0")
	w.shows("other", "192.0.2.0")
	w.controller()
	w.has("old", "192.0.2.0")
	w.has("new", "192.0.2.1")
	w.has("other", "192.0.2.2")
}

func TestPoolEdits(t *testing.T) {
	w := newWorld(t)
	w.pool("a", "192.0.2.0/24")
	p := w.controller("--freed-address-delay=3s")
	for _, name := range []string{"s0", "s1", "s2"} {
		w.service(name)
		w.has(name, "192.0.2."+name[1:])
	}
	w.pool("a", "192.0.2.2-192.0.2.20")
	w.has("s0", "192.0.2.3")
	w.has("s1", "192.0.2.4")
	w.has("s2", "192.0.2.2")
	w.pool("a", "192.0.2.0/24") // grows again: nobody moves back
	w.service("s3")
	w.has("s3", "192.0.2.5") // .0 and .1 rest
	w.has("s0", "192.0.2.3")
	w.pool("a", "192.0.2.0/24", func(p *v1beta1.IPAddressPool) { p.Spec.Drain = true })
	w.pool("b", "198.51.100.0/24")
	w.service("s4")
	w.has("s4", "198.51.100.0")
	w.has("s3", "192.0.2.5")

	// A restart, and a lead that is lost by force, change nothing.
	w.stop(p)
	p = w.controller("--freed-address-delay=0s")
	w.service("s5")
	w.has("s5", "198.51.100.1")
	w.ok(p.Kill())
	w.remove("s4")
	w.controller("--freed-address-delay=0s")
	w.gone("s4")
	w.until("claim withdrawn", func() bool { return len(w.claims()["198.51.100.0"]) == 0 })
	w.service("s6")
	w.has("s6", "198.51.100.0")
	for name, want := range map[string]string{"s0": "192.0.2.3", "s1": "192.0.2.4", "s2": "192.0.2.2", "s3": "192.0.2.5", "s5": "198.51.100.1"} {
		w.has(name, want)
	}
	w.ok(w.Delete(t.Context(), &v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Namespace: w.system, Name: "a"}}))
	w.until("all moved", func() bool {
		for _, name := range []string{"s0", "s1", "s2", "s3"} {
			if !strings.HasPrefix(addresses(w.get(name)), "198.51.100.") {
				return false
			}
		}
		return true
	})
}

// TestRest: a freed address goes to another Service only after the delay, which
// a restart does not shorten.
func TestRest(t *testing.T) {
	w := newWorld(t)
	w.pool("a", "192.0.2.0/32")
	const delay = 3 * time.Second
	p := w.controller("--freed-address-delay=" + delay.String())
	w.service("first")
	w.has("first", "192.0.2.0")
	w.service("second")
	w.lacks("second", "PoolExhausted", "pool a has no free IPv4 address: add some, or delete Services")
	w.remove("first")
	w.gone("first")
	begun := time.Now()
	w.lacks("second", "PoolExhausted", "pool a has no free IPv4 address: add some, or wait until freed ones have rested (3s)")
	w.stop(p)
	w.controller("--freed-address-delay=" + delay.String())
	w.has("second", "192.0.2.0")
	if took := time.Since(begun); took < delay-500*time.Millisecond {
		t.Errorf("given again after %s, want %s", took, delay)
	}
}

// TestOurs: Services become ours and cease to be.
func TestOurs(t *testing.T) {
	w := newWorld(t)
	w.pool("a", "192.0.2.0/24")
	p := w.controller("--freed-address-delay=0s")
	other := "example.com/other"
	w.service("other", func(o *corev1.Service) { o.Spec.LoadBalancerClass = &other })
	w.service("none", func(o *corev1.Service) { o.Spec.LoadBalancerClass = nil })
	w.service("web", func(o *corev1.Service) { o.Annotations = map[string]string{"keep": "me"} })
	w.has("web", "192.0.2.0")

	w.edit("web", func(o *corev1.Service) {
		o.Spec.Type, o.Spec.LoadBalancerClass, o.Spec.AllocateLoadBalancerNodePorts = corev1.ServiceTypeClusterIP, nil, nil
	})
	clean := func(name string) {
		t.Helper()
		w.until(name+" is clean", func() bool {
			o := w.get(name)
			return addresses(o) == "" && len(o.Finalizers) == 0 && len(o.Status.Conditions) == 0 && o.Annotations[v1beta1.AnnotationTableSize] == ""
		})
	}
	clean("web")
	if got := w.get("web").Annotations["keep"]; got != "me" {
		t.Errorf("annotation of somebody else is %q", got)
	}
	w.until("claim withdrawn", func() bool { return len(w.claims()) == 0 })
	w.edit("web", func(o *corev1.Service) {
		o.Spec.Type, o.Spec.LoadBalancerClass = corev1.ServiceTypeLoadBalancer, &w.class
	})
	w.has("web", "192.0.2.0")
	clean("other")
	clean("none")

	// The same Services, and other flags.
	w.stop(p)
	p = w.controller("--freed-address-delay=0s", "--unclassed=true")
	w.has("none", "192.0.2.1")
	w.stop(p)
	p = w.controller("--freed-address-delay=0s", "--load-balancer-class="+other)
	w.has("other", "192.0.2.2") // while the others have theirs still
	clean("web")
	clean("none")
	w.stop(p)
}

// TestCleanup: an uninstall leaves no Service stuck, and takes back all there is.
func TestCleanup(t *testing.T) {
	w := newWorld(t)
	w.pool("a", "192.0.2.0/24")
	p := w.controller()
	for i := range 5 {
		w.service(fmt.Sprintf("s%d", i))
		w.has(fmt.Sprintf("s%d", i), fmt.Sprintf("192.0.2.%d", i))
	}
	w.ok(p.Kill())
	w.remove("s0") // is held by its finalizer

	cleanup := w.start("fairlead-cleanup", "--cleanup")
	w.until("end of cleanup", func() bool {
		select {
		case <-cleanup.Done():
			return true
		default:
			return false
		}
	})
	w.ok(cleanup.Wait())
	w.gone("s0")
	for i := 1; i < 5; i++ {
		o := w.get(fmt.Sprintf("s%d", i))
		if addresses(o) != "" || len(o.Finalizers)+len(o.Annotations)+len(o.Status.Conditions) > 0 {
			t.Errorf("%s: %q %v %v %+v", o.Name, addresses(o), o.Finalizers, o.Annotations, o.Status.Conditions)
		}
	}
	var blocks v1beta1.AddressBlockList
	w.ok(w.List(t.Context(), &blocks, client.InNamespace(w.system)))
	if len(blocks.Items) > 0 {
		t.Errorf("%d address blocks are left", len(blocks.Items))
	}
}

// TestValid: what is wrong with objects of our own kinds stands in a condition.
func TestValid(t *testing.T) {
	w := newWorld(t)
	w.pool("a", "192.0.2.0/24")
	w.controller()
	l2 := &v1beta1.L2Advertisement{ObjectMeta: metav1.ObjectMeta{Namespace: w.system, Name: "l2"}}
	l2.Spec.IPAddressPools = []string{"a", "b"}
	w.create(l2)
	valid := func(o client.Object, conditions *[]metav1.Condition, want string) {
		t.Helper()
		var got string
		err := lab.Poll(t.Context(), patience, func() bool {
			w.ok(w.Get(t.Context(), client.ObjectKeyFromObject(o), o))
			got = ""
			for _, c := range *conditions {
				got += fmt.Sprintf("%s=%s %s: %s", c.Type, c.Status, c.Reason, c.Message)
			}
			return got == want
		})
		if err != nil {
			t.Errorf("%s: %s, want %s", o.GetName(), got, want)
		}
	}
	valid(l2, &l2.Status.Conditions, `Valid=False NotFound: spec.ipAddressPools[1]: no IPAddressPool "b": the advertisement waits for it`)
	w.pool("b", "192.0.2.128/25 192.0.3.0/24")
	valid(l2, &l2.Status.Conditions, "Valid=True Valid: used as it stands")
	b := &v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Namespace: w.system, Name: "b"}}
	valid(b, &b.Status.Conditions, `Valid=False Overlap: spec.addresses[0]: 192.0.2.128/25 overlaps 192.0.2.0/24 of IPAddressPool "a", which is older and keeps what is in both`)
	w.service("web", annotate(v1beta1.AnnotationAddressPool, "b"))
	w.has("web", "192.0.3.0")
}

// TestDatapath: the condition DatapathReady follows nodes and endpoints, and the
// table size the number of endpoints.
func TestDatapath(t *testing.T) {
	w := newWorld(t)
	w.pool("a", "192.0.2.0/24")
	w.controller()
	w.service("web")
	w.has("web", "192.0.2.0")
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: w.system + "-node"}}
	w.create(node)
	node.Status.NodeInfo.BootID = "boot"
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "10.9.9.9"}}
	w.ok(w.Status().Update(t.Context(), node))
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: w.namespace, Name: "web-1", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new("web"), Port: new(int32(8080))}},
	}
	for i := range 50 {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{fmt.Sprintf("10.244.0.%d", i+1)}, NodeName: &node.Name})
	}
	w.create(slice)
	ready := func(status, reason, message string) {
		t.Helper()
		var c metav1.Condition
		err := lab.Poll(t.Context(), patience, func() bool {
			c = w.condition(w.get("web"), v1beta1.ConditionDatapathReady)
			return string(c.Status) == status && c.Reason == reason && c.Message == message
		})
		if err != nil {
			t.Errorf("%s %s: %s", c.Status, c.Reason, c.Message)
		}
	}
	size := func(want string) {
		t.Helper()
		w.until("table size "+want, func() bool { return w.get("web").Annotations[v1beta1.AnnotationTableSize] == want })
	}
	ready("False", "EndpointsElsewhere", fmt.Sprintf("port \"web\" is left to kube-proxy: its endpoints are on %s, where Fairlead does not forward", node.Name))
	size("8191")
	state := &v1beta1.NodeState{ObjectMeta: metav1.ObjectMeta{Namespace: w.system, Name: node.Name}}
	w.create(state)
	state.Status = v1beta1.NodeStateStatus{Attached: true, BootID: "boot", WireVersion: int32(xdp.ABI.Wire), HashVersion: int32(xdp.ABI.Hash)}
	w.ok(w.Status().Update(t.Context(), state))
	ready("True", "Ready", "nodes forward for all ports")
	state.Status.Problems = []v1beta1.ServiceProblem{{Service: w.namespace + "/web", Message: "no room"}}
	w.ok(w.Status().Update(t.Context(), state))
	ready("False", "NodeProblem", "node "+node.Name+": no room")
	state.Status.Problems = nil
	w.ok(w.Status().Update(t.Context(), state))
	ready("True", "Ready", "nodes forward for all ports")
	slice.Endpoints = slice.Endpoints[:1]
	w.ok(w.Update(t.Context(), slice))
	w.edit("web", annotate("touch", "me"))
	size("8191") // never shrinks
	w.ok(w.Delete(t.Context(), node))
	ready("False", "EndpointsElsewhere", fmt.Sprintf("port \"web\" is left to kube-proxy: its endpoints are on %s, where Fairlead does not forward", node.Name))
}
