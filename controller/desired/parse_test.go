// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/fairlead/fairlead/lb"
)

// full sets every field.
const full = `node: node1
interfaces: [eth0, eth1]
xdpMode: native
pinPath: /sys/fs/bpf/other
socket: /run/other/agent.sock
genevePort: 6181
key: "000102030405060708090a0b0c0d0e0f"
previousKey: "0f0e0d0c0b0a09080706050403020100"
pastTimeout: 2h
limits: {flows: 4096, services: 10, backends: 20, tableMemory: 8Mi}
nodes:
- name: node1
  addresses: [10.1.0.11, "fd01::11"]
- name: node2
  addresses: [10.1.0.12]
services:
- name: default/web
  vips: [192.0.2.10, "2001:db8::10"]
  externalTrafficPolicy: Local
  sessionAffinity: ClientIP
  sessionAffinityTimeout: 10m
  loadBalancerSourceRanges: [10.2.0.0/24, "2001:db8:2::/48"]
  tableSize: 251
  ports:
  - name: http
    port: 80
    protocol: TCP
    backends:
    - {address: 10.244.1.2, port: 8080, node: node1, weight: 3, state: ready}
    - {address: "fd00:244:1::2", port: 8080, node: node1, state: draining}
- name: dns
  vips: [192.0.2.11]
  ports:
  - port: 53
    protocol: UDP
    backends:
    - {address: 10.244.2.2, port: 53, node: node2}
`

func noFile(string) ([]byte, error) { return nil, fs.ErrNotExist }

func TestParseFull(t *testing.T) {
	got, err := Parse([]byte(full), noFile)
	if err != nil {
		t.Fatal(err)
	}
	addr, node1 := netip.MustParseAddr, []netip.Addr{netip.MustParseAddr("10.1.0.11"), netip.MustParseAddr("fd01::11")}
	key := [16]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
	var previous [16]byte
	for i, b := range key {
		previous[15-i] = b
	}
	sum := sha256.Sum256([]byte(full))
	want := &Snapshot{
		Revision: hex.EncodeToString(sum[:6]),
		Settings: Settings{
			Node: "node1", Interfaces: []string{"eth0", "eth1"}, XDPMode: "native", PinPath: "/sys/fs/bpf/other",
			Socket: "/run/other/agent.sock", GenevePort: 6181, Addrs: node1, Keys: [][16]byte{key, previous}, Past: 2 * time.Hour,
			Limits: Limits{Flows: 4096, Services: 10, Backends: 20, TableMemory: 8 << 20},
		},
		Nodes: []lb.Node{{Name: "node1", Addrs: node1}, {Name: "node2", Addrs: []netip.Addr{addr("10.1.0.12")}}},
		Services: []Service{{
			Name: "default/web", VIPs: []netip.Addr{addr("192.0.2.10"), addr("2001:db8::10")}, Policy: lb.Local,
			Affinity:     10 * time.Minute,
			SourceRanges: []netip.Prefix{netip.MustParsePrefix("10.2.0.0/24"), netip.MustParsePrefix("2001:db8:2::/48")},
			TableSize:    251,
			Ports: []Port{{Name: "http", Port: 80, Proto: lb.TCP, Backends: []lb.Backend{
				{Addr: netip.MustParseAddrPort("10.244.1.2:8080"), Node: "node1", Weight: 3},
				// The only one of its family: it goes on serving.
				{Addr: netip.MustParseAddrPort("[fd00:244:1::2]:8080"), Node: "node1", Weight: 1},
			}}},
		}, {
			Name: "dns", VIPs: []netip.Addr{addr("192.0.2.11")}, TableSize: 4093,
			Ports: []Port{{Port: 53, Proto: lb.UDP, Backends: []lb.Backend{
				{Addr: netip.MustParseAddrPort("10.244.2.2:53"), Node: "node2", Weight: 1},
			}}},
		}},
	}
	if diff := cmp.Diff(want, got, compareAddrs); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

var compareAddrs = cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{})

