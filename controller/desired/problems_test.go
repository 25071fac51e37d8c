// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestProblems edits the full configuration in one place and wants exactly
// these messages.
func TestProblems(t *testing.T) {
	const (
		deviceName = "want the name of a network device, without slash, colon or space"
		reachable  = "want a unicast address that other machines reach"
		word       = "want at most 253 letters, digits and -_./ between them"
		b0         = "services[0].ports[0].backends[0]"
	)
	for _, test := range []struct{ name, from, to, want string }{
		// The document.
		{"syntax", "node: node1", "node: [node1", "yaml: line 1: did not find expected ',' or ']'"},
		{"two documents", "node: node1", "---\nnode: node1\n---\nnode: node1", "want one YAML document, found more"},
		{"unknown field", "xdpMode: native", "xdpmode: native",
			"xdpmode: unknown field: want genevePort, interfaces, key, keyFile, limits, node, nodes, pastTimeout, pinPath, previousKey, services, socket or xdpMode"},
		{"unknown deep field", "weight: 3", "wait: 3", b0 + ".wait: unknown field: want address, node, port, state or weight"},
		{"odd field", "weight: 3", `"a b": 3`, b0 + `."a b": unknown field: want address, node, port, state or weight`},
		{"field twice", "genevePort: 6181", "genevePort: 6181\ngenevePort: 6182", "genevePort: given twice"},
		{"alias", "xdpMode: native\n", "xdpMode: &a native\npinPath: *a\n#", "pinPath: *a: want the value itself: aliases are not read"},

		// Settings.
		{"no node", "node: node1\n", "\n", "node: missing"},
		{"null node", "node: node1\n", "node:\n", "node: missing"},
		{"node of a number", "node: node1\n", "node: 1\n", "node: 1: want a string: put it in quotes"},
		{"node of a list", "node: node1\n", "node: [node1]\n", "node: a list: want a string"},
		{"empty node", "node: node1\n", "node: \"\"\n", `node: "": want a DNS name in lower case`},
		{"upper-case node", "node: node1\n", "node: Node1\n", `node: "Node1": want a DNS name in lower case`},
		{"node elsewhere", "node: node1\n", "node: node3\n", `node: "node3": is not among nodes`},
		{"no interfaces", "interfaces: [eth0, eth1]", "", "interfaces: missing"},
		{"empty interfaces", "[eth0, eth1]", "[]", "interfaces: empty list: want 1 at least"},
		{"interfaces of a string", "[eth0, eth1]", "eth0", `interfaces: "eth0": want a list`},
		{"trailing comma", "[eth0, eth1]", "[eth0, ]", ""},
		{"null interface", "[eth0, eth1]", "[eth0, null]", "interfaces[1]: missing"},
		{"long interface", "[eth0, eth1]", "[eth0, abcdefghijklmnop]", `interfaces[1]: "abcdefghijklmnop": want 1 to 15 bytes, have 16`},
		{"empty interface", "[eth0, eth1]", `[""]`, `interfaces[0]: "": want 1 to 15 bytes, have 0`},
		{"interface with slash", "[eth0, eth1]", "[eth/0]", `interfaces[0]: "eth/0": ` + deviceName},
		{"interface of dots", "[eth0, eth1]", `[".."]`, `interfaces[0]: "..": ` + deviceName},
		{"interface of a mapping", "[eth0, eth1]", "[{name: eth0}]", "interfaces[0]: a mapping: want a string"},
		{"interface twice", "[eth0, eth1]", "[eth0, eth0]", `interfaces[1]: "eth0": listed twice`},
		{"mode", "xdpMode: native", "xdpMode: fast", `xdpMode: "fast": want auto, native, generic or off`},
		{"mode of YAML 1.1's boolean", "xdpMode: native", "xdpMode: off", ""},
		{"mode of a number", "xdpMode: native", "xdpMode: 1", "xdpMode: 1: want auto, native, generic or off"},
		{"relative pinPath", "/sys/fs/bpf/other", "bpf", `pinPath: "bpf": want an absolute path`},
		{"pinPath of a number", "/sys/fs/bpf/other", "5", `pinPath: 5: want a string: put it in quotes`},
		{"relative socket", "/run/other/agent.sock", "agent.sock", `socket: "agent.sock": want an absolute path`},
		{"long socket", "/run/other/agent.sock", "/" + strings.Repeat("s", 107),
			`socket: "/` + strings.Repeat("s", 99) + `…": want at most 107 bytes, have 108`},
		{"port of CNIs", "genevePort: 6181", "genevePort: 6081", "genevePort: 6081: is left to CNIs: want another port"},
		{"port 0", "genevePort: 6181", "genevePort: 0", "genevePort: 0: want 1 to 65535"},
		{"port 65536", "genevePort: 6181", "genevePort: 65536", "genevePort: 65536: want 1 to 65535"},
		{"no key", `key: "000102030405060708090a0b0c0d0e0f"`, "", "key: missing"},
		{"short key", `"000102030405060708090a0b0c0d0e0f"`, `"0001"`, "key: 4 characters: want 32 hex digits"},
		{"zero key", `"000102030405060708090a0b0c0d0e0f"`, strings.Repeat("0", 32), "key: all digits are 0: want a random key"},
		{"key of letters", "000102030405060708090a0b0c0d0e0f", strings.Repeat("x", 32), "key: no hexadecimal number: want 32 hex digits"},
		{"key of a list", `"000102030405060708090a0b0c0d0e0f"`, "[0]", "key: a list: want 32 hex digits"},
		{"long previousKey", "0f0e0d0c0b0a09080706050403020100", strings.Repeat("1", 33), "previousKey: 33 characters: want 32 hex digits"},
		{"keyFile beside key", "xdpMode: native", "keyFile: /etc/key", "keyFile: given beside key: want one of them"},
		{"relative keyFile", `key: "000102030405060708090a0b0c0d0e0f"`, "keyFile: key", `keyFile: "key": want an absolute path`},
		{"absent keyFile", `key: "000102030405060708090a0b0c0d0e0f"`, "keyFile: /key", `keyFile: "/key": file does not exist`},
		{"pastTimeout without unit", "pastTimeout: 2h", "pastTimeout: 7200", "pastTimeout: 7200: want a time such as 90s or 3h, 1s to 720h"},
		{"long pastTimeout", "pastTimeout: 2h", "pastTimeout: 721h", `pastTimeout: "721h": want 1s to 720h`},

		// Limits.
		{"limits of a list", "{flows: 4096, services: 10, backends: 20, tableMemory: 8Mi}", "[1]", "limits: a list: want a mapping"},
		{"unknown limit", "flows: 4096", "flow: 4096", "limits.flow: unknown field: want backends, flows, services or tableMemory"},
		{"odd flows", "flows: 4096", "flows: 5000", "limits.flows: 5000: want a power of two"},
		{"few flows", "flows: 4096", "flows: 512", "limits.flows: 512: want 1024 to 134217728"},
		{"services of 0", "services: 10", "services: 0", "limits.services: 0: want 1 to 1048576"},
		{"too few services", "services: 10", "services: 2", "services: 3 VIPs and ports together: want at most limits.services, 2"},
		{"backends of a string", "backends: 20", `backends: "20"`, `limits.backends: "20": want a number, 1 to 4194304`},
		{"too few backends", "backends: 20", "backends: 3", "services: 3 backends: want fewer than limits.backends, 3"},
		{"huge number", "backends: 20", "backends: 99999999999999999999", "limits.backends: 99999999999999999999: want a number, 1 to 4194304"},
		{"negative number", "backends: 20", "backends: -1", "limits.backends: -1: want 1 to 4194304"},
		{"little tableMemory", "tableMemory: 8Mi", "tableMemory: 8Ki", `limits.tableMemory: "8Ki": want a size such as 64Mi, 1Mi to 1024Mi`},
		{"much tableMemory", "tableMemory: 8Mi", "tableMemory: 4294967295Gi", `limits.tableMemory: "4294967295Gi": want a size such as 64Mi, 1Mi to 1024Mi`},
		{"tableMemory of bytes", "tableMemory: 8Mi", "tableMemory: 1048576", ""},

		// Nodes.
		{"node without name", "- name: node2\n  addresses: [10.1.0.12]", "- {addresses: [10.1.0.13]}\n- name: node2\n  addresses: [10.1.0.12]", "nodes[1].name: missing"},
		{"node twice", "- name: node2\n", "- {name: node1, addresses: [10.1.0.13]}\n- name: node2\n", `nodes[1].name: "node1": same as nodes[0].name`},
		{"node without addresses", "  addresses: [10.1.0.12]", "  addresses: []", "nodes[1].addresses: empty list: want 1 at least"},
		{"two addresses of a family", "[10.1.0.12]", "[10.1.0.12, 10.1.0.13]", `nodes[1].addresses[1]: "10.1.0.13": second IPv4 address: want one at most`},
		{"address of two nodes", "[10.1.0.12]", "[10.1.0.11]", `nodes[1].addresses[0]: "10.1.0.11": is nodes[0].addresses[0] already`},
		{"node address with zone", "[10.1.0.12]", `["fe80::1%eth0"]`, `nodes[1].addresses[0]: "fe80::1%eth0": want an address without a zone`},
		{"mapped node address", "[10.1.0.12]", `["::ffff:10.1.0.12"]`, `nodes[1].addresses[0]: "::ffff:10.1.0.12": IPv4-mapped address: want "10.1.0.12"`},
		{"node address of a name", "[10.1.0.12]", "[node2]", `nodes[1].addresses[0]: "node2": want an IP address`},
		{"no family shared", `[10.1.0.11, "fd01::11"]`, `["fd01::11"]`, `nodes[1].addresses: none of an address family that "node1" has`},

		// Services.
		{"backend without fields", "{address: 10.244.2.2, port: 53, node: node2}", "{}", `services[1].ports[0].backends[0].address: missing
services[1].ports[0].backends[0].port: missing
services[1].ports[0].backends[0].node: missing`},
		{"services of a mapping", full[strings.Index(full, "services:\n"):], "services: {}\n", "services: a mapping: want a list"},
		{"service without name", "- name: dns\n  vips", "- vips", "services[1].name: missing"},
		{"odd service name", "name: dns", "name: a b", `services[1].name: "a b": ` + word},
		{"service name twice", "name: dns", "name: default/web", `services[1].name: "default/web": same as services[0].name`},
		{"no VIPs", "  vips: [192.0.2.11]\n", "", "services[1].vips: missing"},
		{"VIP twice", "[192.0.2.11]", "[192.0.2.11, 192.0.2.11]", `services[1].vips[1]: "192.0.2.11": listed twice`},
		{"VIP of a node", "[192.0.2.11]", "[10.1.0.12]", `services[1].vips[0]: "10.1.0.12": is nodes[1].addresses[0]: want an address of no machine`},
		{"VIP of a backend before", "[192.0.2.11]", "[10.244.1.2]",
			`services[1].vips[0]: "10.244.1.2": is ` + b0 + `.address: want an address of no machine`},
		{"VIP of a number", "[192.0.2.11]", "[192]", `services[1].vips[0]: 192: want an IP address`},
		{"loopback VIP", "[192.0.2.11]", "[127.0.0.1]", `services[1].vips[0]: "127.0.0.1": loopback address: ` + reachable},
		{"multicast VIP", "[192.0.2.11]", "[224.0.0.1]", `services[1].vips[0]: "224.0.0.1": multicast address: ` + reachable},
		{"unspecified VIP", "[192.0.2.11]", "[0.0.0.0]", `services[1].vips[0]: "0.0.0.0": unspecified address: ` + reachable},
		{"VIP of this network", "[192.0.2.11]", "[0.1.0.0]", `services[1].vips[0]: "0.1.0.0": unspecified address: ` + reachable},
		{"link-local VIP", "[192.0.2.11]", "[169.254.1.1]", `services[1].vips[0]: "169.254.1.1": link-local address: ` + reachable},
		{"broadcast VIP", "[192.0.2.11]", "[255.255.255.255]", `services[1].vips[0]: "255.255.255.255": broadcast address: ` + reachable},
		{"loopback VIP of IPv6", `"2001:db8::10"]`, `"2001:db8::10", "::1"]`, `services[0].vips[2]: "::1": loopback address: ` + reachable},
		{"policy", "externalTrafficPolicy: Local", "externalTrafficPolicy: local", `services[0].externalTrafficPolicy: "local": want Cluster or Local`},
		{"affinity", "sessionAffinity: ClientIP", "sessionAffinity: Cookie", `services[0].sessionAffinity: "Cookie": want None or ClientIP
services[0].sessionAffinityTimeout: "10m": means nothing without sessionAffinity ClientIP`},
		{"timeout without affinity", "sessionAffinity: ClientIP", "sessionAffinity: None",
			`services[0].sessionAffinityTimeout: "10m": means nothing without sessionAffinity ClientIP`},
		{"long affinity", "sessionAffinityTimeout: 10m", "sessionAffinityTimeout: 25h", `services[0].sessionAffinityTimeout: "25h": want 1s to 24h`},
		{"short affinity", "sessionAffinityTimeout: 10m", "sessionAffinityTimeout: 999ms", `services[0].sessionAffinityTimeout: "999ms": want 1s to 24h`},
		{"range of an address", "[10.2.0.0/24, ", "[10.2.0.0, 10.3.0.0/16, ",
			`services[0].loadBalancerSourceRanges[0]: "10.2.0.0": want a prefix such as 192.0.2.0/24`},
		{"unmasked range", "[10.2.0.0/24, ", "[10.2.0.1/24, 10.3.0.0/16, ",
			`services[0].loadBalancerSourceRanges[0]: "10.2.0.1/24": bits are set behind the prefix length: want "10.2.0.0/24"`},
		{"mapped range", "[10.2.0.0/24, ", `["::ffff:10.2.0.0/120", 10.3.0.0/16, `,
			`services[0].loadBalancerSourceRanges[0]: "::ffff:10.2.0.0/120": IPv4-mapped prefix: want the IPv4 prefix`},
		{"range twice", "[10.2.0.0/24, ", "[10.2.0.0/24, 10.2.0.0/24, ", `services[0].loadBalancerSourceRanges[1]: "10.2.0.0/24": listed twice`},
		{"range of a family without VIP", "  vips: [192.0.2.11]\n", "  vips: [192.0.2.11]\n  loadBalancerSourceRanges: [0.0.0.0/0, \"::/0\"]\n",
			`services[1].loadBalancerSourceRanges[1]: "::/0": no VIP of the service is IPv6`},
		{"VIP without a range", `, "2001:db8:2::/48"]`, "]",
			`services[0].loadBalancerSourceRanges: no IPv6 range, so VIP "2001:db8::10" would admit nobody`},
		{"tableSize", "tableSize: 251", "tableSize: 1000",
			"services[0].tableSize: 1000: want 251, 509, 1021, 2039, 4093, 8191, 16381, 32749 or 65521"},
		{"tableSize of a fraction", "tableSize: 251", "tableSize: 251.0", "services[0].tableSize: 251.0: want a number, 1 to 65521"},

		// Ports.
		{"no ports", full[strings.Index(full, "  ports:\n  - port: 53"):], "", "services[1].ports: missing"},
		{"odd port name", "name: http", "name: \"-\"", `services[0].ports[0].name: "-": ` + word},
		{"port name twice", "  - port: 53", "  - {name: x, port: 54}\n  - {name: x, port: 55}\n  - port: 53",
			`services[1].ports[1].name: "x": same as services[1].ports[0].name`},
		{"port missing", "  - port: 53\n    protocol: UDP", "  - protocol: UDP", "services[1].ports[0].port: missing"},
		{"port of a name", "port: 80\n", "port: http\n", `services[0].ports[0].port: "http": want a number, 1 to 65535`},
		{"port in hex", "port: 80\n", "port: 0x50\n", `services[0].ports[0].port: 0x50: want a number, 1 to 65535`},
		{"port in quotes", "port: 80\n", "port: \"80\"\n", `services[0].ports[0].port: "80": want a number, 1 to 65535`},
		{"port of 0", "port: 80\n", "port: 0\n", `services[0].ports[0].port: 0: want 1 to 65535`},
		{"protocol", "protocol: TCP", "protocol: SCTP", `services[0].ports[0].protocol: "SCTP": want TCP or UDP`},
		{"service port twice", "vips: [192.0.2.11]\n  ports:", "vips: [192.0.2.11, 192.0.2.10]\n  ports:\n  - port: 80",
			"services[1].ports[0].port: 80: tcp/192.0.2.10:80 is services[0].ports[0] already"},
		{"service port of another protocol", "vips: [192.0.2.11]\n  ports:", "vips: [192.0.2.11, 192.0.2.10]\n  ports:\n  - {port: 80, protocol: UDP}", ""},
		{"backends of nobody", "protocol: TCP", "leftToKubeProxy: true", "services[0].ports[0].backends: given beside leftToKubeProxy: want one of them"},
		{"backends of us", "protocol: TCP", "leftToKubeProxy: false", ""},
		{"left to others", "protocol: TCP", "leftToKubeProxy: cilium", `services[0].ports[0].leftToKubeProxy: "cilium": want false or true`},

		// Backends.
		{"backend of a string", "- {address: 10.244.2.2, port: 53, node: node2}", "- 10.244.2.2", `services[1].ports[0].backends[0]: "10.244.2.2": want a mapping`},
		{"backend port", "10.244.1.2, port: 8080", "10.244.1.2, port: 65536", b0 + ".port: 65536: want 1 to 65535"},
		{"backend of a family without VIP", "10.244.2.2", `"fd00::2"`, ""},
		{"loopback backend", "10.244.1.2", "127.0.0.2", b0 + `.address: "127.0.0.2": loopback address: ` + reachable},
		{"link-local backend", `"fd00:244:1::2"`, `"fe80::2"`, `services[0].ports[0].backends[1].address: "fe80::2": link-local address: ` + reachable},
		{"mapped backend", "10.244.1.2", `"::ffff:1.2.3.4"`, b0 + `.address: "::ffff:1.2.3.4": IPv4-mapped address: want "1.2.3.4"`},
		{"backend of a VIP", "10.244.2.2", "192.0.2.11", `services[1].ports[0].backends[0].address: "192.0.2.11": is services[1].vips[0]: want the address of a Pod`},
		{"backend twice", "    - {address: 10.244.2.2, port: 53, node: node2}",
			"    - {address: 10.244.2.2, port: 53, node: node2}\n    - {address: 10.244.2.2, port: 53, node: node2, weight: 2}",
			"services[1].ports[0].backends[1]: 10.244.2.2:53 is services[1].ports[0].backends[0] already"},
		{"unknown node", "53, node: node2", "53, node: node4", `services[1].ports[0].backends[0].node: "node4": is not among nodes`},
		{"backend on two nodes", "10.244.2.2", "10.244.1.2", `services[1].ports[0].backends[0].node: "node2": 10.244.1.2 is on "node1" by ` + b0 + `.address`},
		{"node's address on another node", "10.244.2.2", "10.1.0.11",
			`services[1].ports[0].backends[0].node: "node2": 10.1.0.11 is on "node1" by nodes[0].addresses[0]`},
		{"weight of 0", "weight: 3", "weight: 0", b0 + ".weight: 0: want 1 to 1000"},
		{"weight of 1001", "weight: 3", "weight: 1001", b0 + ".weight: 1001: want 1 to 1000"},
		{"weight of a boolean", "weight: 3", "weight: yes", b0 + `.weight: "yes": want a number, 1 to 1000`},
		{"state", "state: ready", "state: gone", b0 + `.state: "gone": want ready or draining`},
		{"too many backends", "    - {address: 10.244.1.2", many(250) + "    - {address: 10.244.1.2",
			`services[0].ports[0].backends: 252 backends: want at most as many as tableSize, 251
services: 253 backends: want fewer than limits.backends, 20`},
	} {
		t.Run(test.name, func(t *testing.T) {
			if !strings.Contains(full, test.from) {
				t.Fatalf("nothing to replace: %q", test.from)
			}
			_, err := Parse([]byte(strings.Replace(full, test.from, test.to, 1)), noFile)
			if diff := cmp.Diff(test.want, message(err)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func many(n int) string {
	var lines strings.Builder
	for i := range n {
		fmt.Fprintf(&lines, "    - {address: 10.9.0.%d, port: 1, node: node1}\n", i)
	}
	return lines.String()
}

// All at once: problems of every part in the order of the parts.
func TestProblemsTogether(t *testing.T) {
	_, err := Parse([]byte(`
node: n1
interfaces: [a/b]
genevePort: 6081
nodes: [{name: n1, addresses: [10.0.0.300]}]
services: [{name: x, vips: [10.0.0.1], ports: [{port: 0, backends: [{address: 10.0.0.2, port: 0, node: n2}]}]}]
extra: 1
`), noFile)
	want := `extra: unknown field: want genevePort, interfaces, key, keyFile, limits, node, nodes, pastTimeout, pinPath, previousKey, services, socket or xdpMode
interfaces[0]: "a/b": want the name of a network device, without slash, colon or space
genevePort: 6081: is left to CNIs: want another port
key: missing
nodes[0].addresses[0]: "10.0.0.300": want an IP address
services[0].ports[0].port: 0: want 1 to 65535
services[0].ports[0].backends[0].node: "n2": is not among nodes
services[0].ports[0].backends[0].port: 0: want 1 to 65535`
	if diff := cmp.Diff(want, message(err)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestEmpty(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "---\n", "null\n"} {
		_, err := Parse([]byte(text), noFile)
		if diff := cmp.Diff("node: missing\ninterfaces: missing\nkey: missing\nnodes: missing", message(err)); diff != "" {
			t.Errorf("%q: -want +got:\n%s", text, diff)
		}
	}
}

// FuzzConfig: no input panics, and what is valid makes a table.
func FuzzConfig(f *testing.F) {
	f.Add([]byte(full))
	f.Add([]byte("a: &a [*a]\n"))
	f.Add([]byte("? {a: b}\n: c\n<<: {node: x}\n"))
	f.Add([]byte("services: [{vips: [::], ports: [{backends: [null]}]}]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Parse(data, noFile)
		if (s == nil) == (err == nil) {
			t.Fatalf("snapshot %v beside error %v", s, err)
		}
		if err != nil {
			return
		}
		if _, err := s.Table(); err != nil {
			t.Errorf("valid configuration makes no table: %v", err)
		}
	})
}
