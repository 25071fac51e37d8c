// SPDX-License-Identifier: Apache-2.0

// Package cluster watches for the controller, at the start of road A: informers
// go in, immutable Snapshots and a "look again" signal come out. It holds every
// object in the form in which allocation and conditions need it, so that a
// change costs in proportion to itself.
package cluster

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	toolscache "k8s.io/client-go/tools/cache"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
	"github.com/fairlead/fairlead/controller/config"
	"github.com/fairlead/fairlead/controller/desired/kube"
	"github.com/fairlead/fairlead/controller/ipam"
)

// Finalizer holds a Service until its address is no longer announced. It is
// Kubernetes' own one, for whoever implements load balancers.
const Finalizer = "service.kubernetes.io/load-balancer-cleanup"

// Service is a Service that is the controller's concern. Whoever has one only
// reads it.
type Service struct {
	Name   types.NamespacedName
	Object *corev1.Service
	// Ours says that it is to have addresses: it is of our class, and nobody
	// deletes it.
	Ours bool
	IPAM *ipam.Service // where it is ours
}

// Marked says that the controller made the Service its own, and that there is
// something to be taken back when it is ours no longer.
func (s *Service) Marked() bool { return marked(s.Object) }

func marked(o *corev1.Service) bool {
	if _, ok := o.Annotations[v1beta1.AnnotationTableSize]; ok {
		return true
	}
	for _, c := range o.Status.Conditions {
		if c.Type == v1beta1.ConditionAllocated || c.Type == v1beta1.ConditionDatapathReady || c.Type == v1beta1.ConditionAnnounced {
			return true
		}
	}
	return false
}

// Snapshot is one state of the cluster. Whoever has one only reads it.
type Snapshot struct {
	Services   map[types.NamespacedName]*Service
	Namespaces map[string]labels.Set
	// Config are the objects of our own kinds.
	Config config.Objects
	// Touched are Services that changed since the last Snapshot, or whose
	// conditions may; those that are gone included.
	Touched []types.NamespacedName
	// Revision changes with everything that allocation depends on, Configured
	// with Config.
	Revision, Configured uint64
	// Again is when conditions may change without a change of an object; zero if never.
	Again time.Time
}

// Watcher holds what informers tell.
type Watcher struct {
	class   kube.Class
	changed chan struct{}

	mu         sync.Mutex
	services   map[types.NamespacedName]*Service
	shared     bool // services is in a Snapshot, and has to be copied before a change
	touched    map[types.NamespacedName]bool
	revision   uint64
	own        config.Store          // objects of our own kinds that somebody else wrote
	nodes      map[string]labels.Set // what decides about these objects, too: labels by node
	configured uint64
	namespaces map[string]labels.Set
	state      *kube.State
	slices     map[types.NamespacedName]map[string]sliceSize
	problems   map[string][]v1beta1.ServiceProblem // of nodes, by name
	said       map[string]said                     // by nodes, of announcing
	dead       map[string]bool                     // nodes that are not ready: what they say is old
	synced     []toolscache.InformerSynced
}

// New returns a Watcher that knows nothing yet; Watch fills it.
func New(class kube.Class, versions kube.Versions) *Watcher {
	return &Watcher{
		class: class, changed: make(chan struct{}, 1),
		services: map[types.NamespacedName]*Service{}, touched: map[types.NamespacedName]bool{}, revision: 1,
		own: config.Store{}, nodes: map[string]labels.Set{}, configured: 1, namespaces: map[string]labels.Set{},
		state:    kube.New(kube.Options{Class: class, Versions: versions}),
		slices:   map[types.NamespacedName]map[string]sliceSize{},
		problems: map[string][]v1beta1.ServiceProblem{}, said: map[string]said{}, dead: map[string]bool{},
	}
}

// Changed has a value when there is something new to look at.
func (w *Watcher) Changed() <-chan struct{} { return w.changed }

