// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
	"github.com/fairlead/fairlead/controller/ipam"
)

const namespace = "fairlead-system"

// parse reads documents "Kind name: spec" in YAML, each object a second
// younger than the one before. A name may be namespace/name.
func parse(t *testing.T, text string) Objects {
	t.Helper()
	var list []yamlObject
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		head, spec, ok := strings.Cut(line, ": ")
		kind, name, named := strings.Cut(head, " ")
		if !ok || !named {
			t.Fatalf("%q: want \"Kind name: spec\"", line)
		}
		list = append(list, yamlObject{kind, name, spec})
	}
	objects := Objects{Nodes: map[string]labels.Set{
		"node1": {"rack": "r1", "kubernetes.io/hostname": "node1"},
		"node2": {"rack": "r2", "kubernetes.io/hostname": "node2"},
	}}
	for i, o := range list {
		meta := metav1.ObjectMeta{
			Namespace: namespace, Name: o.name, Generation: int64(i + 1),
			CreationTimestamp: metav1.Unix(int64(i), 0),
			Labels:            map[string]string{"name": o.name},
		}
		if before, after, ok := strings.Cut(o.name, "/"); ok {
			meta.Namespace, meta.Name = before, after
		}
		switch o.kind {
		case "IPAddressPool":
			objects.Pools = append(objects.Pools, &v1beta1.IPAddressPool{ObjectMeta: meta, Spec: spec[v1beta1.IPAddressPoolSpec](t, o)})
		case "L2Advertisement":
			objects.L2Advertisements = append(objects.L2Advertisements, &v1beta1.L2Advertisement{ObjectMeta: meta, Spec: spec[v1beta1.L2AdvertisementSpec](t, o)})
		case "BGPAdvertisement":
			objects.BGPAdvertisements = append(objects.BGPAdvertisements, &v1beta1.BGPAdvertisement{ObjectMeta: meta, Spec: spec[v1beta1.BGPAdvertisementSpec](t, o)})
		case "BGPPeer":
			objects.BGPPeers = append(objects.BGPPeers, &v1beta1.BGPPeer{ObjectMeta: meta, Spec: spec[v1beta1.BGPPeerSpec](t, o)})
		case "Community":
			objects.Communities = append(objects.Communities, &v1beta1.Community{ObjectMeta: meta, Spec: spec[v1beta1.CommunitySpec](t, o)})
		case "BFDProfile":
			objects.BFDProfiles = append(objects.BFDProfiles, &v1beta1.BFDProfile{ObjectMeta: meta, Spec: spec[v1beta1.BFDProfileSpec](t, o)})
		case "Secret":
			secret := &corev1.Secret{ObjectMeta: meta, Type: corev1.SecretTypeBasicAuth, Data: map[string][]byte{"password": []byte(o.spec)}}
			if strings.HasPrefix(o.spec, "Opaque") {
				secret.Type = corev1.SecretTypeOpaque
			}
			if o.spec == "empty" {
				secret.Data = nil
			}
			if objects.Secrets == nil {
				objects.Secrets, objects.SecretsKnown = map[string]*corev1.Secret{}, true
			}
			objects.Secrets[o.name] = secret
		default:
			t.Fatalf("kind %q", o.kind)
		}
	}
	return objects
}

type yamlObject struct{ kind, name, spec string }

func spec[T any](t *testing.T, o yamlObject) (s T) {
	t.Helper()
	if err := yaml.UnmarshalStrict([]byte(o.spec), &s); err != nil {
		t.Fatalf("%s %s: %v", o.kind, o.name, err)
	}
	return s
}

// problems are the reasons and messages of the objects that are not Valid.
func problems(r Result) map[string]string {
	wrong := map[string]string{}
	for ref, c := range r.Conditions {
		name := ref.Kind + " " + ref.Name
		if r.Unused[ref] {
			name += " (unused)"
		}
		if c.Status == metav1.ConditionFalse {
			wrong[name] = c.Reason + ": " + c.Message
		}
	}
	return wrong
}

// peerNamed is a BGPPeer with the given fields beside those that one must have.
func peerNamed(name, more string) string {
	return fmt.Sprintf("BGPPeer %s: {myASN: 64512, peerASN: 64513, %s}\n", name, more)
}

