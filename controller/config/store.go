// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"maps"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
)

// Add adds an object of one of our kinds, or a Secret. Others are left out.
func (o *Objects) Add(one metav1.Object) {
	switch one := one.(type) {
	case *v1beta1.IPAddressPool:
		o.Pools = append(o.Pools, one)
	case *v1beta1.L2Advertisement:
		o.L2Advertisements = append(o.L2Advertisements, one)
	case *v1beta1.BGPAdvertisement:
		o.BGPAdvertisements = append(o.BGPAdvertisements, one)
	case *v1beta1.BGPPeer:
		o.BGPPeers = append(o.BGPPeers, one)
	case *v1beta1.Community:
		o.Communities = append(o.Communities, one)
	case *v1beta1.BFDProfile:
		o.BFDProfiles = append(o.BFDProfiles, one)
	case *corev1.Secret:
		if o.Secrets == nil {
			o.Secrets = map[string]*corev1.Secret{}
		}
		o.Secrets[one.Name] = one
	}
}

// Store keeps objects as informers tell of them.
type Store map[Ref]metav1.Object

// Put takes an object in, and says whether more than its status is new.
func (s Store) Put(o metav1.Object) bool {
	ref := refOf(o)
	old, known := s[ref]
	s[ref] = o
	if secret, ok := o.(*corev1.Secret); ok && known {
		before := old.(*corev1.Secret)
		return before.Type != secret.Type || !maps.EqualFunc(before.Data, secret.Data, bytes.Equal)
	}
	return !known || old.GetUID() != o.GetUID() || old.GetGeneration() != o.GetGeneration() || !maps.Equal(old.GetLabels(), o.GetLabels())
}

// Drop forgets an object.
func (s Store) Drop(o metav1.Object) { delete(s, refOf(o)) }

// Objects are those kept, for Check, in no order.
func (s Store) Objects() Objects {
	var all Objects
	for _, o := range s {
		all.Add(o)
	}
	return all
}
