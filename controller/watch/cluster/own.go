// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/controller/config"
)

// config is what package config reads. Secrets are not the controller's to read.
func (w *Watcher) config() config.Objects {
	all := w.own.Objects()
	all.Nodes = maps.Clone(w.nodes)
	return all
}

// putOwn takes in an object of our own kinds that somebody else wrote.
func (w *Watcher) putOwn(o client.Object) {
	if w.own.Put(o) {
		w.configured++
	}
	w.signal() // somebody else may have changed its status
}

func (w *Watcher) dropOwn(o client.Object) {
	w.own.Drop(o)
	w.configured++
	w.signal()
}

func (w *Watcher) putNode(o *corev1.Node) {
	w.state.PutNode(o)
	w.setDead(o.Name, slices.ContainsFunc(o.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status != corev1.ConditionTrue
	}))
	if old, known := w.nodes[o.Name]; !known || !maps.Equal(old, o.Labels) {
		w.nodes[o.Name] = o.Labels
		w.configured++
		w.signal()
	}
}

func (w *Watcher) dropNode(o *corev1.Node) {
	w.state.DeleteNode(o.Name)
	w.setDead(o.Name, false)
	delete(w.nodes, o.Name)
	w.configured++
	w.signal()
}
