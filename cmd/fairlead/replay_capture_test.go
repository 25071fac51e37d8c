// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/fairlead/fairlead/lb/packet"
	"github.com/fairlead/fairlead/lb/packet/packettest"
)

var replayStart = time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)

// packetWriter is what both formats' writers have.
type packetWriter interface {
	WritePacket(gopacket.CaptureInfo, []byte) error
}

// writeSteps writes a capture, and returns the times of its packets.
func writeSteps(t *testing.T, w packetWriter, steps []replayStep) []time.Time {
	t.Helper()
	var times []time.Time
	at := replayStart
	for _, s := range steps {
		at = at.Add(s.after)
		times = append(times, at)
		frame := s.frame.Bytes()
		ci := gopacket.CaptureInfo{Timestamp: at, CaptureLength: len(frame), Length: max(s.length, len(frame))}
		if err := w.WritePacket(ci, frame); err != nil {
			t.Fatal(err)
		}
	}
	return times
}

func pcapOf(t *testing.T, steps []replayStep) ([]byte, []time.Time) {
	t.Helper()
	var b bytes.Buffer
	w := pcapgo.NewWriterNanos(&b)
	if err := w.WriteFileHeader(65536, layers.LinkTypeEthernet); err != nil {
		t.Fatal(err)
	}
	times := writeSteps(t, w, steps)
	return b.Bytes(), times
}

func pcapngOf(t *testing.T, steps []replayStep) ([]byte, []time.Time) {
	t.Helper()
	var b bytes.Buffer
	w, err := pcapgo.NewNgWriter(&b, layers.LinkTypeEthernet)
	if err != nil {
		t.Fatal(err)
	}
	times := writeSteps(t, w, steps)
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), times
}

func zipped(t *testing.T, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// Captures without Ethernet headers.
func TestReplayLinkTypes(t *testing.T) {
	syn, six := packettest.TCP(replayClient, nearVIP, packet.SYN), packettest.TCP("[2001:db8:1::7]:40000", "[2001:db8::10]:80", packet.SYN)
	cooked := append(make([]byte, 14), 8, 0)
	cooked2 := append([]byte{0x86, 0xdd}, make([]byte, 18)...)
	for _, test := range []struct {
		name string
		link layers.LinkType
		data []byte
		want string // part of what is printed
	}{
		{"raw v4", layers.LinkTypeRaw, syn.IP(), "deliver  new "},
		{"raw v6", layers.LinkTypeRaw, six.IP(), "deliver  new "},
		{"only v4", layers.LinkTypeIPv4, syn.IP(), "deliver  new "},
		{"only v6", layers.LinkTypeIPv6, six.IP(), "deliver  new "},
		{"cooked", layers.LinkTypeLinuxSLL, append(cooked, syn.IP()...), "deliver  new "},
		{"cooked, version 2", layers.LinkTypeLinuxSLL2, append(cooked2, six.IP()...), "deliver  new "},
		{"nothing", layers.LinkTypeRaw, nil, "pass     not_ip "},
		{"cooked, too short", layers.LinkTypeLinuxSLL, cooked[:15], "packet 1: 15 bytes: shorter than the header of link type Linux SLL"},
		{"another", layers.LinkTypePPP, syn.IP(), "packet 1: link type 9 (PPP): want Ethernet, Linux SLL or raw IP"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var b bytes.Buffer
			w := pcapgo.NewWriter(&b)
			if err := w.WriteFileHeader(65536, test.link); err != nil {
				t.Fatal(err)
			}
			writeSteps(t, w, []replayStep{{frame: frameBytes(test.data)}})
			config, path := replayFiles(t, b.Bytes())
			_, stdout, stderr := runCommand("replay", path, "--config", config)
			if !strings.Contains(stdout+stderr, test.want) {
				t.Errorf("%s%s: want %q in it", stdout, stderr, test.want)
			}
		})
	}
}

