// SPDX-License-Identifier: Apache-2.0

package v1beta1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// BGPPeer is a router that nodes have a BGP session with. Nodes connect to it,
// announce addresses and take no routes from it.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=flpeer,categories=fairlead
// +kubebuilder:printcolumn:name="Address",type=string,JSONPath=`.spec.peerAddress`
// +kubebuilder:printcolumn:name="ASN",type=string,JSONPath=`.spec.peerASN`
// +kubebuilder:printcolumn:name="BFD Profile",type=string,JSONPath=`.spec.bfdProfile`
// +kubebuilder:printcolumn:name="Multi Hops",type=boolean,JSONPath=`.spec.ebgpMultiHop`
// +kubebuilder:printcolumn:name="Valid",type=string,JSONPath=`.status.conditions[?(@.type=="Valid")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Interface",type=string,priority=10,JSONPath=`.spec.interface`
// +kubebuilder:printcolumn:name="My ASN",type=string,priority=10,JSONPath=`.spec.myASN`
// +kubebuilder:printcolumn:name="Message",type=string,priority=10,JSONPath=`.status.conditions[?(@.type=="Valid")].message`
type BGPPeer struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec says who the peer is and how to speak with it.
	Spec BGPPeerSpec `json:"spec"`
	// status says what is wrong with the peer. The controller writes it.
	//
	// +optional
	Status Status `json:"status,omitzero"`
}

