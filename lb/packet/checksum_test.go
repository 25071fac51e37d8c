// SPDX-License-Identifier: Apache-2.0

package packet_test

import (
	"math/rand/v2"
	"testing"

	"github.com/fairlead/fairlead/lb/packet"
	"github.com/fairlead/fairlead/lb/packet/packettest"
)

// seeded gives a test its only source of randomness and prints its seed.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func randomBytes(rnd *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	return b
}

func TestChecksumAgainstDefinition(t *testing.T) {
	rnd := seeded(t)
	for n := range 200 {
		b := randomBytes(rnd, n)
		if got, want := packet.Checksum(b), packettest.Checksum(b); got != want {
			t.Fatalf("Checksum of %x = %#04x, want %#04x", b, got, want)
		}
	}
	// RFC 1071 section 3.
	if got := packet.Checksum([]byte{0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7}); got != ^uint16(0xddf2) {
		t.Errorf("RFC 1071's example = %#04x, want %#04x", got, ^uint16(0xddf2))
	}
}

func TestUpdateAgainstChecksum(t *testing.T) {
	rnd := seeded(t)
	for range 20000 {
		b := randomBytes(rnd, 2+2*int(rnd.Uint32()%20))
		if rnd.Uint32()%4 == 0 { // sums near 0 and 0xffff are the hard ones
			for i := range b {
				b[i] = byte(0 - rnd.Uint32()&1)
			}
		}
		b[0] |= 1 // never all zeros
		check := packet.Checksum(b)
		at := len(b) / 2 &^ 1
		from := packet.Sum(0, b[at:])
		copy(b[at:], randomBytes(rnd, len(b)-at))
		b[0] |= 1
		if at == 0 {
			continue
		}
		if got, want := packet.Update(check, from, packet.Sum(0, b[at:])), packettest.Checksum(b); got != want {
			t.Fatalf("updated checksum of %x = %#04x, want %#04x", b, got, want)
		}
	}
}

func TestUpdateIsNeverTheOtherZero(t *testing.T) {
	for _, check := range []uint16{0, 1, 0xfffe, 0xffff} {
		for _, from := range []uint16{0, 1, 0xffff} {
			for _, to := range []uint16{0, 1, 0xffff} {
				if got := packet.Update16(check, from, to); got == 0xffff {
					t.Errorf("Update16(%#x, %#x, %#x) = 0xffff", check, from, to)
				}
			}
		}
	}
}
