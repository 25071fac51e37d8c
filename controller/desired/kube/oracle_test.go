// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
	"github.com/fairlead/fairlead/lb"
)

func addrs(texts ...string) []netip.Addr {
	var list []netip.Addr
	for _, text := range texts {
		list = append(list, netip.MustParseAddr(text))
	}
	return list
}

func equalAddr(a, b netip.Addr) bool { return a == b }

func mustAddrPort(text string) netip.AddrPort { return netip.MustParseAddrPort(text) }

// mustKey is the first service port of a Service.
func mustKey(s *corev1.Service) lb.ServiceKey {
	return lb.ServiceKey{VIP: netip.MustParseAddr(s.Status.LoadBalancer.Ingress[0].IP), Port: uint16(s.Spec.Ports[0].Port), Proto: lb.TCP}
}

// objects are what an API server holds.
type objects struct {
	services map[string]*corev1.Service
	slices   map[string]*discoveryv1.EndpointSlice
	nodes    map[string]*corev1.Node
	states   map[string]*v1beta1.NodeState
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

// step changes one object, in the API and in the world.
func (o *objects) step(r *rand.Rand, w *world) {
	switch r.IntN(10) {
	case 0, 1, 2:
		s := randomService(r)
		if r.IntN(4) == 0 {
			delete(o.services, s.Name)
			w.DeleteService(types.NamespacedName{Namespace: "default", Name: s.Name})
			return
		}
		o.services[s.Name] = s
		w.PutService(s)
	case 3, 4, 5, 6, 7:
		s := randomSlice(r)
		if old := o.slices[s.Name]; old != nil && (r.IntN(4) == 0 || old.Labels[discoveryv1.LabelServiceName] != s.Labels[discoveryv1.LabelServiceName]) {
			delete(o.slices, s.Name)
			w.DeleteSlice(old)
			return
		}
		o.slices[s.Name] = s
		w.PutSlice(s)
	case 8:
		n := nodeObject(1+r.IntN(4), pick(r, "boot", "boot", "boot", "another"), pick(r, "10.9.0.1", "10.9.0.1", "10.9.0.1", "192.0.2.1"))
		if r.IntN(5) == 0 {
			delete(o.nodes, n.Name)
			w.DeleteNode(n.Name)
			return
		}
		o.nodes[n.Name] = n
		w.PutNode(n)
	case 9:
		s := stateObject(1 + r.IntN(4))
		s.Status.Attached = r.IntN(4) > 0
		for range r.IntN(3) {
			s.Status.Draining = append(s.Status.Draining, v1beta1.DrainingEndpoint{
				Service: fmt.Sprintf("default/s%d", r.IntN(4)), Port: pick(r, "http", "dns"), Address: fmt.Sprintf("10.244.1.%d:8080", r.IntN(8)),
			})
		}
		if r.IntN(5) == 0 {
			delete(o.states, s.Name)
			w.DeleteNodeState(s.Name)
			return
		}
		o.states[s.Name] = s
		w.PutNodeState(s)
	}
}

func randomService(r *rand.Rand) *corev1.Service {
	class := pick(r, DefaultClass, DefaultClass, "example.com/lb")
	s := web(named(fmt.Sprintf("s%d", r.IntN(4)), time.Duration(r.IntN(3))*time.Second),
		ingress(pick(r, []string{"192.0.2.1"}, []string{"192.0.2.1", "2001:db8::1"}, []string{"192.0.2.2"}, nil)...))
	s.Spec.Ports = nil
	for i, name := range []string{"http", "dns"} {
		if r.IntN(3) > 0 {
			s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: name, Port: int32(80 + i + r.IntN(2)*10), Protocol: pick(r, corev1.ProtocolTCP, corev1.ProtocolUDP)})
		}
	}
	if r.IntN(3) == 0 {
		local(s)
	}
	s.Spec.LoadBalancerClass = pick(r, nil, nil, &class)
	return s
}

func randomSlice(r *rand.Rand) *discoveryv1.EndpointSlice {
	v6 := r.IntN(3) == 0
	var endpoints []string
	for range r.IntN(5) {
		addr := fmt.Sprintf("10.244.1.%d", r.IntN(8))
		if v6 {
			addr = fmt.Sprintf("fd44::%d", 1+r.IntN(8))
		}
		node := pick(r, "@node1", "@node2", "@node3", "@node4", "")
		endpoints = append(endpoints, addr+node+pick(r, "", " ready serving", " serving terminating", " terminating", " x"))
	}
	s := slice(fmt.Sprintf("slice%d", r.IntN(8)), 8080, endpoints...)
	if v6 {
		s.AddressType = discoveryv1.AddressTypeIPv6
	}
	s.Labels[discoveryv1.LabelServiceName] = fmt.Sprintf("s%d", r.IntN(4))
	name, protocol := pick(r, "http", "dns"), pick(r, corev1.ProtocolTCP, corev1.ProtocolUDP)
	s.Ports[0].Name, s.Ports[0].Protocol = &name, &protocol
	return s
}

// afresh is the world of somebody who sees everything for the first time.
func (o *objects) afresh(t *testing.T, r *rand.Rand) *world {
	w := newWorld("")
	var puts []func()
	for _, s := range o.services {
		puts = append(puts, func() { w.PutService(s) })
	}
	for _, s := range o.slices {
		puts = append(puts, func() { w.PutSlice(s) })
	}
	for _, n := range o.nodes {
		puts = append(puts, func() { w.PutNode(n) })
	}
	for _, s := range o.states {
		puts = append(puts, func() { w.PutNodeState(s) })
	}
	r.Shuffle(len(puts), func(i, j int) { puts[i], puts[j] = puts[j], puts[i] })
	for _, put := range puts {
		put()
	}
	w.apply(t)
	return w
}

func (w *world) everything() string {
	var b strings.Builder
	b.WriteString(w.String())
	for i := range 4 {
		name := fmt.Sprintf("default/s%d", i)
		fmt.Fprintf(&b, "%s:\n%s", name, w.complaints(name))
	}
	return b.String()
}

// Whatever way the objects took, what comes out depends on them alone.
func TestOracle(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 0))
	o := &objects{
		map[string]*corev1.Service{}, map[string]*discoveryv1.EndpointSlice{}, map[string]*corev1.Node{}, map[string]*v1beta1.NodeState{},
	}
	w := newWorld("")
	for i := range 20000 {
		o.step(r, w)
		if r.IntN(3) > 0 {
			continue // several changes at once
		}
		w.apply(t)
		if i%cmp.Or(map[bool]int{true: 50}[testing.Short()], 5) != 0 {
			continue
		}
		if diff := gocmp.Diff(o.afresh(t, r).everything(), w.everything()); diff != "" || t.Failed() {
			t.Fatalf("seed %d, step %d: -afresh +grown:\n%s", seed, i, diff)
		}
	}
}
