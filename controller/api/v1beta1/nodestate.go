// SPDX-License-Identifier: Apache-2.0

package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// NodeState is what the agent of a node says about it. It has the node's name,
// and nobody but that agent writes it. Endpoints enter lookup tables only on
// nodes whose NodeState says that the programs are attached, in the boot that
// the node is in.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=flnode,categories=fairlead
// +kubebuilder:printcolumn:name="Attached",type=boolean,JSONPath=`.status.attached`
// +kubebuilder:printcolumn:name="Mode",type=string,JSONPath=`.status.mode`
// +kubebuilder:printcolumn:name="Version",type=string,JSONPath=`.status.version`
// +kubebuilder:printcolumn:name="Problems",type=string,JSONPath=`.status.problems[*].service`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type NodeState struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// status is what the node's agent says.
	//
	// +optional
	Status NodeStateStatus `json:"status,omitzero"`
}

// NodeStateStatus is the state of a node's datapath.
type NodeStateStatus struct {
	// attached says that the programs forward, with the agent or without.
	//
	// +optional
	Attached bool `json:"attached,omitempty"`
	// bootID is the node's boot in which that was so; programs do not outlive it.
	//
	// +optional
	BootID string `json:"bootID,omitempty"`
	// version is the agent's.
	//
	// +optional
	Version string `json:"version,omitempty"`
	// mode is how packets are received: native, generic, off or userspace.
	//
	// +optional
	Mode string `json:"mode,omitempty"`
	// recordsVersion is the format of the programs' flow records.
	//
	// +optional
	RecordsVersion int32 `json:"recordsVersion,omitempty"`
	// wireVersion is the format of packets between nodes. Nodes of different
	// ones send each other nothing.
	//
	// +optional
	WireVersion int32 `json:"wireVersion,omitempty"`
	// hashVersion is the way in which packets are mapped to backends. Nodes of
	// different ones send each other nothing.
	//
	// +optional
	HashVersion int32 `json:"hashVersion,omitempty"`
	// keys are fingerprints of the keys for the wire that the node accepts, the
	// one that it sends with first. A new key is sent when all nodes accept it.
	//
	// +optional
	// +listType=atomic
	Keys []string `json:"keys,omitempty"`
	// draining are endpoints that left their Service while their Pod still
	// runs on the node: their connections are kept.
	//
	// +optional
	// +listType=atomic
	Draining []DrainingEndpoint `json:"draining,omitempty"`
	// problems are Services that the node could not bring into its tables.
	//
	// +optional
	// +listType=atomic
	Problems []ServiceProblem `json:"problems,omitempty"`
	// announcements are the addresses that the node tells the network of.
	//
	// +optional
	// +listType=atomic
	Announcements []Announcement `json:"announcements,omitempty"`
	// notAnnounced are addresses that it does not tell the network of, and why.
	//
	// +optional
	// +listType=atomic
	NotAnnounced []NotAnnounced `json:"notAnnounced,omitempty"`
}

// Announcement is how a node tells the network of addresses.
type Announcement struct {
	// protocol is bgp, or l2 for ARP and NDP.
	//
	// +kubebuilder:validation:Enum=bgp;l2
	Protocol string `json:"protocol"`
	// to are the BGPPeers that have the routes, or the interfaces that the
	// node answers on.
	//
	// +listType=atomic
	To []string `json:"to"`
	// since is when the last of these began.
	Since metav1.Time `json:"since"`
	// addresses are those that this is so for.
	//
	// +listType=atomic
	Addresses []string `json:"addresses"`
}

// NotAnnounced is why a node does not tell the network of addresses.
type NotAnnounced struct {
	// protocol is bgp or l2; empty for both.
	//
	// +optional
	Protocol string `json:"protocol,omitempty"`
	// reason is the cause in one word.
	Reason string `json:"reason"`
	// message says what is in the way.
	Message string `json:"message"`
	// addresses are those that this is so for.
	//
	// +listType=atomic
	Addresses []string `json:"addresses"`
}

// DrainingEndpoint is an endpoint of a Service port that gets no new connections.
type DrainingEndpoint struct {
	// service is the Service's namespace/name.
	Service string `json:"service"`
	// port is the name of the Service's port; empty where it has none.
	//
	// +optional
	Port string `json:"port,omitempty"`
	// address is the endpoint's address and port.
	Address string `json:"address"`
}

// ServiceProblem is what keeps a Service from being forwarded on a node.
type ServiceProblem struct {
	// service is the Service's namespace/name.
	Service string `json:"service"`
	// message says what is wrong.
	Message string `json:"message"`
}

// NodeStateList is a list of node states.
//
// +kubebuilder:object:root=true
type NodeStateList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []NodeState `json:"items"`
}
