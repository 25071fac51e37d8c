// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/perf/lab"
	podserver "github.com/fairlead/fairlead/perf/lab/pod"
)

// fakePod is a Pod that runs, in the eyes of the API server.
type fakePod struct {
	uid     types.UID
	node    *lab.Node
	pod     *lab.Pod // nil: on the node's own network
	servers []*podserver.Server
	ready   bool
	since   metav1.Time
}

func (p *fakePod) stopServers() {
	for _, s := range p.servers {
		s.Close()
	}
	p.servers = nil
}

// addrs are the Pod's, IPv4 first.
func (p *fakePod) addrs() []netip.Addr {
	if p.pod == nil {
		return p.node.Addrs
	}
	return []netip.Addr{p.pod.Addr4, p.pod.Addr6}
}

// Pod is the lab's side of a running Pod, nil when there is none, or when it is
// on its node's network.
func (f *FakeNodes) Pod(namespace, name string) *lab.Pod {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p := f.pods[types.NamespacedName{Namespace: namespace, Name: name}]; p != nil {
		return p.pod
	}
	return nil
}

var errNotRunning = errors.New("pod does not run")

// SetReady makes a running Pod ready or unready, as its readiness probe would.
func (f *FakeNodes) SetReady(ctx context.Context, namespace, name string, ready bool) error {
	key := types.NamespacedName{Namespace: namespace, Name: name}
	f.mu.Lock()
	p := f.pods[key]
	if p != nil {
		p.ready, p.since = ready, metav1.Now()
	}
	f.mu.Unlock()
	if p == nil {
		return fmt.Errorf("set readiness of %s: %w", key, errNotRunning)
	}
	pod, err := f.control.admin.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("set readiness of %s: %w", key, err)
	}
	return f.report(ctx, pod, p)
}

// KeepTerminating makes a Pod go on when it is deleted, as one does whose program
// takes its time, until that is taken back.
func (f *FakeNodes) KeepTerminating(namespace, name string, keep bool) {
	key := types.NamespacedName{Namespace: namespace, Name: name}
	f.mu.Lock()
	f.unkind[key] = keep
	f.mu.Unlock()
	f.queue.Add(key)
}

// sync makes the lab and the Pod's status what the Pod's object asks for.
func (f *FakeNodes) sync(ctx context.Context, key types.NamespacedName) error {
	pod, err := f.lister.Pods(key.Namespace).Get(key.Name)
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	f.mu.Lock()
	running, unkind := f.pods[key], f.unkind[key]
	f.mu.Unlock()
	if running != nil && (pod == nil || pod.UID != running.uid) {
		if err := f.end(key, running); err != nil {
			return err
		}
		running = nil
	}
	if pod == nil {
		return nil
	}
	i := slices.IndexFunc(f.lab.Nodes, func(n *lab.Node) bool { return n.Host == pod.Spec.NodeName })
	switch {
	case i < 0:
		return nil
	case pod.DeletionTimestamp != nil && running != nil && unkind:
		return nil
	case pod.DeletionTimestamp != nil:
		return f.terminate(ctx, key, pod, running)
	case running == nil && pod.Status.Phase == corev1.PodPending:
		if running, err = f.begin(key, pod, f.lab.Nodes[i]); err != nil {
			return err
		}
		return f.report(ctx, pod, running)
	case running != nil && pod.Status.Phase == corev1.PodPending:
		return f.report(ctx, pod, running) // the first report got lost
	}
	return nil
}

// begin gives the Pod its namespace and servers.
func (f *FakeNodes) begin(key types.NamespacedName, pod *corev1.Pod, n *lab.Node) (p *fakePod, err error) {
	p = &fakePod{uid: pod.UID, node: n, ready: true, since: metav1.Now()}
	ns := n.Namespace
	if !pod.Spec.HostNetwork {
		if p.pod, err = f.lab.AddPod(n); err != nil {
			return nil, &labError{err}
		}
		ns = p.pod.Namespace
	}
	f.mu.Lock()
	f.pods[key] = p
	f.mu.Unlock()
	served := map[int32]bool{} // a server has TCP and UDP
	for _, container := range pod.Spec.Containers {
		for _, port := range container.Ports {
			if served[port.ContainerPort] {
				continue
			}
			served[port.ContainerPort] = true
			err := ns.Do(func() error {
				s, err := podserver.Listen(pod.Name, uint16(port.ContainerPort))
				if err == nil {
					p.servers = append(p.servers, s)
				}
				return err
			})
			if err != nil {
				return nil, &labError{fmt.Errorf("serve port %d: %w", port.ContainerPort, err)}
			}
		}
	}
	return p, nil
}

// end takes away what begin made.
func (f *FakeNodes) end(key types.NamespacedName, p *fakePod) error {
	p.stopServers()
	f.mu.Lock()
	delete(f.pods, key)
	f.mu.Unlock()
	if p.pod == nil {
		return nil
	}
	if err := f.lab.RemovePod(p.pod); err != nil {
		return &labError{err}
	}
	return nil
}

// terminate ends the Pod and lets the API server forget it, which finalizers
// may still hold up.
func (f *FakeNodes) terminate(ctx context.Context, key types.NamespacedName, pod *corev1.Pod, running *fakePod) error {
	if running != nil {
		if err := f.end(key, running); err != nil {
			return err
		}
	}
	pods := f.control.admin.CoreV1().Pods(pod.Namespace)
	if pod.Status.Phase != corev1.PodSucceeded {
		ended := pod.DeepCopy()
		ended.Status.Phase = corev1.PodSucceeded
		setConditions(ended, false, metav1.Now())
		if _, err := pods.UpdateStatus(ctx, ended, metav1.UpdateOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	if *pod.DeletionGracePeriodSeconds == 0 {
		return nil
	}
	err := pods.Delete(ctx, pod.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64), Preconditions: metav1.NewUIDPreconditions(string(pod.UID))})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}

// report writes the status of a running Pod.
func (f *FakeNodes) report(ctx context.Context, pod *corev1.Pod, p *fakePod) error {
	pod = pod.DeepCopy()
	f.mu.Lock()
	ready, since := p.ready, p.since
	f.mu.Unlock()
	pod.Status.Phase = corev1.PodRunning
	pod.Status.PodIPs, pod.Status.HostIPs = nil, nil
	for i, addr := range p.addrs() {
		pod.Status.PodIPs = append(pod.Status.PodIPs, corev1.PodIP{IP: addr.String()})
		pod.Status.HostIPs = append(pod.Status.HostIPs, corev1.HostIP{IP: p.node.Addrs[i].String()})
	}
	pod.Status.PodIP, pod.Status.HostIP = pod.Status.PodIPs[0].IP, pod.Status.HostIPs[0].IP
	setConditions(pod, ready, since)
	_, err := f.control.admin.CoreV1().Pods(pod.Namespace).UpdateStatus(ctx, pod, metav1.UpdateOptions{})
	if err != nil {
		return fmt.Errorf("write status of %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return nil
}

func setConditions(pod *corev1.Pod, ready bool, since metav1.Time) {
	state := corev1.ConditionFalse
	if ready {
		state = corev1.ConditionTrue
	}
	pod.Status.Conditions = slices.DeleteFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady || c.Type == corev1.ContainersReady
	})
	for _, kind := range []corev1.PodConditionType{corev1.ContainersReady, corev1.PodReady} {
		pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: kind, Status: state, LastTransitionTime: since})
	}
}
