// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
	"github.com/fairlead/fairlead/controller/desired/kube"
)

// Scheme knows all kinds that an agent reads and writes.
func Scheme() *runtime.Scheme {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1beta1.AddToScheme} {
		if err := add(scheme); err != nil {
			panic(err) // two kinds of one name: a mistake of this program
		}
	}
	return scheme
}

// Mapper knows the resources of the kinds that an agent reads and writes, so
// that no API server has to be asked.
func Mapper() apimeta.RESTMapper {
	mapper := apimeta.NewDefaultRESTMapper(nil)
	for kind, scope := range map[schema.GroupVersionKind]apimeta.RESTScope{
		corev1.SchemeGroupVersion.WithKind("Service"):            apimeta.RESTScopeNamespace,
		corev1.SchemeGroupVersion.WithKind("Secret"):             apimeta.RESTScopeNamespace,
		corev1.SchemeGroupVersion.WithKind("Pod"):                apimeta.RESTScopeNamespace,
		corev1.SchemeGroupVersion.WithKind("Node"):               apimeta.RESTScopeRoot,
		discoveryv1.SchemeGroupVersion.WithKind("EndpointSlice"): apimeta.RESTScopeNamespace,
		v1beta1.GroupVersion.WithKind("NodeState"):               apimeta.RESTScopeNamespace,
		v1beta1.GroupVersion.WithKind("IPAddressPool"):           apimeta.RESTScopeNamespace,
		v1beta1.GroupVersion.WithKind("L2Advertisement"):         apimeta.RESTScopeNamespace,
		v1beta1.GroupVersion.WithKind("BGPAdvertisement"):        apimeta.RESTScopeNamespace,
		v1beta1.GroupVersion.WithKind("BGPPeer"):                 apimeta.RESTScopeNamespace,
		v1beta1.GroupVersion.WithKind("Community"):               apimeta.RESTScopeNamespace,
		v1beta1.GroupVersion.WithKind("BFDProfile"):              apimeta.RESTScopeNamespace,
	} {
		mapper.Add(kind, scope)
	}
	return mapper
}

// follow runs the informers of the datapath until ctx ends.
func (w *Watcher) follow(ctx context.Context) error {
	informers, err := w.newCache()
	if err != nil {
		return err
	}
	return w.inform(ctx, informers, w.event, w.hearAll,
		&corev1.Secret{}, &corev1.Node{}, &v1beta1.NodeState{}, &corev1.Pod{}, &corev1.Service{}, &discoveryv1.EndpointSlice{})
}

// inform has event told of every change of the objects, and heard once of all
// that there were, until ctx ends.
func (w *Watcher) inform(ctx context.Context, informers cache.Cache, event func(before, after any), heard func(), objects ...client.Object) error {
	ctx, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- informers.Start(ctx) }()
	defer func() {
		stop()
		<-ended
	}()
	var synced []toolscache.InformerSynced
	for _, object := range objects {
		registration, err := handle(ctx, informers, object, event)
		if err != nil {
			return fmt.Errorf("watch %T: %w", object, err)
		}
		synced = append(synced, registration.HasSynced)
	}
	if toolscache.WaitForCacheSync(ctx.Done(), synced...) {
		heard()
		<-ctx.Done()
	}
	return nil
}

// hearAll notes that everything was heard once.
func (w *Watcher) hearAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.synced = true
	if w.keys == (kube.Keys{}) && w.problems[kube.KeySecret] == "" {
		w.problems[kube.KeySecret] = fmt.Sprintf("no Secret %s/%s with the key for the wire", w.options.Namespace, kube.KeySecret)
	}
	w.received = nil
	w.options.Logger.Info("cluster read", "counts", w.state.Counts())
	w.signal()
}

func (w *Watcher) newCache() (cache.Cache, error) {
	strip := &stripper{node: w.options.Node, names: map[string]*string{}}
	own := map[string]cache.Config{w.options.Namespace: {}}
	slicesOfServices, err := labels.Parse("!" + corev1.IsHeadlessService)
	if err != nil {
		return nil, fmt.Errorf("select EndpointSlices: %w", err)
	}
	return cache.New(w.observed(w.options.Config), cache.Options{
		Scheme:           Scheme(),
		Mapper:           Mapper(),
		DefaultTransform: strip.strip,
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Service{}:            {Field: fields.OneTermEqualSelector("spec.type", string(corev1.ServiceTypeLoadBalancer))},
			&discoveryv1.EndpointSlice{}: {Label: slicesOfServices},
			&corev1.Pod{}:                {Field: fields.OneTermEqualSelector("spec.nodeName", w.options.Node)},
			&v1beta1.NodeState{}:         {Namespaces: own},
			&corev1.Secret{}:             {Namespaces: own, Field: fields.OneTermEqualSelector("metadata.name", kube.KeySecret)},
		},
	})
}

