// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/packet"
	"github.com/fairlead/fairlead/lb/packet/packettest"
)

const replayConfig = `node: node1
interfaces: [eth0]
key: "000102030405060708090a0b0c0d0e0f"
limits: {flows: 1024, services: 16, backends: 64, tableMemory: 1Mi}
nodes:
- {name: node1, addresses: [10.1.0.11, "fd01::11"]}
- {name: node2, addresses: [10.1.0.12]}
services:
- name: default/near
  vips: [192.0.2.10, "2001:db8::10"]
  tableSize: 251
  ports:
  - name: http
    port: 80
    backends:
    - {address: 10.244.1.2, port: 8080, node: node1}
    - {address: "fd00:244:1::2", port: 8080, node: node1}
  - {name: dns, port: 53, protocol: UDP, backends: [{address: 10.244.1.2, port: 5353, node: node1}]}
- name: default/far
  vips: [192.0.2.11]
  tableSize: 251
  ports:
  - {port: 80, backends: [{address: 10.244.2.2, port: 8080, node: node2}]}
- name: default/none
  vips: [192.0.2.12]
  tableSize: 251
  ports:
  - {port: 80}
`

const (
	replayClient = "198.51.100.7:40000"
	nearVIP      = "192.0.2.10:80"
	dnsVIP       = "192.0.2.10:53"
	farVIP       = "192.0.2.11:80"
	noneVIP      = "192.0.2.12:80"
	nearPod      = "10.244.1.2:8080"
	dnsPod       = "10.244.1.2:5353"
)

var replayKey = [16]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}

// framer is anything that packettest builds.
type framer interface{ Bytes() []byte }

// frameBytes is a frame as it is.
type frameBytes []byte

func (b frameBytes) Bytes() []byte { return b }

// replayStep is a packet of a capture, and what is wanted of it.
type replayStep struct {
	after  time.Duration // the packet before
	frame  framer
	length int // on the wire, if the capture has less
	way    direction
	reason string // with verdict; "made" by the node itself; "" where it was cut off
	where  string // service and target
	sent   []byte // nil: nothing
}

func (s replayStep) want(number int, at time.Time) replayLine {
	line := replayLine{Number: number, Time: at, Captured: len(s.frame.Bytes()), Length: max(s.length, len(s.frame.Bytes()))}
	if line.Direction = s.way; s.reason == "made" {
		line.Made = true
		return line
	}
	line.Verdict, line.Reason, _ = strings.Cut(s.reason, " ")
	line.Service, line.To, _ = strings.Cut(s.where, " ")
	return line
}

// moved is a TCP packet with other ends.
func moved(f packettest.Frame, src, dst string) []byte {
	f.Src, f.Dst = netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst)
	return f.Bytes()
}

