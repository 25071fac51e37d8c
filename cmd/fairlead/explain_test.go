// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/flow"
	"github.com/fairlead/fairlead/lb/forward"
	"github.com/fairlead/fairlead/lb/maglev"
	"github.com/fairlead/fairlead/lb/packet"
	"github.com/fairlead/fairlead/lb/packet/packettest"
	"github.com/fairlead/fairlead/xdp"
)

// The fake's part of explainable: a flow table of one bucket.

func (f *fake) MTU() int { return defaultMTU }

func (f *fake) FlowTable() (key [16]byte, buckets int) { return key, 1 }

func (f *fake) FlowBucket(netip.Addr, uint16) (index int, records [flow.Ways]flow.Record) {
	if f.forwarder != nil {
		copy(records[:], f.forwarder.Flows().Records())
	}
	return 0, records
}

func (f *fake) NextHop(lb.NodeID) (xdp.NextHop, error) { return f.hop, nil }

func (f *fake) PathMTU(id lb.NodeID) forward.PathMTU {
	return f.maps.Maps.(*forward.Tables).PathMTU(id)
}

// carry lets the fake have what forwards packets over its tables.
func (f *fake) carry(t *testing.T) {
	t.Helper()
	key, buckets := f.FlowTable()
	var err error
	f.forwarder, err = forward.NewForwarder(forward.Settings{
		InternalIPs: []netip.Addr{netip.MustParseAddr("10.1.0.11")}, GenevePort: 6180, Keys: [][16]byte{{1}}, MTU: f.MTU(),
		MSSClampV4: 1400, MSSClampV6: 1400, FlowBuckets: buckets, FlowKey: key,
	}, f.maps.Maps.(*forward.Tables))
	if err != nil {
		t.Fatal(err)
	}
}

// local has one Pod, on this node; remote one, elsewhere; bare none.
var (
	explainLocal  = strings.Replace(config, "    - {address: 10.244.2.2, port: 8080, node: node2, state: draining}\n", "", 1)
	explainRemote = strings.Replace(config, "    - {address: 10.244.1.2, port: 8080, node: node1, weight: 3}\n", "", 1)
	explainLeft   = leftOf(config) + "  - {port: 81}\n"
	explainBare   = strings.Replace(explainRemote, "    backends:\n    - {address: 10.244.2.2, port: 8080, node: node2, state: draining}\n", "", 1)
)

// leftOf is the configuration with the service's port left to kube-proxy.
func leftOf(config string) string {
	head, _, _ := strings.Cut(config, "    backends:\n")
	return head + "    leftToKubeProxy: true\n"
}

// explaining is an agent that has this configuration.
func explaining(t *testing.T, text string) *testAgent {
	t.Helper()
	f := newFake()
	f.carry(t)
	a := startAgent(t, f, agentFlags{})
	before := a.status(t, "synced", synced)
	if text != config {
		a.write(t, text)
		a.status(t, "new configuration", func(r statusReport) bool { return synced(r) && r.Config.Revision != before.Config.Revision })
	}
	return a
}

// packet comes in at the agent's own tick.
func (a *testAgent) packet(t *testing.T, f packettest.Frame, want forward.Reason) {
	t.Helper()
	if reason, _ := a.forwarder.Ingress(f.Bytes(), xdp.NowTick(), nil); reason != want {
		t.Fatalf("packet: %s, want %s", reason, want)
	}
}

func (a *testAgent) explain(t *testing.T, args ...string) string {
	t.Helper()
	code, stdout, stderr := a.command(append([]string{"explain"}, args...)...)
	if code != exitOK || stderr != "" {
		t.Fatalf("explain %q: %d %s", args, code, stderr)
	}
	return stdout
}

const (
	explainedClient = "198.51.100.7:40000"
	explainedVIP    = "192.0.2.10:80"
)

