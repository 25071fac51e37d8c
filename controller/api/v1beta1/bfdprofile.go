// SPDX-License-Identifier: Apache-2.0

package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// BFDProfile says how BFD (RFC 5880) watches the path to BGP peers: a peer that
// does not answer for detectMultiplier intervals is given up in milliseconds,
// where the hold time of BGP takes seconds. It is used by the BGPPeers that
// name it.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=flbfd,categories=fairlead
// +kubebuilder:printcolumn:name="Passive Mode",type=boolean,JSONPath=`.spec.passiveMode`
// +kubebuilder:printcolumn:name="Transmit Interval",type=integer,JSONPath=`.spec.transmitInterval`
// +kubebuilder:printcolumn:name="Receive Interval",type=integer,JSONPath=`.spec.receiveInterval`
// +kubebuilder:printcolumn:name="Multiplier",type=integer,JSONPath=`.spec.detectMultiplier`
// +kubebuilder:printcolumn:name="Valid",type=string,JSONPath=`.status.conditions[?(@.type=="Valid")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Message",type=string,priority=10,JSONPath=`.status.conditions[?(@.type=="Valid")].message`
type BFDProfile struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec has intervals and modes; an empty one takes the defaults.
	//
	// +optional
	Spec BFDProfileSpec `json:"spec,omitzero"`
	// status says what is wrong with the profile. The controller writes it.
	//
	// +optional
	Status Status `json:"status,omitzero"`
}

// BFDProfileSpec has intervals and modes.
type BFDProfileSpec struct {
	// receiveInterval is the shortest time between packets that the node wants
	// to receive, in milliseconds; 300 where it is not given.
	//
	// +kubebuilder:validation:Minimum=10
	// +kubebuilder:validation:Maximum=60000
	// +optional
	ReceiveInterval *int32 `json:"receiveInterval,omitempty"`

	// transmitInterval is the shortest time between packets that the node
	// sends, in milliseconds; 300 where it is not given. Of this and what the
	// peer wants to receive, the longer one is taken.
	//
	// +kubebuilder:validation:Minimum=10
	// +kubebuilder:validation:Maximum=60000
	// +optional
	TransmitInterval *int32 `json:"transmitInterval,omitempty"`

	// detectMultiplier is after how many missing packets the peer is given up;
	// 3 where it is not given.
	//
	// +kubebuilder:validation:Minimum=2
	// +kubebuilder:validation:Maximum=255
	// +optional
	DetectMultiplier *int32 `json:"detectMultiplier,omitempty"`

	// echoInterval is MetalLB's. Fairlead has no echo mode, and this is not used.
	//
	// +kubebuilder:validation:Minimum=10
	// +kubebuilder:validation:Maximum=60000
	// +optional
	EchoInterval *int32 `json:"echoInterval,omitempty"`

	// echoMode is MetalLB's. Fairlead has no echo mode: where this is true the
	// profile is used without, and its condition Valid says so.
	//
	// +optional
	EchoMode *bool `json:"echoMode,omitempty"`

	// passiveMode sends nothing before the peer does.
	//
	// +optional
	PassiveMode *bool `json:"passiveMode,omitempty"`

	// minimumTtl is the least TTL of packets that are taken from a peer which
	// is several hops away; 254 where it is not given.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=254
	// +optional
	MinimumTTL *int32 `json:"minimumTtl,omitempty"`
}

// BFDProfileList is a list of profiles.
//
// +kubebuilder:object:root=true
type BFDProfileList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []BFDProfile `json:"items"`
}
