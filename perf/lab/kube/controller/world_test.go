// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
	"github.com/fairlead/fairlead/deploy/manifests"
	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/kube"
)

const (
	// patience is far above what anything takes here.
	patience  = 20 * time.Second
	finalizer = "service.kubernetes.io/load-balancer-cleanup"
)

var worlds atomic.Int32

// world is a namespace of Fairlead, one of Services, and a class of its own.
type world struct {
	*testing.T
	client.Client
	system, namespace, class string
	kubeconfigs              map[string]string // by ServiceAccount
	running                  []*program
	leaders                  atomic.Int32 // programs that led so far
}

// program is a running fairlead controller.
type program struct {
	*lab.Process
	log, metrics string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	kube.Require(t)
	n := worlds.Add(1)
	w := &world{T: t, system: fmt.Sprintf("system-%d", n), namespace: fmt.Sprintf("shop-%d", n), class: fmt.Sprintf("example.com/lb-%d", n),
		kubeconfigs: map[string]string{}}
	scheme := runtime.NewScheme()
	w.ok(errors.Join(clientgoscheme.AddToScheme(scheme), v1beta1.AddToScheme(scheme)))
	var err error
	w.Client, err = client.New(control.RESTConfig(), client.Options{Scheme: scheme})
	w.ok(err)
	for _, name := range []string{w.system, w.namespace} {
		w.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
	}
	w.grantRights(manifests.Install)
	w.grantRights(manifests.Cleanup)
	t.Cleanup(w.end)
	return w
}

// grantRights creates what a manifest has of roles and bindings, for this world.
func (w *world) grantRights(manifest []byte) {
	w.Helper()
	objects, err := manifests.Decode([]byte(strings.ReplaceAll(string(manifest), manifests.Namespace, w.system)))
	w.ok(err)
	for _, o := range objects {
		switch o := o.(type) {
		case *rbacv1.ClusterRole:
			o.Name += "-" + w.system
			w.create(o)
		case *rbacv1.ClusterRoleBinding:
			o.Name += "-" + w.system
			o.RoleRef.Name += "-" + w.system
			w.create(o)
		case *rbacv1.Role:
			w.create(o)
		case *rbacv1.RoleBinding:
			w.create(o)
		}
	}
}

// end stops the programs, removes Services, and shows logs of a failed test.
func (w *world) end() {
	for _, p := range w.running {
		if err := p.Kill(); err != nil {
			w.Error(err)
		}
		if text, err := os.ReadFile(p.log); err == nil && w.Failed() {
			lines := strings.Split(strings.TrimSpace(string(text)), "\n")
			w.Logf("%s:\n%s", p.log, strings.Join(lines[max(0, len(lines)-60):], "\n"))
		}
	}
}

func (w *world) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) create(o client.Object) {
	w.Helper()
	w.ok(w.Create(w.Context(), o))
}

// start runs a controller with the rights of a ServiceAccount.
func (w *world) start(account string, args ...string) *program {
	w.Helper()
	if w.kubeconfigs[account] == "" {
		user, groups := kube.ServiceAccount(w.system, account)
		path, err := control.Kubeconfig(user, groups...)
		w.ok(err)
		w.kubeconfigs[account] = path
	}
	p := &program{log: filepath.Join(control.Dir, fmt.Sprintf("%s-%d.log", w.system, len(w.running))), metrics: freeAddress(w.T)}
	log, err := os.Create(p.log)
	w.ok(err)
	defer log.Close()
	cmd := exec.Command(binary, append([]string{
		"controller", "--kubeconfig=" + w.kubeconfigs[account], "--namespace=" + w.system, "--metrics-address=" + p.metrics,
		"--load-balancer-class=" + w.class, "--unclassed=false", "--lease-duration=2s", "--log-level=debug",
	}, args...)...)
	cmd.Stdout, cmd.Stderr = log, log
	p.Process, err = lab.StartChild(cmd)
	w.ok(err)
	w.running = append(w.running, p)
	return p
}

// controller runs a controller that is to lead.
func (w *world) controller(args ...string) *program {
	w.Helper()
	return w.start(manifests.ControllerServiceAccount, args...)
}

// stop ends a program as a Pod's end does, and wants it to end well.
func (w *world) stop(p *program) {
	w.Helper()
	w.ok(p.Signal(os.Interrupt))
	w.ok(p.Wait())
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// pool creates a pool, or changes its addresses.
func (w *world) pool(name string, addresses string, edits ...func(*v1beta1.IPAddressPool)) {
	w.Helper()
	o := &v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Namespace: w.system, Name: name}}
	err := w.Get(w.Context(), client.ObjectKeyFromObject(o), o)
	o.Spec.Addresses = strings.Fields(addresses)
	for _, edit := range edits {
		edit(o)
	}
	if apierrors.IsNotFound(err) {
		w.create(o)
		return
	}
	w.ok(err)
	for apierrors.IsConflict(w.Update(w.Context(), o)) { // with the controller's write of its status
		w.ok(w.Get(w.Context(), client.ObjectKeyFromObject(o), o))
		o.Spec.Addresses = strings.Fields(addresses)
		for _, edit := range edits {
			edit(o)
		}
	}
}

