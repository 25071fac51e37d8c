// SPDX-License-Identifier: Apache-2.0

package packet

import (
	"encoding/binary"
	"math/bits"
)

// Key is a SipHash key as the two words that the algorithm works on.
type Key struct{ K0, K1 uint64 }

// KeyOf reads a key's 16 bytes as two little-endian words.
func KeyOf(b [16]byte) Key {
	return Key{binary.LittleEndian.Uint64(b[:8]), binary.LittleEndian.Uint64(b[8:])}
}

// Rounds of the variant used everywhere: SipHash-1-3.
const (
	sipCompression  = 1
	sipFinalization = 3
)

// Hash is SipHash-1-3 of msg.
func (k Key) Hash(msg []byte) uint64 {
	return Sum64(sipCompression, sipFinalization, k.K0, k.K1, msg)
}

// HashWords is SipHash-1-3 of a message as its little-endian words; last is
// the incomplete one with the message's length in the top byte.
func (k Key) HashWords(words []uint64, last uint64) uint64 {
	v0, v1 := k.K0^sipInit0, k.K1^sipInit1
	v2, v3 := k.K0^sipInit2, k.K1^sipInit3
	// The word after the last one, and two more, are the finalization: there
	// is nothing to mix in.
	for i, n := 0, len(words); i <= n+sipFinalization; i++ {
		var m uint64
		switch {
		case i < n:
			m = words[i]
		case i == n:
			m = last
		case i == n+1:
			v2 ^= 0xff
		}
		v3 ^= m
		v0 += v1
		v2 += v3
		v1 = bits.RotateLeft64(v1, 13) ^ v0
		v3 = bits.RotateLeft64(v3, 16) ^ v2
		v0 = bits.RotateLeft64(v0, 32)
		v2 += v1
		v0 += v3
		v1 = bits.RotateLeft64(v1, 17) ^ v2
		v3 = bits.RotateLeft64(v3, 21) ^ v0
		v2 = bits.RotateLeft64(v2, 32)
		v0 ^= m
	}
	return v0 ^ v1 ^ v2 ^ v3
}

// The algorithm's constants: "somepseudorandomlygeneratedbytes".
const (
	sipInit0 = 0x736f6d6570736575
	sipInit1 = 0x646f72616e646f6d
	sipInit2 = 0x6c7967656e657261
	sipInit3 = 0x7465646279746573
)

// Sum64 is SipHash-c-d (Aumasson and Bernstein, 2012) of msg.
func Sum64(c, d int, k0, k1 uint64, msg []byte) uint64 {
	s := sipState{
		k0 ^ sipInit0,
		k1 ^ sipInit1,
		k0 ^ sipInit2,
		k1 ^ sipInit3,
	}
	last := uint64(len(msg)) << 56
	for len(msg) >= 8 {
		s.word(c, binary.LittleEndian.Uint64(msg))
		msg = msg[8:]
	}
	for i, b := range msg {
		last |= uint64(b) << (8 * i)
	}
	s.word(c, last)
	s.v2 ^= 0xff
	s.rounds(d)
	return s.v0 ^ s.v1 ^ s.v2 ^ s.v3
}

type sipState struct{ v0, v1, v2, v3 uint64 }

func (s *sipState) word(c int, m uint64) {
	s.v3 ^= m
	s.rounds(c)
	s.v0 ^= m
}

func (s *sipState) rounds(n int) {
	v0, v1, v2, v3 := s.v0, s.v1, s.v2, s.v3
	for range n {
		v0 += v1
		v2 += v3
		v1 = bits.RotateLeft64(v1, 13) ^ v0
		v3 = bits.RotateLeft64(v3, 16) ^ v2
		v0 = bits.RotateLeft64(v0, 32)
		v2 += v1
		v0 += v3
		v1 = bits.RotateLeft64(v1, 17) ^ v2
		v3 = bits.RotateLeft64(v3, 21) ^ v0
		v2 = bits.RotateLeft64(v2, 32)
	}
	s.v0, s.v1, s.v2, s.v3 = v0, v1, v2, v3
}
