// SPDX-License-Identifier: Apache-2.0

package packettest_test

import (
	"encoding/hex"
	"testing"

	"github.com/fairlead/fairlead/lb/packet"
	"github.com/fairlead/fairlead/lb/packet/packettest"
)

// Written down by hand from RFC 791, RFC 768 and RFC 8200.
func TestFrames(t *testing.T) {
	for _, tt := range []struct {
		name  string
		frame packettest.Frame
		want  string
	}{
		{
			"udp v4", packettest.UDP("192.168.0.1:1", "192.168.0.199:2", "ab"),
			"020000000001" + "0200000000fe" + "0800" +
				"4500001e" + "00000000" + "4011f8b6" + "c0a80001" + "c0a800c7" +
				"00010002" + "000a1c5c" + "6162",
		},
		{
			"tcp v6", packettest.TCP("[::1]:1", "[::2]:2", packet.SYN),
			"020000000001" + "0200000000fe" + "86dd" +
				"60000000" + "00140640" + "00000000000000000000000000000001" + "00000000000000000000000000000002" +
				"00010002" + "000003e8" + "00000000" + "5002faf0" + "b1040000",
		},
	} {
		want, err := hex.DecodeString(tt.want)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(tt.name, func(t *testing.T) { packettest.Equal(t, tt.frame.Bytes(), want) })
	}
}

func TestChecksum(t *testing.T) {
	header, err := hex.DecodeString("45000073000040004011" + "0000" + "c0a80001c0a800c7")
	if err != nil {
		t.Fatal(err)
	}
	if got := packettest.Checksum(header); got != 0xb861 {
		t.Errorf("checksum = %#04x, want 0xb861", got)
	}
}