func (w *Watcher) signal() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// WaitForSync returns when every object that there was at the start has been
// taken in, or with the context's error.
func (w *Watcher) WaitForSync(ctx context.Context) error {
	if !toolscache.WaitForCacheSync(ctx.Done(), w.synced...) {
		return fmt.Errorf("wait for caches: %w", context.Cause(ctx))
	}
	return nil
}

// Synced says whether that is so.
func (w *Watcher) Synced() bool {
	for _, synced := range w.synced {
		if !synced() {
			return false
		}
	}
	return true
}

// Snapshot returns what is known now.
func (w *Watcher) Snapshot(now time.Time) *Snapshot {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.apply(now)
	w.shared = true
	s := &Snapshot{
		Services: w.services, Namespaces: maps.Clone(w.namespaces), Config: w.config(),
		Touched: slices.Collect(maps.Keys(w.touched)), Revision: w.revision, Configured: w.configured,
	}
	if at, ok := w.state.NextExpiry(); ok {
		s.Again = at
	}
	clear(w.touched)
	return s
}

// unshare makes services w's own again, which a Snapshot has.
func (w *Watcher) unshare() {
	if w.shared {
		w.services, w.shared = maps.Clone(w.services), false
	}
}

// apply brings problems up to date, and touches the Services that have others.
func (w *Watcher) apply(now time.Time) {
	w.state.Apply(now)
	for _, name := range w.state.Worsened() {
		w.touched[name] = true
	}
}

// Problems says what would be wrong with a Service if it were as o is.
func (w *Watcher) Problems(o *corev1.Service, now time.Time) []kube.Problem {
	w.mu.Lock()
	defer w.mu.Unlock()
	name := types.NamespacedName{Namespace: o.Namespace, Name: o.Name}
	one := w.services[name]
	if one != nil && !reflect.DeepEqual(one.Object.Status.LoadBalancer, o.Status.LoadBalancer) {
		w.state.PutService(o)
		w.apply(now)
	}
	return append(w.nodeProblems(name), w.state.Problems(name)...)
}

// Unwritten undoes what Problems assumed of a Service that could not be written.
func (w *Watcher) Unwritten(name types.NamespacedName) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if one := w.services[name]; one != nil {
		w.state.PutService(one.Object)
	}
}

// Written takes in a Service that the API server returned for a write, which
// the informer tells of later. What is older than what is known changes nothing.
func (w *Watcher) Written(o *corev1.Service) {
	stripped, _ := Strip(o)
	o = stripped.(*corev1.Service)
	w.mu.Lock()
	defer w.mu.Unlock()
	name := types.NamespacedName{Namespace: o.Namespace, Name: o.Name}
	if one := w.services[name]; one != nil && one.Object.UID == o.UID {
		w.putService(o)
	}
}

// newer says whether a is a later version of the same object.
func newer(a, b client.Object) bool {
	order, err := resourceversion.CompareResourceVersion(a.GetResourceVersion(), b.GetResourceVersion())
	return err != nil || order > 0
}

// putService takes in a Service, ours or not.
func (w *Watcher) putService(o *corev1.Service) {
	name := types.NamespacedName{Namespace: o.Namespace, Name: o.Name}
	old := w.services[name]
	if old != nil && old.Object.UID == o.UID && !newer(o, old.Object) {
		return
	}
	w.state.PutService(o)
	one := &Service{Name: name, Object: o, Ours: w.class.Has(o) && o.DeletionTimestamp == nil}
	if !w.class.Has(o) && !marked(o) {
		w.dropService(name)
		return
	}
	if one.Ours {
		one.IPAM = ipam.NewService(o)
		if old != nil && old.Ours && reflect.DeepEqual(old.IPAM, one.IPAM) {
			one.IPAM = old.IPAM
		}
	}
	if old == nil || old.IPAM != one.IPAM {
		w.revision++
	}
	w.unshare()
	w.services[name] = one
	w.touched[name] = true
	w.signal()
}

func (w *Watcher) dropService(name types.NamespacedName) {
	if w.services[name] != nil {
		w.unshare()
		delete(w.services, name)
		w.touched[name] = true
		w.revision++
		w.signal()
	}
}
