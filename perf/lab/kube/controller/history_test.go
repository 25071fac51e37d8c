// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
)

// history is every version of the Services of a namespace, as the API server's
// watch tells them, in order.
type history struct {
	mu     sync.Mutex
	events []watch.Event
	last   int // version
	broken error
}

// follow records from now on, until ctx ends. A watch that the API server ends
// goes on where it stopped.
func follow(ctx context.Context, namespace string) (*history, error) {
	services := control.Client().CoreV1().Services(namespace)
	list, err := services.List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list Services: %w", err)
	}
	if len(list.Items) > 0 {
		return nil, fmt.Errorf("%d Services are there already", len(list.Items))
	}
	h := &history{}
	go func() {
		for from := list.ResourceVersion; ctx.Err() == nil && h.fault() == nil; from = h.version(from) {
			stream, err := services.Watch(ctx, metav1.ListOptions{ResourceVersion: from})
			if err != nil {
				continue
			}
			for event := range stream.ResultChan() {
				h.add(event)
			}
			stream.Stop()
		}
	}()
	return h, nil
}

func (h *history) add(event watch.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	o, ok := event.Object.(*corev1.Service)
	if !ok {
		h.broken = fmt.Errorf("watch Services: %s %+v", event.Type, event.Object)
		return
	}
	n, err := strconv.Atoi(o.ResourceVersion)
	if err != nil || n <= h.last {
		h.broken = fmt.Errorf("version %q came after %d: %w", o.ResourceVersion, h.last, err)
	}
	h.last = n
	h.events = append(h.events, event)
}

func (h *history) fault() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.broken
}

// version is the last one that was heard of.
func (h *history) version(first string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.last == 0 {
		return first
	}
	return strconv.Itoa(h.last)
}

// knows says whether a version of a Service, or a later one, was heard of.
func (h *history) knows(o *corev1.Service) bool {
	n, err := strconv.Atoi(o.ResourceVersion)
	h.mu.Lock()
	defer h.mu.Unlock()
	return err == nil && n <= h.last
}

// verdict is what a history shows.
type verdict struct {
	Versions   int // of Services
	Assigned   int // addresses added to a status
	Released   int // addresses taken out of one
	Duplicates []string
	Moved      []string
}

// judge looks at every version: an address that is added to a status is nobody
// else's, unless both may share it, and one that is valid stays.
func (h *history) judge(valid func(o *corev1.Service, address string) bool) (verdict, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.broken != nil {
		return verdict{}, h.broken
	}
	var v verdict
	shown := map[string]map[string]*corev1.Service{} // by address and Service
	before := map[string]*corev1.Service{}
	for _, event := range h.events {
		o := event.Object.(*corev1.Service)
		v.Versions++
		var now []string
		if event.Type != watch.Deleted {
			now = strings.Fields(addresses(o))
		}
		name := o.Name
		var had []string
		if old := before[name]; old != nil {
			had = strings.Fields(addresses(old))
		}
		for _, a := range now {
			if slices.Contains(had, a) {
				shown[a][name] = o
				continue
			}
			v.Assigned++
			for other, p := range shown[a] {
				if !mayShare(o, p) {
					v.Duplicates = append(v.Duplicates, fmt.Sprintf("version %s: %s is given to %s while %s has it", o.ResourceVersion, a, name, other))
				}
			}
			if shown[a] == nil {
				shown[a] = map[string]*corev1.Service{}
			}
			shown[a][name] = o
		}
		for _, a := range had {
			if slices.Contains(now, a) {
				continue
			}
			v.Released++
			delete(shown[a], name)
			if event.Type != watch.Deleted && valid(o, a) {
				v.Moved = append(v.Moved, fmt.Sprintf("version %s: %s loses %s, has %q", o.ResourceVersion, name, a, addresses(o)))
			}
		}
		if before[name] = o; event.Type == watch.Deleted {
			delete(before, name)
		}
	}
	return v, nil
}

// mayShare says whether two Services may have one address.
func mayShare(a, b *corev1.Service) bool {
	key := a.Annotations[v1beta1.AnnotationAllowSharedIP]
	return key != "" && key == b.Annotations[v1beta1.AnnotationAllowSharedIP] &&
		!slices.ContainsFunc(a.Spec.Ports, func(p corev1.ServicePort) bool {
			return slices.ContainsFunc(b.Spec.Ports, func(q corev1.ServicePort) bool {
				return p.Port == q.Port && cmp.Or(p.Protocol, corev1.ProtocolTCP) == cmp.Or(q.Protocol, corev1.ProtocolTCP)
			})
		})
}
