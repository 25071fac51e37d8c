// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
	"github.com/fairlead/fairlead/controller/config"
	"github.com/fairlead/fairlead/controller/desired/kube"
)

// announced is what the objects say that only announcing goes by. Load does not
// look at it: it has informers and a signal of its own, and forwarding does not
// wait for them, nor for the right to read them.
type announced struct {
	objects  config.Store
	synced   bool
	revision uint64 // of objects and of the Nodes' labels
	version  string // newest as of the last Load
	changed  chan struct{}
}

// Announcing is what a node announces by, beside what its tables have. Nobody
// changes what is in it.
type Announcing struct {
	// Config has the objects of our own kinds; Revision changes with it.
	Config   config.Objects
	Revision uint64
	Nodes    []Node // in no order
	// Services are those of ours, with the nodes that serve as of the last Load.
	Services []kube.Serving
}

// Node is one of the cluster.
type Node struct {
	Object *corev1.Node
	// Attached says that its programs forward; Known that it has an agent at
	// all, which may be down.
	Attached, Known bool
}

// Announcing returns what there is; ok is false until all of it was heard once.
func (w *Watcher) Announcing() (a Announcing, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.synced || !w.config.synced {
		return Announcing{}, false
	}
	a = Announcing{Config: w.config.objects.Objects(), Revision: w.config.revision, Services: w.state.Serving()}
	a.Config.SecretsKnown, a.Config.Nodes = true, map[string]labels.Set{}
	for name, o := range w.cluster {
		attached, known := w.state.Attached(name)
		a.Nodes = append(a.Nodes, Node{o, attached, known})
		a.Config.Nodes[name] = o.Labels
	}
	return a, true
}

// Version is the resourceVersion of the newest Service of the last Load, "" before
// it: in the order of all writes to Services what that Load said is up to there.
func (w *Watcher) Version() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.config.version
}

// Announced gets a value when Announcing may say something new.
func (w *Watcher) Announced() <-chan struct{} { return w.config.changed }

// configRetry is how soon informers are made anew that could not be made.
const configRetry = 5 * time.Second

// followConfig runs the informers of what is announced until ctx ends.
func (w *Watcher) followConfig(ctx context.Context) {
	for ctx.Err() == nil {
		informers, err := cache.New(w.observed(w.options.Config), cache.Options{
			Scheme: Scheme(), Mapper: Mapper(), DefaultTransform: stripConfig,
			DefaultNamespaces: map[string]cache.Config{w.options.Namespace: {}},
		})
		if err == nil {
			err = w.inform(ctx, informers, w.configEvent, w.hearConfig,
				&v1beta1.IPAddressPool{}, &v1beta1.L2Advertisement{}, &v1beta1.BGPAdvertisement{}, &v1beta1.BGPPeer{},
				&v1beta1.Community{}, &v1beta1.BFDProfile{}, &corev1.Secret{})
		}
		if err != nil {
			w.options.Logger.Error("follow what is announced", "err", err, "retry", configRetry)
		}
		select {
		case <-ctx.Done():
		case <-time.After(configRetry):
		}
	}
}

func (w *Watcher) hearConfig() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.config.synced = true
	w.config.signal()
}

func (c *announced) signal() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// configEvent takes in what became of an object of ours.
func (w *Watcher) configEvent(before, after any) {
	if gone, ok := before.(toolscache.DeletedFinalStateUnknown); ok {
		before = gone.Obj
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch o, ok := after.(client.Object); {
	case ok && !w.config.objects.Put(o):
		return
	case !ok:
		o, ok := before.(client.Object)
		if !ok {
			return
		}
		w.config.objects.Drop(o)
	}
	w.config.revision++
	w.config.signal()
}

// putNode keeps a Node. Which objects contradict each other depends on labels.
func (w *Watcher) putNode(o *corev1.Node) {
	if old := w.cluster[o.Name]; old == nil || !maps.Equal(old.Labels, o.Labels) {
		w.config.revision++
	}
	w.cluster[o.Name] = o
}

// later is the later one of two versions of Services; "" is before all.
func later(a, b string) string {
	if a == "" {
		return b
	}
	if order, err := resourceversion.CompareResourceVersion(a, b); err != nil || order < 0 {
		return b
	}
	return a
}