func TestCheck(t *testing.T) {
	const (
		office = "IPAddressPool office: {addresses: [192.0.2.0/24, \"2001:db8::/64\"]}\n"
		torA   = "BGPPeer tor-a: {myASN: 64512, peerASN: 64513, peerAddress: 198.51.100.1}\n"
		torB   = "BGPPeer tor-b: {myASN: 64512, peerASN: 64513, peerAddress: 198.51.100.2}\n"
	)
	for _, test := range []struct {
		name, objects string
		want          map[string]string
	}{
		{"nothing", "", nil},
		{"all that is right", office + torA + `
			L2Advertisement l2: {}
			BGPAdvertisement bgp: {ipAddressPools: [office], peers: [tor-a], aggregationLength: 24, aggregationLengthV6: 64, communities: [no-export, "1:2", far]}
			Community names: {communities: [{name: far, value: "64512:9"}]}
			BFDProfile fast: {echoMode: false, echoInterval: 50}`, nil},
		{"another namespace", "IPAddressPool default/office: {addresses: [192.0.2.0/24]}", map[string]string{
			"IPAddressPool office (unused)": `WrongNamespace: metadata.namespace: "default": not used: Fairlead reads objects in "fairlead-system" alone`,
		}},

		// Pools.
		{"pools that overlap", office + `
			IPAddressPool range: {addresses: [198.51.100.0/24, 192.0.2.200-192.0.3.9]}
			IPAddressPool inside: {addresses: [192.0.2.1/32]}
			IPAddressPool around: {addresses: ["2001:db8::/48"]}`, map[string]string{
			"IPAddressPool range":  `Overlap: spec.addresses[1]: 192.0.2.200-192.0.3.9 overlaps 192.0.2.0/24 of IPAddressPool "office", which is older and keeps what is in both`,
			"IPAddressPool inside": `Overlap: spec.addresses[0]: 192.0.2.1/32 overlaps 192.0.2.0/24 of IPAddressPool "office", which is older and keeps what is in both`,
			"IPAddressPool around": `Overlap: spec.addresses[0]: 2001:db8::/48 overlaps 2001:db8::/64 of IPAddressPool "office", which is older and keeps what is in both`,
		}},
		{"pools that touch", "IPAddressPool a: {addresses: [192.0.2.0/25]}\nIPAddressPool b: {addresses: [192.0.2.128/25]}", nil},
		{"a pool that overlaps itself", "IPAddressPool a: {addresses: [192.0.2.0/24, 192.0.2.9-192.0.2.10]}", map[string]string{
			"IPAddressPool a": `Invalid: spec.addresses[1]: "192.0.2.9-192.0.2.10": overlaps another entry`,
		}},
		{"a range of IPv6 backwards", "IPAddressPool a: {addresses: [\"2001:db8::9-2001:db8::1\", 192.0.2.0/24]}", map[string]string{
			"IPAddressPool a": `Invalid: spec.addresses[0]: "2001:db8::9-2001:db8::1": the range ends before it starts: write the lower address first`,
		}},
		{"ranges around what no Service can have", "IPAddressPool a: {addresses: [126.0.0.0-128.0.0.1, \"fe00::-ff00::\", 223.0.0.0-230.0.0.0]}", map[string]string{
			"IPAddressPool a": `Invalid: spec.addresses[0]: 126.0.0.0-128.0.0.1 has addresses that no Service can have (loopback): leave them out; ` +
				`spec.addresses[1]: fe00::-ff00:: has addresses that no Service can have (link-local, multicast): leave them out; ` +
				`spec.addresses[2]: 223.0.0.0-230.0.0.0 has addresses that no Service can have (multicast): leave them out`,
		}},
		{"selectors of a pool", "IPAddressPool a: {addresses: [192.0.2.0/24], serviceAllocation: {namespaceSelectors: [{matchExpressions: [{key: team, operator: Is, values: [x]}]}], serviceSelectors: [{matchExpressions: [{key: team, operator: In}]}]}}", map[string]string{
			"IPAddressPool a": `Invalid: spec.serviceAllocation.namespaceSelectors[0]: "Is" is not a valid label selector operator; ` +
				`spec.serviceAllocation.serviceSelectors[0]: values: Invalid value: null: for 'in', 'notin' operators, values set can't be empty`,
		}},

		// References.
		{"advertisements of nothing", office + torA + `
			L2Advertisement l2: {ipAddressPools: [office, dmz]}
			BGPAdvertisement bgp: {ipAddressPools: [dmz], peers: [tor-a, tor-b]}`, map[string]string{
			"L2Advertisement l2":   `NotFound: spec.ipAddressPools[1]: no IPAddressPool "dmz": the advertisement waits for it`,
			"BGPAdvertisement bgp": `NotFound: spec.ipAddressPools[0]: no IPAddressPool "dmz": the advertisement waits for it; spec.peers[1]: no BGPPeer "tor-b": the advertisement waits for it`,
		}},
		{"community without a name", "BGPAdvertisement bgp: {communities: [far, no-export]}", map[string]string{
			"BGPAdvertisement bgp (unused)": `NotFound: spec.communities[0]: no Community object has the name "far": the advertisement waits for it`,
		}},
		{"community in two objects", `
			Community a: {communities: [{name: far, value: "64512:1"}]}
			Community b: {communities: [{name: near, value: "64512:2"}, {name: far, value: "64512:3"}]}`, map[string]string{
			"Community b": `Conflict: spec.communities[1].name: "far" is in Community "a" too, which is older: that one is used`,
		}},
		{"profile that is missing", peerNamed("a", "peerAddress: 198.51.100.1, bfdProfile: fast"), map[string]string{
			"BGPPeer a": `NotFound: spec.bfdProfile: no BFDProfile "fast": the peer is used without BFD until there is one`,
		}},
		{"Secrets", `
			Secret right: sesame
			Secret opaque: Opaque
			Secret void: empty
			` + peerNamed("a", "peerAddress: 198.51.100.1, passwordSecret: {name: right}") +
			peerNamed("b", "peerAddress: 198.51.100.2, passwordSecret: {name: missing}") +
			peerNamed("c", "peerAddress: 198.51.100.3, passwordSecret: {name: opaque}") +
			peerNamed("d", "peerAddress: 198.51.100.4, passwordSecret: {name: void}") +
			peerNamed("e", "peerAddress: 198.51.100.5, passwordSecret: {name: right, namespace: default}"), map[string]string{
			"BGPPeer b (unused)": `NotFound: spec.passwordSecret.name: no Secret "missing": the peer waits for it`,
			"BGPPeer c (unused)": `Invalid: spec.passwordSecret.name: Secret "opaque" is of type "Opaque", want "kubernetes.io/basic-auth": the peer waits for it`,
			"BGPPeer d (unused)": `Invalid: spec.passwordSecret.name: Secret "void" has nothing under "password": the peer waits for it`,
			"BGPPeer e":          `Invalid: spec.passwordSecret.namespace: "default": the Secret is read from "fairlead-system", the namespace of the BGPPeer`,
		}},
		{"Secrets that nobody looked for", peerNamed("a", "peerAddress: 198.51.100.1, passwordSecret: {name: some}"), nil},

		// What MetalLB has and Fairlead has not.
		{"VRF and echo mode", "BFDProfile echo: {echoMode: true}\n" + peerNamed("a", "peerAddress: 198.51.100.1, vrf: red, bfdProfile: echo"), map[string]string{
			"BFDProfile echo":    `Unsupported: spec.echoMode: true: Fairlead has no echo mode: the profile is used without`,
			"BGPPeer a (unused)": `Unsupported: spec.vrf: "red": Fairlead has sessions in the default VRF alone: the peer is not used`,
		}},

		// Peers that do not go together.
		{"one peer twice", torA +
			peerNamed("a", "peerAddress: 198.51.100.1, peerPort: 179") +
			peerNamed("b", "peerAddress: 198.51.100.1, peerPort: 1179") +
			peerNamed("c", "interface: eth0") + peerNamed("d", "interface: eth0") +
			peerNamed("e", "peerAddress: \"2001:db8::1\"") + peerNamed("f", "peerAddress: \"2001:DB8:0::1\""), map[string]string{
			"BGPPeer a (unused)": `Conflict: spec.peerAddress: "198.51.100.1" is that of BGPPeer "tor-a" too, which is older, on node "node1": the peer is not used`,
			"BGPPeer d (unused)": `Conflict: spec.interface: "eth0" is that of BGPPeer "c" too, which is older, on node "node1": the peer is not used`,
			"BGPPeer f (unused)": `Conflict: spec.peerAddress: "2001:DB8:0::1" is that of BGPPeer "e" too, which is older, on node "node1": the peer is not used`,
		}},
		{"one peer for each of two nodes",
			peerNamed("a", "peerAddress: 198.51.100.1, nodeSelectors: [{matchLabels: {rack: r1}}]") +
				peerNamed("b", "peerAddress: 198.51.100.1, nodeSelectors: [{matchLabels: {rack: r2}}]"), nil},
		{"router IDs",
			peerNamed("a", "peerAddress: 198.51.100.1, routerID: 192.0.2.1, nodeSelectors: [{matchLabels: {rack: r1}}]") +
				peerNamed("b", "peerAddress: 198.51.100.2, routerID: 192.0.2.2, nodeSelectors: [{matchLabels: {rack: r2}}]") +
				peerNamed("c", "peerAddress: 198.51.100.3, routerID: 192.0.2.2"), map[string]string{
				"BGPPeer c": `Conflict: spec.routerID: 192.0.2.2, but BGPPeer "a", which is older, has 192.0.2.1 for node "node1": that one is used there`,
			}},
		{"selectors of a peer", peerNamed("a", "peerAddress: 198.51.100.1, nodeSelectors: [{matchExpressions: [{key: rack, operator: Exists, values: [r1]}]}]"), map[string]string{
			"BGPPeer a": `Invalid: spec.nodeSelectors[0]: values: Invalid value: ["r1"]: values set must be empty for exists and does not exist: matches nothing`,
		}},

		// Advertisements that do not go together.
		{"local preferences", office + torA + torB + `
			BGPAdvertisement a: {localPref: 100, peers: [tor-a]}
			BGPAdvertisement b: {localPref: 200, ipAddressPools: [office]}
			BGPAdvertisement c: {localPref: 300, peers: [tor-b], aggregationLength: 24, aggregationLengthV6: 64}`, map[string]string{
			"BGPAdvertisement b": `Conflict: spec.localPref: BGPAdvertisement "a", which is older, has another for the same routes of IPAddressPool "office" to BGPPeer "tor-a": the advertisement is not used for this pool`,
		}},
		{"prepended paths", office + torA + `
			BGPAdvertisement a: {asPathPrepend: 2}
			BGPAdvertisement b: {}`, map[string]string{
			"BGPAdvertisement b": `Conflict: spec.asPathPrepend: BGPAdvertisement "a", which is older, has another for the same routes of IPAddressPool "office" to BGPPeer "tor-a": the advertisement is not used for this pool`,
		}},
		{"attributes from different nodes", office + torA + `
			BGPAdvertisement a: {localPref: 100, nodeSelectors: [{matchLabels: {rack: r1}}]}
			BGPAdvertisement b: {localPref: 200, nodeSelectors: [{matchLabels: {rack: r2}}]}`, nil},
		{"attributes to a peer of another node", office +
			peerNamed("a", "peerAddress: 198.51.100.1, nodeSelectors: [{matchLabels: {rack: r1}}]") + `
			BGPAdvertisement a: {localPref: 100, nodeSelectors: [{matchLabels: {rack: r2}}]}
			BGPAdvertisement b: {localPref: 200}`, nil},
		{"attributes for some Services", office + torA + `
			BGPAdvertisement a: {localPref: 100}
			BGPAdvertisement b: {localPref: 200, serviceSelectors: [{matchLabels: {app: shop}}]}`, nil},
		{"attributes of different pools", office + torA + `
			IPAddressPool dmz: {addresses: [203.0.113.0/24]}
			BGPAdvertisement a: {localPref: 100, ipAddressPools: [office]}
			BGPAdvertisement b: {localPref: 200, ipAddressPoolSelectors: [{matchLabels: {name: dmz}}]}`, nil},

		// Lengths of routes.
		{"aggregates larger than a pool", office + torA + `
			IPAddressPool range: {addresses: [203.0.113.10-203.0.113.20]}
			BGPAdvertisement a: {aggregationLength: 23}
			BGPAdvertisement b: {aggregationLength: 29, ipAddressPools: [range]}
			BGPAdvertisement c: {aggregationLength: 30, ipAddressPools: [range]}
			BGPAdvertisement d: {aggregationLengthV6: 56}`, map[string]string{
			"BGPAdvertisement a": `Invalid: spec.aggregationLength: a route of length 23 is more than 192.0.2.0/24 of IPAddressPool "office": want 24 or more: the advertisement is not used for this pool; ` +
				`spec.aggregationLength: a route of length 23 is more than 203.0.113.10-203.0.113.20 of IPAddressPool "range": want 30 or more: the advertisement is not used for this pool`,
			"BGPAdvertisement b": `Invalid: spec.aggregationLength: a route of length 29 is more than 203.0.113.10-203.0.113.20 of IPAddressPool "range": want 30 or more: the advertisement is not used for this pool`,
			"BGPAdvertisement d": `Invalid: spec.aggregationLengthV6: a route of length 56 is more than 2001:db8::/64 of IPAddressPool "office": want 64 or more: the advertisement is not used for this pool`,
		}},
		{"selectors of advertisements", `
			L2Advertisement l2: {nodeSelectors: [{matchExpressions: [{key: rack, operator: Like}]}], preferredNodeSelectors: [{weight: 1, preference: {matchExpressions: [{key: rack, operator: Like}]}}]}
			BGPAdvertisement bgp: {serviceSelectors: [{matchExpressions: [{key: "a b", operator: Exists}]}], ipAddressPoolSelectors: [{matchExpressions: [{key: rack, operator: Like}]}]}`, map[string]string{
			"L2Advertisement l2": `Invalid: spec.nodeSelectors[0]: "Like" is not a valid label selector operator: matches nothing; spec.preferredNodeSelectors[0].preference: "Like" is not a valid label selector operator: matches nothing`,
			"BGPAdvertisement bgp": `Invalid: spec.serviceSelectors[0]: key: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]'): matches nothing; ` +
				`spec.ipAddressPoolSelectors[0]: "Like" is not a valid label selector operator: matches nothing`,
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			want := test.want
			if want == nil {
				want = map[string]string{}
			}
			objects := parse(t, test.objects)
			result := Check(objects, namespace)
			if diff := cmp.Diff(want, problems(result)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			shuffled := Check(shuffle(objects), namespace)
			if diff := cmp.Diff(result, shuffled); diff != "" {
				t.Errorf("another order of the lists (-in order +shuffled):\n%s", diff)
			}
		})
	}
}

// shuffle changes the order of lists, which counts for nothing.
func shuffle(o Objects) Objects {
	r := rand.New(rand.NewPCG(1, 2))
	o.Pools = slices.Clone(o.Pools)
	o.BGPAdvertisements = slices.Clone(o.BGPAdvertisements)
	o.BGPPeers = slices.Clone(o.BGPPeers)
	o.Communities = slices.Clone(o.Communities)
	r.Shuffle(len(o.Pools), func(i, j int) { o.Pools[i], o.Pools[j] = o.Pools[j], o.Pools[i] })
	r.Shuffle(len(o.BGPAdvertisements), func(i, j int) {
		o.BGPAdvertisements[i], o.BGPAdvertisements[j] = o.BGPAdvertisements[j], o.BGPAdvertisements[i]
	})
	r.Shuffle(len(o.BGPPeers), func(i, j int) { o.BGPPeers[i], o.BGPPeers[j] = o.BGPPeers[j], o.BGPPeers[i] })
	r.Shuffle(len(o.Communities), func(i, j int) { o.Communities[i], o.Communities[j] = o.Communities[j], o.Communities[i] })
	return o
}

// What is left when something is wrong is never more than was asked for.
func TestAdvertised(t *testing.T) {
	const objects = `
		IPAddressPool office: {addresses: [192.0.2.0/24]}
		IPAddressPool dmz: {addresses: [203.0.113.0/24]}
		BGPPeer tor-a: {myASN: 64512, peerASN: 64513, peerAddress: 198.51.100.1}
		L2Advertisement all: {}
		L2Advertisement named: {ipAddressPools: [dmz, lost]}
		L2Advertisement labelled: {ipAddressPoolSelectors: [{matchLabels: {name: office}}]}
		L2Advertisement lost: {ipAddressPools: [lost]}
		L2Advertisement broken: {ipAddressPoolSelectors: [{matchExpressions: [{key: rack, operator: Like}]}]}
		BGPAdvertisement first: {ipAddressPools: [dmz], localPref: 1}
		BGPAdvertisement second: {localPref: 2}
		BGPAdvertisement third: {communities: [lost], localPref: 2}`
	want := map[string]string{
		"all": "dmz office", "named": "dmz", "labelled": "office", "lost": "", "broken": "",
		"first": "dmz", "second": "office", "third": "",
	}
	got := map[string]string{}
	for ref, pools := range Check(parse(t, objects), namespace).Advertised {
		got[ref.Name] = strings.Join(pools, " ")
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCommunities(t *testing.T) {
	got := Check(parse(t, `
		Community a: {communities: [{name: far, value: "64512:1"}]}
		Community b: {communities: [{name: near, value: "64512:2"}, {name: far, value: "64512:3"}]}
		Community default/c: {communities: [{name: other, value: "64512:4"}]}`), namespace).Communities
	if diff := cmp.Diff(map[string]string{"far": "64512:1", "near": "64512:2"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Of two objects of one second, the first by name is the older one.
func TestSameAge(t *testing.T) {
	objects := parse(t, "IPAddressPool b: {addresses: [192.0.2.0/24]}\nIPAddressPool a: {addresses: [192.0.2.0/24]}")
	for _, p := range objects.Pools {
		p.CreationTimestamp = metav1.NewTime(time.Unix(1, 0))
	}
	got := slices.Collect(maps.Keys(problems(Check(objects, namespace))))
	if diff := cmp.Diff([]string{"IPAddressPool b"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Conditions fit into the schema whatever is wrong.
func TestConditions(t *testing.T) {
	valid := Check(parse(t, "IPAddressPool a: {addresses: [192.0.2.0/24]}"), namespace).Conditions
	want := map[Ref]metav1.Condition{{"IPAddressPool", namespace, "a"}: {
		Type: "Valid", Status: "True", Reason: "Valid", Message: "used as it stands", ObservedGeneration: 1,
	}}
	if diff := cmp.Diff(want, valid); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	list := make([]string, 1000)
	for i := range list {
		list[i] = fmt.Sprintf("pool-%d", i)
	}
	result := Check(parse(t, "L2Advertisement a: {ipAddressPools: ["+strings.Join(list, ", ")+"]}"), namespace)
	for _, c := range result.Conditions {
		if len(c.Message) > 32768 || !strings.HasSuffix(c.Message, " more problems") {
			t.Errorf("%d bytes, ends in %q", len(c.Message), c.Message[len(c.Message)-40:])
		}
	}
}

func TestLargestBlock(t *testing.T) {
	for text, want := range map[string]int{
		"192.0.2.0/24": 24, "192.0.2.7/32": 32, "192.0.2.7-192.0.2.7": 32, "192.0.2.7-192.0.2.8": 32, "192.0.2.6-192.0.2.8": 31,
		"192.0.2.10-192.0.2.20": 30, "192.0.2.1-192.0.2.254": 26, "128.0.0.0-255.255.255.255": 1, "192.0.2.255-192.0.3.255": 24,
		"255.255.255.254-255.255.255.255": 31, "2001:db8::/64": 64, "2001:db8::1-2001:db8::ffff": 113, "ffff::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff": 16,
	} {
		entry, err := ipam.ParseRange(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := largestBlock(entry); got != want {
			t.Errorf("%s: %d, want %d", text, got, want)
		}
	}
}

func TestParseCommunity(t *testing.T) {
	for text, want := range map[string][]uint32{
		"0:0": {0, 0}, "65535:65535": {65535, 65535}, "large:4294967295:0:1": {4294967295, 0, 1},
		"": nil, "1": nil, "1:": nil, ":1": nil, "65536:1": nil, "1:2:3": nil, "large:1:2": nil, "large:1:2:4294967296": nil,
		"-1:1": nil, "+1:1": nil, "1:1 ": nil, "0x1:1": nil, "large:": nil, "no-export": nil,
	} {
		got, ok := ParseCommunity(text)
		if ok != (want != nil) || ok && !slices.Equal(got, want) {
			t.Errorf("%q: %v %t, want %v", text, got, ok, want)
		}
	}
	for name, value := range WellKnown {
		if _, ok := ParseCommunity(value); !ok {
			t.Errorf("%s: %q", name, value)
		}
	}
}
