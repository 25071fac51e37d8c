// SPDX-License-Identifier: Apache-2.0

package helm_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead/fairlead/controller/desired"
)

// TestArguments has fairlead read every container's command line, and the
// agent's settings, in all their variants.
func TestArguments(t *testing.T) {
	path := build(t)
	for name, sets := range map[string][]string{
		"as it is": nil,
		"all that adds arguments": {
			"agent.datapath=userspace", "agent.metrics.address=::1", "agent.interfaces={eth0}", "agent.xdpMode=off",
			"unclassedServices=false", "controller.dualStackFromTwoPools=true", "agent.mountBPFFS=true",
			"agent.announce.bgpPort=179",
		},
		"announces nothing": {"agent.announce.enabled=false"},
		"removal":           {"agent.cleanup=true"},
	} {
		t.Run(name, func(t *testing.T) {
			w := render(t, sets...)
			if _, err := desired.ParseSettings([]byte(w.config)); err != nil {
				t.Errorf("settings of the agent: %v", err)
			}
			containers := slices.Concat(w.agent.Spec.Template.Spec.InitContainers, w.agent.Spec.Template.Spec.Containers,
				w.controller.Spec.Template.Spec.Containers, w.hook(t))
			for _, c := range containers {
				// A flag that is unknown or has a wrong value goes before the help.
				if out, err := exec.Command(path, append(c.Args, "--help")...).CombinedOutput(); err != nil {
					t.Errorf("%s: %q: %v: %s", c.Name, c.Args, err, out)
				}
			}
		})
	}
}

// hook are the containers of the Job after an uninstall.
func (w world) hook(t *testing.T) []corev1.Container {
	t.Helper()
	for _, object := range w.objects {
		if job, ok := object.(*batchv1.Job); ok {
			return job.Spec.Template.Spec.Containers
		}
	}
	t.Fatal("no Job")
	return nil
}

// build compiles fairlead for the test.
func build(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fairlead")
	cmd := exec.Command("go", "build", "-o", path, "github.com/fairlead/fairlead/cmd/fairlead")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build fairlead: %v: %s", err, out)
	}
	return path
}