func TestExplainText(t *testing.T) {
	const head = "tcp 198.51.100.7:40000 → 192.0.2.10:80, as it comes to node1 from the network\n\n"
	const web = `  vip            192.0.2.10 is a VIP
  service        default/web:http (tcp/192.0.2.10:80), externalTrafficPolicy Cluster, no affinity
  source range   every client is admitted
`
	for _, test := range []struct {
		name, config string
		args         []string
		want         string
	}{
		{"a connection that begins here", explainLocal, nil, head + web +
			`  table          251 slots for 1 backend, generation 1, hash HASH, at rest
  slot           SLOT, by the hash of client and ports
  home           10.244.1.2:8080 on node1, this node
  past           none: the slot remembers no earlier home
  flow           node1 has no record of this connection

A SYN, which begins a connection:
  verdict        deliver, new: begins a connection on its home's Pod
  then           10.244.1.2:8080 gets it from the client's address and port, and a record is made

An ACK of a connection that exists:
  verdict        deliver, judge: no record, and no beginning of a connection: the kernel of the Pod judges, by a SYN cookie or with a RST
  then           10.244.1.2:8080 gets it from the client's address and port, and a record is made
`},
		{"one packet", explainLocal, []string{"--flags", "syn"}, head + web +
			`  table          251 slots for 1 backend, generation 1, hash HASH, at rest
  slot           SLOT, by the hash of client and ports
  home           10.244.1.2:8080 on node1, this node
  past           none: the slot remembers no earlier home
  flow           node1 has no record of this connection
  verdict        deliver, new: begins a connection on its home's Pod
  then           10.244.1.2:8080 gets it from the client's address and port, and a record is made
`},
		{"left to kube-proxy", explainLeft, nil, head + `  vip            192.0.2.10 is a VIP
  service        default/web:http (tcp/192.0.2.10:80), left to kube-proxy
  verdict        pass, left: the service is left to kube-proxy
`},
		{"no backend", explainBare, nil, head + web +
			`  table          none: the service has no backend for new connections
  verdict        answer, refused: the service has no backend: the VIP itself refuses
  then           a RST goes back from the VIP
`},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := explaining(t, test.config)
			got := a.explain(t, append(test.args, "tcp", explainedClient, explainedVIP)...)
			table := maglev.Build(251, []lb.Backend{{Addr: netip.MustParseAddrPort("10.244.1.2:8080"), Node: "node1", Weight: 3}})
			want := strings.NewReplacer(
				"HASH", fmt.Sprintf("%04x", uint16(table.Hash)), "SLOT", fmt.Sprint(forward.SlotOf(explainedHash(), 251)),
			).Replace(test.want)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// explainedHash chooses slot and outer port of the explained connection.
func explainedHash() uint64 {
	client := netip.MustParseAddrPort(explainedClient)
	return forward.FlowHash(client.Addr().As16(), forward.PortsWord(client.Port(), 80, packet.ProtoTCP))
}

// explainedStep is a step of a text, of the last packet that has it.
func explainedStep(text, step string) string {
	found := ""
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, "  "+step+" "); ok {
			found = strings.TrimSpace(rest)
		}
	}
	return found
}

func TestExplainRemote(t *testing.T) {
	hop := xdp.NextHop{Interface: "eth0", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 5}, Confirmed: true, Age: 3200 * time.Millisecond}
	a := explaining(t, explainRemote)
	for _, test := range []struct {
		name string
		hop  xdp.NextHop
		want string
	}{
		{"fresh", hop, "02:00:00:00:00:05 by eth0, confirmed 3.2s ago; outside of native mode the kernel's stack finds the way"},
		{"stale", xdp.NextHop{Interface: "eth0", MAC: hop.MAC, Confirmed: true, Age: time.Minute},
			"02:00:00:00:00:05 by eth0, confirmed 1m0s ago: too long, so the kernel's stack finds the way"},
		{"never confirmed", xdp.NextHop{Interface: "eth0"}, "by eth0, never confirmed: too long, so the kernel's stack finds the way"},
		{"none", xdp.NextHop{}, "not found yet: the kernel's stack finds the way"},
	} {
		t.Run(test.name, func(t *testing.T) {
			a.hop = test.hop
			text := a.explain(t, "tcp", explainedClient, explainedVIP)
			for step, want := range map[string]string{
				"home": "10.244.2.2:8080 on node2",
				"encapsulation": fmt.Sprintf("Geneve from 10.1.0.11:%d to 10.1.0.12:6180 (node2): 68 bytes more, "+
					"so of the MTU of 1500 a packet may have 1432", 0xc000|explainedHash()&0x3fff),
				"next hop": test.want,
				"verdict":  "encap, encap_home: its home is another node, which decides whose connection it is",
				"then":     "node2 decides: 'fairlead explain' there knows its connections",
			} {
				if got := explainedStep(text, step); got != want {
					t.Errorf("%s: %q, want %q", step, got, want)
				}
			}
		})
	}
}