func handle(ctx context.Context, informers cache.Cache, object client.Object, event func(before, after any)) (toolscache.ResourceEventHandlerRegistration, error) {
	informer, err := informers.GetInformer(ctx, object, cache.BlockUntilSynced(false))
	if err != nil {
		return nil, err
	}
	return informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { event(nil, o) },
		UpdateFunc: event,
		DeleteFunc: func(o any) { event(o, nil) },
	})
}

// event takes in what became of an object: before is nil for a new one, after
// for one that is gone.
func (w *Watcher) event(before, after any) {
	received := time.Now()
	if gone, ok := before.(toolscache.DeletedFinalStateUnknown); ok {
		before = gone.Obj
	}
	if unchanged(before, after) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.take(before, after)
	dirty, nodes := w.state.Dirty(), concernsNode(before) || concernsNode(after)
	w.rotate = w.rotate || nodes
	if nodes {
		w.config.signal()
	}
	if w.synced && dirty && timed(before, after) && len(w.received) < maxReceived {
		w.received = append(w.received, received)
	}
	if w.synced && (dirty || nodes) {
		w.signal()
	}
}

// concernsNode says that an object may change what Load says beside services.
func concernsNode(object any) bool {
	switch object.(type) {
	case *corev1.Node, *v1beta1.NodeState, *corev1.Secret:
		return true
	}
	return false
}

// unchanged says that a periodic resync is all there is.
func unchanged(before, after any) bool {
	b, ok := before.(client.Object)
	a, also := after.(client.Object)
	return ok && also && a.GetResourceVersion() == b.GetResourceVersion()
}

// timed says that the way from here into the datapath is measured.
func timed(before, after any) bool {
	return slices.ContainsFunc([]any{before, after}, func(o any) bool {
		switch o.(type) {
		case *discoveryv1.EndpointSlice, *corev1.Service:
			return true
		}
		return false
	})
}

func (w *Watcher) take(before, after any) {
	switch o := after.(type) {
	case *corev1.Service:
		w.state.PutService(o)
		w.newest = later(w.newest, o.ResourceVersion)
	case *discoveryv1.EndpointSlice:
		if b, ok := before.(*discoveryv1.EndpointSlice); ok && b.Labels[discoveryv1.LabelServiceName] != o.Labels[discoveryv1.LabelServiceName] {
			w.state.DeleteSlice(b)
		}
		w.state.PutSlice(o)
	case *corev1.Node:
		w.state.PutNode(o)
		w.putNode(o)
	case *corev1.Pod:
		w.state.PutPod(o)
	case *v1beta1.NodeState:
		w.state.PutNodeState(o)
		if o.Name == w.options.Node {
			w.own = o
		}
	case *corev1.Secret:
		w.putSecret(o)
	case nil:
		w.drop(before)
	}
}

func (w *Watcher) drop(before any) {
	switch o := before.(type) {
	case *corev1.Service:
		w.state.DeleteService(types.NamespacedName{Namespace: o.Namespace, Name: o.Name})
	case *discoveryv1.EndpointSlice:
		w.state.DeleteSlice(o)
	case *corev1.Node:
		w.state.DeleteNode(o.Name)
		delete(w.cluster, o.Name)
		w.config.revision++
	case *corev1.Pod:
		w.state.DeletePod(o.UID)
	case *v1beta1.NodeState:
		w.state.DeleteNodeState(o.Name)
		if o.Name == w.options.Node {
			w.own = nil
		}
	case *corev1.Secret:
		w.problems[kube.KeySecret] = fmt.Sprintf("Secret %s/%s is gone: its last key stays", o.Namespace, o.Name)
	}
}

// putSecret takes new keys over. Wrong ones change nothing but are told.
func (w *Watcher) putSecret(o *corev1.Secret) {
	keys, err := kube.ParseKeys(o)
	if err != nil {
		w.problems[kube.KeySecret] = err.Error()
		w.options.Logger.Error("key for the wire refused, the one before stays", "err", err)
		return
	}
	w.keys = keys
	delete(w.problems, kube.KeySecret)
}
