// SPDX-License-Identifier: Apache-2.0

package v1beta1

// Annotations of Services. The first three are also read with the prefixes of
// AliasPrefixes; of several that are given, the first in this order counts.
const (
	// AnnotationLoadBalancerIPs asks for addresses: one, or one of each family, with a comma between.
	AnnotationLoadBalancerIPs = Prefix + "loadBalancerIPs"
	// AnnotationAddressPool asks for a pool by its name.
	AnnotationAddressPool = Prefix + "address-pool"
	// AnnotationAllowSharedIP is a key: Services with an equal one may share an address.
	AnnotationAllowSharedIP = Prefix + "allow-shared-ip"
	// AnnotationTableSize is the number of slots of the Service's lookup
	// tables. The controller writes it, and only ever raises it.
	AnnotationTableSize = Prefix + "table-size"

	// Prefix is the prefix of annotations and conditions.
	Prefix = "fairlead.io/"
)

// AliasPrefixes are MetalLB's prefixes of annotations, its newer one first.
var AliasPrefixes = []string{"metallb.io/", "metallb.universe.tf/"}

// Conditions of Services.
const (
	// ConditionAllocated says whether the Service has the addresses that it asks for.
	ConditionAllocated = Prefix + "Allocated"
	// ConditionDatapathReady says whether nodes forward for the Service.
	ConditionDatapathReady = Prefix + "DatapathReady"
	// ConditionAnnounced says whether nodes tell the network of every address
	// of the Service. There is none as long as no node has anything to say of it.
	ConditionAnnounced = Prefix + "Announced"
)

// ReasonAddressConflict says that a machine that is no node of the cluster
// claims the address by ARP or NDP.
const ReasonAddressConflict = "AddressConflict"

// ConditionValid says of an object of this group whether it is used as it stands.
const ConditionValid = "Valid"