// What a router said of the way to a node.
func TestExplainPathMTU(t *testing.T) {
	a := explaining(t, explainRemote)
	sent := packettest.UDP("10.1.0.11:49152", "10.1.0.12:6180", "")
	a.packet(t, packettest.ICMPError("10.1.0.1", sent, packet.ICMPUnreachable, packet.ICMPCodeTooBig, 8).WithMTU(1400), forward.TunnelError)
	text := explainedStep(a.explain(t, "tcp", explainedClient, explainedVIP), "encapsulation")
	before, rest, _ := strings.Cut(text, " valid for another ")
	left, rest, _ := strings.Cut(rest, ", ")
	if !strings.HasSuffix(before, "so of the path MTU of 1400, learned from a router and") || rest != "a packet may have 1332" {
		t.Errorf("%q", text)
	}
	if d, err := time.ParseDuration(left); err != nil || d > 10*time.Minute || d < 9*time.Minute {
		t.Errorf("%q: valid for %s, %v, want nearly 10 minutes", text, d, err)
	}
	var report explainReport
	if err := json.Unmarshal([]byte(a.explain(t, "-o", "json", "tcp", explainedClient, explainedVIP)), &report); err != nil {
		t.Fatal(err)
	}
	if tunnel := report.Packets[0].Tunnel; tunnel.MTU != 1400 || tunnel.Largest != 1332 || tunnel.LearnedSeconds == nil {
		t.Errorf("%+v", tunnel)
	}
}

// The connection's record, from its SYN on.
func TestExplainFlow(t *testing.T) {
	a := explaining(t, explainLocal)
	step := func(want string, args ...string) {
		t.Helper()
		text := a.explain(t, append(args, "tcp", explainedClient, explainedVIP)...)
		if got := explainedStep(text, "flow"); got != want {
			t.Errorf("flow: %q, want %q in\n%s", got, want, text)
		}
	}
	a.packet(t, packettest.TCP(explainedClient, explainedVIP, packet.SYN), forward.New)
	step("half-open, on 10.244.1.2:8080, idle 0s; this ACK does not show that the client saw the Pod's SYN-ACK, " +
		"so the connection may be another node's")
	synAck := packettest.TCP("10.244.1.2:8080", explainedClient, packet.SYN|packet.ACK)
	a.forwarder.Egress(synAck.Bytes(), true, xdp.NowTick(), nil)
	step("half-open, on 10.244.1.2:8080, idle 0s")
	ack := packettest.TCP(explainedClient, explainedVIP, packet.ACK)
	ack.Ack = synAck.Seq + 1
	a.packet(t, ack, forward.Mine)
	step("established, on 10.244.1.2:8080, idle 0s")
	end := packettest.TCP("10.244.1.2:8080", explainedClient, packet.RST)
	a.forwarder.Egress(end.Bytes(), true, xdp.NowTick(), nil)
	step("closed, on 10.244.1.2:8080, idle 0s, pod-rst; a SYN after its end begins another one", "--flags", "syn")
}

func TestExplainJSON(t *testing.T) {
	a := explaining(t, strings.Replace(explainLocal, "  tableSize: 251\n",
		"  tableSize: 251\n  sessionAffinity: ClientIP\n  loadBalancerSourceRanges: [198.51.100.0/24]\n", 1))
	a.packet(t, packettest.TCP(explainedClient, explainedVIP, packet.SYN), forward.New)
	ask := func(args ...string) explainReport {
		t.Helper()
		var report explainReport
		if err := json.Unmarshal([]byte(a.explain(t, append(args, "-o", "json")...)), &report); err != nil {
			t.Fatal(err)
		}
		return report
	}
	r := ask("TCP", explainedClient, explainedVIP)
	if r.Node != "node1" || r.Tables != "synced" || r.Protocol != "tcp" || len(r.Packets) != 2 {
		t.Fatalf("%+v", r)
	}
	syn, ack := r.Packets[0], r.Packets[1]
	if syn.Packet != "syn" || syn.Reason != "mine" || ack.Packet != "ack" || ack.Reason != "judge" || ack.Flow.Match != "unfit" {
		t.Errorf("syn %+v, ack %+v", syn, ack)
	}
	if s := syn.Service; s.AffinitySeconds != 10800 || len(s.SourceRanges) != 1 || syn.Slot.By != "client" || syn.Deliver.Record {
		t.Errorf("%+v %+v %+v", s, syn.Slot, syn.Deliver)
	}
	if p := ask("tcp", "203.0.113.1:1", explainedVIP).Packets[0]; p.Reason != "source_range" || p.Verdict != "drop" || p.Slot != nil {
		t.Errorf("%+v", p)
	}
	if p := ask("udp", explainedClient, explainedVIP).Packets; len(p) != 1 || p[0].Packet != "datagram" ||
		p[0].Reason != "unknown_port" || len(p[0].VIPPorts) != 1 || p[0].VIPPorts[0] != "tcp/192.0.2.10:80" {
		t.Errorf("%+v", p)
	}
}

