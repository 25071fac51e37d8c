// SPDX-License-Identifier: Apache-2.0

package manifests_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/fairlead/fairlead/deploy/manifests"
)

func decode(t *testing.T, manifest []byte) []runtime.Object {
	t.Helper()
	objects, err := manifests.Decode(manifest)
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

func name(t *testing.T, object runtime.Object) string {
	t.Helper()
	m, err := meta.Accessor(object)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(m.GetNamespace()+"/", "/") + m.GetName()
}

func TestObjects(t *testing.T) {
	for _, row := range []struct {
		name     string
		manifest []byte
		want     []string
	}{
		{"install", manifests.Install, []string{
			"Namespace fairlead-system",
			"PodDisruptionBudget fairlead-system/fairlead-controller",
			"ServiceAccount fairlead-system/fairlead-agent",
			"ServiceAccount fairlead-system/fairlead-controller",
			"ConfigMap fairlead-system/fairlead-agent",
			"CustomResourceDefinition addressblocks.fairlead.io",
			"CustomResourceDefinition bfdprofiles.fairlead.io",
			"CustomResourceDefinition bgpadvertisements.fairlead.io",
			"CustomResourceDefinition bgppeers.fairlead.io",
			"CustomResourceDefinition communities.fairlead.io",
			"CustomResourceDefinition ipaddresspools.fairlead.io",
			"CustomResourceDefinition l2advertisements.fairlead.io",
			"CustomResourceDefinition nodestates.fairlead.io",
			"ClusterRole fairlead-agent",
			"ClusterRole fairlead-controller",
			"ClusterRoleBinding fairlead-agent",
			"ClusterRoleBinding fairlead-controller",
			"Role fairlead-system/fairlead-agent",
			"Role fairlead-system/fairlead-controller",
			"RoleBinding fairlead-system/fairlead-agent",
			"RoleBinding fairlead-system/fairlead-controller",
			"DaemonSet fairlead-system/fairlead-agent",
			"Deployment fairlead-system/fairlead-controller",
			"ValidatingAdmissionPolicy fairlead-nodestates",
			"ValidatingAdmissionPolicyBinding fairlead-nodestates",
		}},
		{"cleanup", manifests.Cleanup, []string{
			"ServiceAccount fairlead-system/fairlead-cleanup",
			"ClusterRole fairlead-cleanup",
			"ClusterRoleBinding fairlead-cleanup",
			"Role fairlead-system/fairlead-cleanup",
			"RoleBinding fairlead-system/fairlead-cleanup",
			"Job fairlead-system/fairlead-cleanup",
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			var got []string
			for _, object := range decode(t, row.manifest) {
				got = append(got, object.GetObjectKind().GroupVersionKind().Kind+" "+name(t, object))
			}
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestDecodeIsStrict(t *testing.T) {
	_, err := manifests.Decode([]byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndate: {}\n"))
	if err == nil || !strings.Contains(err.Error(), `unknown field "date"`) {
		t.Errorf("error %v, want one about the field", err)
	}
}

// podOf is the template of the Pods that an object makes, nil if it makes none.
func podOf(object runtime.Object) *corev1.PodSpec {
	switch o := object.(type) {
	case *appsv1.DaemonSet:
		return &o.Spec.Template.Spec
	case *appsv1.Deployment:
		return &o.Spec.Template.Spec
	case *batchv1.Job:
		return &o.Spec.Template.Spec
	}
	return nil
}

// Rights of containers: nobody and nothing, but for the agent.
func TestContainers(t *testing.T) {
	file, err := os.ReadFile("../helm/fairlead/files/capabilities.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var capabilities map[string][]corev1.Capability
	if err := yaml.Unmarshal(file, &capabilities); err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, object := range slices.Concat(decode(t, manifests.Install), decode(t, manifests.Cleanup)) {
		pod := podOf(object)
		if pod == nil {
			continue
		}
		seen++
		t.Run(name(t, object), func(t *testing.T) {
			agent := pod.ServiceAccountName == manifests.AgentServiceAccount
			var want []corev1.Capability
			if agent {
				want = slices.Sorted(slices.Values(slices.Concat(capabilities["kernel"], capabilities["announce"])))
			}
			checkPod(t, pod, agent)
			for _, c := range slices.Concat(pod.InitContainers, pod.Containers) {
				checkContainer(t, c, agent, want)
			}
		})
	}
	if seen != 3 {
		t.Errorf("%d objects that make Pods, want 3", seen)
	}
}

func checkPod(t *testing.T, pod *corev1.PodSpec, agent bool) {
	t.Helper()
	if pod.SecurityContext == nil || pod.SecurityContext.SeccompProfile == nil ||
		pod.SecurityContext.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Error("not the runtime's seccomp profile")
	}
	if pod.HostNetwork != agent || pod.HostPID || pod.HostIPC {
		t.Errorf("host's network %t, pid %t, ipc %t", pod.HostNetwork, pod.HostPID, pod.HostIPC)
	}
	var paths []string
	for _, v := range pod.Volumes {
		if v.HostPath != nil {
			paths = append(paths, v.HostPath.Path)
		}
	}
	if agent != slices.Equal(paths, []string{"/sys/fs/bpf", "/run/fairlead"}) || !agent && len(paths) > 0 {
		t.Errorf("paths of the host: %q", paths)
	}
	if pod.PriorityClassName == "" {
		t.Error("no priority class")
	}
}

func checkContainer(t *testing.T, c corev1.Container, root bool, add []corev1.Capability) {
	t.Helper()
	want := &corev1.SecurityContext{
		AllowPrivilegeEscalation: new(false), ReadOnlyRootFilesystem: new(true),
		Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}, Add: add},
		RunAsNonRoot: new(true), RunAsUser: new(int64(65532)), RunAsGroup: new(int64(65532)),
	}
	if root {
		want.RunAsNonRoot, want.RunAsUser, want.RunAsGroup = nil, new(int64(0)), new(int64(0))
		want.SELinuxOptions = &corev1.SELinuxOptions{Type: "spc_t", Level: "s0"}
	}
	if diff := cmp.Diff(want, c.SecurityContext); diff != "" {
		t.Errorf("%s (-want +got):\n%s", c.Name, diff)
	}
}

// The agents replace each other one node at a time, and know their node.
func TestAgent(t *testing.T) {
	for _, object := range decode(t, manifests.Install) {
		set, ok := object.(*appsv1.DaemonSet)
		if !ok {
			continue
		}
		if u := set.Spec.UpdateStrategy.RollingUpdate; u == nil || u.MaxUnavailable.String() != "1" {
			t.Errorf("update strategy %+v", set.Spec.UpdateStrategy)
		}
		c := set.Spec.Template.Spec.Containers[0]
		env := fmt.Sprint(c.Env[0].Name, "=", c.Env[0].ValueFrom.FieldRef.FieldPath)
		if env != "NODE_NAME=spec.nodeName" || !slices.Contains(c.Args, "--node-name=$(NODE_NAME)") {
			t.Errorf("environment %s, arguments %q", env, c.Args)
		}
		for path, p := range map[string]*corev1.Probe{"/healthz": c.LivenessProbe, "/readyz": c.ReadinessProbe} {
			if p == nil || p.HTTPGet == nil || p.HTTPGet.Path != path || p.HTTPGet.Host != "127.0.0.1" {
				t.Errorf("probe of %s: %+v", path, p)
			}
		}
		return
	}
	t.Error("no DaemonSet")
}
