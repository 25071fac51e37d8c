// SPDX-License-Identifier: Apache-2.0

package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// IPAddressPool is a set of addresses that LoadBalancer Services get theirs from.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=ippool
// +kubebuilder:printcolumn:name="Addresses",type=string,JSONPath=`.spec.addresses`
// +kubebuilder:printcolumn:name="Auto Assign",type=boolean,JSONPath=`.spec.autoAssign`
// +kubebuilder:printcolumn:name="Assigned IPv4",type=integer,JSONPath=`.status.assignedIPv4`
// +kubebuilder:printcolumn:name="Free IPv4",type=integer,JSONPath=`.status.availableIPv4`
// +kubebuilder:printcolumn:name="Assigned IPv6",type=integer,JSONPath=`.status.assignedIPv6`
// +kubebuilder:printcolumn:name="Free IPv6",type=integer,JSONPath=`.status.availableIPv6`
// +kubebuilder:printcolumn:name="Valid",type=string,JSONPath=`.status.conditions[?(@.type=="Valid")].status`
type IPAddressPool struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   IPAddressPoolSpec   `json:"spec"`
	Status IPAddressPoolStatus `json:"status,omitempty"`
}

// IPAddressPoolSpec says which addresses, and for whom.
type IPAddressPoolSpec struct {
	// Addresses are prefixes ("192.0.2.0/24", "2001:db8::/120") and inclusive
	// ranges ("192.0.2.10-192.0.2.20"), of one family or of both. No two may
	// overlap, neither here nor with another pool.
	//
	// +kubebuilder:validation:MinItems=1
	Addresses []string `json:"addresses"`

	// AutoAssign lets Services get an address from here that name neither the
	// pool nor the address.
	//
	// +kubebuilder:default=true
	// +optional
	AutoAssign *bool `json:"autoAssign,omitempty"`

	// AvoidBuggyIPs leaves out addresses that some equipment takes for those of
	// a network or a broadcast: IPv4 addresses that end in .0 or .255, and the
	// subnet-router anycast address of an IPv6 prefix (RFC 4291 section 2.6.1).
	//
	// +kubebuilder:default=false
	// +optional
	AvoidBuggyIPs bool `json:"avoidBuggyIPs,omitempty"`

	// Drain keeps the addresses that Services have and gives out no more.
	//
	// +kubebuilder:default=false
	// +optional
	Drain bool `json:"drain,omitempty"`

	// AllocateTo restricts the pool to some Services and ranks it among their pools.
	//
	// +optional
	AllocateTo *ServiceAllocation `json:"serviceAllocation,omitempty"`
}

// ServiceAllocation says which Services a pool is for. A Service has to match
// the namespaces, where there are any, and the Service selectors, where there
// are any.
type ServiceAllocation struct {
	// Priority ranks the pools that match a Service: lower goes first, 0 last.
	// Of equal ones the first by name goes first.
	//
	// +optional
	Priority int `json:"priority,omitempty"`

	// Namespaces are names of namespaces.
	//
	// +optional
	Namespaces []string `json:"namespaces,omitempty"`

	// NamespaceSelectors select further namespaces by label; one that matches
	// has to be enough. Where selectors match no namespace at all, and
	// Namespaces is empty, the pool is for no Service.
	//
	// +optional
	NamespaceSelectors []metav1.LabelSelector `json:"namespaceSelectors,omitempty"`

	// ServiceSelectors select Services by label; one that matches is enough.
	//
	// +optional
	ServiceSelectors []metav1.LabelSelector `json:"serviceSelectors,omitempty"`
}

// IPAddressPoolStatus counts addresses.
type IPAddressPoolStatus struct {
	Status `json:",inline"`

	// AssignedIPv4 is the number of IPv4 addresses that Services have.
	AssignedIPv4 int64 `json:"assignedIPv4"`
	// AssignedIPv6 is the number of IPv6 addresses that Services have.
	AssignedIPv6 int64 `json:"assignedIPv6"`
	// AvailableIPv4 is the number of IPv4 addresses that are free.
	AvailableIPv4 int64 `json:"availableIPv4"`
	// AvailableIPv6 is the number of IPv6 addresses that are free, at most 2^63-1.
	AvailableIPv6 int64 `json:"availableIPv6"`
}

// IPAddressPoolList is a list of pools.
//
// +kubebuilder:object:root=true
type IPAddressPoolList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []IPAddressPool `json:"items"`
}
