// SPDX-License-Identifier: Apache-2.0

// Package v1beta1 holds the API types of the group fairlead.io: what an
// operator says about addresses and about who is told of them. Kinds, field
// names and defaults are those of metallb.io/v1beta1 (BGPPeer: v1beta2), so
// that a user moves by changing the group.
//
// +kubebuilder:object:generate=true
// +groupName=fairlead.io
package v1beta1

//go:generate go tool controller-gen object crd paths=. output:crd:dir=crd