// BGPPeerSpec says who the peer is and how to speak with it.
//
// +kubebuilder:validation:XValidation:rule="(has(self.peerAddress) && self.peerAddress.size() > 0) != (has(self.interface) && self.interface.size() > 0)",message="want either peerAddress or interface",messageExpression="'want either peerAddress or interface, have ' + (has(self.peerAddress) && self.peerAddress.size() > 0 ? 'both' : 'neither')"
// +kubebuilder:validation:XValidation:rule="(has(self.peerASN) && self.peerASN != 0) != (has(self.dynamicASN) && self.dynamicASN.size() > 0)",message="want either peerASN or dynamicASN",messageExpression="'want either peerASN or dynamicASN, have ' + (has(self.peerASN) && self.peerASN != 0 ? 'both' : 'neither')"
// +kubebuilder:validation:XValidation:rule="!(has(self.password) && self.password.size() > 0 && has(self.passwordSecret) && has(self.passwordSecret.name) && self.passwordSecret.name.size() > 0)",fieldPath=".password",message="given beside passwordSecret: want one of them"
// +kubebuilder:validation:XValidation:rule="!has(self.ebgpMultiHop) || !self.ebgpMultiHop || !has(self.peerASN) || self.peerASN != self.myASN",fieldPath=".ebgpMultiHop",message="is for external peers, and peerASN is myASN"
// +kubebuilder:validation:XValidation:rule="!has(self.ebgpMultiHop) || !self.ebgpMultiHop || !has(self.dynamicASN) || self.dynamicASN != 'internal'",fieldPath=".ebgpMultiHop",message="is for external peers, and dynamicASN is internal"
// +kubebuilder:validation:XValidation:rule="!has(self.ebgpMultiHop) || !self.ebgpMultiHop || !has(self.interface) || self.interface.size() == 0",fieldPath=".ebgpMultiHop",message="is for peers behind a router, and that of an interface is on its link"
// +kubebuilder:validation:XValidation:rule="!has(self.sourceAddress) || !has(self.peerAddress) || !isIP(self.sourceAddress) || !isIP(self.peerAddress) || ip(self.sourceAddress).family() == ip(self.peerAddress).family()",fieldPath=".sourceAddress",message="is of another family than peerAddress",messageExpression="self.sourceAddress + ' is of another family than peerAddress ' + self.peerAddress"
// +kubebuilder:validation:XValidation:rule="!has(self.holdTime) || !has(self.keepaliveTime) || !self.holdTime.matches('^([0-9]{1,6}(ms|([.][0-9]{1,3})?(s|m|h)))+$|^0$') || !self.keepaliveTime.matches('^([0-9]{1,6}(ms|([.][0-9]{1,3})?(s|m|h)))+$|^0$') || duration(self.keepaliveTime) <= duration(self.holdTime)",fieldPath=".keepaliveTime",message="is longer than holdTime",messageExpression="self.keepaliveTime + ' is longer than holdTime ' + self.holdTime"
// +kubebuilder:validation:XValidation:rule="!has(self.holdTime) || !has(self.keepaliveTime) || !self.holdTime.matches('^([0-9]{1,6}(ms|([.][0-9]{1,3})?(s|m|h)))+$|^0$') || !self.keepaliveTime.matches('^([0-9]{1,6}(ms|([.][0-9]{1,3})?(s|m|h)))+$|^0$') || duration(self.keepaliveTime) > duration('0s') || duration(self.holdTime) == duration('0s')",fieldPath=".keepaliveTime",message="is 0, and the peer ends a session without keepalives after holdTime: want both 0, or none",messageExpression="'is 0, and the peer ends a session without keepalives after holdTime ' + self.holdTime + ': want both 0, or none'"
// +kubebuilder:validation:XValidation:rule="!has(self.disableMP) || !self.disableMP || !has(self.dualStackAddressFamily) || !self.dualStackAddressFamily",fieldPath=".disableMP",message="contradicts dualStackAddressFamily: want one of them"
type BGPPeerSpec struct {
	// myASN is the nodes' AS number.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4294967295
	MyASN int64 `json:"myASN"`

	// peerASN is the peer's AS number. Either this or dynamicASN is given.
	//
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	// +optional
	PeerASN int64 `json:"peerASN,omitempty"`

	// dynamicASN takes the AS number that the peer says, where it is the node's
	// own ("internal") or any other ("external"). Either this or peerASN is
	// given.
	//
	// +kubebuilder:validation:Enum=internal;external
	// +optional
	DynamicASN string `json:"dynamicASN,omitempty"`

	// localASN is the AS number that this peer is told instead of myASN.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4294967295
	// +optional
	LocalASN *int64 `json:"localASN,omitempty"`

	// peerAddress is the peer's IPv4 or IPv6 address. Either this or interface
	// is given.
	//
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self.size() == 0 || isIP(self) && !ip(self).isUnspecified() && !cidr('224.0.0.0/4').containsIP(self) && !cidr('ff00::/8').containsIP(self)",message="want the IP address of a machine, such as 192.0.2.1 or 2001:db8::1"
	// +kubebuilder:validation:XValidation:rule="!isIP(self) || !cidr('fe80::/10').containsIP(self)",message="is link-local and does not say on which link: want interface instead of peerAddress"
	// +optional
	PeerAddress string `json:"peerAddress,omitempty"`

	// interface is the link on which the peer is found by its link-local
	// address ("unnumbered"). Either this or peerAddress is given.
	//
	// +kubebuilder:validation:MaxLength=15
	// +kubebuilder:validation:XValidation:rule="self.matches('^[^/: ]*$')",message="want the name of a network interface, without slash, colon or space"
	// +optional
	Interface string `json:"interface,omitempty"`

	// sourceAddress is the node's own address of the session; by default the
	// one that its routes give. It has to be on every node that the peer is
	// for, so it goes with nodeSelectors.
	//
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self.size() == 0 || isIP(self) && !ip(self).isUnspecified() && !cidr('224.0.0.0/4').containsIP(self) && !cidr('ff00::/8').containsIP(self)",message="want an IP address of the node, such as 192.0.2.1 or 2001:db8::1"
	// +optional
	SourceAddress string `json:"sourceAddress,omitempty"`

	// peerPort is the TCP port to connect to.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +kubebuilder:default=179
	// +optional
	PeerPort int32 `json:"peerPort,omitempty"`

	// holdTime is how long a session lives on without a message from the peer
	// (RFC 4271 section 4.2), such as "90s": 0 for ever, else at least 3s,
	// whole seconds. Where only keepaliveTime is given it is three times that;
	// where neither is, 90s.
	//
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,6}(ms|([.][0-9]{1,3})?(s|m|h)))+$|^0$')",message="want a duration such as 90s or 1m30s"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^([0-9]{1,6}(ms|([.][0-9]{1,3})?(s|m|h)))+$|^0$') || duration(self) == duration('0s') || duration(self) >= duration('3s') && duration(self) <= duration('65535s') && duration(self).getMilliseconds() % 1000 == 0",message="want 0, or whole seconds from 3s to 65535s"
	// +optional
	HoldTime *metav1.Duration `json:"holdTime,omitempty"`

	// keepaliveTime is the time between messages that keep the session alive:
	// at most the hold time, whole seconds. Where only holdTime is given it is
	// a third of that.
	//
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,6}(ms|([.][0-9]{1,3})?(s|m|h)))+$|^0$')",message="want a duration such as 30s or 1m30s"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^([0-9]{1,6}(ms|([.][0-9]{1,3})?(s|m|h)))+$|^0$') || duration(self) == duration('0s') || duration(self) >= duration('1s') && duration(self) <= duration('21845s') && duration(self).getMilliseconds() % 1000 == 0",message="want 0, or whole seconds from 1s to 21845s"
	// +optional
	KeepaliveTime *metav1.Duration `json:"keepaliveTime,omitempty"`

	// connectTime is the time between attempts to connect, whole seconds.
	//
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,6}(ms|([.][0-9]{1,3})?(s|m|h)))+$|^0$')",message="want a duration such as 30s or 1m30s"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^([0-9]{1,6}(ms|([.][0-9]{1,3})?(s|m|h)))+$|^0$') || duration(self) >= duration('1s') && duration(self) <= duration('65535s') && duration(self).getMilliseconds() % 1000 == 0",message="want whole seconds from 1s to 65535s"
	// +optional
	ConnectTime *metav1.Duration `json:"connectTime,omitempty"`

	// routerID is the nodes' BGP identifier, written as an IPv4 address. No
	// two nodes may have the same, so it goes with nodeSelectors; by default
	// it is the node's own IPv4 address.
	//
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self.size() == 0 || isIP(self) && ip(self).family() == 4 && !ip(self).isUnspecified()",message="want a number written as an IPv4 address, such as 192.0.2.1"
	// +optional
	RouterID string `json:"routerID,omitempty"`

	// nodeSelectors restrict the peer to nodes by label; it is enough if one
	// of them matches. Without any, every node has a session with it.
	//
	// +listType=atomic
	// +optional
	NodeSelectors []metav1.LabelSelector `json:"nodeSelectors,omitempty"`

	// password signs the session's TCP segments (RFC 2385). Everybody who may
	// read BGPPeers can read it: passwordSecret is better.
	//
	// +kubebuilder:validation:MaxLength=80
	// +optional
	Password string `json:"password,omitempty"`

	// passwordSecret names a Secret of type kubernetes.io/basic-auth that has
	// the password under the key "password". It is in the namespace of the
	// BGPPeer; another one cannot be given.
	//
	// +kubebuilder:validation:XValidation:rule="has(self.name) && self.name.size() > 0",fieldPath=".name",message="want the name of a Secret"
	// +optional
	PasswordSecret corev1.SecretReference `json:"passwordSecret,omitzero"`

	// bfdProfile is the name of the BFDProfile that says how BFD watches the
	// path to the peer. Without one, none does. The profile may be made after
	// the peer.
	//
	// +kubebuilder:validation:MaxLength=253
	// +optional
	BFDProfile string `json:"bfdProfile,omitempty"`

	// enableGracefulRestart asks the peer to keep the node's routes while its
	// agent restarts (RFC 4724). It cannot be changed: make another BGPPeer.
	//
	// +kubebuilder:default=false
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="cannot be changed: delete the BGPPeer and make another"
	// +optional
	EnableGracefulRestart bool `json:"enableGracefulRestart,omitempty"`

	// ebgpMultiHop says that an external peer is more than one hop away.
	//
	// +optional
	EBGPMultiHop bool `json:"ebgpMultiHop,omitempty"`

	// vrf is MetalLB's. Fairlead has sessions in the default VRF alone: a peer
	// with a vrf is not used, and its condition Valid says so.
	//
	// +kubebuilder:validation:MaxLength=15
	// +optional
	VRFName string `json:"vrf,omitempty"`

	// disableMP announces nothing but the family of the session's own
	// addresses. It is the older word for dualStackAddressFamily: false.
	//
	// +kubebuilder:default=false
	// +optional
	DisableMP bool `json:"disableMP,omitempty"`

	// dualStackAddressFamily announces addresses of both families over the one
	// session, not those of its own family alone.
	//
	// +kubebuilder:default=false
	// +optional
	DualStackAddressFamily bool `json:"dualStackAddressFamily,omitempty"`
}

// BGPPeerList is a list of peers.
//
// +kubebuilder:object:root=true
type BGPPeerList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []BGPPeer `json:"items"`
}
