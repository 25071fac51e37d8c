// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"

	"github.com/fairlead/fairlead/perf/lab"
)

// FakeNodes plays the kubelets of all nodes of a lab: a Pod that is bound to
// one of them gets a namespace of the lab with a server on each of its ports,
// and the status that a kubelet would write. Odd states are one call away:
// Pods that are unready, or that go on while they terminate. Nobody renews
// leases, so the control plane is to be without NodeLifecycle.
//
// It alone adds and removes the lab's Pods as long as it runs. Its owner closes
// it before the lab.
type FakeNodes struct {
	control *ControlPlane
	lab     *lab.Lab
	queue   workqueue.TypedInterface[types.NamespacedName]
	lister  listers.PodLister
	stop    context.CancelFunc
	running sync.WaitGroup

	mu     sync.Mutex
	pods   map[types.NamespacedName]*fakePod
	unkind map[types.NamespacedName]bool // goes on while it terminates
	errs   []error
}

// PlayNodes registers the lab's nodes and begins to play their kubelets.
func (c *ControlPlane) PlayNodes(ctx context.Context, l *lab.Lab) (*FakeNodes, error) {
	f := &FakeNodes{
		control: c, lab: l,
		queue:  workqueue.NewTyped[types.NamespacedName](),
		pods:   map[types.NamespacedName]*fakePod{},
		unkind: map[types.NamespacedName]bool{},
	}
	for _, n := range l.Nodes {
		if err := f.register(ctx, n); err != nil {
			return nil, err
		}
	}
	ctx, f.stop = context.WithCancel(context.WithoutCancel(ctx))
	factory := informers.NewSharedInformerFactory(c.admin, 0)
	pods := factory.Core().V1().Pods()
	f.lister = pods.Lister()
	enqueue := func(object any) {
		if key, err := cache.DeletionHandlingObjectToName(object); err == nil {
			f.queue.Add(types.NamespacedName(key))
		}
	}
	handler := cache.ResourceEventHandlerFuncs{AddFunc: enqueue, UpdateFunc: func(_, o any) { enqueue(o) }, DeleteFunc: enqueue}
	if _, err := pods.Informer().AddEventHandler(handler); err != nil {
		return nil, fmt.Errorf("watch Pods: %w", err)
	}
	factory.StartWithContext(ctx)
	f.running.Go(func() {
		defer factory.Shutdown()
		f.work(ctx)
	})
	return f, nil
}

// Close stops to play and returns what went wrong meanwhile. The Pods' namespaces
// stay until the lab is closed; their servers end.
func (f *FakeNodes) Close() error {
	f.stop()
	f.queue.ShutDown()
	f.running.Wait()
	for _, p := range f.pods {
		p.stopServers()
	}
	return errors.Join(f.errs...)
}

// retryAfter is how long a Pod waits whose sync failed, for instance because the
// API server is gone.
const retryAfter = 200 * time.Millisecond

func (f *FakeNodes) work(ctx context.Context) {
	for {
		key, shutdown := f.queue.Get()
		if shutdown {
			return
		}
		err := f.sync(ctx, key)
		f.queue.Done(key)
		if err == nil || ctx.Err() != nil {
			continue
		}
		if fatal := (*labError)(nil); errors.As(err, &fatal) {
			f.mu.Lock()
			f.errs = append(f.errs, fmt.Errorf("play kubelet for %s: %w", key, err))
			f.mu.Unlock()
			continue
		}
		time.AfterFunc(retryAfter, func() { f.queue.Add(key) })
	}
}

// labError is one of the lab, which no retry mends; others are the API server's.
type labError struct{ error }

func (e *labError) Unwrap() error { return e.error }

// BootID tells this boot of this machine, which all nodes of a lab are, from others.
func BootID() (string, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	return strings.TrimSpace(string(id)), nil
}

// register creates the Node, or makes an old one of this name what it is to be.
func (f *FakeNodes) register(ctx context.Context, n *lab.Node) error {
	boot, err := BootID()
	if err != nil {
		return err
	}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{
		Name:   n.Host,
		Labels: map[string]string{corev1.LabelHostname: n.Host, corev1.LabelOSStable: "linux"},
	}}
	for _, cidr := range n.PodCIDRs() {
		node.Spec.PodCIDRs = append(node.Spec.PodCIDRs, cidr.String())
	}
	node.Spec.PodCIDR = node.Spec.PodCIDRs[0]
	nodes := f.control.admin.CoreV1().Nodes()
	created, err := nodes.Create(ctx, node, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		created, err = nodes.Get(ctx, n.Host, metav1.GetOptions{})
	}
	if err != nil {
		return fmt.Errorf("register %s: %w", n.Host, err)
	}
	for {
		setStatus(created, n, boot)
		_, err := nodes.UpdateStatus(ctx, created, metav1.UpdateOptions{})
		if apierrors.IsConflict(err) { // controllers write Nodes, too
			created, err = nodes.Get(ctx, n.Host, metav1.GetOptions{})
		} else if err == nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("register %s: %w", n.Host, err)
		}
	}
}

// setStatus makes the status what a kubelet reports.
func setStatus(node *corev1.Node, n *lab.Node, boot string) {
	node.Status.NodeInfo = corev1.NodeSystemInfo{BootID: boot, KubeletVersion: version, OperatingSystem: "linux"}
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: n.Host}}
	for _, addr := range n.Addrs {
		node.Status.Addresses = append(node.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: addr.String()})
	}
	node.Status.Conditions = []corev1.NodeCondition{{
		Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady",
		LastHeartbeatTime: metav1.Now(), LastTransitionTime: metav1.Now(),
	}}
	node.Status.Capacity = corev1.ResourceList{
		corev1.ResourcePods: resource.MustParse("250"), corev1.ResourceCPU: resource.MustParse("64"),
		corev1.ResourceMemory: resource.MustParse("64Gi"),
	}
	node.Status.Allocatable = node.Status.Capacity
}
