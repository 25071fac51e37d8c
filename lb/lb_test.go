// SPDX-License-Identifier: Apache-2.0

package lb

import (
	"net/netip"
	"slices"
	"testing"
)

// The values were computed by another implementation of FNV-1a: they ride on the
// wire and lie in pinned maps, and must never change.
func TestWireIDGolden(t *testing.T) {
	tests := []struct {
		addr string
		want WireID
	}{
		{"10.0.0.1:80", 0xf931ae3e},
		{"10.0.0.1:8080", 0x6aeafe99},
		{"10.0.0.2:80", 0xba4afaf3},
		{"[::ffff:10.0.0.1]:80", 0xf931ae3e},
		{"[fd00::1]:80", 0xe0c718d3},
		{"[::]:0", 0x4211a50d},
		{"10.0.174.113:12041", 1}, // FNV-1a gives 0
	}
	for _, tt := range tests {
		t.Run(tt.addr, func(t *testing.T) {
			ap := netip.MustParseAddrPort(tt.addr)
			if got := WireIDOf(ap); got != tt.want {
				t.Errorf("WireIDOf = %#x, want %#x", uint32(got), uint32(tt.want))
			}
			if got := (Backend{Addr: ap, Node: "n", Weight: 7}).WireID(); got != tt.want {
				t.Errorf("Backend.WireID = %#x, want %#x", uint32(got), uint32(tt.want))
			}
		})
	}
}

func TestTagGolden(t *testing.T) {
	tests := []struct {
		key  ServiceKey
		want uint32
	}{
		{ServiceKey{netip.MustParseAddr("192.0.2.1"), 80, TCP}, 0xab719750},
		{ServiceKey{netip.MustParseAddr("192.0.2.1"), 80, UDP}, 0xa2718925},
		{ServiceKey{netip.MustParseAddr("192.0.2.1"), 81, TCP}, 0xdd74249d},
		{ServiceKey{netip.MustParseAddr("2001:db8::1"), 53, UDP}, 0x81795e6e},
		{ServiceKey{netip.MustParseAddr("::"), 0, 0}, 0x0ec6d377},
		{ServiceKey{netip.MustParseAddr("10.0.161.135"), 60946, UDP}, 1}, // FNV-1a gives 0
	}
	for _, tt := range tests {
		t.Run(tt.key.String(), func(t *testing.T) {
			if got := tt.key.Tag(); got != tt.want {
				t.Errorf("Tag = %#x, want %#x", got, tt.want)
			}
		})
	}
}

func TestProto(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want Proto
		err  string
	}{
		{"TCP", TCP, ""},
		{"tcp", TCP, ""},
		{"UDP", UDP, ""},
		{"udp", UDP, ""},
		{"", 0, `unknown protocol "": want TCP or UDP`},
		{"SCTP", 0, `unknown protocol "SCTP": want TCP or UDP`},
		{"Tcp", 0, `unknown protocol "Tcp": want TCP or UDP`},
	} {
		got, err := ParseProto(tt.in)
		if got != tt.want || errorText(err) != tt.err {
			t.Errorf("ParseProto(%q) = %v, %v; want %v, %s", tt.in, got, err, tt.want, tt.err)
		}
	}
	for p, want := range map[Proto]string{TCP: "tcp", UDP: "udp", 132: "proto-132"} {
		if got := p.String(); got != want {
			t.Errorf("Proto(%d) = %q, want %q", uint8(p), got, want)
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestServiceKeyOrderAndText(t *testing.T) {
	keys := []ServiceKey{ // in order
		{netip.MustParseAddr("192.0.2.1"), 53, TCP},
		{netip.MustParseAddr("192.0.2.1"), 53, UDP},
		{netip.MustParseAddr("192.0.2.1"), 80, TCP},
		{netip.MustParseAddr("192.0.2.10"), 1, TCP},
		{netip.MustParseAddr("2001:db8::1"), 1, TCP},
	}
	for i, a := range keys {
		for j, b := range keys {
			if got := a.Compare(b); got < 0 != (i < j) || got > 0 != (i > j) {
				t.Errorf("%s.Compare(%s) = %d", a, b, got)
			}
		}
	}
	var texts []string
	for _, k := range keys {
		texts = append(texts, k.String())
	}
	want := []string{"tcp/192.0.2.1:53", "udp/192.0.2.1:53", "tcp/192.0.2.1:80", "tcp/192.0.2.10:1", "tcp/[2001:db8::1]:1"}
	if !slices.Equal(texts, want) {
		t.Errorf("String: %q, want %q", texts, want)
	}
}

func TestPolicy(t *testing.T) {
	if Cluster.String() != "Cluster" || Local.String() != "Local" || Policy(0) != Cluster {
		t.Error("want Cluster (the zero value) and Local")
	}
}
