// SPDX-License-Identifier: Apache-2.0

package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Selection says which addresses an advertisement is for, and which nodes tell
// of them. It is part of both kinds of advertisement. Several advertisements
// for one pool add up.
type Selection struct {
	// ipAddressPools are names of pools. Without any, and without
	// ipAddressPoolSelectors, the advertisement is for all pools. A pool may
	// be made after the advertisement.
	//
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	// +listType=set
	// +optional
	IPAddressPools []string `json:"ipAddressPools,omitempty"`

	// ipAddressPoolSelectors select further pools by label; it is enough if one
	// of them matches.
	//
	// +listType=atomic
	// +optional
	IPAddressPoolSelectors []metav1.LabelSelector `json:"ipAddressPoolSelectors,omitempty"`

	// serviceSelectors restrict the advertisement to Services by label; it is
	// enough if one of them matches. Without any it is for all that have an
	// address of the pools.
	//
	// +listType=atomic
	// +optional
	ServiceSelectors []metav1.LabelSelector `json:"serviceSelectors,omitempty"`

	// nodeSelectors restrict the advertisement to nodes by label; it is enough
	// if one of them matches. Without any, all nodes tell of the addresses.
	//
	// +listType=atomic
	// +optional
	NodeSelectors []metav1.LabelSelector `json:"nodeSelectors,omitempty"`
}

// L2Advertisement has addresses of pools answered for by ARP (IPv4) and NDP
// (IPv6) on the nodes' own networks. One node at a time answers for an address;
// where it fails, another takes over.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=fll2,categories=fairlead
// +kubebuilder:printcolumn:name="IPAddressPools",type=string,JSONPath=`.spec.ipAddressPools`
// +kubebuilder:printcolumn:name="Interfaces",type=string,JSONPath=`.spec.interfaces`
// +kubebuilder:printcolumn:name="Valid",type=string,JSONPath=`.status.conditions[?(@.type=="Valid")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="IPAddressPool Selectors",type=string,priority=10,JSONPath=`.spec.ipAddressPoolSelectors`
// +kubebuilder:printcolumn:name="Node Selectors",type=string,priority=10,JSONPath=`.spec.nodeSelectors`
// +kubebuilder:printcolumn:name="Message",type=string,priority=10,JSONPath=`.status.conditions[?(@.type=="Valid")].message`
type L2Advertisement struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec says which addresses, from which nodes, on which links. An empty
	// one is for all pools, from all nodes, on all links.
	//
	// +optional
	Spec L2AdvertisementSpec `json:"spec,omitzero"`
	// status says what is wrong with the advertisement. The controller writes it.
	//
	// +optional
	Status Status `json:"status,omitzero"`
}

// L2AdvertisementSpec says which addresses, from which nodes, on which links.
type L2AdvertisementSpec struct {
	Selection `json:",inline"`

	// preferredNodeSelectors rank the nodes that may answer: those with the
	// largest sum of matching weights go first.
	//
	// +listType=atomic
	// +optional
	PreferredNodeSelectors []PreferredNodeSelector `json:"preferredNodeSelectors,omitempty"`

	// interfaces are names of network interfaces to answer on, or patterns in
	// which * stands for any characters and ? for one. Without any, addresses
	// are answered for on every interface of the node that has the network.
	// Where another advertisement for the same pool names no interfaces, that
	// holds for both.
	//
	// +kubebuilder:validation:MaxItems=100
	// +kubebuilder:validation:items:MaxLength=15
	// +kubebuilder:validation:items:XValidation:rule="self.matches('^[^/: ]+$')",message="want the name of a network interface or a pattern such as eth*, without slash, colon or space"
	// +listType=set
	// +optional
	Interfaces []string `json:"interfaces,omitempty"`
}

// PreferredNodeSelector adds a weight to the nodes that it matches.
type PreferredNodeSelector struct {
	// weight is added to a node's sum where preference matches it.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Weight int32 `json:"weight"`
	// preference selects nodes by label.
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

// BGPAdvertisement has addresses of pools announced to BGP peers, with the node
// as next hop. Routers that have several such routes of equal cost spread
// connections over the nodes.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=flbgp,categories=fairlead
// +kubebuilder:printcolumn:name="IPAddressPools",type=string,JSONPath=`.spec.ipAddressPools`
// +kubebuilder:printcolumn:name="Peers",type=string,JSONPath=`.spec.peers`
// +kubebuilder:printcolumn:name="Valid",type=string,JSONPath=`.status.conditions[?(@.type=="Valid")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="IPAddressPool Selectors",type=string,priority=10,JSONPath=`.spec.ipAddressPoolSelectors`
// +kubebuilder:printcolumn:name="Node Selectors",type=string,priority=10,JSONPath=`.spec.nodeSelectors`
// +kubebuilder:printcolumn:name="Message",type=string,priority=10,JSONPath=`.status.conditions[?(@.type=="Valid")].message`
type BGPAdvertisement struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec says which addresses, to which peers, with which attributes. An
	// empty one is for all pools, to all peers.
	//
	// +optional
	Spec BGPAdvertisementSpec `json:"spec,omitzero"`
	// status says what is wrong with the advertisement. The controller writes it.
	//
	// +optional
	Status Status `json:"status,omitzero"`
}

