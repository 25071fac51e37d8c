// SPDX-License-Identifier: Apache-2.0

package status

import (
	"cmp"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
	"github.com/fairlead/fairlead/controller/desired/kube"
	"github.com/fairlead/fairlead/controller/ipam"
	"github.com/fairlead/fairlead/controller/watch/cluster"
	"github.com/fairlead/fairlead/lb/maglev"
)

// slotsPerEndpoint keeps the difference between the shares of endpoints near 1 %.
const slotsPerEndpoint = 100

// Reasons of conditions where there is no problem to name.
const (
	reasonReady     = "Ready"
	reasonNoAddress = "NoAddress"
	reasonAnnounced = "Announced"
)

// tableSize is the size of a Service's tables: it grows with the endpoints and
// never shrinks, because every change of it remaps connections.
func tableSize(o *corev1.Service, endpoints int) int {
	size := maglev.DefaultSize
	for _, s := range maglev.Sizes {
		if s > size && size < slotsPerEndpoint*endpoints {
			size = s
		}
	}
	if have, err := strconv.Atoi(o.Annotations[v1beta1.AnnotationTableSize]); err == nil && slices.Contains(maglev.Sizes, have) {
		size = max(size, have)
	}
	return size
}

// mark returns the Service with the finalizer and the table size; nil where it
// has both. A Service shows an address only with them, so that whatever happens
// it is known that there is something to take back.
func mark(o *corev1.Service, endpoints int) *corev1.Service {
	size := strconv.Itoa(tableSize(o, endpoints))
	if o.Annotations[v1beta1.AnnotationTableSize] == size && slices.Contains(o.Finalizers, cluster.Finalizer) {
		return nil
	}
	o = o.DeepCopy()
	metav1.SetMetaDataAnnotation(&o.ObjectMeta, v1beta1.AnnotationTableSize, size)
	if !slices.Contains(o.Finalizers, cluster.Finalizer) {
		o.Finalizers = append(o.Finalizers, cluster.Finalizer)
	}
	return o
}

// unmark takes back what mark did; nil where nothing is left of it.
func unmark(o *corev1.Service) *corev1.Service {
	_, annotated := o.Annotations[v1beta1.AnnotationTableSize]
	if !annotated && !slices.Contains(o.Finalizers, cluster.Finalizer) {
		return nil
	}
	o = o.DeepCopy()
	delete(o.Annotations, v1beta1.AnnotationTableSize)
	o.Finalizers = slices.DeleteFunc(o.Finalizers, func(f string) bool { return f == cluster.Finalizer })
	return o
}

// show returns the Service with the status that the assignment asks for; nil
// where it has it. problems are asked for once the addresses are in.
func show(o *corev1.Service, a ipam.Assignment, problems func(*corev1.Service) []kube.Problem, announced cluster.Announced, now time.Time) *corev1.Service {
	old := o
	o = o.DeepCopy()
	mode := corev1.LoadBalancerIPModeVIP
	var ingress []corev1.LoadBalancerIngress
	for _, addr := range a.Addrs {
		ingress = append(ingress, corev1.LoadBalancerIngress{IP: addr.String(), IPMode: &mode})
	}
	if !reflect.DeepEqual(o.Status.LoadBalancer.Ingress, ingress) {
		o.Status.LoadBalancer.Ingress = ingress
	}
	setCondition(o, v1beta1.ConditionAllocated, a.Complete, a.Reason, a.Message, now)
	if len(a.Addrs) == 0 {
		setCondition(o, v1beta1.ConditionDatapathReady, false, reasonNoAddress, "the Service has no address", now)
	} else {
		ready, reason, message := datapath(problems(o))
		setCondition(o, v1beta1.ConditionDatapathReady, ready, reason, message, now)
	}
	if announced.Known {
		setCondition(o, v1beta1.ConditionAnnounced, announced.All, cmp.Or(announced.Reason, reasonAnnounced), bounded(announced.Message), now)
	} else {
		meta.RemoveStatusCondition(&o.Status.Conditions, v1beta1.ConditionAnnounced)
	}
	if reflect.DeepEqual(old.Status, o.Status) {
		return nil
	}
	return o
}

