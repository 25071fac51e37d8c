// SPDX-License-Identifier: Apache-2.0

package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// IPAddressPool is a set of addresses that Services of type LoadBalancer get
// theirs from. A Service asks for a pool with the annotation
// fairlead.io/address-pool, for an address with fairlead.io/loadBalancerIPs;
// without these it gets a free address of a pool with autoAssign that is for
// it. The network hears of addresses by an L2Advertisement or a
// BGPAdvertisement, and without one not at all.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=flpool,categories=fairlead
// +kubebuilder:printcolumn:name="Addresses",type=string,JSONPath=`.spec.addresses`
// +kubebuilder:printcolumn:name="Auto Assign",type=boolean,JSONPath=`.spec.autoAssign`
// +kubebuilder:printcolumn:name="Assigned IPv4",type=integer,JSONPath=`.status.assignedIPv4`
// +kubebuilder:printcolumn:name="Free IPv4",type=integer,JSONPath=`.status.availableIPv4`
// +kubebuilder:printcolumn:name="Assigned IPv6",type=integer,JSONPath=`.status.assignedIPv6`
// +kubebuilder:printcolumn:name="Free IPv6",type=integer,JSONPath=`.status.availableIPv6`
// +kubebuilder:printcolumn:name="Valid",type=string,JSONPath=`.status.conditions[?(@.type=="Valid")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Avoid Buggy IPs",type=boolean,priority=10,JSONPath=`.spec.avoidBuggyIPs`
// +kubebuilder:printcolumn:name="Drain",type=boolean,priority=10,JSONPath=`.spec.drain`
// +kubebuilder:printcolumn:name="Message",type=string,priority=10,JSONPath=`.status.conditions[?(@.type=="Valid")].message`
type IPAddressPool struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec says which addresses, and for whom.
	Spec IPAddressPoolSpec `json:"spec"`
	// status counts addresses, and says what is wrong with the pool. The
	// controller writes it.
	//
	// +optional
	Status IPAddressPoolStatus `json:"status,omitzero"`
}

