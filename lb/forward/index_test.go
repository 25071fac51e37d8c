// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"math/rand/v2"
	"testing"

	"github.com/fairlead/fairlead/lb/packet"
)

// An index and a map agree after every operation.
func TestIndexAgainstMap(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	var x index
	want := map[indexKey]uint32{}
	for range 5000 {
		addr := packet.Addr{10: 0xff, 11: 0xff, 15: byte(rnd.IntN(20))}
		k := keyAt(&addr, uint16(rnd.IntN(4)), uint8(6+11*rnd.IntN(2)))
		switch rnd.IntN(3) {
		case 0, 1:
			v := rnd.Uint32()
			x.put(k, v)
			want[k] = v
		case 2:
			x.delete(k)
			delete(want, k)
		}
		if x.used != len(want) {
			t.Fatalf("%d entries, want %d", x.used, len(want))
		}
		for k, v := range want {
			if got, ok := x.get(k); !ok || got != v {
				t.Fatalf("%+v: %d, %t, want %d", k, got, ok, v)
			}
		}
		if _, ok := want[k]; !ok {
			if _, ok := x.get(k); ok {
				t.Fatalf("%+v is still there", k)
			}
		}
	}
}
