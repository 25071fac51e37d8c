// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/lb/packet"
	"github.com/fairlead/fairlead/lb/packet/packettest"
)

// uplinkStory is what a capture of node1's uplink has: replies as clients get
// them, and whatever else the node made of packets.
func uplinkStory() []replayStep {
	const syn, ack, rst = packet.SYN, packet.ACK, packet.RST
	const web, dns = "default/near:http " + nearPod, "default/near:dns " + dnsPod
	in, out := directionIn, directionOut
	first, second := packettest.TCP(replayClient, nearVIP, syn), packettest.TCP(replayClient, nearVIP, ack)
	synAck := packettest.TCP(nearVIP, replayClient, syn|ack)
	synAck.TCPOptions = packettest.MSS(1372)
	second.Ack = synAck.Seq + 1
	far := packettest.TCP(replayClient, farVIP, syn)
	tunnel := packettest.Encap("10.1.0.11", "10.1.0.12", 6180, replayKey, far).Frame()
	foreign := tunnel
	foreign.Payload = make([]byte, len(tunnel.Payload))
	none := packettest.TCP(replayClient, noneVIP, syn)
	reset := packettest.TCP(noneVIP, replayClient, rst|ack)
	reset.SrcMAC, reset.DstMAC, reset.Seq, reset.Ack, reset.Fragment = packettest.NodeMAC, packettest.RouterMAC, 0, none.Seq+1, 0x4000
	query := packettest.UDP(replayClient, dnsVIP, "query")
	answer := packettest.UDP(dnsVIP, replayClient, strings.Repeat("an answer ", 200))
	refusal := packettest.ICMPError("192.0.2.10", query, packet.ICMPUnreachable, 3, 8)
	steps := []replayStep{
		{frame: synAck, way: out, reason: "made"}, // of a connection that began before
		{frame: first, way: in, reason: "deliver new", where: web, sent: moved(first, replayClient, nearPod)},
		{frame: synAck, way: out, reason: "reply translated", where: web, sent: synAck.Bytes()},
		{frame: second, way: in, reason: "deliver mine", where: web, sent: moved(second, replayClient, nearPod)},
		{frame: far, way: in, reason: "encap encap_home", where: "default/far:80 node2", sent: []byte{}},
		{frame: tunnel, way: out, reason: "made"},
		{frame: foreign, way: out, reason: "pass not_reply"}, // somebody else's
		{frame: none, way: in, reason: "answer refused", where: "default/none:80", sent: reset.Bytes()},
		{frame: reset, way: out, reason: "made"},
		{frame: packettest.Ping("192.0.2.10", "198.51.100.7"), way: out, reason: "made"},
		{frame: query, way: in, reason: "deliver new", where: dns, sent: moved(query, replayClient, dnsPod)},
	}
	for i, piece := range answer.Fragments(7, 1480) {
		step := replayStep{frame: piece, way: out, reason: "reply translated", where: dns, sent: piece.Bytes()}
		if i > 0 {
			step.where = " " + dnsPod // without ports there is no telling the service
		}
		steps = append(steps, step)
	}
	lost := answer.Fragments(8, 1480)[1]
	return append(steps,
		replayStep{frame: lost, way: out, reason: "made"},
		replayStep{frame: refusal, way: out, reason: "reply translated", where: dns, sent: refusal.Bytes()},
	)
}

func TestReplayUplink(t *testing.T) {
	steps := uplinkStory()
	capture, times := pcapOf(t, steps)
	config, path := replayFiles(t, capture)
	written := filepath.Join(t.TempDir(), "out.pcap")
	code, stdout, stderr := runCommand("replay", path, "--config", config, "-o", "json", "--write", written)
	var got replayReport
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != exitOK {
		t.Fatalf("code %d, %v: %s%s", code, err, stdout, stderr)
	}
	var want []replayLine
	made := 0
	for i, s := range steps {
		want = append(want, s.want(i+1, times[i]))
		if s.reason == "made" {
			made++
		}
	}
	if diff := cmp.Diff(want, got.Packets, onlyWanted); diff != "" {
		t.Errorf("packets -want +got:\n%s", diff)
	}
	if p := got.Packets[2]; p.Src != nearVIP {
		t.Errorf("source %s, want %s as captured", p.Src, nearVIP)
	}
	decided := uint64(0)
	for _, c := range got.Totals {
		decided += c.Packets
	}
	if got.Made != made || int(decided) != len(steps)-made {
		t.Errorf("%d packets made and %d decided, want %d of %d made", got.Made, decided, made, len(steps))
	}
	_, text, _ := runCommand("replay", path, "--config", config)
	if !strings.Contains(text, "-        made_here   5\n") {
		t.Errorf("%s: nothing about packets that the node made", text)
	}
	compareSent(t, written, steps, times)
}
