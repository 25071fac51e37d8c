// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/fairlead/fairlead/controller/api/v1beta1/crd/crdtest"
)

var update = flag.Bool("update", false, "rewrite testdata with what is printed")

// Examples in the manner of MetalLB's documentation. What is printed is
// accepted by our definitions.
func TestExamples(t *testing.T) {
	server, err := crdtest.NewServer()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			objects, err := Parse("in.yaml", archive.Files[0].Data)
			if err != nil {
				t.Fatal(err)
			}
			result := Convert(objects, "fairlead-system")
			out, err := result.YAML()
			if err != nil {
				t.Fatal(err)
			}
			accepted(t, server, out)
			var notes strings.Builder
			for _, n := range result.All() {
				notes.WriteString(n.String() + "\n")
			}
			if *update {
				archive.Files[1].Data, archive.Files[2].Data = out, []byte(notes.String())
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(archive.Files[1].Data), string(out)); diff != "" {
				t.Errorf("out.yaml (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(string(archive.Files[2].Data), notes.String()); diff != "" {
				t.Errorf("notes (-want +got):\n%s", diff)
			}
		})
	}
}

// accepted wants the API server to take what is printed.
func accepted(t *testing.T, server *crdtest.Server, out []byte) {
	t.Helper()
	objects, err := Parse("out.yaml", out)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		for _, line := range server.Create(o) {
			t.Errorf("%s %s: %s", o.GetKind(), o.GetName(), line)
		}
	}
}

// object reads "Kind name: spec" as one of MetalLB's objects.
func object(t *testing.T, line string) *unstructured.Unstructured {
	t.Helper()
	head, spec, _ := strings.Cut(line, ": ")
	kind, name, _ := strings.Cut(head, " ")
	version := "v1beta1"
	if kind == "BGPPeer" {
		version = "v1beta2"
	}
	objects, err := Parse("test", []byte("apiVersion: metallb.io/"+version+"\nkind: "+kind+"\nmetadata: {name: "+name+", namespace: metallb-system}\nspec: "+spec))
	if err != nil || len(objects) != 1 {
		t.Fatalf("%s: %d objects: %v", line, len(objects), err)
	}
	return objects[0]
}

