// SPDX-License-Identifier: Apache-2.0

package proxycheck

import (
	"fmt"
	"math/rand/v2"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
	"github.com/fairlead/fairlead/controller/desired/kube"
)

func putNode(s *kube.State, i int, name string) {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	n.Status.NodeInfo.BootID = "boot"
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("10.1.0.%d", 1+i)}}
	s.PutNode(n)
	s.PutNodeState(&v1beta1.NodeState{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Status:     v1beta1.NodeStateStatus{Attached: true, BootID: "boot", WireVersion: 1, HashVersion: 1},
	})
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

func ptr[T any](v T) *T { return &v }

// random is a cluster as an API server may hold it: what its validation refuses
// or defaults is not there or set.
func random(r *rand.Rand) *cluster {
	c := &cluster{}
	for i := range 1 + r.IntN(4) {
		c.nodes = append(c.nodes, fmt.Sprintf("node%d", i+1))
	}
	c.service = randomService(r)
	taken := map[string]bool{}
	for i := range r.IntN(6) {
		c.slices = append(c.slices, c.randomSlice(r, i, taken))
	}
	return c
}

func randomService(r *rand.Rand) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}}
	s.Spec.Type = corev1.ServiceTypeLoadBalancer
	s.Spec.ClusterIP, s.Spec.ClusterIPs = "10.96.0.1", []string{"10.96.0.1", "fd96::1"}
	s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
	s.Spec.ExternalTrafficPolicy = pick(r, corev1.ServiceExternalTrafficPolicyCluster, corev1.ServiceExternalTrafficPolicyLocal)
	s.Spec.InternalTrafficPolicy = ptr(pick(r, corev1.ServiceInternalTrafficPolicyCluster, corev1.ServiceInternalTrafficPolicyLocal))
	s.Spec.SessionAffinity = corev1.ServiceAffinityNone
	if r.IntN(3) == 0 {
		s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
		s.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: ptr(1 + r.Int32N(86400))}}
	}
	s.Spec.HealthCheckNodePort = 32000
	for i, name := range []string{"http", "dns", "sig"} {
		if i == 0 || r.IntN(2) == 0 {
			s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{
				Name: name, Port: int32(80 + i), Protocol: pick(r, corev1.ProtocolTCP, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP),
			})
		}
	}
	if len(s.Spec.Ports) == 1 && r.IntN(2) == 0 {
		s.Spec.Ports[0].Name = ""
	}
	for _, text := range []string{" 203.0.113.0/24", "198.51.100.7/32 ", "203.0.113.9/24"} {
		if r.IntN(5) == 0 {
			s.Spec.LoadBalancerSourceRanges = append(s.Spec.LoadBalancerSourceRanges, text)
		}
	}
	mode := pick(r, nil, ptr(corev1.LoadBalancerIPModeVIP), ptr(corev1.LoadBalancerIPModeProxy))
	for _, ip := range []string{"192.0.2.1", "2001:db8::1", "192.0.2.2"} {
		if r.IntN(2) == 0 {
			s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: ip, IPMode: mode})
		}
	}
	return s
}

// randomSlice has endpoints that no other slice has, but for one on its way out:
// of two that live kube-proxy takes either.
func (c *cluster) randomSlice(r *rand.Rand, i int, taken map[string]bool) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("slice%d", i), Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		AddressType: pick(r, discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6),
	}
	for _, p := range append([]corev1.ServicePort{{Name: "other", Protocol: corev1.ProtocolTCP}}, c.service.Spec.Ports...) {
		if r.IntN(5) > 0 {
			s.Ports = append(s.Ports, discoveryv1.EndpointPort{
				Name: ptr(p.Name), Port: ptr(int32(pick(r, 8080, 9090))), Protocol: ptr(pick(r, p.Protocol, p.Protocol, p.Protocol, corev1.ProtocolUDP)),
			})
		}
	}
	for range r.IntN(5) {
		addr := fmt.Sprintf("10.244.0.%d", 1+r.IntN(30))
		if s.AddressType == discoveryv1.AddressTypeIPv6 {
			addr = fmt.Sprintf("fd44::%d", 1+r.IntN(30))
		}
		e := discoveryv1.Endpoint{Addresses: []string{addr}, NodeName: ptr(pick(r, c.nodes...)), Conditions: randomConditions(r)}
		if r.IntN(4) == 0 {
			e.Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: "a"}}}
		}
		if taken[addr] {
			continue
		}
		taken[addr] = true
		s.Endpoints = append(s.Endpoints, e)
		c.echo(r, s, e)
	}
	return s
}

// echo sometimes leaves a terminating copy of an endpoint that lives in an
// earlier slice of the same ports, as one Pod's address that became another's.
func (c *cluster) echo(r *rand.Rand, s *discoveryv1.EndpointSlice, e discoveryv1.Endpoint) {
	if r.IntN(4) > 0 || e.Conditions.Terminating != nil && *e.Conditions.Terminating {
		return
	}
	i := slices.IndexFunc(c.slices, func(o *discoveryv1.EndpointSlice) bool { return o.AddressType == s.AddressType })
	if i < 0 {
		return
	}
	old := e
	old.Conditions = discoveryv1.EndpointConditions{Ready: ptr(false), Serving: ptr(r.IntN(2) == 0), Terminating: ptr(true)}
	c.slices[i].Endpoints = append(c.slices[i].Endpoints, old)
}

func randomConditions(r *rand.Rand) discoveryv1.EndpointConditions {
	maybe := func() *bool { return pick(r, nil, ptr(true), ptr(false), ptr(false)) }
	return discoveryv1.EndpointConditions{Ready: maybe(), Serving: maybe(), Terminating: maybe()}
}
