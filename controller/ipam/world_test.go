// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// world carries results out as the controller does: claims, then statuses, and
// claims withdrawn from who has no use for them.
type world struct {
	services   map[string]*corev1.Service
	pools      map[string]*v1beta1.IPAddressPool
	namespaces map[string]labels.Set
	claims     []Claim
	freed      map[netip.Addr]Freed
	now        time.Time
	delay      time.Duration
	twoPools   bool
	made       int
	gone       map[string]string // names of Services that are no more, by UID
}

func newWorld() *world {
	return &world{
		services: map[string]*corev1.Service{}, pools: map[string]*v1beta1.IPAddressPool{},
		namespaces: map[string]labels.Set{"default": {"kubernetes.io/metadata.name": "default"}},
		freed:      map[netip.Addr]Freed{}, now: epoch, delay: 30 * time.Second, gone: map[string]string{},
	}
}

func (w *world) meta(namespace, name string) metav1.ObjectMeta {
	w.made++
	return metav1.ObjectMeta{
		Namespace: namespace, Name: name, UID: types.UID(fmt.Sprintf("uid-%d", w.made)),
		CreationTimestamp: metav1.NewTime(epoch.Add(time.Duration(w.made) * time.Second)),
	}
}

// service makes an IPv4 Service with port TCP 80, or edits the one there is.
func (w *world) service(name string, edits ...func(*corev1.Service)) {
	namespace, short, found := strings.Cut(name, "/")
	if !found {
		namespace, short = "default", name
	}
	o := w.services[namespace+"/"+short]
	if o == nil {
		o = &corev1.Service{ObjectMeta: w.meta(namespace, short), Spec: corev1.ServiceSpec{
			Type:       corev1.ServiceTypeLoadBalancer,
			IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
			Ports:      []corev1.ServicePort{{Protocol: corev1.ProtocolTCP, Port: 80}},
		}}
		w.services[namespace+"/"+short] = o
	}
	for _, edit := range edits {
		edit(o)
	}
}

func (w *world) pool(name string, addresses string, edits ...func(*v1beta1.IPAddressPool)) {
	o := w.pools[name]
	if o == nil {
		o = &v1beta1.IPAddressPool{ObjectMeta: w.meta("fairlead-system", name)}
		w.pools[name] = o
	}
	o.Spec.Addresses = strings.Fields(addresses)
	for _, edit := range edits {
		edit(o)
	}
}

func (w *world) state() *State {
	st := &State{
		Namespaces: w.namespaces, Claims: w.claims, Freed: slices.Collect(maps.Values(w.freed)),
		Now: w.now, Delay: w.delay, TwoPools: w.twoPools,
	}
	for _, o := range w.services {
		st.Services = append(st.Services, NewService(o))
	}
	for _, o := range w.pools {
		p, _ := NewPool(o)
		st.Pools = append(st.Pools, p)
	}
	return st
}

// step allocates and carries out what came of it.
func (w *world) step() Result {
	st := w.state()
	r := Allocate(st)
	w.apply(st, r)
	return r
}

func (w *world) apply(st *State, r Result) {
	old := w.claims
	w.claims = nil
	names := map[string]string{}
	for _, s := range st.Services {
		names[s.UID] = s.Name
		var ingress []corev1.LoadBalancerIngress
		for _, a := range r.Assignments[s.UID].Addrs {
			w.claims = append(w.claims, Claim{Addr: a, UID: s.UID, Terms: s.Terms})
			ingress = append(ingress, corev1.LoadBalancerIngress{IP: a.String()})
			delete(w.freed, a)
		}
		w.services[s.Name].Status.LoadBalancer.Ingress = ingress
	}
	for _, c := range old {
		if !slices.ContainsFunc(w.claims, func(o Claim) bool { return o.Addr == c.Addr }) {
			by := names[c.UID]
			if by == "" {
				by = w.gone[c.UID]
			}
			w.freed[c.Addr] = Freed{Addr: c.Addr, By: by, At: w.now}
		}
	}
	for a, f := range w.freed {
		if !w.now.Before(f.At.Add(w.delay)) {
			delete(w.freed, a)
		}
	}
}

func (w *world) remove(name string) {
	if o := w.services["default/"+name]; o != nil {
		w.gone[string(o.UID)] = "default/" + name
	}
	delete(w.services, "default/"+name)
}

// answer is what a Service of the namespace default has, or why it lacks something.
func (w *world) answer(r Result, name string) string {
	a := r.Assignments[string(w.services["default/"+name].UID)]
	if a.Complete {
		return a.Message
	}
	return a.Reason + ": " + a.Message
}

// Edits of Services.

func annotate(key, value string) func(*corev1.Service) {
	return func(o *corev1.Service) {
		if o.Annotations == nil {
			o.Annotations = map[string]string{}
		}
		o.Annotations[key] = value
	}
}

func ips(s string) func(*corev1.Service)      { return annotate(v1beta1.AnnotationLoadBalancerIPs, s) }
func fromPool(s string) func(*corev1.Service) { return annotate(v1beta1.AnnotationAddressPool, s) }
func key(s string) func(*corev1.Service)      { return annotate(v1beta1.AnnotationAllowSharedIP, s) }

func ports(of ...int32) func(*corev1.Service) {
	return func(o *corev1.Service) {
		o.Spec.Ports = nil
		for _, p := range of {
			o.Spec.Ports = append(o.Spec.Ports, corev1.ServicePort{Protocol: corev1.ProtocolTCP, Port: p})
		}
	}
}

func udp(o *corev1.Service) {
	for i := range o.Spec.Ports {
		o.Spec.Ports[i].Protocol = corev1.ProtocolUDP
	}
}

func local(app string) func(*corev1.Service) {
	return func(o *corev1.Service) {
		o.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		o.Spec.Selector = map[string]string{"app": app}
	}
}

func specIP(s string) func(*corev1.Service) {
	return func(o *corev1.Service) {
		o.Spec.LoadBalancerIP = s
	}
}

func labelled(k, v string) func(*corev1.Service) {
	return func(o *corev1.Service) { o.Labels = map[string]string{k: v} }
}

func dual(policy corev1.IPFamilyPolicy, families ...corev1.IPFamily) func(*corev1.Service) {
	return func(o *corev1.Service) { o.Spec.IPFamilyPolicy, o.Spec.IPFamilies = &policy, families }
}

func shows(addrs ...string) func(*corev1.Service) {
	return func(o *corev1.Service) {
		o.Status.LoadBalancer.Ingress = nil
		for _, a := range addrs {
			o.Status.LoadBalancer.Ingress = append(o.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: a})
		}
	}
}

// Edits of pools.

func manual(p *v1beta1.IPAddressPool)   { no := false; p.Spec.AutoAssign = &no }
func drain(p *v1beta1.IPAddressPool)    { p.Spec.Drain = true }
func avoiding(p *v1beta1.IPAddressPool) { p.Spec.AvoidBuggyIPs = true }

func allocate(a v1beta1.ServiceAllocation) func(*v1beta1.IPAddressPool) {
	return func(p *v1beta1.IPAddressPool) { p.Spec.AllocateTo = &a }
}

func byLabel(k, v string) []metav1.LabelSelector {
	return []metav1.LabelSelector{{MatchLabels: map[string]string{k: v}}}
}

// want compares answers, and says which Services differ.
func (w *world) want(t *testing.T, r Result, answers map[string]string) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(answers)) {
		if got := w.answer(r, name); got != answers[name] {
			t.Errorf("%s:\n got %s\nwant %s", name, got, answers[name])
		}
	}
}