// Every object that cannot be used as MetalLB has it, with what is said.
func TestNotes(t *testing.T) {
	const must = "myASN: 1, peerASN: 2, peerAddress: 192.0.2.1"
	for _, test := range []struct {
		object string
		want   []string
	}{
		{"IPAddressPool a: {addresses: [192.0.2.5/24]}", []string{`info: spec.addresses[0]: "192.0.2.5/24" is written "192.0.2.0/24", which is what MetalLB takes it for`}},
		{"IPAddressPool a: {addresses: [\"::ffff:192.0.2.0/120\"]}", []string{`info: spec.addresses[0]: "::ffff:192.0.2.0/120" is written "192.0.2.0/24", which is what MetalLB takes it for`}},
		{"IPAddressPool a: {addresses: [\"::ffff:192.0.2.1-::ffff:192.0.2.9\"]}", []string{`info: spec.addresses[0]: "::ffff:192.0.2.1-::ffff:192.0.2.9" is written "192.0.2.1-192.0.2.9", which is what MetalLB takes it for`}},
		{"IPAddressPool a: {addresses: [192.0.2.5]}", []string{`error: spec.addresses[0]: "192.0.2.5": want a prefix such as 192.0.2.0/24, or a range such as 192.0.2.10-192.0.2.20`}},
		{"IPAddressPool a: {addresses: []}", []string{`error: spec.addresses: 0 entries: want 1 to 500: make several pools of it`}},
		{"IPAddressPool a: {addresses: [224.0.0.0/24]}", []string{`error: spec.addresses[0]: 224.0.0.0/24 has addresses that no Service can have (multicast): leave them out`}},
		{"IPAddressPool a: {addresses: [192.0.2.0/24, 192.0.2.0/24]}", []string{`info: spec.addresses[1]: "192.0.2.0/24" is there twice: the second one is left out`}},
		{"IPAddressPool a: {addresses: [192.0.2.0/24], protocol: layer2}", []string{`warning: unknown field "spec.protocol": MetalLB does not know it either: left out`}},
		{"IPAddressPool a: {addresses: 192.0.2.0/24}", []string{`error: cannot restore slice from string: left out`}},
		{"IPAddressPool a: {addresses: [192.0.2.0/24], serviceAllocation: {namespaces: [x, x]}}", []string{`info: spec.serviceAllocation.namespaces[1]: "x" is there twice: the second one is left out`}},
		{"IPAddressPool a: {addresses: [\"2001:db8::/64\"], avoidBuggyIPs: true}", []string{`info: spec.avoidBuggyIPs: leaves out the first address of IPv6 prefixes too, which MetalLB gives out`}},
		{"IPAddressPool a: {addresses: [192.0.2.0/24], serviceAllocation: {namespaceSelectors: [{matchLabels: {a: b}}]}}", []string{
			`warning: spec.serviceAllocation.namespaceSelectors: while they match no namespace, MetalLB lets every Service ask for the pool, and Fairlead none`,
		}},
		{"L2Advertisement a: {ipAddressPools: [x]}", []string{`warning: spec.ipAddressPools[0]: no IPAddressPool "x": the advertisement waits for it`}},
		{"L2Advertisement a: {interfaces: [eth0, eth0]}", []string{`info: spec.interfaces[1]: "eth0" is there twice: the second one is left out`}},
		{"L2Advertisement a: {interfaces: [eth*]}", []string{`warning: spec.interfaces[0]: "eth*" is a pattern here, and a plain name for MetalLB`}},
		{"L2Advertisement a: {interfaces: [averylonginterface]}", []string{`error: spec.interfaces[0]: "averylonginterface" is no name of a network interface: remove it`}},
		{"L2Advertisement a: {preferredNodeSelectors: [{weight: 0, preference: {}}]}", []string{`error: spec.preferredNodeSelectors[0].weight: 0: want 1 to 100`}},
		{"L2Advertisement a: {nodeSelectors: [{matchExpressions: [{key: a, operator: Like}]}]}", []string{`error: spec.nodeSelectors[0]: "Like" is not a valid label selector operator: matches nothing`}},
		{"BGPAdvertisement a: {localpref: 100}", []string{`warning: unknown field "spec.localpref": MetalLB does not know it either: left out; did you mean localPref?`}},
		{"BGPAdvertisement a: {localPref: -1}", []string{`error: spec.localPref: -1: want 0 to 4294967295: left out`}},
		{"BGPAdvertisement a: {aggregationLength: 0, aggregationLengthV6: 129, asPathPrepend: 11}", []string{
			`error: spec.aggregationLength: 0: want 1 to 32`, `error: spec.aggregationLengthV6: 129: want 1 to 128`, `error: spec.asPathPrepend: 11: want 1 to 10`,
		}},
		{"BGPAdvertisement a: {communities: [\"65536:1\"]}", []string{`error: spec.communities[0]: "65536:1" is no community: want two numbers up to 65535 such as 64512:100, or three up to 4294967295 such as large:64512:1:2`}},
		{"BGPAdvertisement a: {communities: [far]}", []string{`warning: spec.communities[0]: no Community object has the name "far": the advertisement waits for it`}},
		{"BGPAdvertisement a: {aggregationLength: 24, serviceSelectors: [{matchLabels: {a: b}}]}", []string{`error: spec.serviceSelectors: a route for many addresses cannot be for some Services alone: remove the aggregation lengths or the selectors`}},
		{"Community a: {communities: [{value: \"1:1\"}]}", []string{`warning: spec.communities[0]: has no name: left out`}},
		{"Community a: {communities: [{name: x, value: \"1:1\"}, {name: x, value: \"1:2\"}]}", []string{
			`error: spec.communities[1].name: "x" is there twice: remove one`,
			`warning: spec.communities[1].name: "x" is in Community "a" too, which is older: that one is used`,
		}},
		{"Community a: {communities: [{name: \"1:1\", value: \"1:1\"}]}", []string{`error: spec.communities[0].name: "1:1" looks like a value: write it without colons, there and in BGPAdvertisements`}},
		{"Community a: {communities: [{name: x, value: x}]}", []string{`error: spec.communities[0].value: "x" is no community: want two numbers up to 65535 such as 64512:100, or three up to 4294967295 such as large:64512:1:2`}},
		{"BFDProfile a: {echoMode: true}", []string{`warning: spec.echoMode: true: Fairlead has no echo mode: the profile is used without`}},
		{"BFDProfile a: {detectMultiplier: 1, receiveInterval: 9, transmitInterval: 60001, echoInterval: 9, minimumTtl: 255}", []string{
			`error: spec.receiveInterval: 9: want 10 to 60000`, `error: spec.transmitInterval: 60001: want 10 to 60000`, `error: spec.detectMultiplier: 1: want 2 to 255`,
			`error: spec.echoInterval: 9: want 10 to 60000`, `error: spec.minimumTtl: 255: want 1 to 254`,
		}},
		{"BGPPeer a: {" + must + ", vrf: red}", []string{`warning: spec.vrf: "red": Fairlead has sessions in the default VRF alone: the peer is not used`}},
		{"BGPPeer a: {" + must + ", bfdProfile: fast}", []string{`warning: spec.bfdProfile: no BFDProfile "fast": the peer is used without BFD until there is one`}},
		{"BGPPeer a: {" + must + ", password: x, passwordSecret: {name: s}}", []string{
			`warning: spec.password: given beside passwordSecret: left out`, `warning: spec.passwordSecret: copy Secret "s" to namespace "fairlead-system": it is not read here`,
		}},
		{"BGPPeer a: {" + must + ", passwordSecret: {name: s, namespace: x}}", []string{
			`info: spec.passwordSecret.namespace: left out: the Secret is read from the namespace of the BGPPeer, as MetalLB does it`,
			`warning: spec.passwordSecret: copy Secret "s" to namespace "fairlead-system": it is not read here`,
		}},
		{"BGPPeer a: {" + must + ", holdTime: 2s}", []string{`error: spec.holdTime: 2s: want 0, or 3s to 65535s`}},
		{"BGPPeer a: {" + must + ", holdTime: 3500ms}", []string{`info: spec.holdTime: 3.5s is written 3s: whole seconds count`}},
		{"BGPPeer a: {" + must + ", holdTime: 90s, keepaliveTime: 0s}", []string{`warning: spec.keepaliveTime: 0 beside a holdTime of 1m30s: left out, which means a third of that`}},
		{"BGPPeer a: {" + must + ", holdTime: 9s, keepaliveTime: 10s}", []string{`error: spec.keepaliveTime: 10s is longer than holdTime 9s`}},
		{"BGPPeer a: {" + must + ", keepaliveTime: 7h}", []string{`error: spec.keepaliveTime: 7h0m0s: want 0, or 1s to 21845s`}},
		{"BGPPeer a: {" + must + ", keepaliveTime: 500ms}", []string{`info: spec.keepaliveTime: 500ms is written 1s: whole seconds count`}},
		{"BGPPeer a: {" + must + ", connectTime: 0s}", []string{`error: spec.connectTime: 0s: want 1s to 65535s`}},
		{"BGPPeer a: {" + must + ", holdTime: soon}", []string{`error: time: invalid duration "soon": left out`}},
		{"BGPPeer a: {" + must + ", disableMP: true, dualStackAddressFamily: true}", []string{`warning: spec.disableMP: contradicts dualStackAddressFamily: left out`}},
		{"BGPPeer a: {" + must + ", peerPort: 65536}", []string{`error: spec.peerPort: 65536: want 1 to 65535`}},
		{"BGPPeer a: {" + must + ", localASN: 0}", []string{`error: spec.localASN: 0: want 1 to 4294967295`}},
		{"BGPPeer a: {" + must + ", interface: eth0}", []string{`error: spec: want either peerAddress or interface`}},
		{"BGPPeer a: {" + must + ", dynamicASN: external}", []string{`error: spec: want either peerASN or dynamicASN`}},
		{"BGPPeer a: {myASN: 1, dynamicASN: any, interface: \"eth 0\"}", []string{`error: spec.dynamicASN: "any": want internal or external`, `error: spec.interface: "eth 0" is no name of a network interface`}},
		{"BGPPeer a: {" + must + ", routerID: \"2001:db8::1\"}", []string{`error: spec.routerID: "2001:db8::1": want a number written as an IPv4 address, such as 192.0.2.1`}},
		{"BGPPeer a: {" + must + ", sourceAddress: \"2001:db8::1\"}", []string{`error: spec.sourceAddress: 2001:db8::1 is of another family than peerAddress 192.0.2.1`}},
		{"BGPPeer a: {myASN: 0, peerASN: 4294967296, peerAddress: tor}", []string{
			`error: spec.myASN: 0: want 1 to 4294967295`, `error: spec.peerASN: 4294967296: want 0 to 4294967295`,
			`error: spec.peerAddress: "tor": want the IP address of a machine, such as 192.0.2.1 or 2001:db8::1`,
		}},
		{"BGPPeer a: {myASN: 1, peerASN: 2, peerAddress: \"fe80::1\"}", []string{`error: spec.peerAddress: "fe80::1" is link-local and does not say on which link: want interface instead of peerAddress`}},
		{"BGPPeer a: {myASN: 1, peerASN: 1, peerAddress: 192.0.2.1, ebgpMultiHop: true}", []string{`error: spec.ebgpMultiHop: is for external peers, and peerASN is myASN`}},
		{"BGPPeer a: {myASN: 1, dynamicASN: internal, peerAddress: 192.0.2.1, ebgpMultiHop: true}", []string{`error: spec.ebgpMultiHop: is for external peers, and dynamicASN is internal`}},
		{"BGPPeer a: {myASN: 1, peerASN: 2, interface: eth0, ebgpMultiHop: true}", []string{`warning: spec.ebgpMultiHop: the peer of an interface is on its link: left out`}},
		{"BGPPeer a: {" + must + ", password: " + strings.Repeat("x", 81) + "}", []string{`error: spec.password: 81 bytes: want 80 at most`}},
	} {
		var got []string
		for _, n := range Convert([]*unstructured.Unstructured{object(t, test.object)}, "fairlead-system").All() {
			head, _, _ := strings.Cut(test.object, ": ")
			got = append(got, strings.Replace(n.String(), ": "+head, "", 1))
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.object, diff)
		}
	}
}

