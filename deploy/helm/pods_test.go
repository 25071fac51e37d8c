// SPDX-License-Identifier: Apache-2.0

package helm_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/deploy/helm"
	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/cluster"
	"github.com/fairlead/fairlead/perf/lab/kube"
)

const (
	podImage       = "localhost/fairlead:test"
	rolloutTimeout = 3 * time.Minute
)

// Capabilities as capabilities(7) numbers them: NET_ADMIN 12, NET_RAW 13,
// IPC_LOCK 14, PERFMON 38, BPF 39.
const (
	kernelMask    = "000000c000003000"
	userspaceMask = "000000c000007000"
)

// TestPods runs the agents that the chart describes on real kubelets and in real
// containers, with the rights that these have: both datapaths, and what takes
// them off the nodes.
func TestPods(t *testing.T) {
	h := require(t)
	kube.Require(t)
	kube.Require(t, kube.Proxy)
	kube.RequireNodes(t)
	l := lab.ForTest(t, lab.Options{Nodes: 2, Native: cluster.NeedsNative(cluster.ModeUserspace)})
	machine, err := l.AddMachine("control")
	if err != nil {
		t.Fatal(err)
	}
	control := kube.ForTest(t, kube.Options{Machine: machine, ControllerManager: true, Scheduler: true, DualStack: true})
	kube.NodesForTest(t, control, l, kube.Image{Ref: podImage, Binary: build(t)})
	for _, n := range l.Nodes {
		if _, err := control.StartProxy(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			showPods(t, control)
		}
	})
	repository, tag, _ := strings.Cut(podImage, ":")
	apply := func(t *testing.T, sets ...string) {
		t.Helper()
		sets = append(sets, "namespace.create=true", "image.repository="+repository, "image.tag="+tag, "agent.limits.flows=65536")
		out, err := h.Template(t.Context(), sets, "--no-hooks")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := control.Kubectl(t.Context(), string(out), "apply", "--server-side", "-f", "-"); err != nil {
			t.Fatal(err)
		}
		for _, workload := range []string{"deployment/fairlead-controller", "daemonset/fairlead-agent"} {
			if _, err := control.Kubectl(t.Context(), "", "rollout", "status", "--namespace="+helm.Namespace,
				"--timeout="+rolloutTimeout.String(), workload); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Run("kernel", func(t *testing.T) {
		apply(t)
		waitStates(t, control, l, "generic")
		for _, n := range l.Nodes {
			expectConfined(t, n, kernelMask)
		}
	})
	t.Run("userspace", func(t *testing.T) {
		apply(t, "agent.datapath=userspace", "agent.xdpMode=native", "agent.mountBPFFS=true")
		waitStates(t, control, l, "userspace")
		for _, n := range l.Nodes {
			expectConfined(t, n, userspaceMask)
			if _, err := os.Stat(filepath.Join(n.BPF, "fairlead")); err != nil {
				t.Errorf("pins of %s: %v", n.Host, err)
			}
		}
	})
	t.Run("removal", func(t *testing.T) {
		apply(t, "agent.cleanup=true")
		waitStates(t, control, l, "")
		for _, n := range l.Nodes {
			if _, err := os.Stat(filepath.Join(n.BPF, "fairlead")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("pins of %s after the removal: %v", n.Host, err)
			}
		}
	})
}

// waitStates waits until every node says that its programs are attached in the
// mode; "": that they are not.
func waitStates(t *testing.T, control *kube.ControlPlane, l *lab.Lab, mode string) {
	t.Helper()
	for _, n := range l.Nodes {
		var got string
		var last error
		err := lab.Poll(t.Context(), rolloutTimeout, func() bool {
			got, last = control.Kubectl(t.Context(), "", "get", "nodestate", n.Host, "--namespace="+helm.Namespace,
				"-o", "jsonpath={.status.attached} {.status.mode}")
			attached, has, _ := strings.Cut(got, " ")
			return last == nil && (mode != "" && attached == "true" && has == mode || mode == "" && attached != "true")
		})
		if err != nil {
			t.Fatalf("state of %s: %q, want %q: %v, %v", n.Host, got, mode, err, last)
		}
	}
}

// expectConfined looks at the node's agent as the kernel sees it.
func expectConfined(t *testing.T, n *lab.Node, capabilities string) {
	t.Helper()
	status := agentStatus(t, n)
	for field, want := range map[string]string{
		"CapPrm": capabilities, "CapBnd": capabilities, "CapAmb": "0000000000000000", "NoNewPrivs": "1", "Seccomp": "2",
	} {
		if status[field] != want {
			t.Errorf("%s of the agent on %s is %q, want %q", field, n.Host, status[field], want)
		}
	}
}

// agentStatus is /proc/PID/status of the agent in the node's network.
func agentStatus(t *testing.T, n *lab.Node) map[string]string {
	t.Helper()
	network := func(process string) string {
		link, _ := os.Readlink(filepath.Join(process, "ns/net")) // "": it has ended
		return link
	}
	var own string
	if err := n.Do(func() error { own = network("/proc/thread-self"); return nil }); err != nil {
		t.Fatal(err)
	}
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, process := range processes {
		command, _ := os.ReadFile(filepath.Join(process, "cmdline"))
		if !strings.HasPrefix(string(command), "/fairlead\x00agent\x00") || network(process) != own {
			continue
		}
		data, err := os.ReadFile(filepath.Join(process, "status"))
		if err != nil {
			t.Fatal(err)
		}
		status := map[string]string{}
		for line := range strings.Lines(string(data)) {
			field, value, _ := strings.Cut(line, ":")
			status[field] = strings.TrimSpace(value)
		}
		return status
	}
	t.Fatalf("no agent runs on %s", n.Host)
	return nil
}

// showPods logs what a failed test wants to know of Fairlead's Pods.
func showPods(t *testing.T, control *kube.ControlPlane) {
	ctx := context.WithoutCancel(t.Context())
	for _, args := range [][]string{
		{"get", "pods,nodestates", "-o", "wide"},
		{"describe", "pods"},
		{"logs", "--prefix", "--tail=10", "--all-containers", "--selector=app.kubernetes.io/name=fairlead"},
	} {
		out, err := control.Kubectl(ctx, "", append(args, "--namespace="+helm.Namespace)...)
		t.Logf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}
