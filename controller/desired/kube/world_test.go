// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
	"github.com/fairlead/fairlead/lb"
)

var versions = Versions{Wire: 1, Hash: 1}

// start is the time of tests.
var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// world is a State with what its deltas make.
type world struct {
	*State
	now      time.Time
	services map[lb.ServiceKey]lb.Service
	nodes    map[string]lb.Node
}

func newWorld(self string) *world {
	return &world{
		State: New(Options{Self: self, Class: Class{Name: DefaultClass, Unclassed: true}, Versions: versions}),
		now:   start, services: map[lb.ServiceKey]lb.Service{}, nodes: map[string]lb.Node{},
	}
}

// apply applies, and checks that a delta says nothing that is so already.
func (w *world) apply(t testing.TB) lb.Delta {
	t.Helper()
	d := w.Apply(w.now)
	for _, s := range d.PutServices {
		if have, ok := w.services[s.Key]; ok && same(&have, &s) {
			t.Errorf("%s put as it is", s.Key)
		}
		w.services[s.Key] = s
	}
	for _, key := range d.DeleteServices {
		if _, ok := w.services[key]; !ok {
			t.Errorf("%s deleted, but not there", key)
		}
		delete(w.services, key)
	}
	for _, n := range d.PutNodes {
		w.nodes[n.Name] = n
	}
	for _, name := range d.DeleteNodes {
		delete(w.nodes, name)
	}
	for _, s := range w.services {
		w.check(t, s)
	}
	return d
}

// check makes sure that a table takes the service. It is alone there: services
// may disagree where a backend is, and each is forwarded as it says.
func (w *world) check(t testing.TB, s lb.Service) {
	t.Helper()
	nodes := []lb.Node{{Name: "observer"}}
	for _, n := range w.nodes {
		nodes = append(nodes, n)
	}
	if _, err := lb.NewTable("observer", nodes, []lb.Service{s}); err != nil {
		t.Errorf("table: %v", err)
	}
}

// String has a line for each service port.
func (w *world) String() string {
	var b strings.Builder
	for _, key := range slices.SortedFunc(maps.Keys(w.services), lb.ServiceKey.Compare) {
		b.WriteString(line(w.services[key]) + "\n")
	}
	return b.String()
}

// line is all of a service port: key, options, backends, those in parentheses draining.
func line(s lb.Service) string {
	words := []string{s.Key.String()}
	if s.Policy == lb.Local {
		words = append(words, "Local")
	}
	if s.Left {
		words = append(words, "left")
	}
	if s.Affinity > 0 {
		words = append(words, "affinity="+s.Affinity.String())
	}
	if s.SourceRanges != nil {
		words = append(words, fmt.Sprint("from=", s.SourceRanges))
	}
	if s.TableSize != 4093 {
		words = append(words, fmt.Sprint("slots=", s.TableSize))
	}
	for _, b := range s.Backends {
		word := b.Addr.String() + "@" + b.Node
		if b.Draining {
			word = "(" + word + ")"
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

// complaints has a line for each problem of a Service.
func (w *world) complaints(name string) string {
	var b strings.Builder
	for _, p := range w.Problems(parseName(name)) {
		if p.Minor {
			b.WriteString("minor ")
		}
		fmt.Fprintf(&b, "%s: %s\n", p.Reason, p.Message)
	}
	return b.String()
}

// addNode makes node i, at 10.1.0.i, forward.
func (w *world) addNode(i int) {
	w.PutNode(nodeObject(i, "boot"))
	w.PutNodeState(stateObject(i))
}

func nodeObject(i int, boot string, addrs ...string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("node%d", i)}}
	n.Status.NodeInfo.BootID = boot
	for _, a := range append([]string{fmt.Sprintf("10.1.0.%d", i), fmt.Sprintf("fd01::%d", i)}, addrs...) {
		n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a})
	}
	n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeHostName, Address: n.Name})
	return n
}

func stateObject(i int, drains ...v1beta1.DrainingEndpoint) *v1beta1.NodeState {
	return &v1beta1.NodeState{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("node%d", i)},
		Status:     v1beta1.NodeStateStatus{Attached: true, BootID: "boot", WireVersion: 1, HashVersion: 1, Draining: drains},
	}
}

// web is a Service default/web with 192.0.2.1 and port 80.
func web(edit ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", CreationTimestamp: metav1.NewTime(start)}}
	s.Spec.Type = corev1.ServiceTypeLoadBalancer
	s.Spec.Ports = []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}}
	s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}}
	for _, e := range edit {
		e(s)
	}
	return s
}

// slice is an EndpointSlice of default/web with endpoints such as
// "10.244.1.2@node1 ready", in which ready, serving and terminating are
// conditions that are true; none of them: as when an API says nothing.
func slice(name string, port int32, endpoints ...string) *discoveryv1.EndpointSlice {
	portName, protocol := "http", corev1.ProtocolTCP
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &portName, Port: &port, Protocol: &protocol}},
	}
	for _, text := range endpoints {
		where, conditions, given := strings.Cut(text, " ")
		addr, node, _ := strings.Cut(where, "@")
		if netip.MustParseAddr(addr).Is6() {
			s.AddressType = discoveryv1.AddressTypeIPv6
		}
		e := discoveryv1.Endpoint{Addresses: []string{addr}}
		if node != "" {
			e.NodeName = &node
			e.TargetRef = &corev1.ObjectReference{UID: uidOf(addr)}
		}
		if given {
			condition := func(name string) *bool {
				is := strings.Contains(" "+conditions+" ", " "+name+" ")
				return &is
			}
			e.Conditions = discoveryv1.EndpointConditions{Ready: condition("ready"), Serving: condition("serving"), Terminating: condition("terminating")}
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	return s
}

// uidOf is the UID of the Pod with an address.
func uidOf(addr string) types.UID { return types.UID("pod-" + addr) }

func podObject(addr string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{UID: uidOf(addr)},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning, PodIPs: []corev1.PodIP{{IP: addr}}},
	}
}
