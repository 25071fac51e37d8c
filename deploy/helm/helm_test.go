// SPDX-License-Identifier: Apache-2.0

package helm_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/fairlead/fairlead/deploy/helm"
	"github.com/fairlead/fairlead/deploy/manifests"
)

const root = "../.."

// require skips the test where Helm is not built. With REQUIRE_ROOT=1 in the
// environment it builds it instead, which takes minutes the first time.
func require(t *testing.T) helm.Helm {
	t.Helper()
	find := func(context.Context) (string, error) { return helm.Built() }
	if os.Getenv("REQUIRE_ROOT") == "1" {
		find = helm.Binary
	}
	binary, err := find(t.Context())
	switch {
	case errors.Is(err, helm.ErrNotBuilt):
		t.Skipf("%v", err)
	case err != nil:
		t.Fatal(err)
	}
	return helm.Helm{Binary: binary, Chart: "fairlead"}
}

func TestLint(t *testing.T) {
	if err := require(t).Lint(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestGeneratedIsFresh(t *testing.T) {
	generated, err := helm.Generate(t.Context(), root, require(t).Binary)
	if err != nil {
		t.Fatal(err)
	}
	stale, err := generated.Stale(root)
	if err != nil {
		t.Fatal(err)
	}
	if len(stale) > 0 {
		t.Errorf("make manifests was forgotten: %q", stale)
	}
}

// world is what a set of values renders.
type world struct {
	text        string
	objects     []runtime.Object
	agent       *appsv1.DaemonSet
	controller  *appsv1.Deployment
	config      string
	definitions []*apiextensionsv1.CustomResourceDefinition
}

func render(t *testing.T, sets ...string) world {
	t.Helper()
	out, err := require(t).Template(t.Context(), sets)
	if err != nil {
		t.Fatal(err)
	}
	w := world{text: string(out)}
	// PodMonitors are not Kubernetes' own.
	documents := slices.DeleteFunc(strings.SplitAfter(w.text, "\n---\n"), func(s string) bool {
		return strings.Contains(s, "kind: PodMonitor")
	})
	if w.objects, err = manifests.Decode([]byte(strings.Join(documents, ""))); err != nil {
		t.Fatal(err)
	}
	for _, object := range w.objects {
		switch o := object.(type) {
		case *appsv1.DaemonSet:
			w.agent = o
		case *appsv1.Deployment:
			w.controller = o
		case *corev1.ConfigMap:
			w.config = o.Data["agent.yaml"]
		case *apiextensionsv1.CustomResourceDefinition:
			w.definitions = append(w.definitions, o)
		}
	}
	return w
}

func (w world) agentContainer() corev1.Container { return w.agent.Spec.Template.Spec.Containers[0] }

// Each row changes values, and says what has to follow.
func TestValues(t *testing.T) {
	has := func(t *testing.T, list []string, want string) {
		t.Helper()
		if !slices.Contains(list, want) {
			t.Errorf("%q is not among %q", want, list)
		}
	}
	for _, row := range []struct {
		name  string
		sets  []string
		check func(*testing.T, world)
	}{
		{"definitions are kept", nil, func(t *testing.T, w world) {
			for _, d := range w.definitions {
				if d.Annotations["helm.sh/resource-policy"] != "keep" || d.Annotations["controller-gen.kubebuilder.io/version"] == "" {
					t.Errorf("annotations of %s: %v", d.Name, d.Annotations)
				}
			}
			if len(w.definitions) == 0 {
				t.Error("no definitions")
			}
		}},
		{"no definitions", []string{"crds.install=false"}, func(t *testing.T, w world) {
			if len(w.definitions) > 0 {
				t.Errorf("%d definitions", len(w.definitions))
			}
		}},
		{"digest", []string{"image.digest=sha256:" + strings.Repeat("a", 64)}, func(t *testing.T, w world) {
			want := "registry.example/fairlead@sha256:" + strings.Repeat("a", 64)
			if got := w.agentContainer().Image; got != want {
				t.Errorf("image %q, want %q", got, want)
			}
		}},
		{"tag", []string{"image.repository=r.example/f", "image.tag=v1"}, func(t *testing.T, w world) {
			if got := w.controller.Spec.Template.Spec.Containers[0].Image; got != "r.example/f:v1" {
				t.Errorf("image %q", got)
			}
		}},
		{"pull secrets", []string{"imagePullSecrets[0].name=s"}, func(t *testing.T, w world) {
			for _, spec := range []corev1.PodSpec{w.agent.Spec.Template.Spec, w.controller.Spec.Template.Spec} {
				if len(spec.ImagePullSecrets) != 1 || spec.ImagePullSecrets[0].Name != "s" {
					t.Errorf("pull secrets %v", spec.ImagePullSecrets)
				}
			}
		}},
		{"interfaces", []string{"agent.interfaces={eth0,bond0}"}, func(t *testing.T, w world) {
			has(t, strings.Split(w.config, "\n"), `interfaces: ["eth0","bond0"]`)
		}},
		{"limits are whole numbers", []string{"agent.limits.flows=134217728"}, func(t *testing.T, w world) {
			has(t, strings.Split(w.config, "\n"), "  flows: 134217728")
		}},
		{"a setting restarts agents", []string{"agent.genevePort=6182"}, func(t *testing.T, w world) {
			const sum = "checksum/config"
			if w.agent.Spec.Template.Annotations[sum] == render(t).agent.Spec.Template.Annotations[sum] {
				t.Error("the checksum is that of other settings")
			}
		}},
		{"userspace", []string{"agent.datapath=userspace"}, func(t *testing.T, w world) {
			has(t, w.agentContainer().Args, "--datapath=userspace")
			want := []corev1.Capability{"BPF", "IPC_LOCK", "NET_ADMIN", "NET_RAW", "PERFMON"}
			if got := w.agentContainer().SecurityContext.Capabilities.Add; !slices.Equal(got, want) {
				t.Errorf("capabilities %v, want %v", got, want)
			}
		}},
		{"announce", nil, func(t *testing.T, w world) {
			has(t, w.agentContainer().Args, "--members-port=7949")
			want := []corev1.Capability{"BPF", "NET_ADMIN", "NET_RAW", "PERFMON"}
			if got := w.agentContainer().SecurityContext.Capabilities.Add; !slices.Equal(got, want) {
				t.Errorf("capabilities %v, want %v", got, want)
			}
		}},
		{"announce, and BGP peers connect", []string{"agent.announce.bgpPort=179", "agent.announce.membersPort=7000"}, func(t *testing.T, w world) {
			has(t, w.agentContainer().Args, "--bgp-listen=179")
			has(t, w.agentContainer().Args, "--members-port=7000")
			want := []corev1.Capability{"BPF", "NET_ADMIN", "NET_BIND_SERVICE", "NET_RAW", "PERFMON"}
			if got := w.agentContainer().SecurityContext.Capabilities.Add; !slices.Equal(got, want) {
				t.Errorf("capabilities %v, want %v", got, want)
			}
		}},
		{"do not announce", []string{"agent.announce.enabled=false"}, func(t *testing.T, w world) {
			has(t, w.agentContainer().Args, "--announce=false")
			want := []corev1.Capability{"BPF", "NET_ADMIN", "PERFMON"}
			if got := w.agentContainer().SecurityContext.Capabilities.Add; !slices.Equal(got, want) || len(w.agentContainer().Ports) != 1 {
				t.Errorf("capabilities %v, want %v; ports %v", got, want, w.agentContainer().Ports)
			}
		}},
		{"metrics on one address", []string{"agent.metrics.address=10.0.0.1"}, func(t *testing.T, w world) {
			has(t, w.agentContainer().Args, "--metrics-address=10.0.0.1:6181")
			if host := w.agentContainer().LivenessProbe.HTTPGet.Host; host != "10.0.0.1" {
				t.Errorf("probe of %q", host)
			}
		}},
		{"metrics on an IPv6 address", []string{"agent.metrics.address=::1"}, func(t *testing.T, w world) {
			has(t, w.agentContainer().Args, "--metrics-address=[::1]:6181")
		}},
		{"mount bpffs", []string{"agent.mountBPFFS=true"}, func(t *testing.T, w world) {
			init := w.agent.Spec.Template.Spec.InitContainers
			if len(init) != 1 || !*init[0].SecurityContext.Privileged || *init[0].VolumeMounts[0].MountPropagation != corev1.MountPropagationBidirectional {
				t.Errorf("init containers %+v", init)
			}
		}},
		{"cleanup", []string{"agent.cleanup=true"}, func(t *testing.T, w world) {
			spec := w.agent.Spec.Template.Spec
			if len(spec.InitContainers) != 1 || len(spec.Containers) != 1 {
				t.Fatalf("%d and %d containers, want 1 and 1", len(spec.InitContainers), len(spec.Containers))
			}
			has(t, spec.InitContainers[0].Args, "--cleanup")
			has(t, spec.Containers[0].Args, "wait")
			if add := spec.Containers[0].SecurityContext.Capabilities.Add; len(add) > 0 {
				t.Errorf("who waits has %v", add)
			}
		}},
		{"only Services of the class", []string{"unclassedServices=false", "loadBalancerClass=example.com/x"}, func(t *testing.T, w world) {
			for _, args := range [][]string{w.agentContainer().Args, w.controller.Spec.Template.Spec.Containers[0].Args} {
				has(t, args, "--load-balancer-class=example.com/x")
				has(t, args, "--unclassed=false")
			}
		}},
		{"addresses from two pools", []string{"controller.dualStackFromTwoPools=true", "controller.freedAddressDelay=0s"},
			func(t *testing.T, w world) {
				has(t, w.controller.Spec.Template.Spec.Containers[0].Args, "--dual-stack-from-two-pools")
				has(t, w.controller.Spec.Template.Spec.Containers[0].Args, "--freed-address-delay=0s")
			}},
		{"more arguments and labels", []string{"agent.extraArgs={--a=b}", "agent.podLabels.x=y", "controller.extraArgs={--c}"},
			func(t *testing.T, w world) {
				has(t, w.agentContainer().Args, "--a=b")
				has(t, w.controller.Spec.Template.Spec.Containers[0].Args, "--c")
				if w.agent.Spec.Template.Labels["x"] != "y" {
					t.Errorf("labels %v", w.agent.Spec.Template.Labels)
				}
			}},
		{"pod monitors", []string{"podMonitor.enabled=true", "podMonitor.interval=15s", "podMonitor.labels.team=net"},
			func(t *testing.T, w world) {
				if n := strings.Count(w.text, "kind: PodMonitor"); n != 2 {
					t.Errorf("%d pod monitors, want 2", n)
				}
				for _, want := range []string{"interval: 15s", "team: net"} {
					if strings.Count(w.text, want) != 2 {
						t.Errorf("no %q in each", want)
					}
				}
			}},
		{"no policy, no budget", []string{"admissionPolicy.enabled=false", "controller.podDisruptionBudget.enabled=false"},
			func(t *testing.T, w world) {
				for _, kind := range []string{"ValidatingAdmissionPolicy", "PodDisruptionBudget"} {
					if strings.Contains(w.text, "kind: "+kind) {
						t.Errorf("a %s", kind)
					}
				}
			}},
		{"an uninstall frees Services", nil, func(t *testing.T, w world) {
			if !strings.Contains(w.text, "helm.sh/hook: post-delete") || !strings.Contains(w.text, "- --cleanup") {
				t.Error("no hook")
			}
		}},
	} {
		t.Run(row.name, func(t *testing.T) { row.check(t, render(t, row.sets...)) })
	}
}

func TestRefusedValues(t *testing.T) {
	h := require(t)
	for set, want := range map[string]string{
		"agent.genevePort=6081":         "at '/agent/genevePort': 'not' failed",
		"agent.datapath=fast":           "value must be one of 'kernel', 'userspace'",
		"agent.xdpMode=fast":            "value must be one of 'auto', 'native', 'generic', 'off'",
		"agent.interfaces={a/b}":        "at '/agent/interfaces/0'",
		"agent.announce.membersPort=0":  "minimum: got 0, want 1",
		"agent.nope=1":                  "additional properties 'nope' not allowed",
		"agent.limits.flows=1":          "minimum: got 1, want 1,024",
		"image.digest=latest":           "at '/image/digest'",
		"controller.logLevel=loud":      "value must be one of 'debug', 'info', 'warn', 'error'",
		"controller.metrics.port=70000": "maximum: got 70,000, want 65,535",
		"nope=1":                        "additional properties 'nope' not allowed",
	} {
		_, err := h.Template(t.Context(), []string{set})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", set, err, want)
		}
	}
}
