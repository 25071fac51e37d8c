// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// watch sees what an informer sees, when it sees it.
type watch struct {
	stop func()

	mu        sync.Mutex
	addresses map[string]netip.Addr // by Service
	received  map[string]time.Time  // by version of a slice, while somebody waits
	waiting   bool
	wake      chan struct{} // closed at the next change
}

func startWatch(ctx context.Context, client kubernetes.Interface) (*watch, error) {
	ctx, cancel := context.WithCancel(ctx)
	w := &watch{addresses: map[string]netip.Addr{}, received: map[string]time.Time{}, wake: make(chan struct{})}
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(namespace), informers.WithTransform(trim))
	services, slices := factory.Core().V1().Services().Informer(), factory.Discovery().V1().EndpointSlices().Informer()
	for _, handler := range []struct {
		informer cache.SharedIndexInformer
		changed  func(object any)
	}{{services, w.service}, {slices, w.slice}} {
		_, err := handler.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    handler.changed,
			UpdateFunc: func(_, object any) { handler.changed(object) },
		})
		if err != nil {
			cancel()
			return nil, err
		}
	}
	factory.StartWithContext(ctx)
	w.stop = func() {
		cancel()
		factory.Shutdown()
	}
	if !cache.WaitForCacheSync(ctx.Done(), services.HasSynced, slices.HasSynced) {
		w.stop()
		return nil, errors.New("watch services: stopped before the first list was there")
	}
	return w, nil
}

// trim keeps of an object what is looked at.
func trim(object any) (any, error) {
	switch o := object.(type) {
	case *corev1.Service:
		o.ManagedFields, o.Spec = nil, corev1.ServiceSpec{}
	case *discoveryv1.EndpointSlice:
		o.ManagedFields, o.Endpoints = nil, nil
	}
	return object, nil
}

func (w *watch) service(object any) {
	s := object.(*corev1.Service)
	if len(s.Status.LoadBalancer.Ingress) == 0 {
		return
	}
	addr, err := netip.ParseAddr(s.Status.LoadBalancer.Ingress[0].IP)
	if err != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.addresses[s.Name] = addr
	w.tell()
}

func (w *watch) slice(object any) {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting {
		w.received[object.(*discoveryv1.EndpointSlice).ResourceVersion] = now
		w.tell()
	}
}

// tell wakes who waits. The caller holds the lock.
func (w *watch) tell() {
	close(w.wake)
	w.wake = make(chan struct{})
}

// changed is closed when something arrives after this call.
func (w *watch) changed() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.wake
}

// address is a Service's, invalid while it has none.
func (w *watch) address(service string) netip.Addr {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.addresses[service]
}

// expect begins to remember when slices arrive.
func (w *watch) expect() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting = true
	clear(w.received)
}

// arrival waits for a version of a slice and returns when it arrived.
func (w *watch) arrival(ctx context.Context, version string) (time.Time, error) {
	for {
		changed := w.changed()
		w.mu.Lock()
		at, ok := w.received[version]
		w.mu.Unlock()
		if ok {
			return at, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return time.Time{}, ctx.Err()
		}
	}
}
