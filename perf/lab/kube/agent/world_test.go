// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/controller/api/v1beta1/crd"
	desired "github.com/fairlead/fairlead/controller/desired/kube"
	watch "github.com/fairlead/fairlead/controller/watch/kube"
	"github.com/fairlead/fairlead/deploy/manifests"
	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/cluster"
	"github.com/fairlead/fairlead/perf/lab/kube"
	"github.com/fairlead/fairlead/perf/lab/kube/agent"
	"github.com/fairlead/fairlead/perf/lab/traffic"
)

// fairlead is the program that all agents run; built by TestMain.
var fairlead string

func TestMain(m *testing.M) { os.Exit(cluster.RunTests(m, &fairlead)) }

const (
	firstKey  = "6661697264656164666169726c656164"
	patience  = 90 * time.Second
	namespace = "default"
)

var (
	vip4 = netip.MustParseAddr("192.0.2.10")
	vip6 = netip.MustParseAddr("2001:db8:0:1::10")
)

// world is a control plane, nodes whose kubelets are played, and agents.
type world struct {
	*agent.Agents
	t      *testing.T
	nodes  *kube.FakeNodes
	client client.Client
	flows  traffic.Flows
}

// newWorld has agents on all of its nodes, which have nothing to do yet.
func newWorld(t *testing.T, mode string, nodes int) *world {
	t.Helper()
	kube.Require(t, kube.Etcd, kube.APIServer, kube.ControllerManager, kube.Scheduler, kube.Kubectl)
	l := lab.ForTest(t, lab.Options{Nodes: nodes, Native: cluster.NeedsNative(mode)})
	machine, err := l.AddMachine("control")
	if err != nil {
		t.Fatal(err)
	}
	control := kube.ForTest(t, kube.Options{Machine: machine, ControllerManager: true, Scheduler: true, DualStack: true, CRDs: crd.Files})
	user, groups := kube.ServiceAccount(agent.Namespace, manifests.AgentServiceAccount)
	w := &world{Agents: &agent.Agents{Control: control, Lab: l, Binary: fairlead, Mode: mode, User: user, Groups: groups}, t: t}
	if w.nodes, err = control.PlayNodes(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.flows.Close()
		if err := w.nodes.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			w.showLogs()
		}
	})
	if w.client, err = client.New(control.RESTConfig(), client.Options{Scheme: watch.Scheme()}); err != nil {
		t.Fatal(err)
	}
	if err := control.CreateNamespace(t.Context(), agent.Namespace); err != nil {
		t.Fatal(err)
	}
	w.grant()
	w.setKey(map[string]string{desired.KeyData: firstKey})
	for _, n := range l.Nodes {
		if err := w.Start(n); err != nil {
			t.Fatal(err)
		}
	}
	w.everywhere("ready, with all nodes", func(s agent.Status) error {
		if !s.Ready || s.Kubernetes.Members != nodes {
			return fmt.Errorf("ready %t, %q, %d nodes forward: %v", s.Ready, s.Waiting, s.Kubernetes.Members, s.Kubernetes.Problems)
		}
		return nil
	})
	return w
}

// grant gives agents the rights that an installation gives them. What else it
// checks, that a node writes its own NodeState only, needs a Pod's token.
func (w *world) grant() {
	w.t.Helper()
	objects, err := manifests.Decode(manifests.Install)
	w.must(err)
	for _, o := range objects {
		switch o := o.(type) {
		case *rbacv1.ClusterRole, *rbacv1.ClusterRoleBinding, *rbacv1.Role, *rbacv1.RoleBinding:
			w.must(w.client.Create(w.t.Context(), o.(client.Object)))
		}
	}
}

func (w *world) showLogs() {
	for _, n := range w.Lab.Nodes {
		log, _ := os.ReadFile(agent.LogFile(n))
		w.t.Logf("agent of %s:\n%s", n.Host, log)
	}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// waitFor repeats until there is no error.
func (w *world) waitFor(what string, done func() error) {
	w.t.Helper()
	var last error
	if err := lab.Poll(w.t.Context(), patience, func() bool { last = done(); return last == nil }); err != nil {
		w.t.Fatalf("wait for %s: %v: %v", what, err, last)
	}
}

// everywhere waits until all agents are as wanted.
func (w *world) everywhere(what string, wanted func(agent.Status) error) {
	w.t.Helper()
	for _, n := range w.Lab.Nodes {
		if err := w.Wait(w.t.Context(), n, wanted); err != nil {
			w.t.Fatalf("%s: %v", what, err)
		}
	}
}

// setKey makes the Secret what is given.
func (w *world) setKey(data map[string]string) {
	w.t.Helper()
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: agent.Namespace, Name: desired.KeySecret}, StringData: data}
	err := w.client.Create(w.t.Context(), secret)
	if client.IgnoreAlreadyExists(err) == nil && err != nil {
		have := &corev1.Secret{}
		w.must(w.client.Get(w.t.Context(), client.ObjectKeyFromObject(secret), have))
		have.Data, have.StringData = nil, data
		err = w.client.Update(w.t.Context(), have)
	}
	w.must(err)
}

