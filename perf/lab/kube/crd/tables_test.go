// SPDX-License-Identifier: Apache-2.0

package crd_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
	"github.com/fairlead/fairlead/controller/config"
	"github.com/fairlead/fairlead/perf/lab/kube"
)

// testTables makes objects, writes what config.Check finds into their status as
// the controller does, and reads what kubectl get would print.
func testTables(t *testing.T, control *kube.ControlPlane, client dynamic.Interface) {
	// What is referred to comes first.
	for _, test := range []struct {
		spec, status string   // YAML; status beside the condition
		wide         []string // name: value, as kubectl get -o wide prints them
	}{
		{
			"kind: BFDProfile\nspec: {receiveInterval: 50, detectMultiplier: 3, echoMode: true}", "{}",
			[]string{
				"Name: table", "Passive Mode: <nil>", "Transmit Interval: <nil>", "Receive Interval: 50", "Multiplier: 3", "Valid: False",
				"Message: spec.echoMode: true: Fairlead has no echo mode: the profile is used without",
			},
		},
		{
			"kind: IPAddressPool\nspec: {addresses: [192.0.2.0/24, \"2001:db8::/120\"], drain: true}",
			"{assignedIPv4: 3, availableIPv4: 253, assignedIPv6: 0, availableIPv6: 256}",
			[]string{
				"Name: table", `Addresses: ["192.0.2.0/24","2001:db8::/120"]`, "Auto Assign: true", "Assigned IPv4: 3", "Free IPv4: 253",
				"Assigned IPv6: 0", "Free IPv6: 256", "Valid: True", "Avoid Buggy IPs: false", "Drain: true", "Message: used as it stands",
			},
		},
		{
			"kind: L2Advertisement\nspec: {ipAddressPools: [lost], interfaces: [eth0]}", "{}",
			[]string{
				"Name: table", `IPAddressPools: ["lost"]`, `Interfaces: ["eth0"]`, "Valid: False", "IPAddressPool Selectors: <nil>", "Node Selectors: <nil>",
				`Message: spec.ipAddressPools[0]: no IPAddressPool "lost": the advertisement waits for it`,
			},
		},
		{
			"kind: BGPPeer\nspec: {myASN: 4200000000, peerASN: 64513, peerAddress: 192.0.2.1, bfdProfile: table, ebgpMultiHop: true}", "{}",
			[]string{
				"Name: table", "Address: 192.0.2.1", "ASN: 64513", "BFD Profile: table", "Multi Hops: true", "Valid: True", "Interface: <nil>",
				"My ASN: 4200000000", "Message: used as it stands",
			},
		},
		{
			"kind: BGPAdvertisement\nspec: {ipAddressPoolSelectors: [{matchLabels: {a: b}}], nodeSelectors: [{matchLabels: {c: d}}], peers: [table]}", "{}",
			[]string{
				"Name: table", "IPAddressPools: <nil>", `Peers: ["table"]`, "Valid: True", `IPAddressPool Selectors: [{"matchLabels":{"a":"b"}}]`,
				`Node Selectors: [{"matchLabels":{"c":"d"}}]`, "Message: used as it stands",
			},
		},
		{
			"kind: Community\nspec: {communities: [{name: a, value: \"1:2\"}, {name: b, value: \"large:1:2:3\"}]}", "{}",
			[]string{`Name: table`, "Names: a", "Valid: True", "Values: 1:2", "Message: used as it stands"},
		},
	} {
		o := object(t, "apiVersion: fairlead.io/v1beta1\nmetadata: {name: table}\n"+test.spec)
		kind := o.GetKind()
		made, err := resource(client, kind).Create(t.Context(), o, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		status := map[string]any{}
		if err := yaml.Unmarshal([]byte(test.status), &status); err != nil {
			t.Fatal(err)
		}
		condition := conditionOf(t, client, kind)
		condition["lastTransitionTime"] = "2026-01-01T00:00:00Z"
		status["conditions"] = []any{condition}
		made.Object["status"] = status
		if _, err := resource(client, kind).UpdateStatus(t.Context(), made, metav1.UpdateOptions{}); err != nil {
			t.Fatalf("%s: update status: %v", kind, err)
		}
		if diff := cmp.Diff(test.wide, row(t, control, kind)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", kind, diff)
		}
	}
	out, err := control.Kubectl(t.Context(), "", "get", "fairlead", "-n", namespace, "-o", "name")
	if err != nil {
		t.Fatal(err)
	}
	for kind, plural := range plurals {
		want := strings.ToLower(kind) + ".fairlead.io/table"
		if kind != "NodeState" && !strings.Contains(out, want) {
			t.Errorf("kubectl get fairlead: want %s (%s) in\n%s", want, plural, out)
		}
	}
}

// conditionOf is what Check says of the object "table" of a kind, given all objects.
func conditionOf(t *testing.T, client dynamic.Interface, kind string) map[string]any {
	t.Helper()
	var all config.Objects
	read(t, client, "IPAddressPool", &all.Pools)
	read(t, client, "L2Advertisement", &all.L2Advertisements)
	read(t, client, "BGPAdvertisement", &all.BGPAdvertisements)
	read(t, client, "BGPPeer", &all.BGPPeers)
	read(t, client, "Community", &all.Communities)
	read(t, client, "BFDProfile", &all.BFDProfiles)
	condition := config.Check(all, namespace).Conditions[config.Ref{Kind: kind, Namespace: namespace, Name: "table"}]
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&condition)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// read fills a list with the objects of a kind.
func read[T any](t *testing.T, client dynamic.Interface, kind string, into *[]*T) {
	t.Helper()
	list, err := resource(client, kind).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, item := range list.Items {
		o := new(T)
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(item.Object, o); err != nil {
			t.Fatal(err)
		}
		*into = append(*into, o)
	}
}

// row asks the API server for the table of a kind, and returns the row of the
// object "table" without its age.
func row(t *testing.T, control *kube.ControlPlane, kind string) []string {
	t.Helper()
	path := fmt.Sprintf("/apis/%s/namespaces/%s/%s/table", v1beta1.GroupVersion, namespace, plurals[kind])
	data, err := control.Client().Discovery().RESTClient().Get().AbsPath(path).
		SetHeader("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io").DoRaw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var table metav1.Table
	if err := json.Unmarshal(data, &table); err != nil {
		t.Fatal(err)
	}
	var cells []string
	for i, column := range table.ColumnDefinitions {
		if column.Name != "Age" {
			cells = append(cells, fmt.Sprintf("%s: %v", column.Name, table.Rows[0].Cells[i]))
		}
	}
	return cells
}