// replayStory is a day at node1.
func replayStory() []replayStep {
	const syn, ack, rst = packet.SYN, packet.ACK, packet.RST
	first, second := packettest.TCP(replayClient, nearVIP, syn), packettest.TCP(replayClient, nearVIP, ack)
	synAck := packettest.TCP(nearPod, replayClient, syn|ack)
	second.Ack = synAck.Seq + 1
	query, answer := packettest.UDP(replayClient, dnsVIP, "query"), packettest.UDP(dnsPod, replayClient, "answer")
	six := packettest.TCP("[2001:db8:1::7]:40000", "[2001:db8::10]:80", syn)
	far, none := packettest.TCP(replayClient, farVIP, syn), packettest.TCP(replayClient, noneVIP, syn)
	reset := packettest.TCP(noneVIP, replayClient, rst|ack)
	reset.SrcMAC, reset.DstMAC, reset.Seq, reset.Ack, reset.Fragment = packettest.NodeMAC, packettest.RouterMAC, 0, none.Seq+1, 0x4000
	long := packettest.TCP(replayClient, nearVIP, ack)
	long.Payload = make([]byte, 1000)
	tunnelled := packettest.Encap("10.1.0.12", "10.1.0.11", 6180, replayKey, packettest.TCP("198.51.100.8:40000", nearVIP, syn))
	tunnelled.Tags[0] = uint32(lb.WireIDOf(netip.MustParseAddrPort(nearPod)))
	inner := packettest.TCP("198.51.100.8:40000", nearVIP, syn)
	foreign := packettest.TCP("198.51.100.7:5", "198.51.100.9:6", syn)
	pod, self := packettest.TCP("10.244.1.2:9", "198.51.100.9:6", syn), packettest.UDP("10.1.0.11:50000", "10.1.0.12:6180", "x")
	hairpin := packettest.TCP("10.244.1.2:33333", farVIP, syn)
	in, out := directionIn, directionOut
	return []replayStep{
		{frame: first, way: in, reason: "deliver new", where: "default/near:http " + nearPod, sent: moved(first, replayClient, nearPod)},
		{frame: synAck, way: out, reason: "reply translated", where: "default/near:http " + nearPod, sent: moved(synAck, nearVIP, replayClient)},
		{frame: second, way: in, reason: "deliver mine", where: "default/near:http " + nearPod, sent: moved(second, replayClient, nearPod)},
		{frame: six, way: in, reason: "deliver new", where: "default/near:http [fd00:244:1::2]:8080",
			sent: moved(six, "[2001:db8:1::7]:40000", "[fd00:244:1::2]:8080")},
		{frame: query, way: in, reason: "deliver new", where: "default/near:dns " + dnsPod, sent: moved(query, replayClient, dnsPod)},
		{frame: answer, way: out, reason: "reply translated", where: "default/near:dns " + dnsPod, sent: moved(answer, dnsVIP, replayClient)},
		{frame: frameBytes(long.Bytes()[:96]), length: 1054}, // cut off by the capture
		{after: 170 * time.Second, frame: answer, way: out, reason: "reply translated", where: "default/near:dns " + dnsPod,
			sent: moved(answer, dnsVIP, replayClient)},
		{after: 190 * time.Second, frame: answer, way: out, reason: "pass no_flow"}, // its time is over
		{frame: second, way: in, reason: "deliver mine", where: "default/near:http " + nearPod, sent: moved(second, replayClient, nearPod)},
		{frame: far, way: in, reason: "encap encap_home", where: "default/far:80 node2", sent: []byte{}},
		{frame: none, way: in, reason: "answer refused", where: "default/none:80", sent: reset.Bytes()},
		{frame: tunnelled, way: in, reason: "deliver new", where: "default/near:http " + nearPod, sent: moved(inner, "198.51.100.8:40000", nearPod)},
		{frame: packettest.TCP(replayClient, "192.0.2.10:81", syn), way: in, reason: "drop unknown_port"},
		{after: -time.Second, frame: foreign, way: in, reason: "pass not_vip"},
		{frame: pod, way: out, reason: "pass not_reply"},
		{frame: self, way: out, reason: "pass not_reply"},
		{frame: hairpin, way: in, reason: "encap encap_home", where: "default/far:80 node2", sent: []byte{}}, // a Pod asks a VIP
		{frame: frameBytes(append(make([]byte, 12), 8, 6, 0, 1)), way: in, reason: "pass not_ip"},
	}
}

// replayFiles puts a configuration and a capture into files.
func replayFiles(t *testing.T, capture []byte) (config, path string) {
	t.Helper()
	dir := t.TempDir()
	config, path = filepath.Join(dir, "agent.yaml"), filepath.Join(dir, "capture.pcap")
	for name, data := range map[string][]byte{config: []byte(replayConfig), path: capture} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return config, path
}

// replayReport is the JSON output.
type replayReport struct {
	Packets   []replayLine    `json:"packets"`
	Totals    []counterReport `json:"totals"`
	Made      int             `json:"made"`
	Truncated int             `json:"truncated"`
}

// onlyWanted leaves out what replayStep has not.
var onlyWanted = cmp.Options{
	cmpopts.IgnoreUnexported(replayLine{}), cmpopts.IgnoreFields(replayLine{}, "From", "Protocol", "Src", "Dst"),
}

func TestReplay(t *testing.T) {
	steps := replayStory()
	pcap, times := pcapOf(t, steps)
	pcapng, _ := pcapngOf(t, steps)
	var want []replayLine
	totals := map[string]uint64{}
	for i, s := range steps {
		want = append(want, s.want(i+1, times[i]))
		if s.reason != "" {
			totals[s.reason]++
		}
	}
	for name, capture := range map[string][]byte{"pcap": pcap, "pcapng": pcapng, "gzip": zipped(t, pcapng)} {
		t.Run(name, func(t *testing.T) {
			config, path := replayFiles(t, capture)
			written := filepath.Join(t.TempDir(), "out.pcap")
			code, stdout, stderr := runCommand("replay", path, "--config", config, "-o", "json", "--write", written)
			var got replayReport
			if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != exitOK {
				t.Fatalf("code %d, %v: %s%s", code, err, stdout, stderr)
			}
			if diff := cmp.Diff(want, got.Packets, onlyWanted); diff != "" {
				t.Errorf("packets -want +got:\n%s", diff)
			}
			gotTotals := map[string]uint64{}
			for _, c := range got.Totals {
				gotTotals[c.Verdict+" "+c.Reason] = c.Packets
			}
			if diff := cmp.Diff(totals, gotTotals); diff != "" || got.Truncated != 1 {
				t.Errorf("truncated %d; totals -want +got:\n%s", got.Truncated, diff)
			}
			if !strings.Contains(stderr, "1 packets are cut off and were not decided") {
				t.Errorf("stderr %q: nothing about truncated packets", stderr)
			}
			compareSent(t, written, steps, times)
		})
	}
}