// service creates a Service of the world's class.
func (w *world) service(name string, edits ...func(*corev1.Service)) {
	w.Helper()
	o := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, LoadBalancerClass: &w.class, AllocateLoadBalancerNodePorts: new(false),
			Selector: map[string]string{"app": name}, Ports: []corev1.ServicePort{{Name: "web", Port: 80}},
		},
	}
	for _, edit := range edits {
		edit(o)
	}
	w.create(o)
}

// edit changes a Service as often as it takes.
func (w *world) edit(name string, change func(*corev1.Service)) {
	w.Helper()
	for {
		o := w.get(name)
		change(o)
		err := w.Update(w.Context(), o)
		if apierrors.IsConflict(err) {
			continue
		}
		w.ok(err)
		return
	}
}

func (w *world) get(name string) *corev1.Service {
	w.Helper()
	o := &corev1.Service{}
	w.ok(w.Get(w.Context(), types.NamespacedName{Namespace: w.namespace, Name: name}, o))
	return o
}

func (w *world) remove(name string) {
	w.Helper()
	w.ok(w.Delete(w.Context(), &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name}}))
}

// gone waits until a Service is no more.
func (w *world) gone(name string) {
	w.Helper()
	w.until("Service "+name+" gone", func() bool {
		return apierrors.IsNotFound(w.Get(w.Context(), types.NamespacedName{Namespace: w.namespace, Name: name}, &corev1.Service{}))
	})
}

// until waits for a condition.
func (w *world) until(what string, done func() bool) {
	w.Helper()
	if err := lab.Poll(w.Context(), patience, done); err != nil {
		w.Fatalf("%s: %v", what, err)
	}
}

// addresses are what a status shows, with a space between.
func addresses(o *corev1.Service) string {
	var all []string
	for _, i := range o.Status.LoadBalancer.Ingress {
		all = append(all, i.IP)
	}
	return strings.Join(all, " ")
}

// has waits until a Service shows these addresses and nothing is left to say.
func (w *world) has(name, want string) *corev1.Service {
	w.Helper()
	var o *corev1.Service
	err := lab.Poll(w.Context(), patience, func() bool {
		o = w.get(name)
		return addresses(o) == want && w.condition(o, v1beta1.ConditionAllocated).Status == "True"
	})
	if err != nil {
		w.Fatalf("Service %s has %q, want %q: %+v", name, addresses(o), want, o.Status.Conditions)
	}
	for _, i := range o.Status.LoadBalancer.Ingress {
		if i.IPMode == nil || *i.IPMode != corev1.LoadBalancerIPModeVIP {
			w.Errorf("Service %s: ipMode of %s is %v, want VIP", name, i.IP, i.IPMode)
		}
	}
	if !slices.Contains(o.Finalizers, finalizer) {
		w.Errorf("Service %s has an address and finalizers %v", name, o.Finalizers)
	}
	return o
}

// lacks waits until the condition Allocated of a Service has this message.
func (w *world) lacks(name, reason, message string) *corev1.Service {
	w.Helper()
	var o *corev1.Service
	err := lab.Poll(w.Context(), patience, func() bool {
		o = w.get(name)
		c := w.condition(o, v1beta1.ConditionAllocated)
		return c.Status == "False" && c.Reason == reason && c.Message == message
	})
	if err != nil {
		w.Fatalf("Service %s: %q, %+v", name, addresses(o), o.Status.Conditions)
	}
	return o
}

func (w *world) condition(o *corev1.Service, kind string) metav1.Condition {
	if c := meta.FindStatusCondition(o.Status.Conditions, kind); c != nil {
		return *c
	}
	return metav1.Condition{}
}

// shows writes a status as another load balancer would.
func (w *world) shows(name string, addrs ...string) {
	w.Helper()
	o := w.get(name)
	o.Status.LoadBalancer.Ingress = nil
	for _, a := range addrs {
		o.Status.LoadBalancer.Ingress = append(o.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: a})
	}
	w.ok(w.Status().Update(w.Context(), o))
}

// claims are the addresses that blocks record, with the Services' names.
func (w *world) claims() map[string][]string {
	w.Helper()
	var list v1beta1.AddressBlockList
	w.ok(w.List(w.Context(), &list, client.InNamespace(w.system)))
	all := map[string][]string{}
	for _, b := range list.Items {
		for _, a := range b.Spec.Addresses {
			for _, h := range a.Holders {
				all[a.Address] = append(all[a.Address], strings.TrimPrefix(h.Service, w.namespace+"/"))
			}
		}
	}
	return all
}
