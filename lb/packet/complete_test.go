// SPDX-License-Identifier: Apache-2.0

package packet_test

import (
	"bytes"
	"testing"

	"github.com/fairlead/fairlead/lb/packet"
	"github.com/fairlead/fairlead/lb/packet/packettest"
)

// pseudo is the sum of the pseudo header: what a sender leaves to its device.
func pseudo(f packettest.Frame, length int) []byte {
	b := append(append(f.Src.Addr().AsSlice(), f.Dst.Addr().AsSlice()...), 0, f.Proto, byte(length>>8), byte(length))
	sum := ^packettest.Checksum(b)
	return []byte{byte(sum >> 8), byte(sum)}
}

// A partial checksum becomes what the sender's device would have made of it.
func TestCompleteChecksum(t *testing.T) {
	rnd := seeded(t)
	for range 2000 {
		f := packettest.UDP(clientV4, vipV4, "")
		offset := 6
		switch rnd.IntN(4) {
		case 1:
			f = packettest.UDP(clientV6, vipV6, "")
		case 2:
			f, offset = packettest.TCP(clientV4, vipV4, packet.ACK), 16
		case 3:
			f, offset = packettest.TCP(clientV6, vipV6, packet.ACK), 16
		}
		f.Payload, f.Trailer = randomBytes(rnd, rnd.IntN(1400)), randomBytes(rnd, rnd.IntN(3))
		want := f.Bytes()
		partial := bytes.Clone(want)
		p := mustParse(t, partial)
		copy(partial[p.L4+offset:], pseudo(f, p.End-p.L4))
		p.CompleteChecksum()
		packettest.Equal(t, partial, want)
	}
}

// Every other checksum stays as it is, a wrong one too.
func TestCompleteChecksumStays(t *testing.T) {
	f := packettest.UDP(clientV4, vipV4, "hello")
	noSum, first, later := f, f, f
	noSum.NoChecksum, first.Fragment, later.Fragment = true, 0x2000, 0x2001
	// A payload with which the pseudo header's sum is right: the rest adds up to nothing.
	chance := packettest.UDP(clientV4, vipV4, "\x00\x00")
	for i := range 65536 {
		chance.Payload = []byte{byte(i >> 8), byte(i)}
		if b := chance.Bytes(); bytes.Equal(b[40:42], pseudo(chance, 10)) {
			break
		}
	}
	sum := pseudo(f, 13)
	for name, frame := range map[string][]byte{
		"complete": f.Bytes(), "none": noSum.Bytes(), "wrong": with(f.Bytes(), 40, 1, 2), "right by chance": chance.Bytes(),
		"first fragment": with(first.Bytes(), 40, sum...), "later fragment": with(later.Bytes(), 40, sum...),
		"ping":     packettest.Ping("198.51.100.7", "192.0.2.1").Bytes(),
		"an error": packettest.ICMPError("192.0.2.9", packettest.UDP(vipV4, clientV4, "hello"), 3, 4, 8).Bytes(),
	} {
		t.Run(name, func(t *testing.T) {
			got := bytes.Clone(frame)
			mustParse(t, got).CompleteChecksum()
			packettest.Equal(t, got, frame)
		})
	}
}