// compareSent reads back what --write wrote.
func compareSent(t *testing.T, path string, steps []replayStep, times []time.Time) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapgo.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range steps {
		if s.sent == nil {
			continue
		}
		got, ci, err := r.ReadPacketData()
		if err != nil {
			t.Fatalf("packet %d: %v", i+1, err)
		}
		if !ci.Timestamp.Equal(times[i]) {
			t.Errorf("packet %d: sent at %s, want %s", i+1, ci.Timestamp, times[i])
		}
		if len(s.sent) > 0 {
			packettest.Equal(t, got, s.sent)
			continue
		}
		var p packet.Packet
		if !p.Parse(got) || !packet.IsOurGeneve(got[p.Data:p.End]) || addrOf(p.Dst) != netip.MustParseAddr("10.1.0.12") {
			t.Errorf("packet %d: %x: want Geneve to node2", i+1, got)
		}
	}
	if _, _, err := r.ReadPacketData(); err == nil {
		t.Error("more was written than is sent")
	}
}

func TestReplayText(t *testing.T) {
	steps := replayStory()
	steps = append(slices.Clone(steps[:2]), steps[6], steps[12], steps[18])
	capture, _ := pcapOf(t, steps)
	config, path := replayFiles(t, capture)
	code, stdout, _ := runCommand("replay", "--config", config, path)
	want := ` PACKET  TIME                         WAY  PROTO   SOURCE                   DESTINATION              VERDICT  REASON             SERVICE                   BACKEND OR NODE
      1  2026-03-01T12:00:00.123456Z  in   tcp     198.51.100.7:40000       192.0.2.10:80            deliver  new                default/near:http         10.244.1.2:8080
      2  2026-03-01T12:00:00.123456Z  out  tcp     10.244.1.2:8080          198.51.100.7:40000       reply    translated         default/near:http         10.244.1.2:8080
      3  2026-03-01T12:00:00.123456Z  not decided: cut off, 96 of 1054 bytes
      4  2026-03-01T12:00:00.123456Z  in   tcp     198.51.100.8:40000       192.0.2.10:80            deliver  new                default/near:http         10.244.1.2:8080 (sent by node2)
      5  2026-03-01T12:00:00.123456Z  in   -       -                        -                        pass     not_ip             -                         -

VERDICT  REASON      PACKETS
pass     not_ip      1
deliver  new         2
reply    translated  1
-        truncated   1
`
	if diff := cmp.Diff(want, stdout); diff != "" || code != exitOK {
		t.Errorf("code %d; -want +got:\n%s", code, diff)
	}
}

// What the command line says about the node and the way of packets.
func TestReplayOptions(t *testing.T) {
	syn := packettest.TCP(replayClient, nearVIP, packet.SYN)
	reply := packettest.TCP(nearPod, replayClient, packet.SYN|packet.ACK)
	long := packettest.TCP(replayClient, farVIP, packet.SYN)
	long.Payload, long.Fragment = make([]byte, 1400), 0x4000
	for _, test := range []struct {
		name  string
		args  []string
		frame packettest.Frame
		want  string
	}{
		{"as node1", nil, syn, "in deliver new 10.244.1.2:8080"},
		{"as node2", []string{"--node", "node2"}, syn, "in encap encap_home node1"},
		{"a Pod of node1 is none of node2's", []string{"--node", "node2"}, reply, "in pass not_vip "},
		{"all go out", []string{"--direction", "out"}, syn, "out pass not_reply "},
		{"all come in", []string{"--direction", "in"}, reply, "in pass not_vip "},
		{"told by the source", []string{"--direction", "auto"}, reply, "out pass no_flow "},
		{"the frame is for it", []string{"--mac", "02:00:00:00:00:01"}, syn, "in deliver new 10.244.1.2:8080"},
		{"the frame is for another", []string{"--mac", "02:00:00:00:00:77"}, syn, "in pass other_mac "},
		{"the frame is from it", []string{"--mac", "02:00:00:00:00:fe"}, syn, "out pass not_reply "},
		{"fits", []string{"--mtu", "9000"}, long, "in encap encap_home node2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			capture, _ := pcapOf(t, []replayStep{{frame: test.frame}})
			config, path := replayFiles(t, capture)
			code, stdout, stderr := runCommand(append([]string{"replay", path, "--config", config, "-o", "json"}, test.args...)...)
			var got replayReport
			if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != exitOK || len(got.Packets) != 1 {
				t.Fatalf("code %d, %v: %s%s", code, err, stdout, stderr)
			}
			p := got.Packets[0]
			if told := strings.Join([]string{string(p.Direction), p.Verdict, p.Reason, p.To}, " "); told != test.want {
				t.Errorf("%q, want %q", told, test.want)
			}
		})
	}
}
