// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
)

// stripper keeps of every object what an agent reads: 100,000 endpoints are to
// fit beside everything else that runs on a node.
type stripper struct {
	node string // this one

	mu    sync.Mutex
	names map[string]*string // of nodes, each once
}

// The three values of a condition, each once.
var (
	yes, no   = true, false
	condition = map[bool]*bool{true: &yes, false: &no}
)

func shared(c *bool) *bool {
	if c == nil {
		return nil
	}
	return condition[*c]
}

// meta is what identifies an object and its version, and its age.
func meta(m *metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: m.Namespace, Name: m.Name, UID: m.UID, ResourceVersion: m.ResourceVersion, CreationTimestamp: m.CreationTimestamp,
	}
}

// strip is a cache.TransformFunc. What it returns is a new object, or the same
// one cut down. It leaves alone what it does not know, tombstones for instance.
func (s *stripper) strip(object any) (any, error) {
	switch o := object.(type) {
	case *corev1.Service:
		return stripService(o), nil
	case *discoveryv1.EndpointSlice:
		return s.stripSlice(o), nil
	case *corev1.Node:
		return stripNode(o), nil
	case *corev1.Pod:
		return &corev1.Pod{
			ObjectMeta: meta(&o.ObjectMeta),
			Spec:       corev1.PodSpec{HostNetwork: o.Spec.HostNetwork},
			Status:     corev1.PodStatus{Phase: o.Status.Phase, PodIPs: o.Status.PodIPs},
		}, nil
	case *v1beta1.NodeState:
		state := &v1beta1.NodeState{ObjectMeta: meta(&o.ObjectMeta), Status: o.Status}
		if o.Name != s.node { // what other nodes announce is for people
			state.Status.Announcements, state.Status.NotAnnounced = nil, nil
		}
		return state, nil
	case *corev1.Secret:
		return &corev1.Secret{ObjectMeta: meta(&o.ObjectMeta), Data: o.Data}, nil
	}
	return object, nil
}

func stripNode(o *corev1.Node) *corev1.Node {
	n := &corev1.Node{ObjectMeta: meta(&o.ObjectMeta), Status: corev1.NodeStatus{
		Addresses: o.Status.Addresses, NodeInfo: corev1.NodeSystemInfo{BootID: o.Status.NodeInfo.BootID},
	}}
	n.Labels = o.Labels // selectors of advertisements and peers are about them
	for _, c := range o.Status.Conditions {
		if c.Type == corev1.NodeNetworkUnavailable {
			n.Status.Conditions = append(n.Status.Conditions, corev1.NodeCondition{Type: c.Type, Status: c.Status})
		}
	}
	return n
}

// stripConfig is strip for the objects that say what is announced. Of Secrets it
// keeps the passwords of sessions alone.
func stripConfig(object any) (any, error) {
	switch o := object.(type) {
	case *corev1.Secret:
		secret := &corev1.Secret{ObjectMeta: meta(&o.ObjectMeta), Type: o.Type}
		if password, ok := o.Data[corev1.BasicAuthPasswordKey]; ok && o.Type == corev1.SecretTypeBasicAuth {
			secret.Data = map[string][]byte{corev1.BasicAuthPasswordKey: password}
		}
		return secret, nil
	case metav1.Object:
		o.SetManagedFields(nil)
		o.SetAnnotations(nil)
	}
	return object, nil
}

func stripService(o *corev1.Service) *corev1.Service {
	s := &corev1.Service{ObjectMeta: meta(&o.ObjectMeta)}
	s.Labels = o.Labels
	if size, ok := o.Annotations[v1beta1.AnnotationTableSize]; ok {
		s.Annotations = map[string]string{v1beta1.AnnotationTableSize: size}
	}
	s.Spec = corev1.ServiceSpec{
		Type:                     o.Spec.Type,
		LoadBalancerClass:        o.Spec.LoadBalancerClass,
		ExternalTrafficPolicy:    o.Spec.ExternalTrafficPolicy,
		SessionAffinity:          o.Spec.SessionAffinity,
		SessionAffinityConfig:    o.Spec.SessionAffinityConfig,
		LoadBalancerSourceRanges: o.Spec.LoadBalancerSourceRanges,
	}
	for _, p := range o.Spec.Ports {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: p.Name, Port: p.Port, Protocol: p.Protocol})
	}
	for _, i := range o.Status.LoadBalancer.Ingress {
		s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: i.IP, IPMode: i.IPMode})
	}
	return s
}

// stripSlice keeps the Pods' UIDs where an endpoint may be on this node.
func (s *stripper) stripSlice(o *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	slice := &discoveryv1.EndpointSlice{ObjectMeta: meta(&o.ObjectMeta), AddressType: o.AddressType}
	slice.UID, slice.CreationTimestamp = "", metav1.Time{}
	if service, ok := o.Labels[discoveryv1.LabelServiceName]; ok {
		slice.Labels = map[string]string{discoveryv1.LabelServiceName: service}
	}
	for _, p := range o.Ports {
		slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: p.Name, Port: p.Port, Protocol: p.Protocol})
	}
	slice.Endpoints = make([]discoveryv1.Endpoint, len(o.Endpoints))
	for i := range o.Endpoints {
		from, to := &o.Endpoints[i], &slice.Endpoints[i]
		to.Addresses, to.NodeName = from.Addresses, s.nodeName(from.NodeName)
		to.Conditions = discoveryv1.EndpointConditions{
			Ready: shared(from.Conditions.Ready), Serving: shared(from.Conditions.Serving), Terminating: shared(from.Conditions.Terminating),
		}
		if from.TargetRef != nil && from.NodeName != nil && *from.NodeName == s.node {
			to.TargetRef = &corev1.ObjectReference{UID: from.TargetRef.UID}
		}
	}
	return slice
}

func (s *stripper) nodeName(name *string) *string {
	if name == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.names[*name] == nil {
		s.names[*name] = name
	}
	return s.names[*name]
}