// datapath makes a condition of problems, which are sorted.
func datapath(problems []kube.Problem) (ready bool, reason, message string) {
	ready, reason = true, reasonReady
	var messages []string
	for _, p := range problems {
		if !p.Minor && ready {
			ready, reason = false, p.Reason
		}
		messages = append(messages, p.Message)
	}
	message = bounded(strings.Join(messages, "; "))
	if message == "" {
		message = "nodes forward for all ports"
	}
	return ready, reason, message
}

// bounded is the beginning of a message for a condition.
func bounded(message string) string {
	const most = 4096 // of the 32768 that a condition may have
	if len(message) > most {
		message = strings.ToValidUTF8(message[:most], "") + "…"
	}
	return message
}

func setCondition(o *corev1.Service, kind string, status bool, reason, message string, now time.Time) {
	c := metav1.Condition{
		Type: kind, Status: metav1.ConditionFalse, Reason: reason, Message: message,
		ObservedGeneration: o.Generation, LastTransitionTime: metav1.NewTime(now.Truncate(time.Second)),
	}
	if status {
		c.Status = metav1.ConditionTrue
	}
	meta.SetStatusCondition(&o.Status.Conditions, c)
}

// touched returns the Service with a change that says nothing, but gives it
// another version.
func touched(o *corev1.Service, now time.Time) *corev1.Service {
	o = o.DeepCopy()
	c := meta.FindStatusCondition(o.Status.Conditions, v1beta1.ConditionAllocated)
	if c == nil {
		setCondition(o, v1beta1.ConditionAllocated, false, ipam.ReasonNoPool, "an address that was about to be shown is withdrawn", now)
		return o
	}
	at := now.Truncate(time.Second)
	if !at.After(c.LastTransitionTime.Time) {
		at = c.LastTransitionTime.Add(time.Second)
	}
	c.LastTransitionTime = metav1.NewTime(at)
	return o
}

// hide returns the Service without our conditions, and without the addresses
// that are ours; nil where it has none of them.
func hide(o *corev1.Service, ours func(netip.Addr) bool) *corev1.Service {
	old := o
	o = o.DeepCopy()
	o.Status.LoadBalancer.Ingress = slices.DeleteFunc(o.Status.LoadBalancer.Ingress, func(i corev1.LoadBalancerIngress) bool {
		a, err := netip.ParseAddr(i.IP)
		return err == nil && ours(a.Unmap())
	})
	if len(o.Status.LoadBalancer.Ingress) == 0 {
		o.Status.LoadBalancer.Ingress = nil
	}
	meta.RemoveStatusCondition(&o.Status.Conditions, v1beta1.ConditionAllocated)
	meta.RemoveStatusCondition(&o.Status.Conditions, v1beta1.ConditionDatapathReady)
	meta.RemoveStatusCondition(&o.Status.Conditions, v1beta1.ConditionAnnounced)
	if len(o.Status.Conditions) == 0 {
		o.Status.Conditions = nil
	}
	if reflect.DeepEqual(old.Status, o.Status) {
		return nil
	}
	return o
}

// shows says whether the status has the address.
func shows(o *corev1.Service, a netip.Addr) bool {
	return slices.ContainsFunc(o.Status.LoadBalancer.Ingress, func(i corev1.LoadBalancerIngress) bool {
		b, err := netip.ParseAddr(i.IP)
		return err == nil && b.Unmap() == a
	})
}

// describe names the addresses of a Service for events.
func describe(o *corev1.Service) string {
	var words []string
	for _, i := range o.Status.LoadBalancer.Ingress {
		words = append(words, i.IP+i.Hostname)
	}
	return fmt.Sprint(strings.Join(words, " and "))
}

// condition returns a condition, one without values where there is none.
func condition(o *corev1.Service, kind string) metav1.Condition {
	if c := meta.FindStatusCondition(o.Status.Conditions, kind); c != nil {
		return *c
	}
	return metav1.Condition{}
}

func parseName(text string) types.NamespacedName {
	namespace, name, _ := strings.Cut(text, "/")
	return types.NamespacedName{Namespace: namespace, Name: name}
}

func compareNames(a, b types.NamespacedName) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}
