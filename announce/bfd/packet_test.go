// SPDX-License-Identifier: Apache-2.0

package bfd

import (
	"bytes"
	"testing"
	"time"
)

// wire is a packet written out by hand from RFC 5880 section 4.1: up, poll,
// control plane independent, from 0x01020304 to 0x0a0b0c0d.
var wire = []byte{
	1<<5 | 3, 3<<6 | 1<<5 | 1<<3, 5, 24,
	1, 2, 3, 4, 0xa, 0xb, 0xc, 0xd,
	0, 0, 0xc3, 0x50, 0, 1, 0x86, 0xa0, 0, 0, 0, 1,
}

var wirePacket = Packet{
	Diag: DiagSignaled, State: Up, Poll: true, Independent: true, Multiplier: 5, Mine: 0x01020304, Yours: 0x0a0b0c0d,
	DesiredTx: 50 * time.Millisecond, RequiredRx: 100 * time.Millisecond, RequiredEchoRx: time.Microsecond,
}

func TestParse(t *testing.T) {
	got, err := Parse(wire)
	if err != nil || got != wirePacket {
		t.Errorf("%+v, %v; want %+v", got, err, wirePacket)
	}
	if got := wirePacket.Append(nil); !bytes.Equal(got, wire) {
		t.Errorf("append: %x, want %x", got, wire)
	}
}

// The checks of RFC 5880 section 6.8.6 that one packet shows.
func TestParseDrops(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func([]byte) []byte
		want   error
	}{
		{"as it is", func(b []byte) []byte { return b }, nil},
		{"more bytes than it says", func(b []byte) []byte { return append(b, 1, 2, 3) }, nil},
		{"empty", func(b []byte) []byte { return nil }, DropShort},
		{"one byte short", func(b []byte) []byte { return b[:23] }, DropShort},
		{"version 0", func(b []byte) []byte { b[0] &= 31; return b }, DropVersion},
		{"version 2", func(b []byte) []byte { b[0] += 1 << 5; return b }, DropVersion},
		{"length 23", func(b []byte) []byte { b[3] = 23; return b }, DropLength},
		{"length beyond the end", func(b []byte) []byte { b[3] = 25; return b }, DropLength},
		{"length 24 with authentication", func(b []byte) []byte { b[1] |= flagAuthentication; return append(b, 0, 0) }, DropLength},
		{"authentication", func(b []byte) []byte { b[1] |= flagAuthentication; b[3] = 26; return append(b, 0, 0) }, DropAuthentication},
		{"multiplier 0", func(b []byte) []byte { b[2] = 0; return b }, DropMultiplier},
		{"multipoint", func(b []byte) []byte { b[1] |= 1; return b }, DropMultipoint},
		{"own discriminator 0", func(b []byte) []byte { copy(b[4:], []byte{0, 0, 0, 0}); return b }, DropDiscriminator},
		{"up without ours", func(b []byte) []byte { copy(b[8:], []byte{0, 0, 0, 0}); return b }, DropDiscriminator},
		{"init without ours", func(b []byte) []byte { copy(b[8:], []byte{0, 0, 0, 0}); b[1] = 2 << 6; return b }, DropDiscriminator},
		{"down without ours", func(b []byte) []byte { copy(b[8:], []byte{0, 0, 0, 0}); b[1] = 1 << 6; return b }, nil},
		{"admin-down without ours", func(b []byte) []byte { copy(b[8:], []byte{0, 0, 0, 0}); b[1] = 0; return b }, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := Parse(tt.change(bytes.Clone(wire))); err != tt.want {
				t.Errorf("%v, want %v", err, tt.want)
			}
		})
	}
}

func TestNames(t *testing.T) {
	if got := AdminDown.String() + " " + Up.String() + " " + DiagExpired.String() + " " + Diag(31).String(); got != "admin-down up detection time expired reserved" {
		t.Error(got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(wire)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Parse(b)
		if err != nil {
			if _, ok := err.(Drop); !ok {
				t.Fatalf("%v is no Drop", err)
			}
			return
		}
		again, err := Parse(p.Append(nil))
		if err != nil || again != p {
			t.Fatalf("%+v became %+v, %v", p, again, err)
		}
	})
}