// IPAddressPoolSpec says which addresses, and for whom.
type IPAddressPoolSpec struct {
	// addresses are prefixes ("192.0.2.0/24", "2001:db8::/120") and inclusive
	// ranges ("192.0.2.10-192.0.2.20"), of IPv4, IPv6 or both. One address is
	// a prefix too: "192.0.2.5/32". No address may be in two pools: where two
	// overlap, the older one has what is in both, and the condition Valid of
	// the younger one says so.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=500
	// +kubebuilder:validation:items:MaxLength=96
	// +kubebuilder:validation:items:XValidation:rule="isCIDR(self) || self.contains('-') && isIP(self.substring(0, self.indexOf('-')).trim()) && isIP(self.substring(self.indexOf('-') + 1).trim())",message="want a prefix such as 192.0.2.0/24, or a range such as 192.0.2.10-192.0.2.20",messageExpression="isIP(self) ? 'is one address: write ' + self + (ip(self).family() == 4 ? '/32' : '/128') : 'want a prefix such as 192.0.2.0/24, or a range such as 192.0.2.10-192.0.2.20'"
	// +kubebuilder:validation:items:XValidation:rule="!isCIDR(self) || cidr(self) == cidr(self).masked()",message="has bits set behind the prefix length: write the prefix with these 0",messageExpression="'has bits set behind the prefix length: write the prefix with these 0, or ' + self.substring(0, self.indexOf('/')) + (cidr(self).ip().family() == 4 ? '/32' : '/128') + ' for the one address'"
	// +kubebuilder:validation:items:XValidation:rule="!self.contains('-') || !isIP(self.substring(0, self.indexOf('-')).trim()) || !isIP(self.substring(self.indexOf('-') + 1).trim()) || ip(self.substring(0, self.indexOf('-')).trim()).family() == ip(self.substring(self.indexOf('-') + 1).trim()).family()",message="starts in one address family and ends in the other: want a range of one"
	// +kubebuilder:validation:items:XValidation:rule="self.contains(':') || !self.contains('-') || !isIP(self.substring(0, self.indexOf('-')).trim()) || !isIP(self.substring(self.indexOf('-') + 1).trim()) || [self.substring(0, self.indexOf('-')).trim().split('.', 4), self.substring(self.indexOf('-') + 1).trim().split('.', 4)].map(n, int(n[0]) * 16777216 + int(n[1]) * 65536 + int(n[2]) * 256 + int(n[3])).isSorted()",message="ends before it starts: write the lower address first"
	// +kubebuilder:validation:items:XValidation:rule="['0.0.0.0/8', '127.0.0.0/8', '169.254.0.0/16', '224.0.0.0/4', '255.255.255.255/32', '::/127', 'fe80::/10', 'ff00::/8'].all(other, isCIDR(self) ? !cidr(other).containsCIDR(self) && !cidr(self).containsCIDR(other) : !self.contains('-') || !isIP(self.substring(0, self.indexOf('-')).trim()) || !isIP(self.substring(self.indexOf('-') + 1).trim()) || !cidr(other).containsIP(self.substring(0, self.indexOf('-')).trim()) && !cidr(other).containsIP(self.substring(self.indexOf('-') + 1).trim()))",message="has addresses that no Service can have: unspecified, loopback, link-local, multicast or broadcast ones"
	// +listType=set
	Addresses []string `json:"addresses"`

	// autoAssign lets Services get an address from here that ask for neither
	// the pool nor one of its addresses.
	//
	// +kubebuilder:default=true
	// +optional
	AutoAssign *bool `json:"autoAssign,omitempty"`

	// avoidBuggyIPs leaves out addresses that some equipment takes for those of
	// a network or a broadcast: IPv4 addresses that end in .0 or .255, and the
	// subnet-router anycast address of an IPv6 prefix (RFC 4291 section 2.6.1).
	// They can still be asked for.
	//
	// +kubebuilder:default=false
	// +optional
	AvoidBuggyIPs bool `json:"avoidBuggyIPs,omitempty"`

	// drain gives out no more addresses; Services keep those that they have.
	//
	// +kubebuilder:default=false
	// +optional
	Drain bool `json:"drain,omitempty"`

	// serviceAllocation restricts the pool to some Services, and ranks it among
	// the pools that are for the same Service.
	//
	// +optional
	AllocateTo *ServiceAllocation `json:"serviceAllocation,omitempty"`
}

// ServiceAllocation says which Services a pool is for. A Service has to match
// the namespaces, where namespaces or namespaceSelectors are given, and also
// the serviceSelectors, where these are given.
type ServiceAllocation struct {
	// priority ranks pools that are for the same Service: the lowest number
	// goes first, and 0, as where it is not given, last. Of equal ones the
	// first by name goes first.
	//
	// +optional
	Priority int `json:"priority,omitempty"`

	// namespaces are names of namespaces whose Services the pool is for.
	//
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=63
	// +listType=set
	// +optional
	Namespaces []string `json:"namespaces,omitempty"`

	// namespaceSelectors select further namespaces by label; it is enough if
	// one of them matches. Where namespaces is empty and the selectors match
	// no namespace, the pool is for no Service.
	//
	// +listType=atomic
	// +optional
	NamespaceSelectors []metav1.LabelSelector `json:"namespaceSelectors,omitempty"`

	// serviceSelectors select Services by label; it is enough if one of them
	// matches.
	//
	// +listType=atomic
	// +optional
	ServiceSelectors []metav1.LabelSelector `json:"serviceSelectors,omitempty"`
}

// IPAddressPoolStatus counts the addresses of a pool. One that several Services
// share counts once.
type IPAddressPoolStatus struct {
	Status `json:",inline"`

	// assignedIPv4 is the number of IPv4 addresses that Services have.
	AssignedIPv4 int64 `json:"assignedIPv4"`
	// assignedIPv6 is the number of IPv6 addresses that Services have.
	AssignedIPv6 int64 `json:"assignedIPv6"`
	// availableIPv4 is the number of IPv4 addresses that are free.
	AvailableIPv4 int64 `json:"availableIPv4"`
	// availableIPv6 is the number of IPv6 addresses that are free, 2^63-1 where
	// there are more.
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
