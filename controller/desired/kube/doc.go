// SPDX-License-Identifier: Apache-2.0

// Package kube says what a node has to do, from what the Kubernetes API says:
// the pure middle of roads A and B for a cluster. Objects go into a State one by
// one, as informers tell of them; Apply brings out what changed in the services
// of the datapath, and what is wrong with which Service. The answer depends on
// the objects alone, never on the order in which they came.
package kube

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// DefaultClass is the loadBalancerClass that is ours when nothing else is said.
const DefaultClass = "fairlead.io/lb"

// Class says which Services are ours.
type Class struct {
	Name string
	// Unclassed takes Services without a class, too.
	Unclassed bool
}

// Has says whether the Service is ours.
func (c Class) Has(s *corev1.Service) bool {
	if s.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return false
	}
	if s.Spec.LoadBalancerClass == nil {
		return c.Unclassed
	}
	return *s.Spec.LoadBalancerClass == c.Name
}

// Problem is something in the way of a Service: a reason in CamelCase for
// programs and a message for people.
type Problem struct {
	Reason, Message string
	// Minor ones leave the Service forwarded as a whole.
	Minor bool
}

// The reasons of problems.
const (
	// ReasonNodeAddress: a VIP is a node's own address, and is not used.
	ReasonNodeAddress = "NodeAddress"
	// ReasonInvalidAddress: an ingress address that no machine can be reached by.
	ReasonInvalidAddress = "InvalidAddress"
	// ReasonPortConflict: an older Service has the same address, port and protocol.
	ReasonPortConflict = "PortConflict"
	// ReasonProtocol: a port is neither TCP nor UDP.
	ReasonProtocol = "UnsupportedProtocol"
	// ReasonWithoutNode: endpoints without a nodeName, which kube-proxy alone serves.
	ReasonWithoutNode = "EndpointsWithoutNode"
	// ReasonElsewhere: endpoints on nodes whose programs do not forward.
	ReasonElsewhere = "EndpointsElsewhere"
	// ReasonNoEndpoints: nobody is there to serve a port.
	ReasonNoEndpoints = "NoEndpoints"
	// ReasonEndpointConflict: two objects disagree about an endpoint.
	ReasonEndpointConflict = "EndpointConflict"
	// ReasonSourceRange: an element of loadBalancerSourceRanges means nothing.
	ReasonSourceRange = "InvalidSourceRange"
	// ReasonTableSize: the annotation of the table size means nothing.
	ReasonTableSize = "InvalidTableSize"
)

// sorted puts what is worse first and drops what is said twice.
func sorted(problems []Problem) []Problem {
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(compareBools(a.Minor, b.Minor), cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Message, b.Message))
	})
	return slices.Compact(problems)
}

// compareBools puts false before true.
func compareBools(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
