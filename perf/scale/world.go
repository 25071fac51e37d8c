// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
	"github.com/fairlead/fairlead/controller/api/v1beta1/crd"
	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/kube"
	"github.com/fairlead/fairlead/xdp"
)

const (
	systemNamespace = "fairlead-system"
	namespace       = "scale" // of the Services
	pool            = "100.64.0.0/16"
)

// world is a lab with one node, an API server beside it, and what runs there.
type world struct {
	options options
	logger  *slog.Logger
	dir     string // files of the control plane and of our programs

	lab     *lab.Lab
	node    *lab.Node
	machine *lab.Machine // the control plane's
	control *kube.ControlPlane
	client  kubernetes.Interface
	dynamic dynamic.Interface

	controller *program
	watch      *watch
	services   []*service
}

// newWorld builds everything but the Services; the controller runs, the agent does not.
func newWorld(ctx context.Context, logger *slog.Logger, o options) (_ *world, err error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("needs root: it makes network namespaces and loads BPF programs")
	}
	w := &world{options: o, logger: logger}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	if w.dir, err = os.MkdirTemp("", "fairlead-scale-"); err != nil {
		return nil, err
	}
	if w.lab, err = lab.New(logger, lab.Options{Nodes: 1, NoFirewall: true}); err != nil {
		return nil, err
	}
	w.node = w.lab.Nodes[0]
	if w.machine, err = w.lab.AddMachine("control"); err != nil {
		return nil, err
	}
	if err := w.startControl(ctx); err != nil {
		return nil, err
	}
	if err := w.createCluster(ctx); err != nil {
		return nil, err
	}
	if w.watch, err = startWatch(ctx, w.client); err != nil {
		return nil, err
	}
	w.controller, err = w.startController()
	return w, err
}

func (w *world) startControl(ctx context.Context) (err error) {
	w.control, err = kube.Start(ctx, w.logger, kube.Options{
		Dir: w.dir, Machine: w.machine, CRDs: crd.Files,
		// A new client of every Service and slice must not wait for its turn.
		Args: map[string][]string{kube.APIServer: {"--max-requests-inflight=0", "--max-mutating-requests-inflight=0", "--enable-priority-and-fairness=false"}},
	})
	if err != nil {
		return err
	}
	config := w.control.RESTConfig()
	if w.dynamic, err = dynamic.NewForConfig(config); err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	config.ContentType = runtime.ContentTypeProtobuf
	if w.client, err = kubernetes.NewForConfig(config); err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	for _, name := range []string{systemNamespace, namespace} {
		if err := w.control.CreateNamespace(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// close ends all programs and removes what was made.
func (w *world) close() error {
	var errs []error
	if w.watch != nil {
		w.watch.stop()
	}
	if w.controller != nil {
		errs = append(errs, w.controller.stop())
	}
	if w.control != nil {
		errs = append(errs, w.control.Close())
	}
	if w.lab != nil {
		errs = append(errs, w.lab.Close())
	}
	if w.dir != "" {
		errs = append(errs, os.RemoveAll(w.dir))
	}
	return errors.Join(errs...)
}

// createCluster makes the nodes, of which only the first one has a machine, and
// the pool.
func (w *world) createCluster(ctx context.Context) error {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return err
	}
	for i := range w.options.nodes {
		if err := w.createNode(ctx, i, strings.TrimSpace(string(boot))); err != nil {
			return fmt.Errorf("create node %s: %w", w.nodeName(i), err)
		}
	}
	pool := &v1beta1.IPAddressPool{Spec: v1beta1.IPAddressPoolSpec{Addresses: []string{pool}}}
	pool.Name = "scale"
	if _, err := w.create(ctx, "IPAddressPool", "ipaddresspools", pool); err != nil {
		return fmt.Errorf("create pool: %w", err)
	}
	return nil
}

func (w *world) nodeName(i int) string {
	if i == 0 {
		return w.node.Host
	}
	return fmt.Sprintf("far%d", i)
}

// createNode makes a Node and, for those whose agent does not run, what it would say.
func (w *world) createNode(ctx context.Context, i int, boot string) error {
	addr := w.node.Addrs[0]
	if i > 0 {
		addr = netip.AddrFrom4([4]byte{10, 3, byte(i >> 8), byte(i)})
	}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: w.nodeName(i)}}
	node, err := w.client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	node.Status.NodeInfo.BootID = boot
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: addr.String()}}
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	if node, err = w.client.CoreV1().Nodes().UpdateStatus(ctx, node, metav1.UpdateOptions{}); err != nil || i == 0 {
		return err
	}
	state := &v1beta1.NodeState{ObjectMeta: metav1.ObjectMeta{
		Name:            node.Name,
		OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID}},
	}}
	made, err := w.create(ctx, "NodeState", "nodestates", state)
	if err != nil {
		return err
	}
	state.ResourceVersion = made.GetResourceVersion()
	state.Status = v1beta1.NodeStateStatus{
		Attached: true, BootID: boot, Mode: "native", Version: "scale", RecordsVersion: int32(xdp.ABI.Records),
		WireVersion: int32(xdp.ABI.Wire), HashVersion: int32(xdp.ABI.Hash),
	}
	object, err := toUnstructured("NodeState", state)
	if err != nil {
		return err
	}
	_, err = w.resource("nodestates").UpdateStatus(ctx, object, metav1.UpdateOptions{})
	return err
}

// resource is one of ours, in our namespace.
func (w *world) resource(plural string) dynamic.ResourceInterface {
	return w.dynamic.Resource(v1beta1.GroupVersion.WithResource(plural)).Namespace(systemNamespace)
}

func (w *world) create(ctx context.Context, kind, plural string, object any) (*unstructured.Unstructured, error) {
	u, err := toUnstructured(kind, object)
	if err != nil {
		return nil, err
	}
	return w.resource(plural).Create(ctx, u, metav1.CreateOptions{})
}

func toUnstructured(kind string, object any) (*unstructured.Unstructured, error) {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		return nil, err
	}
	u := &unstructured.Unstructured{Object: content}
	u.SetGroupVersionKind(v1beta1.GroupVersion.WithKind(kind))
	return u, nil
}
