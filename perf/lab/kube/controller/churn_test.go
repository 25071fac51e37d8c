// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
)

// The pools of the churn. Of the third one a part comes and goes; where an
// address of that part is, nobody is promised that it stays.
const (
	poolA       = "10.1.0.0/22 2001:db8:1::/118"
	poolB       = "10.2.0.0/22 2001:db8:2::/118"
	poolC       = "10.3.0.0/24 10.3.1.0/24 2001:db8:3::/119"
	poolCShrunk = "10.3.0.0/24 2001:db8:3::/120"
)

var volatile = []netip.Prefix{netip.MustParsePrefix("10.3.1.0/24"), netip.MustParsePrefix("2001:db8:3::/119")}

// churn makes, changes and removes Services, and edits pools, at random.
type churn struct {
	*world
	services int // that it keeps

	mu    sync.Mutex
	alive []string
	made  int
	// Edits by what they do.
	created, deleted, changed, edits atomic.Int64
}

// run works until ctx ends, with several workers, about rate changes a second.
func (c *churn) run(ctx context.Context, seed uint64, rate int) error {
	const workers = 4
	errs := make(chan error, workers+1)
	for i := range workers {
		go func() {
			random := rand.New(rand.NewPCG(seed, uint64(i)))
			errs <- c.each(ctx, time.Second*workers/time.Duration(rate), func() error { return c.step(ctx, random) })
		}()
	}
	go func() {
		random := rand.New(rand.NewPCG(seed, workers))
		errs <- c.each(ctx, 700*time.Millisecond, func() error { return c.editPools(ctx, random) })
	}()
	var first error
	for range workers + 1 {
		if err := <-errs; err != nil && first == nil {
			first = err
		}
	}
	return first
}

// atLeast returns a context that ends after a time, or later, when enough is
// true: a busy machine does little in a given time.
func (c *churn) atLeast(ctx context.Context, length time.Duration, enough func() bool) context.Context {
	ctx, end := context.WithCancel(ctx)
	begun := time.Now()
	go func() {
		defer end()
		_ = c.each(ctx, 100*time.Millisecond, func() error {
			if took := time.Since(begun); took > length && enough() || took > length+settleTime {
				end()
			}
			return nil
		})
	}()
	return ctx
}

// each does something at intervals, until ctx ends.
func (c *churn) each(ctx context.Context, every time.Duration, do func() error) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := do(); err != nil && ctx.Err() == nil {
			return err
		}
	}
}

// pick takes a Service out of those alive; put brings it back. Nobody else
// works on it meanwhile.
func (c *churn) pick(random *rand.Rand) (name string, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.alive) == 0 {
		return "", false
	}
	i := random.IntN(len(c.alive))
	name = c.alive[i]
	c.alive = slices.Delete(c.alive, i, i+1)
	return name, true
}

func (c *churn) put(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.alive = append(c.alive, name)
}

// wanted says whether there are too few Services.
func (c *churn) wanted() (name string, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.alive) >= c.services {
		return "", false
	}
	c.made++
	return fmt.Sprintf("s%d", c.made), true
}

// step makes one change.
func (c *churn) step(ctx context.Context, random *rand.Rand) error {
	for several := 5; several > 0; several-- {
		name, ok := c.wanted()
		if !ok {
			break
		}
		c.created.Add(1)
		if err := c.Create(ctx, c.newService(name, random)); err != nil {
			return err
		}
		c.put(name)
	}
	name, ok := c.pick(random)
	if !ok {
		return nil
	}
	if random.IntN(2) == 0 {
		c.deleted.Add(1)
		err := c.Delete(ctx, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: name}})
		return client.IgnoreNotFound(err)
	}
	defer c.put(name)
	c.changed.Add(1)
	kind := random.IntN(10)
	return c.change(ctx, name, func(o *corev1.Service) {
		switch {
		case kind < 6:
			metav1.SetMetaDataLabel(&o.ObjectMeta, "turn", fmt.Sprint(random.Uint32()))
		case kind < 8: // asks for a pool, once in its life
			if o.Annotations[v1beta1.AnnotationAddressPool] == "" && o.Annotations[v1beta1.AnnotationAllowSharedIP] == "" {
				metav1.SetMetaDataAnnotation(&o.ObjectMeta, v1beta1.AnnotationAddressPool, []string{"a", "b"}[random.IntN(2)])
			}
		case o.Spec.Type == corev1.ServiceTypeLoadBalancer:
			o.Spec.Type, o.Spec.LoadBalancerClass, o.Spec.AllocateLoadBalancerNodePorts = corev1.ServiceTypeClusterIP, nil, nil
		}
		if kind == 9 && o.Spec.Type == corev1.ServiceTypeClusterIP {
			o.Spec.Type, o.Spec.LoadBalancerClass, o.Spec.AllocateLoadBalancerNodePorts = corev1.ServiceTypeLoadBalancer, &c.class, new(false)
		}
	})
}