func TestTwice(t *testing.T) {
	one := object(t, "BFDProfile a: {}")
	other := one.DeepCopy()
	other.SetNamespace("default")
	for _, test := range []struct {
		namespace string
		objects   []*unstructured.Unstructured
		converted int
		want      []string
	}{
		{"fairlead-system", []*unstructured.Unstructured{one, one}, 1, []string{`error: BFDProfile a: is there twice: the second one is left out`}},
		{"fairlead-system", []*unstructured.Unstructured{one, other}, 1, []string{
			`error: BFDProfile a: is in namespace "metallb-system" and in "default": the second one is left out; MetalLB uses that of its own namespace alone`,
		}},
		{"", []*unstructured.Unstructured{one, other}, 2, nil},
	} {
		r := Convert(test.objects, test.namespace)
		var got []string
		for _, n := range r.All() {
			got = append(got, n.String())
		}
		if diff := cmp.Diff(test.want, got); diff != "" || len(r.Converted) != test.converted {
			t.Errorf("namespace %q: %d objects, want %d, notes (-want +got):\n%s", test.namespace, len(r.Converted), test.converted, diff)
		}
	}
}

func TestParseErrors(t *testing.T) {
	objects, err := Parse("some.yaml", []byte("kind: [\n---\napiVersion: v1\nkind: Service\nmetadata: {name: a}\n---\n---\n{}\n"))
	if len(objects) != 1 {
		t.Errorf("%d objects, want the one that can be read", len(objects))
	}
	want := `some.yaml: document 1: yaml: line 1: did not find expected node content
some.yaml: document 3: Object 'Kind' is missing in '{}'`
	if err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("error %q, want %q", err, want)
	}
}

// What has no note of an error is accepted by our definitions, whatever it was.
func FuzzConvert(f *testing.F) {
	server, err := crdtest.NewServer()
	if err != nil {
		f.Fatal(err)
	}
	cases, err := crdtest.Cases()
	if err != nil {
		f.Fatal(err)
	}
	for _, c := range cases {
		text, err := yaml.Marshal(c.Object.Object)
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(strings.Replace(string(text), "fairlead.io/v1beta1", "metallb.io/v1beta1", 1)))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		objects, err := Parse("fuzz", text)
		if err != nil {
			return
		}
		for _, c := range Convert(objects, "fairlead-system").Converted {
			if slices.ContainsFunc(c.Notes, func(n Note) bool { return n.Level == Error }) {
				continue
			}
			content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(c.Object)
			if err != nil {
				t.Fatal(err)
			}
			if lines := server.Create(&unstructured.Unstructured{Object: content}); len(lines) > 0 {
				t.Errorf("%q is refused: %q", text, lines)
			}
		}
	})
}