func TestExplainErrors(t *testing.T) {
	a := explaining(t, config)
	for _, test := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"nothing", nil, exitUsage, "PROTO is missing"},
		{"no VIP", []string{"tcp", explainedClient}, exitUsage, "VIP:PORT is missing"},
		{"too much", []string{"tcp", explainedClient, explainedVIP, "x"}, exitUsage, `unexpected argument "x"`},
		{"protocol", []string{"icmp", explainedClient, explainedVIP}, exitUsage, `PROTO "icmp": want tcp or udp`},
		{"client without port", []string{"tcp", "198.51.100.7", explainedVIP}, exitUsage,
			`CLIENT:PORT "198.51.100.7": want an address and a port, such as`},
		{"client's port", []string{"tcp", "198.51.100.7:70000", explainedVIP}, exitUsage, `CLIENT:PORT "198.51.100.7:70000": want`},
		{"port 0", []string{"tcp", explainedClient, "192.0.2.10:0"}, exitUsage, `VIP:PORT "192.0.2.10:0": port 0: want 1 to 65535`},
		{"mapped", []string{"tcp", "[::ffff:1.2.3.4]:5", explainedVIP}, exitUsage, `IPv4-mapped address: want "1.2.3.4:5"`},
		{"zone", []string{"tcp", "[fe80::1%eth0]:5", explainedVIP}, exitUsage, "want an address without a zone"},
		{"families", []string{"tcp", "[2001:db8::7]:4", explainedVIP}, exitUsage,
			`CLIENT:PORT "[2001:db8::7]:4" and VIP:PORT "192.0.2.10:80": want addresses of one family`},
		{"flags", []string{"--flags", "fin", "tcp", explainedClient, explainedVIP}, exitUsage, `--flags "fin": want syn, ack or both`},
		{"flags of UDP", []string{"udp", explainedClient, explainedVIP, "--flags", "syn"}, exitUsage, `--flags "syn": UDP has none`},
		{"unknown VIP", []string{"tcp", explainedClient, "192.0.2.99:80"}, exitError,
			`VIP:PORT "192.0.2.99:80": 192.0.2.99 is no VIP, so its packets pass untouched: node "node1" has the VIPs 192.0.2.10`},
		{"other node", []string{"tcp", explainedClient, explainedVIP, "--node", "node2"}, exitError,
			`--node "node2": this is the agent of node "node1" and knows the tables and connections of that node only: ` +
				`run 'fairlead explain tcp 198.51.100.7:40000 192.0.2.10:80' on node "node2"`},
		{"unknown node", []string{"tcp", explainedClient, explainedVIP, "--node", "x"}, exitError, `--node "x": not among the nodes: node1, node2`},
	} {
		t.Run(test.name, func(t *testing.T) {
			code, stdout, stderr := a.command(append([]string{"explain"}, test.args...)...)
			if code != test.code || stdout != "" || !strings.Contains(stderr, test.want) {
				t.Errorf("code %d, want %d; stdout %q; stderr %q, want %q in it", code, test.code, stdout, stderr, test.want)
			}
		})
	}
	a.explain(t, "--node", "node1", "tcp", explainedClient, explainedVIP)
}

// Every reason that a packet can have is explained.
func TestReasonMeanings(t *testing.T) {
	for r := forward.None + 1; r < forward.ReasonCount; r++ {
		if reasonMeanings[r.String()] == "" {
			t.Errorf("%s: no meaning", r)
		}
	}
}