func (c *churn) newService(name string, random *rand.Rand) *corev1.Service {
	o := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: name},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, LoadBalancerClass: &c.class, AllocateLoadBalancerNodePorts: new(false),
			Ports: []corev1.ServicePort{{Port: 80}},
		},
	}
	switch random.IntN(6) {
	case 0:
		o.Spec.IPFamilyPolicy = new(corev1.IPFamilyPolicyPreferDualStack)
	case 1:
		o.Spec.IPFamilyPolicy = new(corev1.IPFamilyPolicyRequireDualStack)
	case 2:
		metav1.SetMetaDataAnnotation(&o.ObjectMeta, v1beta1.AnnotationAllowSharedIP, fmt.Sprintf("key%d", random.IntN(10)))
		o.Spec.Ports[0].Port = 1 + random.Int32N(20)
	}
	return o
}

// change edits a Service until no other writer is in between. One that is gone
// is left alone.
func (c *churn) change(ctx context.Context, name string, edit func(*corev1.Service)) error {
	for {
		o := &corev1.Service{}
		if err := c.Get(ctx, client.ObjectKey{Namespace: c.namespace, Name: name}, o); err != nil {
			return client.IgnoreNotFound(err)
		}
		edit(o)
		if err := c.Update(ctx, o); !apierrors.IsConflict(err) {
			return client.IgnoreNotFound(err)
		}
	}
}

// editPools shrinks or grows the third pool, or drains or opens the second one.
func (c *churn) editPools(ctx context.Context, random *rand.Rand) error {
	c.edits.Add(1)
	name := []string{"b", "c"}[random.IntN(2)]
	on := random.IntN(2) == 0
	for {
		var o v1beta1.IPAddressPool
		if err := c.Get(ctx, client.ObjectKey{Namespace: c.system, Name: name}, &o); err != nil {
			return err
		}
		setPool(&o, on)
		if err := c.Update(ctx, &o); !apierrors.IsConflict(err) {
			return err
		}
	}
}

func setPool(o *v1beta1.IPAddressPool, on bool) {
	switch {
	case o.Name == "b":
		o.Spec.Drain = !on
	case on:
		o.Spec.Addresses = fields(poolC)
	default:
		o.Spec.Addresses = fields(poolCShrunk)
	}
}

// keeps says whether a Service that still is ours, and asks for nothing else,
// is promised an address of its own.
func keeps(o *corev1.Service, address string) bool {
	if o.Spec.Type != corev1.ServiceTypeLoadBalancer || o.DeletionTimestamp != nil {
		return false
	}
	a := netip.MustParseAddr(address)
	if slices.ContainsFunc(volatile, func(p netip.Prefix) bool { return p.Contains(a) }) {
		return false
	}
	switch o.Annotations[v1beta1.AnnotationAddressPool] {
	case "":
		return true
	case "a":
		return slices.ContainsFunc(fields(poolA), func(p string) bool { return netip.MustParsePrefix(p).Contains(a) })
	}
	return slices.ContainsFunc(fields(poolB), func(p string) bool { return netip.MustParsePrefix(p).Contains(a) })
}