// A capture whose interfaces have different link types.
func TestReplayMixedLinkTypes(t *testing.T) {
	syn := packettest.TCP(replayClient, nearVIP, packet.SYN)
	var b bytes.Buffer
	w, err := pcapgo.NewNgWriter(&b, layers.LinkTypeEthernet)
	if err != nil {
		t.Fatal(err)
	}
	second, err := w.AddInterface(pcapgo.NgInterface{Name: "tun0", LinkType: layers.LinkTypeRaw, TimestampResolution: 9})
	if err != nil {
		t.Fatal(err)
	}
	for index, data := range map[int][]byte{0: syn.Bytes(), second: syn.IP()} {
		ci := gopacket.CaptureInfo{Timestamp: replayStart, InterfaceIndex: index, CaptureLength: len(data), Length: len(data)}
		if err := w.WritePacket(ci, data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	config, path := replayFiles(t, b.Bytes())
	_, stdout, stderr := runCommand("replay", path, "--config", config)
	if !strings.Contains(stdout, "deliver  new     1\n") || !strings.Contains(stdout, "deliver  mine    1\n") {
		t.Errorf("%s%s", stdout, stderr)
	}
}

func TestReplayErrors(t *testing.T) {
	syn := replayStep{frame: packettest.TCP(replayClient, nearVIP, packet.SYN)}
	late := syn
	late.after = 9 * 365 * 24 * time.Hour
	good, _ := pcapOf(t, []replayStep{syn, syn, syn})
	goodNg, _ := pcapngOf(t, []replayStep{syn, syn})
	ages, _ := pcapOf(t, []replayStep{syn, late})
	frame := len(syn.frame.Bytes())
	bad := slices.Clone(good)
	copy(bad[24+16+frame+8:], []byte{0xff, 0xff, 0xff, 0x7f}) // captured length of the second packet
	for _, test := range []struct {
		name    string
		capture []byte
		args    []string
		code    int
		want    string // PATH stands for the capture's
	}{
		{"empty", nil, nil, exitError, "PATH: 0 bytes: neither pcap nor pcapng"},
		{"three bytes", []byte("abc"), nil, exitError, "PATH: 3 bytes: neither pcap nor pcapng"},
		{"text", []byte("node: node1\n"), nil, exitError, "PATH: starts with 6e 6f 64 65: neither pcap nor pcapng"},
		{"half a header", good[:20], nil, exitError, "PATH: read pcap header: "},
		{"half a header of pcapng", goodNg[:10], nil, exitError, "PATH: read pcapng header: "},
		{"ends inside a packet", good[:len(good)-5], nil, exitError, "PATH: packet 3: the file ends inside of it"},
		{"ends behind a packet's header", good[:24+16], nil, exitError, "PATH: packet 1: the file ends inside of it"},
		{"ends inside a packet's header", good[:24+16+frame+7], nil, exitError, "PATH: packet 2: the file ends inside of it"},
		{"ends inside a block", goodNg[:len(goodNg)-9], nil, exitError, "PATH: packet 2: the file ends inside of it"},
		{"ends inside gzip", zipped(t, good)[:60], nil, exitError, "PATH: packet "},
		{"impossible length", bad, nil, exitError, "PATH: packet 2: capture length exceeds"},
		{"years", ages, nil, exitError, "PATH: packet 2: time 2035-02-27T12:00:00Z: years after the first packet's"},
		{"node", good, []string{"--node", "node3"}, exitError, `--node "node3": not among the nodes ["node1" "node2"]`},
		{"mtu", good, []string{"--mtu", "100"}, exitError, "mtu 100: want 1280 to 65535"},
		{"direction", good, []string{"--direction", "up"}, exitUsage, "want in, out or auto"},
		{"mac", good, []string{"--mac", "02:00"}, exitUsage, "want an Ethernet address"},
		{"over itself", good, []string{"--write", "PATH"}, exitUsage, `--write "PATH": is the capture itself`},
		{"nowhere", good, []string{"--write", "/nonexistent/out.pcap"}, exitError, "create capture: open /nonexistent/out.pcap"},
		{"full", good, []string{"--write", "/dev/full"}, exitError, "write /dev/full: "},
		{"two captures", good, []string{"x"}, exitUsage, `unexpected argument "x"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			config, path := replayFiles(t, test.capture)
			args := []string{"replay", path, "--config", config}
			for _, arg := range test.args {
				args = append(args, strings.ReplaceAll(arg, "PATH", path))
			}
			code, _, stderr := runCommand(args...)
			if want := strings.ReplaceAll(test.want, "PATH", path); code != test.code || !strings.Contains(stderr, want) {
				t.Errorf("code %d, want %d; stderr %q, want %q in it", code, test.code, stderr, want)
			}
		})
	}
	for _, test := range []struct {
		name string
		args []string
		want string
	}{
		{"no capture", []string{"replay", "--config", "x"}, "CAPTURE is missing"},
		{"no configuration", []string{"replay", "x"}, "--config is missing"},
	} {
		if code, _, stderr := runCommand(test.args...); code != exitUsage || !strings.Contains(stderr, test.want) {
			t.Errorf("%s: code %d, stderr %q", test.name, code, stderr)
		}
	}
}

// What was read before an error is told all the same.
func TestReplayTellsBeforeError(t *testing.T) {
	syn := replayStep{frame: packettest.TCP(replayClient, nearVIP, packet.SYN)}
	capture, _ := pcapOf(t, []replayStep{syn, syn})
	config, path := replayFiles(t, capture[:len(capture)-1])
	code, stdout, _ := runCommand("replay", path, "--config", config, "-o", "json")
	var got replayReport
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != exitError || len(got.Packets) != 1 || len(got.Totals) != 1 {
		t.Errorf("code %d, %v: %s", code, err, stdout)
	}
}
