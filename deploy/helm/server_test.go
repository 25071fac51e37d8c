// SPDX-License-Identifier: Apache-2.0

package helm_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/deploy/helm"
	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/kube"
)

const (
	hookTimeout = time.Minute
	definition  = "ipaddresspools.fairlead.io"
)

// TestRelease installs, upgrades and uninstalls on a real API server: an
// upgrade brings the definitions up to date, an uninstall keeps them, and frees
// the Services in the end.
func TestRelease(t *testing.T) {
	t.Parallel()
	h := require(t)
	control := kube.ForTest(t, kube.Options{})
	var err error
	if h.Kubeconfig, err = control.AdminKubeconfig(); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	kubectl := func(args ...string) string {
		t.Helper()
		out, err := control.Kubectl(ctx, "", args...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	older := helm.Helm{Binary: h.Binary, Kubeconfig: h.Kubeconfig, Chart: olderChart(t)}
	if err := older.Apply(ctx); err != nil {
		t.Fatal(err)
	}
	column := "jsonpath={.spec.versions[0].additionalPrinterColumns[*].name}"
	if got := kubectl("get", "crd", definition, "-o", column); !strings.Contains(got, "Old-age") {
		t.Fatalf("columns of the older definition: %q", got)
	}
	if err := h.Apply(ctx, "agent.genevePort=6182"); err != nil {
		t.Fatal(err)
	}
	if got := kubectl("get", "crd", definition, "-o", column); strings.Contains(got, "Old-age") {
		t.Errorf("columns after an upgrade: %q", got)
	}

	hook := make(chan error, 1)
	go func() { hook <- completeHook(ctx, control) }()
	if err := h.Uninstall(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-hook; err != nil {
		t.Fatal(err)
	}
	left := strings.Fields(kubectl("-n", helm.Namespace, "get", "-o", "name",
		"daemonsets,deployments,jobs,roles,rolebindings,serviceaccounts,configmaps,poddisruptionbudgets"))
	left = append(left, strings.Fields(kubectl("get", "-o", "name",
		"clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings"))...)
	for _, object := range left {
		if strings.Contains(object, "fairlead") {
			t.Errorf("%s is still there", object)
		}
	}
	kubectl("get", "crd", definition)
}

// olderChart is the chart as it could have been before: a column has another name.
func olderChart(t *testing.T) string {
	t.Helper()
	chart := filepath.Join(t.TempDir(), "fairlead")
	if err := os.CopyFS(chart, os.DirFS("fairlead")); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(chart, "files/crds/fairlead.io_ipaddresspools.yaml")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	older := bytes.ReplaceAll(data, []byte("name: Age\n"), []byte("name: Old-age\n"))
	if bytes.Equal(older, data) {
		t.Fatal("the definition has no such column")
	}
	if err := os.WriteFile(path, older, 0o600); err != nil {
		t.Fatal(err)
	}
	return chart
}

// completeHook does what kubelet and controllers would: it ends the Job well,
// once it sees that its rights are there and the controller's Deployment is not.
func completeHook(ctx context.Context, control *kube.ControlPlane) error {
	client := control.Client()
	jobs := client.BatchV1().Jobs(helm.Namespace)
	var job *batchv1.Job
	err := lab.Poll(ctx, hookTimeout, func() bool {
		var err error
		job, err = jobs.Get(ctx, "fairlead-cleanup", metav1.GetOptions{})
		return err == nil
	})
	if err != nil {
		return err
	}
	if _, err := client.RbacV1().ClusterRoleBindings().Get(ctx, job.Spec.Template.Spec.ServiceAccountName, metav1.GetOptions{}); err != nil {
		return err
	}
	if _, err := client.AppsV1().Deployments(helm.Namespace).Get(ctx, "fairlead-controller", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		return fmt.Errorf("the controller is still there when the hook runs: %v", err)
	}
	now := metav1.Now()
	job.Status = batchv1.JobStatus{
		Succeeded: 1, StartTime: &now, CompletionTime: &now,
		Conditions: []batchv1.JobCondition{
			{Type: batchv1.JobSuccessCriteriaMet, Status: corev1.ConditionTrue},
			{Type: batchv1.JobComplete, Status: corev1.ConditionTrue},
		},
	}
	_, err = jobs.UpdateStatus(ctx, job, metav1.UpdateOptions{})
	return err
}