// apply is kubectl apply.
func (w *world) apply(manifest string) {
	w.t.Helper()
	if _, err := w.Control.Kubectl(w.t.Context(), manifest, "apply", "-f", "-"); err != nil {
		w.t.Fatal(err)
	}
}

// serve gives a Service its addresses, as the controller does, and lets the
// router send them to the nodes; none: to all.
func (w *world) serve(name string, vips []netip.Addr, via ...*lab.Node) {
	w.t.Helper()
	w.assign(name, vips...)
	if len(via) == 0 {
		via = w.Lab.Nodes
	}
	for _, vip := range vips {
		w.must(w.Lab.SetVIPRoute(vip, via...))
	}
}

// assign gives a Service its addresses.
func (w *world) assign(name string, vips ...netip.Addr) {
	w.t.Helper()
	s := w.service(name)
	s.Status.LoadBalancer.Ingress = nil
	mode := corev1.LoadBalancerIPModeVIP
	for _, vip := range vips {
		s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: vip.String(), IPMode: &mode})
	}
	w.must(w.client.Status().Update(w.t.Context(), s))
}

func (w *world) service(name string) *corev1.Service {
	w.t.Helper()
	s := &corev1.Service{}
	w.must(w.client.Get(w.t.Context(), types.NamespacedName{Namespace: namespace, Name: name}, s))
	return s
}

// pods waits for so many ready Pods of the app.
func (w *world) pods(app string, n int) []corev1.Pod {
	w.t.Helper()
	var pods []corev1.Pod
	w.waitFor(fmt.Sprintf("%d ready Pods of %s", n, app), func() (err error) {
		pods, err = w.Control.ReadyPods(w.t.Context(), namespace, "app="+app)
		if err == nil && len(pods) != n {
			err = fmt.Errorf("%d", len(pods))
		}
		return err
	})
	return pods
}

// backends waits until every agent has so many ready and draining backends at
// every port of a Service.
func (w *world) backends(service string, ready, draining int) {
	w.t.Helper()
	w.everywhere(fmt.Sprintf("%d and %d backends of %s", ready, draining, service), func(s agent.Status) error {
		return s.CheckBackends(namespace+"/"+service, ready, draining)
	})
}

// target is a port of a VIP.
func target(network string, vip netip.Addr, port uint16) traffic.Target {
	client := lab.ClientAddr4
	if vip.Is6() {
		client = lab.ClientAddr6
	}
	return traffic.Target{Network: network, Addr: netip.AddrPortFrom(vip, port), Client: client}
}

// ask makes requests that all have to be answered, with the client's address.
func (w *world) ask(to traffic.Target, n int) traffic.Result {
	w.t.Helper()
	r := traffic.Requests(w.t.Context(), w.Lab.Client, to, n)
	if r.Failed > 0 || !r.ClientPreserved() {
		w.t.Errorf("%s %s: %d of %d requests failed: %v; clients seen: %v", to.Network, to.Addr, r.Failed, n, r.FirstError, r.Clients)
	}
	return r
}

// during lets connections work while something happens, and counts those that break.
func (w *world) during(what string, do func()) {
	w.t.Helper()
	w.flows.Run(context.WithoutCancel(w.t.Context()))
	do()
	if broken := w.flows.Pause(); broken > 0 {
		w.t.Errorf("%s: %d of %d connections broke: %v", what, broken, len(w.flows.List), w.flows.Forget())
	}
}

// open adds connections, some idle and some that speak.
func (w *world) open(n int, targets ...traffic.Target) {
	w.t.Helper()
	for _, to := range targets {
		for _, kind := range []traffic.Kind{traffic.Idle, traffic.Active} {
			w.must(w.flows.Open(w.t.Context(), w.Lab.Client, to, kind, n))
		}
	}
}
