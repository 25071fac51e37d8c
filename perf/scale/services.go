// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/fairlead/fairlead/lb"
)

const (
	servicePort, podPort = 80, 8080
	writers              = 16 // requests at a time
	assignTimeout        = 15 * time.Minute
)

// service is a Service with its slice as the API server has it.
type service struct {
	name  string
	key   lb.ServiceKey // known when it has an address
	slice *discoveryv1.EndpointSlice
}

// grow makes Services and their slices up to n, and returns when all are written
// and when all have addresses.
func (w *world) grow(ctx context.Context, n int) (created, assigned time.Duration, err error) {
	first := len(w.services)
	for i := first; i < n; i++ {
		w.services = append(w.services, &service{name: nameOf(i)})
	}
	begun := time.Now()
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(writers)
	for i := first; i < n; i++ {
		group.Go(func() error { return w.createService(gctx, i) })
	}
	if err := group.Wait(); err != nil {
		return 0, 0, err
	}
	created = time.Since(begun)
	w.logger.Info("services are written", "services", n, "took", created)
	if err := w.awaitAddresses(ctx); err != nil {
		return 0, 0, err
	}
	assigned = time.Since(begun)
	w.logger.Info("services have addresses", "services", n, "took", assigned)
	return created, assigned, nil
}

func (w *world) awaitAddresses(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, assignTimeout)
	defer cancel()
	for {
		changed := w.watch.changed()
		left := 0
		for _, s := range w.services {
			if addr := w.watch.address(s.name); addr.IsValid() {
				s.key = lb.ServiceKey{VIP: addr, Port: servicePort, Proto: lb.TCP}
			} else {
				left++
			}
		}
		if left == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-w.controller.process.Done():
			return fmt.Errorf("controller ended: %s", w.controller.tail())
		case <-ctx.Done():
			return fmt.Errorf("wait for addresses of %d services: %w: %s", left, ctx.Err(), w.controller.tail())
		}
	}
}

func (w *world) createService(ctx context.Context, i int) error {
	s := w.services[i]
	object := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: s.name, Namespace: namespace, Labels: map[string]string{"app": s.name}},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer,
			// Asked for: the API server looks for free ones one after the other.
			ClusterIP:                     clusterIP(i).String(),
			AllocateLoadBalancerNodePorts: new(bool),
			Ports: []corev1.ServicePort{{
				Name: "http", Port: servicePort, TargetPort: intstr.FromInt32(podPort), Protocol: corev1.ProtocolTCP,
			}},
		},
	}
	if _, err := w.client.CoreV1().Services(namespace).Create(ctx, object, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create service %s: %w", s.name, err)
	}
	slice, err := w.client.DiscoveryV1().EndpointSlices(namespace).Create(ctx, w.newSlice(i), metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("create slice of %s: %w", s.name, err)
	}
	s.slice = slice
	return nil
}

// newSlice is as kube-controller-manager's, but that no Pods stand behind it.
func (w *world) newSlice(i int) *discoveryv1.EndpointSlice {
	name := w.services[i].name
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Name: name + "-x7k2p", Namespace: namespace,
			Labels: map[string]string{
				discoveryv1.LabelServiceName: name,
				discoveryv1.LabelManagedBy:   "scale.fairlead.io",
				"app":                        name,
			},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports: []discoveryv1.EndpointPort{{
			Name: new("http"), Port: new(int32(podPort)), Protocol: new(corev1.ProtocolTCP),
		}},
	}
	for k := range w.options.endpoints {
		n := i*w.options.endpoints + k
		pod := fmt.Sprintf("%s-5d4f8c7b9d-%05d", name, k)
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
			Addresses:  []string{netip.AddrFrom4([4]byte{10, 128 | byte(n>>16), byte(n >> 8), byte(n)}).String()},
			Conditions: discoveryv1.EndpointConditions{Ready: new(true), Serving: new(true), Terminating: new(false)},
			NodeName:   new(w.nodeName(n % w.options.nodes)),
			TargetRef: &corev1.ObjectReference{
				Kind: "Pod", Namespace: namespace, Name: pod, UID: types.UID(fmt.Sprintf("%08x-0000-4000-8000-%012x", n, n)),
			},
		})
	}
	return slice
}

// toggle makes an endpoint of the Service unready that was ready, or the reverse,
// and returns the slice's new version.
func (w *world) toggle(ctx context.Context, s *service, endpoint int) (string, error) {
	next := s.slice.DeepCopy()
	ready := !*next.Endpoints[endpoint].Conditions.Ready
	next.Endpoints[endpoint].Conditions.Ready, next.Endpoints[endpoint].Conditions.Serving = new(ready), new(ready)
	next, err := w.client.DiscoveryV1().EndpointSlices(namespace).Update(ctx, next, metav1.UpdateOptions{})
	if err != nil {
		return "", fmt.Errorf("update slice of %s: %w", s.name, err)
	}
	s.slice = next
	return next.ResourceVersion, nil
}

// clusterIP is of kube.ServiceNet4, above what the API server itself takes.
func clusterIP(i int) netip.Addr {
	n := i + 256
	return netip.AddrFrom4([4]byte{10, 96, byte(n >> 8), byte(n)})
}

func nameOf(i int) string { return fmt.Sprintf("s%05d", i) }
