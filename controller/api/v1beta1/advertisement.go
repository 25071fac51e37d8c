// SPDX-License-Identifier: Apache-2.0

package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// L2Advertisement has addresses of pools answered for by ARP and NDP.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="IPAddressPools",type=string,JSONPath=`.spec.ipAddressPools`
// +kubebuilder:printcolumn:name="Interfaces",type=string,JSONPath=`.spec.interfaces`
// +kubebuilder:printcolumn:name="Valid",type=string,JSONPath=`.status.conditions[?(@.type=="Valid")].status`
// +kubebuilder:printcolumn:name="IPAddressPool Selectors",type=string,priority=10,JSONPath=`.spec.ipAddressPoolSelectors`
// +kubebuilder:printcolumn:name="Node Selectors",type=string,priority=10,JSONPath=`.spec.nodeSelectors`
type L2Advertisement struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   L2AdvertisementSpec `json:"spec,omitempty"`
	Status Status              `json:"status,omitempty"`
}

// Selection says which addresses an advertisement is for, and which nodes tell
// of them. It is part of both kinds of advertisement.
type Selection struct {
	// IPAddressPools are names of pools. Without any, and without selectors,
	// the advertisement is for all pools.
	//
	// +optional
	IPAddressPools []string `json:"ipAddressPools,omitempty"`

	// IPAddressPoolSelectors select further pools by label.
	//
	// +optional
	IPAddressPoolSelectors []metav1.LabelSelector `json:"ipAddressPoolSelectors,omitempty"`

	// ServiceSelectors restrict it to Services by label; one that matches is enough.
	//
	// +optional
	ServiceSelectors []metav1.LabelSelector `json:"serviceSelectors,omitempty"`

	// NodeSelectors restrict it to nodes by label; one that matches is enough.
	//
	// +optional
	NodeSelectors []metav1.LabelSelector `json:"nodeSelectors,omitempty"`
}

// L2AdvertisementSpec says which addresses, from which nodes, on which links.
type L2AdvertisementSpec struct {
	Selection `json:",inline"`

	// PreferredNodeSelectors weigh the nodes that may answer: the one with the
	// largest sum of matching weights does.
	//
	// +optional
	PreferredNodeSelectors []PreferredNodeSelector `json:"preferredNodeSelectors,omitempty"`

	// Interfaces are names of network interfaces, or patterns with * and ?, to
	// answer on. Without any, all that have the address's network will do.
	//
	// +optional
	Interfaces []string `json:"interfaces,omitempty"`
}

// PreferredNodeSelector adds a weight to the nodes that it matches.
type PreferredNodeSelector struct {
	// Weight of a match.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Weight int32 `json:"weight"`
	// Preference selects nodes by label.
	Preference metav1.LabelSelector `json:"preference"`
}

// L2AdvertisementList is a list of L2 advertisements.
//
// +kubebuilder:object:root=true
type L2AdvertisementList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []L2Advertisement `json:"items"`
}

// BGPAdvertisement has addresses of pools announced to BGP peers.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="IPAddressPools",type=string,JSONPath=`.spec.ipAddressPools`
// +kubebuilder:printcolumn:name="Peers",type=string,JSONPath=`.spec.peers`
// +kubebuilder:printcolumn:name="Valid",type=string,JSONPath=`.status.conditions[?(@.type=="Valid")].status`
// +kubebuilder:printcolumn:name="IPAddressPool Selectors",type=string,priority=10,JSONPath=`.spec.ipAddressPoolSelectors`
// +kubebuilder:printcolumn:name="Node Selectors",type=string,priority=10,JSONPath=`.spec.nodeSelectors`
type BGPAdvertisement struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   BGPAdvertisementSpec `json:"spec,omitempty"`
	Status Status               `json:"status,omitempty"`
}

// BGPAdvertisementSpec says which addresses, to which peers, with which attributes.
type BGPAdvertisementSpec struct {
	Selection `json:",inline"`

	// Peers are names of BGPPeers; without any, all.
	//
	// +optional
	Peers []string `json:"peers,omitempty"`

	// AggregationLength is the prefix length of IPv4 routes: addresses that
	// share so many bits are announced as one.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=32
	// +kubebuilder:default=32
	// +optional
	AggregationLength *int32 `json:"aggregationLength,omitempty"`

	// AggregationLengthV6 is the same for IPv6.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=128
	// +kubebuilder:default=128
	// +optional
	AggregationLengthV6 *int32 `json:"aggregationLengthV6,omitempty"`

	// LocalPref is the LOCAL_PREF attribute (RFC 4271 section 5.1.5), sent to
	// internal peers only.
	//
	// +optional
	LocalPref uint32 `json:"localPref,omitempty"`

	// Communities are standard ("64512:100", RFC 1997), large
	// ("large:64512:1:2", RFC 8092) or well-known ones ("no-export"), or names
	// from a Community object.
	//
	// +optional
	Communities []string `json:"communities,omitempty"`

	// ASPathPrepend is how often the own AS number is put in front of the path once more.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10
	// +optional
	ASPathPrepend *int32 `json:"asPathPrepend,omitempty"`
}

// BGPAdvertisementList is a list of BGP advertisements.
//
// +kubebuilder:object:root=true
type BGPAdvertisementList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []BGPAdvertisement `json:"items"`
}

// Community gives names to BGP communities.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Names",type=string,JSONPath=`.spec.communities[*].name`
// +kubebuilder:printcolumn:name="Valid",type=string,JSONPath=`.status.conditions[?(@.type=="Valid")].status`
type Community struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   CommunitySpec `json:"spec,omitempty"`
	Status Status        `json:"status,omitempty"`
}

// CommunitySpec lists names and values.
type CommunitySpec struct {
	// Communities are the names and what they stand for.
	//
	// +optional
	Communities []CommunityAlias `json:"communities,omitempty"`
}

// CommunityAlias is a name for a BGP community.
type CommunityAlias struct {
	// Name to be used in BGPAdvertisements.
	//
	// +optional
	Name string `json:"name,omitempty"`
	// Value is a standard ("64512:100") or a large community ("large:64512:1:2").
	//
	// +optional
	Value string `json:"value,omitempty"`
}

// CommunityList is a list of communities.
//
// +kubebuilder:object:root=true
type CommunityList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Community `json:"items"`
}
