// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"

	"github.com/fairlead/fairlead/deploy/manifests"
)

// The lab's manifest is Fairlead's, with the lab's image in every container.
func TestManifest(t *testing.T) {
	manifest, err := (&Cluster{options: Options{XDPMode: "native"}}).manifest()
	if err != nil {
		t.Fatal(err)
	}
	objects, err := manifests.Decode(manifest)
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, object := range objects {
		switch o := object.(type) {
		case *appsv1.DaemonSet:
			for _, c := range o.Spec.Template.Spec.Containers {
				if seen++; c.Image != Image {
					t.Errorf("agent's image is %q", c.Image)
				}
			}
		case *appsv1.Deployment:
			for _, c := range o.Spec.Template.Spec.Containers {
				if seen++; c.Image != Image {
					t.Errorf("controller's image is %q", c.Image)
				}
			}
		}
	}
	if seen != 2 || !strings.Contains(string(manifest), `xdpMode: "native"`) {
		t.Errorf("%d containers in\n%s", seen, manifest)
	}
}
