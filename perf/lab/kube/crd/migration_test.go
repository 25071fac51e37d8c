// SPDX-License-Identifier: Apache-2.0

package crd_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"

	"github.com/fairlead/fairlead/controller/migrate"
	"github.com/fairlead/fairlead/controller/migrate/cluster"
	"github.com/fairlead/fairlead/perf/lab/kube"
)

// metalLB is a definition with a kind of MetalLB, which takes anything.
const metalLB = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: %[2]s.metallb.io}
spec:
  group: metallb.io
  names: {kind: %[1]s, plural: %[2]s}
  scope: Namespaced
  versions:
  - name: %[3]s
    served: true
    storage: true
    schema:
      openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}
`

// testMigration reads MetalLB's objects from the cluster and applies what comes
// of them beside.
func testMigration(t *testing.T, control *kube.ControlPlane, client dynamic.Interface) {
	if _, err := cluster.Read(t.Context(), control.RESTConfig()); !errors.Is(err, cluster.ErrNoMetalLB) {
		t.Errorf("without MetalLB: error %v, want %v", err, cluster.ErrNoMetalLB)
	}
	// BFDProfiles are missing, as in older versions.
	files := fstest.MapFS{}
	for _, kind := range []string{"IPAddressPool", "L2Advertisement", "BGPAdvertisement", "BGPPeer", "Community"} {
		version := "v1beta1"
		if kind == "BGPPeer" {
			version = "v1beta2"
		}
		files[kind+".yaml"] = &fstest.MapFile{Data: fmt.Appendf(nil, metalLB, kind, plurals[kind], version)}
	}
	if err := control.InstallCRDs(t.Context(), files); err != nil {
		t.Fatal(err)
	}
	const objects = `
apiVersion: v1
kind: Namespace
metadata: {name: metallb-system}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: metallb-excludel2, namespace: metallb-system}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: moved, namespace: metallb-system, labels: {site: berlin}}
spec: {addresses: [198.51.100.10/24], autoAssign: false}
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: moved, namespace: metallb-system}
---
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: moved, namespace: metallb-system}
spec: {myASN: 64500, peerASN: 64501, peerAddress: 10.77.0.1, holdTime: 90s}
---
apiVersion: metallb.io/v1beta1
kind: Community
metadata: {name: moved, namespace: metallb-system}
spec: {communities: [{name: inside, value: "64500:1"}]}
---
apiVersion: metallb.io/v1beta1
kind: BGPAdvertisement
metadata: {name: moved, namespace: metallb-system}
spec: {ipAddressPools: [moved], communities: [inside]}
`
	if _, err := control.Kubectl(t.Context(), objects, "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	given, err := cluster.Read(t.Context(), control.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	result := migrate.Convert(given, namespace)
	var notes []string
	for _, n := range result.All() {
		notes = append(notes, n.String())
	}
	want := []string{
		`info: IPAddressPool moved: spec.addresses[0]: "198.51.100.10/24" is written "198.51.100.0/24", which is what MetalLB takes it for`,
		`warning: ConfigMap metallb-excludel2: excludes interfaces by regular expressions, and has no counterpart: name the wanted ones in interfaces of L2Advertisements, where * and ? stand for any characters and for one`,
	}
	if diff := cmp.Diff(want, notes); diff != "" {
		t.Errorf("notes (-want +got):\n%s", diff)
	}
	var kinds []string
	for _, c := range result.Converted {
		content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(c.Object)
		if err != nil {
			t.Fatal(err)
		}
		o := &unstructured.Unstructured{Object: content}
		kinds = append(kinds, o.GetKind())
		if _, err := resource(client, o.GetKind()).Create(t.Context(), o, metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict}); err != nil {
			t.Errorf("%s: %v", o.GetKind(), err)
		}
	}
	if want := []string{"IPAddressPool", "Community", "BGPPeer", "L2Advertisement", "BGPAdvertisement"}; !slices.Equal(kinds, want) {
		t.Errorf("converted %q, want %q", kinds, want)
	}
}
