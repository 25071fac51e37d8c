// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
)

// CacheOptions say what the manager's cache is to hold: objects of our own
// kinds in Fairlead's namespace, the others in all, and of each only what the
// controller needs.
func CacheOptions(namespace string) cache.Options {
	own := cache.ByObject{Namespaces: map[string]cache.Config{namespace: {}}, Transform: Strip}
	o := cache.Options{DefaultTransform: Strip, ByObject: map[client.Object]cache.ByObject{}}
	for _, kind := range []client.Object{
		&v1beta1.IPAddressPool{}, &v1beta1.L2Advertisement{}, &v1beta1.BGPAdvertisement{}, &v1beta1.BGPPeer{},
		&v1beta1.Community{}, &v1beta1.BFDProfile{}, &v1beta1.NodeState{},
	} {
		o.ByObject[kind] = own
	}
	return o
}

// Strip takes off an object what nobody here reads. It is a TransformFunc, and
// never fails.
func Strip(in any) (any, error) {
	if o, ok := in.(metav1.Object); ok {
		o.SetManagedFields(nil)
	}
	switch o := in.(type) {
	case *corev1.Service:
		delete(o.Annotations, corev1.LastAppliedConfigAnnotation)
	case *discoveryv1.EndpointSlice:
		o.Annotations, o.OwnerReferences = nil, nil
		maps.DeleteFunc(o.Labels, func(key, _ string) bool { return key != discoveryv1.LabelServiceName })
		for i := range o.Endpoints {
			e := &o.Endpoints[i]
			e.DeprecatedTopology, e.Hints, e.Zone, e.Hostname = nil, nil, nil, nil
			if e.TargetRef != nil {
				e.TargetRef = &corev1.ObjectReference{UID: e.TargetRef.UID}
			}
		}
	case *corev1.Node:
		o.Annotations, o.Spec = nil, corev1.NodeSpec{}
		o.Status = corev1.NodeStatus{
			Addresses: o.Status.Addresses, NodeInfo: corev1.NodeSystemInfo{BootID: o.Status.NodeInfo.BootID}, Conditions: readiness(o.Status.Conditions),
		}
	case *corev1.Namespace:
		o.Annotations, o.Spec, o.Status = nil, corev1.NamespaceSpec{}, corev1.NamespaceStatus{}
	}
	return in, nil
}

// readiness is the condition Ready without its times, which change all the time.
func readiness(all []corev1.NodeCondition) []corev1.NodeCondition {
	for _, c := range all {
		if c.Type == corev1.NodeReady {
			return []corev1.NodeCondition{{Type: c.Type, Status: c.Status}}
		}
	}
	return nil
}

// Watch has the cache's informers tell w of every change. The cache may start
// before or after it.
func (w *Watcher) Watch(ctx context.Context, c cache.Cache) error {
	own := on(w, w.putOwn, w.dropOwn)
	for _, kind := range []struct {
		object client.Object
		events toolscache.ResourceEventHandler
	}{
		{&corev1.Namespace{}, on(w, w.putNamespace, w.dropNamespace)},
		{&v1beta1.IPAddressPool{}, own},
		{&v1beta1.L2Advertisement{}, own},
		{&v1beta1.BGPAdvertisement{}, own},
		{&v1beta1.BGPPeer{}, own},
		{&v1beta1.Community{}, own},
		{&v1beta1.BFDProfile{}, own},
		{&corev1.Node{}, on(w, w.putNode, w.dropNode)},
		{&v1beta1.NodeState{}, on(w, w.putNodeState, w.dropNodeState)},
		{&discoveryv1.EndpointSlice{}, on(w, w.putSlice, w.dropSlice)},
		{&corev1.Service{}, on(w, w.putService, func(o *corev1.Service) {
			name := types.NamespacedName{Namespace: o.Namespace, Name: o.Name}
			w.state.DeleteService(name)
			w.dropService(name)
		})},
	} {
		informer, err := c.GetInformer(ctx, kind.object, cache.BlockUntilSynced(false))
		if err != nil {
			return fmt.Errorf("watch %T: %w", kind.object, err)
		}
		registration, err := informer.AddEventHandler(kind.events)
		if err != nil {
			return fmt.Errorf("watch %T: %w", kind.object, err)
		}
		w.synced = append(w.synced, registration.HasSynced)
	}
	return nil
}

// on makes handlers that put and drop objects of one type under the lock.
func on[T client.Object](w *Watcher, put, drop func(T)) toolscache.ResourceEventHandlerFuncs {
	handle := func(in any, do func(T)) {
		if tombstone, ok := in.(toolscache.DeletedFinalStateUnknown); ok {
			in = tombstone.Obj
		}
		o, ok := in.(T)
		if !ok {
			return // an informer of another type: nobody makes one
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		do(o)
		if w.state.Dirty() {
			w.signal()
		}
	}
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(in any) { handle(in, put) },
		UpdateFunc: func(_, in any) { handle(in, put) },
		DeleteFunc: func(in any) { handle(in, drop) },
	}
}

func (w *Watcher) putNamespace(o *corev1.Namespace) {
	if old, ok := w.namespaces[o.Name]; !ok || !maps.Equal(old, o.Labels) {
		w.namespaces[o.Name] = o.Labels
		w.revision++
		w.signal()
	}
}

func (w *Watcher) dropNamespace(o *corev1.Namespace) {
	delete(w.namespaces, o.Name)
	w.revision++
	w.signal()
}

func (w *Watcher) putNodeState(o *v1beta1.NodeState) {
	w.state.PutNodeState(o)
	w.setProblems(o.Name, o.Status.Problems)
	w.setAnnounced(o.Name, said{o.Status.Announcements, o.Status.NotAnnounced})
}

func (w *Watcher) dropNodeState(o *v1beta1.NodeState) {
	w.state.DeleteNodeState(o.Name)
	w.setProblems(o.Name, nil)
	w.setAnnounced(o.Name, said{})
}
