// SPDX-License-Identifier: Apache-2.0

package v1beta1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is the group and version of all kinds here.
var GroupVersion = schema.GroupVersion{Group: "fairlead.io", Version: "v1beta1"}

// AddToScheme makes the kinds known to a scheme.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion,
		&IPAddressPool{}, &IPAddressPoolList{},
		&L2Advertisement{}, &L2AdvertisementList{},
		&BGPAdvertisement{}, &BGPAdvertisementList{},
		&BGPPeer{}, &BGPPeerList{},
		&Community{}, &CommunityList{},
		&BFDProfile{}, &BFDProfileList{},
		&NodeState{}, &NodeStateList{},
		&AddressBlock{}, &AddressBlockList{},
	)
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}

// Status is what the controller says about an object that has no other news.
type Status struct {
	// conditions has one of type Valid: True where the object is used as it
	// stands, else False with what is wrong, and what is not used, in its
	// message. observedGeneration says of which generation that is.
	//
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}
