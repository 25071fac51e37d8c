// SPDX-License-Identifier: Apache-2.0

package kube_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/kube"
)

const crd = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: things.example.com
spec:
  group: example.com
  names: {kind: Thing, plural: things}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            properties: {size: {type: integer}}
            x-kubernetes-validations:
            - {rule: "self.size < 10", message: "too big"}
`

// TestControlPlane looks at each of its programs by what it does.
func TestControlPlane(t *testing.T) {
	t.Parallel()
	c := kube.ForTest(t, kube.Options{
		ControllerManager: true, Scheduler: true, DualStack: true,
		CRDs: fstest.MapFS{"things.yaml": {Data: []byte(crd)}},
	})
	ctx := t.Context()
	if err := c.CreateNamespace(ctx, "shop"); err != nil {
		t.Fatal(err)
	}
	apply := func(object string) (string, error) { return c.Kubectl(ctx, object, "apply", "-f", "-") }

	t.Run("definitions", func(t *testing.T) {
		thing := "apiVersion: example.com/v1\nkind: Thing\nmetadata: {name: a}\nspec: {size: %}\n"
		if _, err := apply(strings.Replace(thing, "%", "9", 1)); err != nil {
			t.Error(err)
		}
		if _, err := apply(strings.Replace(thing, "%", "10", 1)); err == nil || !strings.Contains(err.Error(), "too big") {
			t.Errorf("a thing that the rule forbids: %v", err)
		}
	})
	t.Run("services", func(t *testing.T) {
		service := &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop"},
			Spec: corev1.ServiceSpec{
				Type:           corev1.ServiceTypeLoadBalancer,
				IPFamilyPolicy: new(corev1.IPFamilyPolicyRequireDualStack),
				Ports:          []corev1.ServicePort{{Port: 80}},
			},
		}
		got, err := c.Client().CoreV1().Services("shop").Create(ctx, service, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Spec.ClusterIPs) != 2 || got.Spec.Ports[0].NodePort == 0 {
			t.Errorf("cluster IPs %v, node port %d", got.Spec.ClusterIPs, got.Spec.Ports[0].NodePort)
		}
	})
	t.Run("scheduler", func(t *testing.T) {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node1"}}
		node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
		node.Status.Allocatable = corev1.ResourceList{corev1.ResourcePods: resource.MustParse("10")}
		if _, err := c.Client().CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web"}}
		pod.Spec.Containers = []corev1.Container{{Name: "web", Image: "web"}}
		pods := c.Client().CoreV1().Pods("shop")
		if _, err := pods.Create(ctx, pod, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		waitFor(t, "Pod on its node", func() error {
			got, err := pods.Get(ctx, "web", metav1.GetOptions{})
			if err == nil && got.Spec.NodeName != "node1" {
				err = errors.New("on " + got.Spec.NodeName)
			}
			return err
		})
	})
	t.Run("users", func(t *testing.T) {
		user, groups := kube.ServiceAccount("shop", "default")
		config, err := c.RESTConfigFor(user, groups...)
		if err != nil {
			t.Fatal(err)
		}
		client := kubernetes.NewForConfigOrDie(config)
		_, err = client.CoreV1().Services("shop").List(ctx, metav1.ListOptions{})
		if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), user) {
			t.Errorf("a ServiceAccount without a role: %v", err)
		}
	})
}

// TestAPIServerGone: what was stored is there when it is back.
func TestAPIServerGone(t *testing.T) {
	t.Parallel()
	c := kube.ForTest(t, kube.Options{})
	ctx := t.Context()
	maps := c.Client().CoreV1().ConfigMaps("default")
	if _, err := maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "kept"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := c.StopAPIServer(); err != nil {
		t.Fatal(err)
	}
	if _, err := maps.Get(ctx, "kept", metav1.GetOptions{}); err == nil || apierrors.ReasonForError(err) != metav1.StatusReasonUnknown {
		t.Errorf("without an API server: %v", err)
	}
	if err := c.StartAPIServer(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := maps.Get(ctx, "kept", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
}

// A program that ends is noticed at once, and the error says what it said.
func TestStartFails(t *testing.T) {
	t.Parallel()
	kube.Require(t)
	_, err := kube.Start(t.Context(), slog.New(slog.DiscardHandler), kube.Options{
		Dir: t.TempDir(), Args: map[string][]string{kube.APIServer: {"--no-such-flag"}},
	})
	if err == nil || !strings.Contains(err.Error(), "unknown flag: --no-such-flag") {
		t.Errorf("got %v", err)
	}
}

// TestMachine: the control plane in a lab is there for its nodes and for this process.
func TestMachine(t *testing.T) {
	l := lab.ForTest(t, lab.Options{Nodes: 1})
	machine, err := l.AddMachine("control")
	if err != nil {
		t.Fatal(err)
	}
	c := kube.ForTest(t, kube.Options{Machine: machine})
	if _, err := c.Client().CoreV1().Namespaces().Get(t.Context(), "default", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
	var out string
	if err := lab.Poll(t.Context(), 30*time.Second, func() bool { // it is written a moment after the API server is ready
		out, err = c.Kubectl(t.Context(), "", "get", "endpointslices", "-o", "name")
		return err == nil && strings.Contains(out, "kubernetes")
	}); err != nil {
		t.Errorf("the API server's own endpoint: %q, %v", out, err)
	}
	kubeconfig, err := c.AdminKubeconfig()
	if err != nil {
		t.Fatal(err)
	}
	binaries, err := kube.Built(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	out, err = l.Nodes[0].Output(t.Context(), binaries+"/kubectl", "--kubeconfig", kubeconfig, "get", "namespace", "default", "-o", "name")
	if err != nil || !strings.Contains(out, "namespace/default") {
		t.Errorf("from a node: %q, %v", out, err)
	}
}

// waitFor waits until done returns nil.
func waitFor(t *testing.T, what string, done func() error) {
	t.Helper()
	var last error
	err := lab.Poll(context.Background(), 30*time.Second, func() bool {
		last = done()
		return last == nil
	})
	if err != nil {
		t.Fatalf("wait for %s: %v: %v", what, err, last)
	}
}
