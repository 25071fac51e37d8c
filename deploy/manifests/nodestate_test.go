// SPDX-License-Identifier: Apache-2.0

package manifests_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
	"github.com/fairlead/fairlead/deploy/manifests"
	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/kube"
)

// testNodeStates: an agent writes its own node's state and no other.
func testNodeStates(t *testing.T, control *kube.ControlPlane) {
	one := agentOn(t, control, "node1")
	agentOn(t, control, "node2")
	waitRefused(t, one, "node2")
	ctx := t.Context()
	state, err := one.Create(ctx, nodeState("node1"), metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("create the own state: %v", err)
	}
	if err := unstructured.SetNestedField(state.Object, true, "status", "attached"); err != nil {
		t.Fatal(err)
	}
	if state, err = one.UpdateStatus(ctx, state, metav1.UpdateOptions{}); err != nil {
		t.Fatalf("update the own status: %v", err)
	}
	admin, err := dynamic.NewForConfig(control.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	others := admin.Resource(nodeStates).Namespace(manifests.Namespace)
	foreign, err := others.Create(ctx, nodeState("node2"), metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("create a state as an administrator: %v", err)
	}
	unbound, err := dynamic.NewForConfig(tokenConfig(t, control, manifests.AgentServiceAccount, nil))
	if err != nil {
		t.Fatal(err)
	}
	nobody := unbound.Resource(nodeStates).Namespace(manifests.Namespace)
	patch := []byte(`{"status":{"attached":true}}`)
	for _, row := range []struct {
		name, want string
		do         func() error
	}{
		{"update", "own node, node1", func() error {
			_, err := one.Update(ctx, foreign, metav1.UpdateOptions{})
			return err
		}},
		{"update of the status", "own node, node1", func() error {
			_, err := one.UpdateStatus(ctx, foreign, metav1.UpdateOptions{})
			return err
		}},
		{"patch of the status", "own node, node1", func() error {
			_, err := one.Patch(ctx, "node2", "application/merge-patch+json", patch, metav1.PatchOptions{}, "status")
			return err
		}},
		{"a token without node", "which its token does not name", func() error {
			_, err := nobody.Update(ctx, state, metav1.UpdateOptions{})
			return err
		}},
	} {
		if err := row.do(); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: error %v, want one that forbids, with %q", row.name, err, row.want)
		}
	}
}

var nodeStates = v1beta1.GroupVersion.WithResource("nodestates")

func nodeState(name string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": v1beta1.GroupVersion.String(), "kind": "NodeState",
		"metadata": map[string]any{"name": name, "namespace": manifests.Namespace},
	}}
}

// agentOn makes a node and an agent's Pod on it, and returns that Pod's client.
func agentOn(t *testing.T, control *kube.ControlPlane, node string) dynamic.ResourceInterface {
	t.Helper()
	client := control.Client().CoreV1()
	if _, err := client.Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	pod, err := client.Pods(manifests.Namespace).Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "agent-" + node},
		Spec: corev1.PodSpec{
			NodeName: node, ServiceAccountName: manifests.AgentServiceAccount,
			Containers: []corev1.Container{{Name: "agent", Image: "fairlead"}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	as, err := dynamic.NewForConfig(tokenConfig(t, control, manifests.AgentServiceAccount, pod))
	if err != nil {
		t.Fatal(err)
	}
	return as.Resource(nodeStates).Namespace(manifests.Namespace)
}

// waitRefused waits until the policy is in force, without leaving anything behind.
func waitRefused(t *testing.T, client dynamic.ResourceInterface, node string) {
	t.Helper()
	var last error
	if err := lab.Poll(t.Context(), enforceTimeout, func() bool {
		_, last = client.Create(t.Context(), nodeState(node), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return apierrors.IsForbidden(last) && strings.Contains(last.Error(), "own node")
	}); err != nil {
		t.Fatalf("wait until the policy holds: %v, last answer %v", err, last)
	}
}
