// SPDX-License-Identifier: Apache-2.0

package kube_test

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/kube"
	"github.com/fairlead/fairlead/perf/lab/traffic"
)

const imageRef = "localhost/fairlead:test"

// realShop is the shop with real containers.
var realShop = strings.NewReplacer("image: fairlead", `image: `+imageRef+`
        args: [pod, --name, $(NAME), --port, "8080"]
        env: [{name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
        readinessProbe: {tcpSocket: {port: http}, periodSeconds: 1}
        securityContext: {runAsUser: 65532}`, "replicas: 4", "replicas: 6").Replace(shop)

// TestNodes runs a Deployment on real kubelets.
func TestNodes(t *testing.T) {
	kube.Require(t)
	kube.Require(t, kube.Proxy)
	kube.RequireNodes(t)
	ctx := t.Context()
	image := kube.Image{Ref: imageRef, Binary: filepath.Join(t.TempDir(), "fairlead")}
	build := exec.CommandContext(ctx, "go", "build", "-o", image.Binary, "github.com/fairlead/fairlead/cmd/fairlead")
	build.Env = append(build.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build fairlead: %v: %s", err, out)
	}
	l := lab.ForTest(t, lab.Options{Nodes: 3})
	machine, err := l.AddMachine("control")
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	step := func(what string) {
		t.Helper()
		t.Logf("%s after %s", what, time.Since(began).Round(10*time.Millisecond))
		began = time.Now()
	}
	c := kube.ForTest(t, kube.Options{Machine: machine, ControllerManager: true, Scheduler: true, DualStack: true})
	step("control plane")
	nodes := kube.NodesForTest(t, c, l, image)
	step("three nodes ready")
	for _, n := range l.Nodes {
		if _, err := c.StartProxy(ctx, n); err != nil {
			t.Fatal(err)
		}
	}
	step("kube-proxy")
	if _, err := c.Kubectl(ctx, realShop, "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "first ready Pod", func() error {
		pods, err := c.ReadyPods(ctx, "default", "app=web")
		if err == nil && len(pods) == 0 {
			err = fmt.Errorf("none")
		}
		return err
	})
	step("first Pod ready")
	waitFor(t, "six ready Pods", func() error {
		pods, err := c.ReadyPods(ctx, "default", "app=web")
		return wantCount(len(pods), 6, err)
	})
	step("six Pods ready")
	pods, err := c.ReadyPods(ctx, "default", "app=web")
	if err != nil {
		t.Fatal(err)
	}
	onNodes := map[string]bool{}
	for _, p := range pods {
		onNodes[p.Spec.NodeName] = true
		if len(p.Status.PodIPs) != 2 {
			t.Errorf("%s has addresses %v", p.Name, p.Status.PodIPs)
		}
		for _, ip := range p.Status.PodIPs {
			addr := netip.MustParseAddr(ip.IP)
			client := lab.ClientAddr4
			if addr.Is6() {
				client = lab.ClientAddr6
			}
			target := traffic.Target{Network: "tcp", Addr: netip.AddrPortFrom(addr, 8080), Client: client}
			if r := traffic.Requests(ctx, l.Client, target, 3); r.Failed > 0 || !r.ClientPreserved() || r.Shares[p.Name] != 3 {
				t.Errorf("%s at %s: %+v", p.Name, addr, r)
			}
		}
	}
	if len(onNodes) != 3 {
		t.Errorf("Pods are on %v only", onNodes)
	}
	t.Run("restart of a kubelet", func(t *testing.T) {
		if err := nodes.List[0].StopKubelet(); err != nil {
			t.Fatal(err)
		}
		if err := nodes.List[0].StartKubelet(ctx); err != nil {
			t.Fatal(err)
		}
		// It knows its Pods a moment after it says that it is healthy.
		waitFor(t, "the same Pods", func() error {
			again, err := c.ReadyPods(ctx, "default", "app=web")
			if err == nil && len(again) == 6 {
				out, err := c.Kubectl(ctx, "", "exec", pods[0].Name, "--", "/fairlead", "version")
				if err == nil && !strings.Contains(out, "fairlead") {
					err = fmt.Errorf("exec: %q", out)
				}
				return err
			}
			return wantCount(len(again), 6, err)
		})
	})
	t.Run("logs", func(t *testing.T) {
		out, err := c.Kubectl(ctx, "", "logs", pods[0].Name)
		if err != nil || !strings.Contains(out, "ready") {
			t.Errorf("%q, %v", out, err)
		}
	})
	t.Run("end of a Pod", func(t *testing.T) {
		name := pods[0].Name
		if err := c.Client().CoreV1().Pods("default").Delete(context.WithoutCancel(ctx), name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		waitFor(t, "another Pod", func() error {
			pods, err := c.ReadyPods(ctx, "default", "app=web")
			for _, p := range pods {
				if p.Name == name {
					return fmt.Errorf("%s is still there", name)
				}
			}
			return wantCount(len(pods), 6, err)
		})
	})
	step("the rest")
}
