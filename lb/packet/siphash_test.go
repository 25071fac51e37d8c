// SPDX-License-Identifier: Apache-2.0

package packet_test

import (
	"encoding/binary"
	"encoding/hex"
	"testing"

	"github.com/fairlead/fairlead/lb/packet"
)

// The first of the test vectors that SipHash's authors publish for 2-4: key 00
// to 0f, message 00, 01, … of as many bytes as the row's index.
var sipVectors24 = []string{
	"310e0edd47db6f72", "fd67dc93c539f874", "5a4fa9d909806c0d", "2d7efbd796666785",
	"b7877127e09427cf", "8da699cd64557618", "cee3fe586e46c9cb", "37d1018bf50002ab",
	"6224939a79f5f593", "b0e4a90bdf82009e", "f3b9dd94c5bb5d7a", "a7ad6b22462fb3f4",
	"fbe50e86bc8f1e75", "903d84c02756ea14", "eef27a8e90ca23f7", "e545be4961ca29a1",
}

func TestSum64(t *testing.T) {
	var raw [16]byte
	for i := range raw {
		raw[i] = byte(i)
	}
	key := packet.KeyOf(raw)
	for n, want := range sipVectors24 {
		var sum [8]byte
		h := packet.Sum64(2, 4, key.K0, key.K1, raw[:n])
		for i := range sum {
			sum[i] = byte(h >> (8 * i))
		}
		if got := hex.EncodeToString(sum[:]); got != want {
			t.Errorf("SipHash-2-4 of %d bytes = %s, want %s", n, got, want)
		}
	}
}

// The value comes from another implementation, checked against the same vectors.
func TestHashIsSip13(t *testing.T) {
	var raw [20]byte
	for i := range raw {
		raw[i] = byte(i)
	}
	key := packet.KeyOf([16]byte(raw[:16]))
	if got, want := key.Hash(raw[:]), uint64(0xc0dc2f46a6cce040); got != want {
		t.Errorf("Hash = %#x, want %#x", got, want)
	}
}

// HashWords takes the words of what Hash takes as bytes.
func TestHashWords(t *testing.T) {
	rnd := seeded(t)
	for range 1000 {
		key, msg := packet.KeyOf([16]byte(randomBytes(rnd, 16))), randomBytes(rnd, rnd.IntN(80))
		var words []uint64
		rest := msg
		for ; len(rest) >= 8; rest = rest[8:] {
			words = append(words, binary.LittleEndian.Uint64(rest))
		}
		last := uint64(len(msg)) << 56
		for i, b := range rest {
			last |= uint64(b) << (8 * i)
		}
		if got, want := key.HashWords(words, last), key.Hash(msg); got != want {
			t.Fatalf("HashWords of %x = %#x, want %#x", msg, got, want)
		}
	}
}
