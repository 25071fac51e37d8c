// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
	"github.com/fairlead/fairlead/controller/config"
)

// objects are those of our own kinds that somebody else wrote, and what decides
// about them.
type objects struct {
	pools             kept[*v1beta1.IPAddressPool]
	l2Advertisements  kept[*v1beta1.L2Advertisement]
	bgpAdvertisements kept[*v1beta1.BGPAdvertisement]
	bgpPeers          kept[*v1beta1.BGPPeer]
	communities       kept[*v1beta1.Community]
	bfdProfiles       kept[*v1beta1.BFDProfile]
	nodes             map[string]labels.Set
}

// kept are the objects of a kind by name: all are of one namespace.
type kept[T client.Object] map[types.NamespacedName]T

// put takes an object in, and says whether more than its status is new.
func (k kept[T]) put(o T) bool {
	name := client.ObjectKeyFromObject(o)
	old, known := k[name]
	k[name] = o
	return !known || old.GetUID() != o.GetUID() || old.GetGeneration() != o.GetGeneration() || !maps.Equal(old.GetLabels(), o.GetLabels())
}

func (k kept[T]) drop(o T) { delete(k, client.ObjectKeyFromObject(o)) }

func (k kept[T]) list() []T { return slices.Collect(maps.Values(k)) }

func newObjects() objects {
	return objects{
		pools:             kept[*v1beta1.IPAddressPool]{},
		l2Advertisements:  kept[*v1beta1.L2Advertisement]{},
		bgpAdvertisements: kept[*v1beta1.BGPAdvertisement]{},
		bgpPeers:          kept[*v1beta1.BGPPeer]{},
		communities:       kept[*v1beta1.Community]{},
		bfdProfiles:       kept[*v1beta1.BFDProfile]{},
		nodes:             map[string]labels.Set{},
	}
}

// config is what package config reads. Secrets are not the controller's to read.
func (o *objects) config() config.Objects {
	return config.Objects{
		Pools: o.pools.list(), L2Advertisements: o.l2Advertisements.list(), BGPAdvertisements: o.bgpAdvertisements.list(),
		BGPPeers: o.bgpPeers.list(), Communities: o.communities.list(), BFDProfiles: o.bfdProfiles.list(),
		Nodes: maps.Clone(o.nodes),
	}
}

// of makes handlers for the objects of a kind.
func of[T client.Object](w *Watcher, k kept[T]) (_ *Watcher, put, drop func(T)) {
	put = func(o T) {
		if k.put(o) {
			w.configured++
		}
		w.signal() // somebody else may have changed its status
	}
	return w, put, func(o T) {
		k.drop(o)
		w.configured++
		w.signal()
	}
}

func (w *Watcher) putNode(o *corev1.Node) {
	w.state.PutNode(o)
	w.setDead(o.Name, slices.ContainsFunc(o.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status != corev1.ConditionTrue
	}))
	if old, known := w.objects.nodes[o.Name]; !known || !maps.Equal(old, o.Labels) {
		w.objects.nodes[o.Name] = o.Labels
		w.configured++
		w.signal()
	}
}

func (w *Watcher) dropNode(o *corev1.Node) {
	w.state.DeleteNode(o.Name)
	w.setDead(o.Name, false)
	delete(w.objects.nodes, o.Name)
	w.configured++
	w.signal()
}
