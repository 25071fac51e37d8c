// SPDX-License-Identifier: Apache-2.0

// Package cluster is a lab whose nodes are a Kubernetes cluster with real
// kubelets and kube-proxy, and Fairlead installed in it as a user does: by its
// manifests. The demo and the root tests of the whole use it.
package cluster

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"regexp"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/deploy/manifests"
	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/kube"
)

// Image is what the nodes have: Fairlead, and in it the server of Pods.
const Image = "localhost/fairlead:lab"

// The ports of Services, and of the Pods behind them.
const (
	ServicePort = 80
	PodPort     = 8080
)

// installTimeout is for programs to load and probes to come round.
const installTimeout = 3 * time.Minute

// Options say what the cluster is like.
type Options struct {
	Lab    lab.Options
	Binary string // fairlead, a static one
	// XDPMode is the agents'; "": auto.
	XDPMode string
}

// Cluster is a running one. Its owner closes it.
type Cluster struct {
	Lab     *lab.Lab
	Control *kube.ControlPlane
	Nodes   *kube.Nodes
	// Took says how long each part of Start and Install took, in their order.
	Took []Step

	options Options
	begun   time.Time
}

// Step is a part of the way to a running cluster.
type Step struct {
	Name string
	Took time.Duration
}

// Start makes the lab and a dual-stack cluster on its nodes, with kube-proxy and
// without Fairlead, whose image the nodes have. After an error nothing runs.
func Start(ctx context.Context, logger *slog.Logger, o Options) (*Cluster, error) {
	c := &Cluster{options: o, begun: time.Now()}
	if err := c.start(ctx, logger); err != nil {
		return nil, errors.Join(fmt.Errorf("start cluster: %w", err), c.Close())
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context, logger *slog.Logger) (err error) {
	if c.Lab, err = lab.New(logger, c.options.Lab); err != nil {
		return err
	}
	machine, err := c.Lab.AddMachine("control")
	if err != nil {
		return err
	}
	c.step("network of namespaces")
	c.Control, err = kube.Start(ctx, logger, kube.Options{
		Dir: c.Lab.Dir, Machine: machine, DualStack: true, ControllerManager: true, Scheduler: true,
	})
	if err != nil {
		return err
	}
	c.step("control plane")
	c.Nodes, err = c.Control.StartNodes(ctx, c.Lab, kube.Image{Ref: Image, Binary: c.options.Binary})
	if err != nil {
		return err
	}
	c.step(fmt.Sprintf("%d nodes ready", len(c.Lab.Nodes)))
	for _, n := range c.Lab.Nodes {
		if _, err := c.Control.StartProxy(ctx, n); err != nil {
			return err
		}
	}
	c.step("kube-proxy")
	return nil
}

// step notes what was done since the last one.
func (c *Cluster) step(name string) {
	now := time.Now()
	c.Took = append(c.Took, Step{name, now.Sub(c.begun)})
	c.begun = now
}

// Close ends all of it. A second call does nothing.
func (c *Cluster) Close() error {
	var errs []error
	if c.Nodes != nil {
		errs = append(errs, c.Nodes.Close())
	}
	if c.Control != nil {
		errs = append(errs, c.Control.Close())
	}
	if c.Lab != nil {
		errs = append(errs, c.Lab.Close())
	}
	return errors.Join(errs...)
}

// Install applies Fairlead's manifests, with the lab's image and small tables, and
// waits until the controller is there and the programs of every node forward.
func (c *Cluster) Install(ctx context.Context) error {
	c.begun = time.Now()
	manifest, err := c.manifest()
	if err != nil {
		return fmt.Errorf("install: %w", err)
	}
	if err := c.Apply(ctx, string(manifest)); err != nil {
		return fmt.Errorf("install: %w", err)
	}
	for _, workload := range []string{"deployment/fairlead-controller", "daemonset/fairlead-agent"} {
		if err := c.WaitRollout(ctx, manifests.Namespace, workload); err != nil {
			return fmt.Errorf("install: %w", errors.Join(err, c.explain(ctx)))
		}
	}
	states := []string{"wait", "--namespace=" + manifests.Namespace, "--for=jsonpath={.status.attached}=true", "--timeout=1s"}
	for _, n := range c.Lab.Nodes {
		states = append(states, "nodestates/"+n.Host)
	}
	var last error
	err = lab.Poll(ctx, installTimeout, func() bool {
		_, last = c.Control.Kubectl(ctx, "", states...)
		return last == nil
	})
	if err != nil {
		return fmt.Errorf("install: wait for node states: %w", errors.Join(err, last, c.explain(ctx)))
	}
	c.step("Fairlead installed")
	return nil
}

// images are those of all containers, which are of one image.
var images = regexp.MustCompile(`(?m)^( *image: ).*$`)

// manifest is Fairlead's with what differs in a lab: three agents share a machine.
func (c *Cluster) manifest() ([]byte, error) {
	manifest := images.ReplaceAll(manifests.Install, []byte("${1}"+Image))
	for _, change := range [][2]string{
		{"flows: 1048576", "flows: 65536"},
		{`xdpMode: "auto"`, fmt.Sprintf("xdpMode: %q", cmp.Or(c.options.XDPMode, "auto"))},
	} {
		if !bytes.Contains(manifest, []byte(change[0])) {
			return nil, fmt.Errorf("manifest has no %q", change[0])
		}
		manifest = bytes.ReplaceAll(manifest, []byte(change[0]), []byte(change[1]))
	}
	return manifest, nil
}

// explain says what Fairlead's Pods say.
func (c *Cluster) explain(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	pods, err := c.Control.Kubectl(ctx, "", "get", "pods", "--namespace="+manifests.Namespace, "-o", "wide")
	if err != nil {
		return err
	}
	said := []error{errors.New(pods)}
	for _, component := range []string{"controller", "agent"} {
		logs, err := c.Control.Kubectl(ctx, "", "logs", "--namespace="+manifests.Namespace, "--prefix", "--tail=5",
			"--selector=app.kubernetes.io/component="+component)
		said = append(said, err, errors.New(logs))
	}
	return errors.Join(said...)
}

// Apply does what `kubectl apply` does with the objects.
func (c *Cluster) Apply(ctx context.Context, objects string) error {
	_, err := c.Control.Kubectl(ctx, objects, "apply", "--server-side", "-f", "-")
	return err
}

// WaitRollout waits until a Deployment or DaemonSet is what its spec says, with all
// Pods ready.
func (c *Cluster) WaitRollout(ctx context.Context, namespace, workload string) error {
	_, err := c.Control.Kubectl(ctx, "", "rollout", "status", "--namespace="+namespace, "--timeout="+installTimeout.String(), workload)
	return err
}

// Addresses are those that the Service has, IPv4 first.
func (c *Cluster) Addresses(ctx context.Context, namespace, service string) ([]netip.Addr, error) {
	s, err := c.Control.Client().CoreV1().Services(namespace).Get(ctx, service, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("get service: %w", err)
	}
	var addrs []netip.Addr
	for _, ingress := range s.Status.LoadBalancer.Ingress {
		addr, err := netip.ParseAddr(ingress.IP)
		if err != nil {
			return nil, fmt.Errorf("address of %s/%s: %w", namespace, service, err)
		}
		addrs = append(addrs, addr)
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return addrs, nil
}
