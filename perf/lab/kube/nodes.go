// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/perf/lab"
)

// NodeTools are what real nodes need beside their own programs: by name runc and
// nft, and the CNI plugins.
var NodeTools = []string{"runc", "nft"}

// Deadlines of a node's programs. A node is ready 3 s after its kubelet began on
// an idle machine.
const (
	runtimeTimeout = time.Minute
	nodeTimeout    = 2 * time.Minute
	importTimeout  = time.Minute
)

// Node is a node of the lab with a real kubelet and a real container runtime.
// They see directories and cgroups of their own, and the machine's kernel.
type Node struct {
	*lab.Node

	control  *ControlPlane
	binaries string // of containerd
	dir      string
	cgroup   string
	mounts   *os.File

	runtime, kubelet *component
}

// Nodes are all of one lab. Their owner closes them before the lab.
type Nodes struct {
	List []*Node
}

// MissingForNodes returns what real nodes lack on this machine, nil when they can run.
func MissingForNodes() error {
	if err := lab.Missing(NodeTools...); err != nil {
		return err
	}
	for _, plugin := range []string{"ptp", "host-local", "loopback"} {
		if _, err := os.Stat(filepath.Join(pluginDir, plugin)); err != nil {
			return fmt.Errorf("needs containernetworking-plugins: %w", err)
		}
	}
	return nil
}

// StartNodes gives every node of the lab, which has no Pods of its own, a kubelet
// and a container runtime with these images, and returns when all are ready. The
// control plane is on a machine of the same lab. After an error nothing runs.
func (c *ControlPlane) StartNodes(ctx context.Context, l *lab.Lab, images ...Image) (*Nodes, error) {
	programs, err := Binaries(ctx, Kubelet)
	if err != nil {
		return nil, err
	}
	runtimes, err := Binaries(ctx, Containerd, Shim, Ctr)
	if err != nil {
		return nil, err
	}
	archives, err := c.archive(ctx, images)
	if err != nil {
		return nil, err
	}
	all := &Nodes{}
	group, ctx := errgroup.WithContext(ctx)
	for _, ln := range l.Nodes {
		n := &Node{Node: ln, control: c, binaries: runtimes, dir: filepath.Join(ln.Dir, "kube")}
		all.List = append(all.List, n)
		if n.cgroup, err = l.AddCgroup(ln.Host); err != nil {
			return nil, err
		}
		group.Go(func() error {
			if err := n.begin(ctx, programs, archives); err != nil {
				return fmt.Errorf("start %s: %w", n.Host, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, errors.Join(err, all.Close())
	}
	return all, nil
}

// archive writes the images, and that of pause, to files.
func (c *ControlPlane) archive(ctx context.Context, images []Image) (paths []string, err error) {
	pause, err := buildPause(ctx, c.Dir)
	if err != nil {
		return nil, err
	}
	for i, image := range append(slices.Clone(images), pause) {
		path := c.file(fmt.Sprintf("image-%d.tar", i))
		if err := image.write(path); err != nil {
			return nil, err
		}
		paths = append(paths, path)
	}
	return paths, nil
}

func (n *Node) file(name string) string { return filepath.Join(n.dir, name) }

// begin starts the node's programs and waits until it is ready.
func (n *Node) begin(ctx context.Context, kubernetes string, archives []string) error {
	if err := os.MkdirAll(n.dir, 0o755); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	if err := n.writeConfig(); err != nil {
		return err
	}
	if err := n.makeMounts(); err != nil {
		return err
	}
	kubeconfig, err := n.control.Kubeconfig("system:node:"+n.Host, "system:nodes")
	if err != nil {
		return err
	}
	n.runtime = n.component(n.binaries, Containerd, "--config="+n.file("containerd.toml"))
	n.kubelet = n.component(kubernetes, Kubelet, append(n.kubeletArgs(kubeconfig), n.control.options.Args[Kubelet]...)...)
	if err := n.runtime.run(); err != nil {
		return err
	}
	err = n.runtime.wait(ctx, runtimeTimeout, "containerd", func(ctx context.Context) error {
		_, err := n.ctr(ctx, "version")
		return err
	})
	if err != nil {
		return err
	}
	for _, archive := range archives {
		importing, cancel := context.WithTimeout(ctx, importTimeout)
		_, err := n.ctr(importing, "images", "import", archive)
		cancel()
		if err != nil {
			return err
		}
	}
	return n.StartKubelet(ctx)
}

// component is a program in the node's namespaces and a cgroup below its own.
func (n *Node) component(binaries, name string, args ...string) *component {
	return &component{
		name: name, path: filepath.Join(binaries, name), args: args, log: n.file(name + ".log"),
		start: func(cmd *exec.Cmd) (*lab.Process, error) {
			return n.StartWith(cmd, filepath.Join(n.cgroup, name), n.enterMounts)
		},
	}
}

// StartKubelet starts the kubelet after StopKubelet, and waits until the node is ready.
func (n *Node) StartKubelet(ctx context.Context) error {
	begun := time.Now()
	if err := n.kubelet.run(); err != nil {
		return err
	}
	return n.kubelet.wait(ctx, nodeTimeout, "node "+n.Host, func(ctx context.Context) error {
		node, err := n.control.admin.CoreV1().Nodes().Get(ctx, n.Host, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, condition := range node.Status.Conditions {
			if condition.Type != corev1.NodeReady {
				continue
			}
			// A condition from before a restart says nothing.
			if condition.Status == corev1.ConditionTrue && condition.LastHeartbeatTime.Add(time.Second).After(begun) {
				return nil
			}
			return fmt.Errorf("%w: %s", errNotReady, condition.Message)
		}
		return errNotReady
	})
}

var errNotReady = errors.New("not ready")

// StopKubelet kills the kubelet; its containers go on.
func (n *Node) StopKubelet() error { return n.kubelet.kill() }

// ctr runs containerd's tool in the node and returns what it wrote.
func (n *Node) ctr(ctx context.Context, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, filepath.Join(n.binaries, Ctr), append([]string{"--namespace=k8s.io"}, args...)...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	p, err := n.StartWith(cmd, filepath.Join(n.cgroup, Containerd), n.enterMounts)
	if err != nil {
		return "", err
	}
	if err := p.Wait(); err != nil {
		return "", fmt.Errorf("ctr %s: %w: %s", strings.Join(args, " "), cmp.Or(ctx.Err(), err), strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// Close ends the kubelets and the container runtimes. Containers end with the
// lab, as their cgroups do. A second call does nothing.
func (all *Nodes) Close() error {
	var errs []error
	for _, n := range all.List {
		for _, program := range []*component{n.kubelet, n.runtime} {
			if program != nil {
				errs = append(errs, program.kill())
			}
		}
		if n.mounts != nil {
			n.mounts.Close()
			n.mounts = nil
		}
	}
	return errors.Join(errs...)
}