func TestParseDefaults(t *testing.T) {
	got, err := Parse([]byte(`
node: a
interfaces: [eth0]
key: 00112233445566778899001122334455
nodes: [{name: a, addresses: [10.1.0.11]}]
`), noFile)
	if err != nil {
		t.Fatal(err)
	}
	want := Settings{
		Node: "a", Interfaces: []string{"eth0"}, XDPMode: "auto", PinPath: "/sys/fs/bpf/fairlead",
		Socket: "/run/fairlead/agent.sock", GenevePort: 6180, Addrs: []netip.Addr{netip.MustParseAddr("10.1.0.11")},
		Keys:   [][16]byte{{0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0x00, 0x11, 0x22, 0x33, 0x44, 0x55}},
		Past:   24 * time.Hour,
		Limits: Limits{Flows: 1 << 20, Services: 16384, Backends: 65536, TableMemory: 64 << 20},
	}
	if diff := cmp.Diff(want, got.Settings, compareAddrs); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestTable(t *testing.T) {
	s, err := Parse([]byte(full), noFile)
	if err != nil {
		t.Fatal(err)
	}
	table, err := s.Table()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range table.Services() {
		got = append(got, fmt.Sprint(s.Key, " ", s.Name, " ", s.Policy, " ", s.Affinity, " ", s.SourceRanges, " ", s.TableSize))
		for _, b := range s.Backends {
			got = append(got, fmt.Sprintf("  %v %v %v %v", b.Addr, b.Node, b.Weight, b.Draining))
		}
	}
	want := []string{
		"tcp/192.0.2.10:80 default/web:http Local 10m0s [10.2.0.0/24] 251",
		"  10.244.1.2:8080 node1 3 false",
		"udp/192.0.2.11:53 dns:53 Cluster 0s [] 4093",
		"  10.244.2.2:53 node2 1 false",
		"tcp/[2001:db8::10]:80 default/web:http Local 10m0s [2001:db8:2::/48] 251",
		"  [fd00:244:1::2]:8080 node1 1 false",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if diff := cmp.Diff("node1", table.Self()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestTableLeft(t *testing.T) {
	s, err := Parse([]byte(full+"  - {port: 54, leftToKubeProxy: true}\n- {name: x, vips: [192.0.2.12], ports: [{port: 1, leftToKubeProxy: true}]}\n"), noFile)
	if err != nil {
		t.Fatal(err)
	}
	table, err := s.Table()
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, s := range table.Services() {
		if s.Left {
			left = append(left, s.Key.String())
		}
	}
	if diff := cmp.Diff([]string{"tcp/192.0.2.11:54"}, left); diff != "" { // nothing else is on 192.0.2.12
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestKeyFile(t *testing.T) {
	const one, two = "000102030405060708090a0b0c0d0e0f", "ff0102030405060708090a0b0c0d0e0f"
	for _, test := range []struct {
		name, content, previous string
		keys                    int
		want                    string
	}{
		{name: "one", content: one + "\n", keys: 1},
		{name: "two", content: one + "\n" + two + "\n", keys: 2},
		{name: "one and inline previous", content: one, previous: two, keys: 2},
		{name: "two and inline previous", content: one + " " + two, previous: one,
			want: `previousKey: given beside a keyFile with two keys: want one of them`},
		{name: "empty", content: "\n", want: `keyFile: "/etc/key": holds 0 keys: want one, or two with the previous one second`},
		{name: "three", content: one + " " + two + " " + one, want: `keyFile: "/etc/key": holds 3 keys: want one, or two with the previous one second`},
		{name: "short", content: one + "\n0102", want: `keyFile: "/etc/key": key 2: 4 characters: want 32 hex digits`},
		{name: "letters", content: strings.Repeat("g", 32), want: `keyFile: "/etc/key": key 1: no hexadecimal number: want 32 hex digits`},
	} {
		t.Run(test.name, func(t *testing.T) {
			text := strings.Replace(full, `key: "000102030405060708090a0b0c0d0e0f"`, "keyFile: /etc/key", 1)
			text = strings.Replace(text, `"0f0e0d0c0b0a09080706050403020100"`, `"`+test.previous+`"`, 1)
			text = strings.Replace(text, "previousKey: \"\"\n", "", 1)
			s, err := Parse([]byte(text), func(name string) ([]byte, error) {
				if name != "/etc/key" {
					return nil, fs.ErrNotExist
				}
				return []byte(test.content), nil
			})
			if diff := cmp.Diff(test.want, message(err)); diff != "" {
				t.Fatalf("-want +got:\n%s", diff)
			}
			if err == nil && len(s.Settings.Keys) != test.keys {
				t.Errorf("keys: %d, want %d", len(s.Settings.Keys), test.keys)
			}
		})
	}
}

func message(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestGoOn(t *testing.T) {
	b := func(addr, node string, draining bool) lb.Backend {
		return lb.Backend{Addr: netip.MustParseAddrPort(addr), Node: node, Draining: draining}
	}
	const a1, a2, b1, six = "10.244.1.2:80", "10.244.1.3:80", "10.244.2.2:80", "[fd00::1]:80"
	for _, test := range []struct {
		name     string
		policy   lb.Policy
		backends []lb.Backend
		want     []bool // draining
	}{
		{"none", lb.Cluster, nil, nil},
		{"one of two", lb.Cluster, []lb.Backend{b(a1, "a", true), b(b1, "b", false)}, []bool{true, false}},
		{"all", lb.Cluster, []lb.Backend{b(a1, "a", true), b(b1, "b", true)}, []bool{false, false}},
		{"all of a family", lb.Cluster, []lb.Backend{b(a1, "a", true), b(a2, "a", false), b(six, "a", true)}, []bool{true, false, false}},
		{"all of a node", lb.Local, []lb.Backend{b(a1, "a", true), b(a2, "a", false), b(b1, "b", true)}, []bool{true, false, false}},
	} {
		var got []bool
		for _, one := range goOn(test.backends, test.policy) {
			got = append(got, one.Draining)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: -want +got:\n%s", test.name, diff)
		}
	}
}
