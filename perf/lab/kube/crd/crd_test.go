// SPDX-License-Identifier: Apache-2.0

// Package crd_test shows the definitions of fairlead.io to a real API server.
package crd_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
	"github.com/fairlead/fairlead/controller/api/v1beta1/crd"
	"github.com/fairlead/fairlead/controller/api/v1beta1/crd/crdtest"
	"github.com/fairlead/fairlead/controller/migrate"
	"github.com/fairlead/fairlead/perf/lab/kube"
)

const namespace = "fairlead-system"

// plurals are the names of kinds in URLs.
var plurals = map[string]string{
	"IPAddressPool": "ipaddresspools", "L2Advertisement": "l2advertisements", "BGPAdvertisement": "bgpadvertisements",
	"BGPPeer": "bgppeers", "Community": "communities", "BFDProfile": "bfdprofiles", "NodeState": "nodestates",
}

func resource(client dynamic.Interface, kind string) dynamic.ResourceInterface {
	return client.Resource(v1beta1.GroupVersion.WithResource(plurals[kind])).Namespace(namespace)
}

func TestDefinitions(t *testing.T) {
	t.Parallel()
	control := kube.ForTest(t, kube.Options{CRDs: crd.Files})
	if err := control.CreateNamespace(t.Context(), namespace); err != nil {
		t.Fatal(err)
	}
	client, err := dynamic.NewForConfig(control.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	t.Run("cases", func(t *testing.T) { testCases(t, client) })
	t.Run("update", func(t *testing.T) { testUpdate(t, client) })
	t.Run("tables", func(t *testing.T) { testTables(t, control, client) })
	t.Run("explain", func(t *testing.T) { testExplain(t, control) })
	t.Run("migration", func(t *testing.T) { testMigration(t, control, client) })
}

// testCases applies every valid and every invalid object: the API server says
// of each what crdtest says without one.
func testCases(t *testing.T, client dynamic.Interface) {
	cases, err := crdtest.Cases()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		object := c.Object.DeepCopy()
		object.SetNamespace(namespace)
		_, err := resource(client, object.GetKind()).Create(t.Context(), object,
			metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict, DryRun: []string{metav1.DryRunAll}})
		if diff := cmp.Diff(c.Errors, crdtest.Causes(err)); diff != "" {
			t.Errorf("%s: errors (-want +got):\n%s", c.Name(), diff)
		}
	}
}

func object(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	objects, err := migrate.Parse("test", []byte(text))
	if err != nil || len(objects) != 1 {
		t.Fatalf("%d objects: %v", len(objects), err)
	}
	objects[0].SetNamespace(namespace)
	return objects[0]
}

// testUpdate changes what cannot be changed, and what can.
func testUpdate(t *testing.T, client dynamic.Interface) {
	peers := resource(client, "BGPPeer")
	peer, err := peers.Create(t.Context(), object(t, `
apiVersion: fairlead.io/v1beta1
kind: BGPPeer
metadata: {name: update}
spec: {myASN: 1, peerASN: 2, peerAddress: 192.0.2.1}`), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		field string
		value any
		want  []string
	}{
		{"enableGracefulRestart", true, []string{"spec.enableGracefulRestart: Invalid value: true: cannot be changed: delete the BGPPeer and make another"}},
		{"peerASN", int64(3), nil},
	} {
		changed := peer.DeepCopy()
		if err := unstructured.SetNestedField(changed.Object, test.value, "spec", test.field); err != nil {
			t.Fatal(err)
		}
		_, err := peers.Update(t.Context(), changed, metav1.UpdateOptions{})
		if diff := cmp.Diff(test.want, crdtest.Causes(err)); diff != "" {
			t.Errorf("%s: errors (-want +got):\n%s", test.field, diff)
		}
	}
}

// testExplain wants kubectl explain to say what a user looks for.
func testExplain(t *testing.T, control *kube.ControlPlane) {
	for field, want := range map[string]string{
		"ipaddresspools":                "A Service asks for a pool with the annotation",
		"ipaddresspools.spec.addresses": `One address is a prefix too: "192.0.2.5/32".`,
		"ipaddresspools.spec.serviceAllocation.namespaceSelectors": "match no namespace, the pool is for no Service",
		"ipaddresspools.status.availableIPv6":                      "addresses that are free, 2^63-1 where there are more",
		"l2advertisements.spec.interfaces":                         "patterns in which * stands for any characters",
		"l2advertisements.spec.preferredNodeSelectors.weight":      "added to a node's sum where preference matches it",
		"bgpadvertisements.spec.communities":                       `"graceful-shutdown" (RFC 8326)`,
		"bgpadvertisements.spec.aggregationLength":                 "32 announces every address by itself",
		"bgppeers.spec.holdTime":                                   "0 for ever, else at least 3s",
		"bgppeers.spec.vrf":                                        "a peer with a vrf is not used",
		"communities.spec.communities.value":                       `large community ("large:64512:1:2")`,
		"bfdprofiles.spec.detectMultiplier":                        "3 where it is not given",
		"nodestates.status.bootID":                                 "programs do not outlive it",
		"bgppeers.status.conditions":                               "one of type Valid: True where the object is used as it stands",
	} {
		kind, path, _ := strings.Cut(field, ".")
		out, err := control.Kubectl(t.Context(), "", "explain", "--api-version="+v1beta1.GroupVersion.String(), strings.TrimSuffix(kind+"."+path, "."))
		if err != nil {
			t.Errorf("%s: %v", field, err)
			continue
		}
		// Lines are wrapped for the terminal.
		if !strings.Contains(strings.Join(strings.Fields(out), " "), want) {
			t.Errorf("%s: want %q in\n%s", field, want, out)
		}
	}
}
