// SPDX-License-Identifier: Apache-2.0

package crdtest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
)

func newServer(t *testing.T) *Server {
	t.Helper()
	server, err := NewServer()
	if err != nil {
		t.Fatal(err)
	}
	return server
}

func object(kind string, spec map[string]any) *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "fairlead.io/v1beta1", "kind": kind, "spec": spec}}
	o.SetName("a")
	return o
}

func TestCases(t *testing.T) {
	server := newServer(t)
	cases, err := Cases()
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, c := range cases {
		t.Run(c.Name(), func(t *testing.T) {
			if names[c.Name()] {
				t.Errorf("%s: name is there twice", c.File)
			}
			names[c.Name()] = true
			if diff := cmp.Diff(c.Errors, server.Create(c.Object.DeepCopy())); diff != "" {
				t.Errorf("%s: errors (-want +got):\n%s", c.File, diff)
			}
		})
	}
}

func TestDefaults(t *testing.T) {
	server := newServer(t)
	for kind, test := range map[string]struct{ given, want map[string]any }{
		"IPAddressPool": {
			map[string]any{"addresses": []any{"192.0.2.0/24"}},
			map[string]any{"addresses": []any{"192.0.2.0/24"}, "autoAssign": true, "avoidBuggyIPs": false, "drain": false},
		},
		"BGPAdvertisement": {
			map[string]any{},
			map[string]any{"aggregationLength": int64(32), "aggregationLengthV6": int64(128)},
		},
		"BGPPeer": {
			map[string]any{"myASN": int64(1), "peerASN": int64(2), "peerAddress": "192.0.2.1"},
			map[string]any{
				"myASN": int64(1), "peerASN": int64(2), "peerAddress": "192.0.2.1", "peerPort": int64(179),
				"disableMP": false, "dualStackAddressFamily": false, "enableGracefulRestart": false,
			},
		},
	} {
		o := object(kind, test.given)
		if errs := server.Create(o); len(errs) > 0 {
			t.Errorf("%s: %q", kind, errs)
		}
		if diff := cmp.Diff(test.want, o.Object["spec"]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", kind, diff)
		}
	}
}

// Setting it for the first time is a change too: the default is there before.
func TestGracefulRestartCannotChange(t *testing.T) {
	server := newServer(t)
	spec := map[string]any{"myASN": int64(1), "peerASN": int64(2), "peerAddress": "192.0.2.1"}
	old := object("BGPPeer", spec)
	if errs := server.Create(old); len(errs) > 0 {
		t.Fatal(errs)
	}
	changed := old.DeepCopy()
	if err := unstructured.SetNestedField(changed.Object, true, "spec", "enableGracefulRestart"); err != nil {
		t.Fatal(err)
	}
	want := []string{`spec.enableGracefulRestart: Invalid value: true: cannot be changed: delete the BGPPeer and make another`}
	if diff := cmp.Diff(want, server.Update(changed, old)); diff != "" {
		t.Errorf("errors (-want +got):\n%s", diff)
	}
	if errs := server.Update(old.DeepCopy(), old); len(errs) > 0 {
		t.Errorf("unchanged: %q", errs)
	}
}

// The rules of a pool as large as allowed stay within what the API server
// grants them for one object.
func TestLargestPool(t *testing.T) {
	var addresses []any
	for i := range 500 {
		first := fmt.Sprintf("2001:0db8:0000:0000:0000:0000:%04x:0001", i)
		addresses = append(addresses, first+strings.Repeat(" ", 17)+"-"+strings.TrimSuffix(first, "1")+"2")
	}
	pool := object("IPAddressPool", map[string]any{"addresses": addresses})
	if errs := newServer(t).Create(pool.DeepCopy()); len(errs) > 0 {
		t.Errorf("%d errors, first: %s", len(errs), errs[0])
	}
	pool = object("IPAddressPool", map[string]any{"addresses": append(addresses, "192.0.2.0/24")})
	want := []string{"spec.addresses: Too many: 501: must have at most 500 items"}
	if diff := cmp.Diff(want, newServer(t).Create(pool)); diff != "" {
		t.Errorf("errors (-want +got):\n%s", diff)
	}
}

// Every kind of the scheme has a definition.
func TestDefinitions(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := v1beta1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	definitions, err := Definitions()
	if err != nil {
		t.Fatal(err)
	}
	for kind, goType := range scheme.KnownTypes(v1beta1.GroupVersion) {
		if strings.HasSuffix(kind, "List") || !strings.HasSuffix(goType.PkgPath(), "/controller/api/v1beta1") {
			continue
		}
		if !slices.ContainsFunc(definitions, func(d *apiextensionsv1.CustomResourceDefinition) bool { return d.Spec.Names.Kind == kind }) {
			t.Errorf("%s: no definition", kind)
		}
	}
}

// kubectl explain has something to say of every field.
func TestDescriptions(t *testing.T) {
	definitions, err := Definitions()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range definitions {
		schema := d.Spec.Versions[0].Schema.OpenAPIV3Schema
		if schema.Description == "" {
			t.Errorf("%s: no description", d.Name)
		}
		for _, part := range []string{"spec", "status"} {
			if properties, ok := schema.Properties[part]; ok {
				described(t, d.Spec.Names.Kind+"."+part, &properties)
			}
		}
	}
}

func described(t *testing.T, path string, schema *apiextensionsv1.JSONSchemaProps) {
	t.Helper()
	if schema.Description == "" {
		t.Errorf("%s: no description", path)
	}
	if schema.Items != nil && schema.Items.Schema != nil {
		schema = schema.Items.Schema
	}
	for name, property := range schema.Properties {
		described(t, path+"."+name, &property)
	}
}
