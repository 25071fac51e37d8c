// SPDX-License-Identifier: Apache-2.0

package kube_test

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/kube"
	"github.com/fairlead/fairlead/perf/lab/traffic"
)

var vip = netip.MustParseAddr("192.0.2.10")

const shop = `
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: LoadBalancer
  selector: {app: web}
  ports:
  - {port: 80, targetPort: http}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 4
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: fairlead
        ports: [{name: http, containerPort: 8080}]
`

// TestFakeNodes runs a Deployment on nodes whose kubelets are played, and looks
// at what Kubernetes' own controllers and kube-proxy make of it.
func TestFakeNodes(t *testing.T) {
	kube.Require(t, kube.Etcd, kube.APIServer, kube.ControllerManager, kube.Scheduler, kube.Kubectl, kube.Proxy)
	l := lab.ForTest(t, lab.Options{Nodes: 2})
	machine, err := l.AddMachine("control")
	if err != nil {
		t.Fatal(err)
	}
	c := kube.ForTest(t, kube.Options{Machine: machine, ControllerManager: true, Scheduler: true})
	ctx := t.Context()
	nodes, err := c.PlayNodes(ctx, l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := nodes.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, n := range l.Nodes {
		if _, err := c.StartProxy(ctx, n); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Kubectl(ctx, shop, "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	var pods []corev1.Pod
	waitFor(t, "four ready Pods", func() (err error) {
		pods, err = c.ReadyPods(ctx, "default", "app=web")
		return wantCount(len(pods), 4, err)
	})

	t.Run("kube-proxy", func(t *testing.T) { testProxy(t, c, l, nodes, pods) })
	endpoint := func(pod string) string {
		slices, err := c.Client().DiscoveryV1().EndpointSlices("default").List(ctx, metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=web"})
		if err != nil {
			return err.Error()
		}
		for _, slice := range slices.Items {
			for _, e := range slice.Endpoints {
				if e.TargetRef.Name == pod {
					return describe(e)
				}
			}
		}
		return "none"
	}
	waitEndpoint := func(pod corev1.Pod, want string) {
		t.Helper()
		waitFor(t, "endpoint "+want, func() error {
			if got := endpoint(pod.Name); got != want {
				return fmt.Errorf("endpoint %s", got)
			}
			return nil
		})
	}
	t.Run("readiness", func(t *testing.T) {
		for _, ready := range []bool{false, true} {
			if err := nodes.SetReady(ctx, "default", pods[0].Name, ready); err != nil {
				t.Fatal(err)
			}
			waitEndpoint(pods[0], fmt.Sprintf("%s ready=%t serving=%t terminating=false", pods[0].Spec.NodeName, ready, ready))
		}
	})
	t.Run("slow end", func(t *testing.T) {
		nodes.KeepTerminating("default", pods[0].Name, true)
		remove(t, c, pods[0].Name)
		waitEndpoint(pods[0], pods[0].Spec.NodeName+" ready=false serving=true terminating=true")
		if nodes.Pod("default", pods[0].Name) == nil {
			t.Error("the Pod that terminates has no namespace any more")
		}
		nodes.KeepTerminating("default", pods[0].Name, false)
		waitEndpoint(pods[0], "none")
		waitFor(t, "end of the namespace", func() error {
			if nodes.Pod("default", pods[0].Name) != nil {
				return fmt.Errorf("still there")
			}
			return nil
		})
	})
	t.Run("finalizer", func(t *testing.T) {
		patch := `{"metadata":{"finalizers":["example.com/hold"]}}`
		client := c.Client().CoreV1().Pods("default")
		if _, err := client.Patch(ctx, pods[1].Name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
		remove(t, c, pods[1].Name)
		waitFor(t, "end of the namespace", func() error {
			if nodes.Pod("default", pods[1].Name) != nil {
				return fmt.Errorf("still there")
			}
			return nil
		})
		got, err := client.Get(ctx, pods[1].Name, metav1.GetOptions{})
		if err != nil || got.DeletionTimestamp == nil {
			t.Errorf("the Pod that a finalizer holds: %v, %v", got.DeletionTimestamp, err)
		}
		if _, err := client.Patch(ctx, pods[1].Name, types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	})
	waitFor(t, "four ready Pods again", func() error {
		pods, err := c.ReadyPods(ctx, "default", "app=web")
		return wantCount(len(pods), 4, err)
	})
}

// testProxy reaches the Pods by a VIP that kube-proxy alone serves.
func testProxy(t *testing.T, c *kube.ControlPlane, l *lab.Lab, nodes *kube.FakeNodes, pods []corev1.Pod) {
	ctx := t.Context()
	services := c.Client().CoreV1().Services("default")
	web, err := services.Get(ctx, "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	web.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: vip.String(), IPMode: new(corev1.LoadBalancerIPModeVIP)}}
	if _, err := services.UpdateStatus(ctx, web, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := l.SetVIPRoute(vip, l.Nodes...); err != nil {
		t.Fatal(err)
	}
	target := traffic.Target{Network: "tcp", Addr: netip.AddrPortFrom(vip, 80), Client: lab.ClientAddr4}
	waitFor(t, "answer from the VIP", func() error { return traffic.Requests(ctx, l.Client, target, 1).FirstError })
	r := traffic.Requests(ctx, l.Client, target, 400)
	if r.Failed > 0 || r.WrongClient == 0 {
		t.Errorf("%d failed, %v; kube-proxy hid the client from %d", r.Failed, r.FirstError, r.WrongClient)
	}
	var names []string
	for _, p := range pods {
		names = append(names, p.Name)
		if nodes.Pod("default", p.Name) == nil {
			t.Errorf("no namespace for %s", p.Name)
		}
	}
	slices.Sort(names)
	if got := slices.Sorted(maps.Keys(r.Shares)); !slices.Equal(got, names) {
		t.Errorf("answers from %v, want %v", got, names)
	}
}

func describe(e discoveryv1.Endpoint) string {
	return fmt.Sprintf("%s ready=%t serving=%t terminating=%t", *e.NodeName, *e.Conditions.Ready, *e.Conditions.Serving, *e.Conditions.Terminating)
}

func remove(t *testing.T, c *kube.ControlPlane, pod string) {
	t.Helper()
	if err := c.Client().CoreV1().Pods("default").Delete(context.WithoutCancel(t.Context()), pod, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}

func wantCount(got, want int, err error) error {
	if err == nil && got != want {
		err = fmt.Errorf("%d, want %d", got, want)
	}
	return err
}