// BGPAdvertisementSpec says which addresses, to which peers, with which attributes.
//
// +kubebuilder:validation:XValidation:rule="!has(self.serviceSelectors) || self.serviceSelectors.size() == 0 || (!has(self.aggregationLength) || self.aggregationLength == 32) && (!has(self.aggregationLengthV6) || self.aggregationLengthV6 == 128)",fieldPath=".serviceSelectors",message="a route for many addresses cannot be for some Services alone: want aggregationLength 32 and aggregationLengthV6 128 beside serviceSelectors"
type BGPAdvertisementSpec struct {
	Selection `json:",inline"`

	// peers are names of BGPPeers to announce to; without any, to all. A peer
	// may be made after the advertisement.
	//
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	// +listType=set
	// +optional
	Peers []string `json:"peers,omitempty"`

	// aggregationLength is the prefix length of the IPv4 routes: 32 announces
	// every address by itself, 24 one route for all that share the first 24
	// bits. It cannot be less than the prefix length of what is in a pool: a
	// route would cover addresses that are not in it. The pools where it is are
	// left out, and the condition Valid names them.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=32
	// +kubebuilder:default=32
	// +optional
	AggregationLength *int32 `json:"aggregationLength,omitempty"`

	// aggregationLengthV6 is the prefix length of the IPv6 routes; 128
	// announces every address by itself.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=128
	// +kubebuilder:default=128
	// +optional
	AggregationLengthV6 *int32 `json:"aggregationLengthV6,omitempty"`

	// localPref is the attribute LOCAL_PREF (RFC 4271 section 5.1.5): of equal
	// routes a router takes the one with the highest. Only internal peers are
	// told. Advertisements that give the same route to the same peer want the
	// same value.
	//
	// +kubebuilder:validation:Format=int64
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	// +optional
	LocalPref uint32 `json:"localPref,omitempty"`

	// communities are attached to the routes: standard ones ("64512:100", RFC
	// 1997), large ones ("large:64512:1:2", RFC 8092), names from a Community
	// object, or the well-known "no-export", "no-advertise",
	// "no-export-subconfed", "no-peer", "blackhole" (RFC 7999) and
	// "graceful-shutdown" (RFC 8326). Those of several advertisements for the
	// same route add up.
	//
	// +kubebuilder:validation:MaxItems=100
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	// +kubebuilder:validation:items:XValidation:rule="!self.contains(':') || self.matches('^[0-9]{1,5}:[0-9]{1,5}$') && self.split(':').all(n, int(n) < 65536) || self.matches('^large:[0-9]{1,10}:[0-9]{1,10}:[0-9]{1,10}$') && self.substring(6).split(':').all(n, int(n) < 4294967296)",message="want two numbers up to 65535 such as 64512:100, three up to 4294967295 such as large:64512:1:2, or a name without colons"
	// +listType=set
	// +optional
	Communities []string `json:"communities,omitempty"`

	// asPathPrepend is how often the own AS number is put in front of the AS
	// path once more, so that routers prefer other routes. Advertisements that
	// give the same route to the same peer want the same value.
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

// Community gives names to BGP communities, to be used in BGPAdvertisements.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=flcommunity,categories=fairlead
// +kubebuilder:printcolumn:name="Names",type=string,JSONPath=`.spec.communities[*].name`
// +kubebuilder:printcolumn:name="Valid",type=string,JSONPath=`.status.conditions[?(@.type=="Valid")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Values",type=string,priority=10,JSONPath=`.spec.communities[*].value`
// +kubebuilder:printcolumn:name="Message",type=string,priority=10,JSONPath=`.status.conditions[?(@.type=="Valid")].message`
type Community struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec lists names and values.
	//
	// +optional
	Spec CommunitySpec `json:"spec,omitzero"`
	// status says what is wrong with the names. The controller writes it.
	//
	// +optional
	Status Status `json:"status,omitzero"`
}

// CommunitySpec lists names and values.
type CommunitySpec struct {
	// communities are names and what they stand for. A name may be given once
	// in all Community objects of the namespace; of several the oldest
	// object's counts.
	//
	// +kubebuilder:validation:MaxItems=500
	// +listType=map
	// +listMapKey=name
	// +optional
	Communities []CommunityAlias `json:"communities,omitempty"`
}

// CommunityAlias is a name for a BGP community.
type CommunityAlias struct {
	// name is what BGPAdvertisements say instead of the value. It goes before
	// a well-known community of the same name.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="!self.contains(':')",message="looks like a value: want a name without colons"
	Name string `json:"name"`
	// value is a standard ("64512:100") or a large community ("large:64512:1:2").
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self.matches('^[0-9]{1,5}:[0-9]{1,5}$') && self.split(':').all(n, int(n) < 65536) || self.matches('^large:[0-9]{1,10}:[0-9]{1,10}:[0-9]{1,10}$') && self.substring(6).split(':').all(n, int(n) < 4294967296)",message="want two numbers up to 65535 such as 64512:100, or three up to 4294967295 such as large:64512:1:2"
	Value string `json:"value"`
}

// CommunityList is a list of communities.
//
// +kubebuilder:object:root=true
type CommunityList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Community `json:"items"`
}
