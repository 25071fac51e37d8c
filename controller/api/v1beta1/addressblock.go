// SPDX-License-Identifier: Apache-2.0

package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// AddressBlock records which Services have the addresses of a small prefix. The
// controller writes it, and nobody else may: an address is recorded here before
// a Service shows it and until no Service can show it any more, so that two
// controllers never give it to two Services. To look who has an address, look
// at Services; to give one to a Service, annotate the Service.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=flblock,categories=fairlead
// +kubebuilder:printcolumn:name="Prefix",type=string,JSONPath=`.spec.prefix`
// +kubebuilder:printcolumn:name="Services",type=string,priority=10,JSONPath=`.spec.addresses[*].holders[*].service`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type AddressBlock struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is the record.
	Spec AddressBlockSpec `json:"spec"`
}

// AddressBlockSpec is a record of addresses.
type AddressBlockSpec struct {
	// prefix is that of all addresses here, a /26 or a /122.
	Prefix string `json:"prefix"`
	// addresses are those that a Service has, or had a short while ago.
	//
	// +optional
	// +listType=map
	// +listMapKey=address
	Addresses []AddressRecord `json:"addresses,omitempty"`
}

// AddressRecord is the record of one address.
type AddressRecord struct {
	// address is an IP address.
	Address string `json:"address"`
	// holders are the Services that have it, several where they share it.
	//
	// +optional
	// +listType=atomic
	Holders []AddressHolder `json:"holders,omitempty"`
	// freedAt is when it was last taken from a Service; it rests for a while then.
	//
	// +optional
	FreedAt *metav1.MicroTime `json:"freedAt,omitempty"`
	// freedBy is that Service's namespace/name.
	//
	// +optional
	FreedBy string `json:"freedBy,omitempty"`
}

// AddressHolder is a Service that has an address.
type AddressHolder struct {
	// service is its namespace/name.
	Service string `json:"service"`
	// uid is its uid: another Service of the same name has nothing of it.
	UID string `json:"uid"`
	// resourceVersion is the Service's when this was written. The address may
	// be added to the status of this version, and of no other one.
	ResourceVersion string `json:"resourceVersion"`
	// terms say what the Service shared then, as a hash; empty for nothing.
	//
	// +optional
	Terms string `json:"terms,omitempty"`
}

// AddressBlockList is a list of address blocks.
//
// +kubebuilder:object:root=true
type AddressBlockList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []AddressBlock `json:"items"`
}
