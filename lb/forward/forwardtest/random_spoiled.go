// SPDX-License-Identifier: Apache-2.0

package forwardtest

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"

	"github.com/fairlead/fairlead/lb/packet"
)

// headersMax is as far as headers reach; what is behind is payload.
const headersMax = 256

// Spoiled is the vector with about n more packets, made with rnd from its own
// by changing some of their bytes. Nothing is wanted of the steps any more.
func (v Vector) Spoiled(rnd *rand.Rand, n int) Vector {
	var steps []Step
	for i, s := range v.Steps {
		steps = append(steps, Step{Table: s.Table, Way: s.Way, Tick: s.Tick, Packet: s.Packet})
		for range (n*(i+1))/len(v.Steps) - n*i/len(v.Steps) {
			from, other := v.Steps[rnd.IntN(len(v.Steps))], v.Steps[rnd.IntN(len(v.Steps))]
			steps = append(steps, Step{Way: from.Way, Tick: s.Tick, Packet: mutated(rnd, from.Packet, other.Packet)})
		}
	}
	v.Steps = steps
	return v
}

// mutated is a frame with some of it changed, headers more often than payload.
func mutated(rnd *rand.Rand, frame, other []byte) []byte {
	b := slices.Clone(frame)
	for range 1 + rnd.IntN(4) {
		if len(b) <= packet.EthernetLen {
			return b
		}
		at := 12 + rnd.IntN(min(len(b), headersMax)-12)
		switch rnd.IntN(8) {
		case 0, 1, 2:
			b[at] ^= 1 << rnd.IntN(8)
		case 3:
			b[at] = byte(rnd.Uint32())
		case 4:
			b[at] = []byte{0, 1, 0x7f, 0x80, 0xff}[rnd.IntN(5)]
		case 5:
			b = b[:packet.EthernetLen+rnd.IntN(len(b)-packet.EthernetLen)]
		case 6:
			b = append(b, make([]byte, rnd.IntN(64))...)
		case 7: // the end of another packet
			if at < len(other) {
				b = append(b[:at], other[at:]...)
			}
		}
	}
	return b
}

// Cut is the vector with each of its packets cut at every length, once as it is
// and once with an IP header that says so. Packets that are in done were cut
// before, and those that only have a long payload are not worth it.
func (v Vector) Cut(done map[string]bool) Vector {
	var steps []Step
	for _, s := range v.Steps {
		steps = append(steps, Step{Table: s.Table, Way: s.Way, Tick: s.Tick, Packet: s.Packet})
		if done[string(s.Packet)] || len(s.Packet) > headersMax {
			continue
		}
		done[string(s.Packet)] = true
		for n := range s.Packet {
			steps = append(steps, Step{Way: s.Way, Tick: s.Tick, Packet: s.Packet[:n]},
				Step{Way: s.Way, Tick: s.Tick, Packet: agreeing(s.Packet, n)})
		}
	}
	v.Steps = steps
	return v
}

// agreeing is a frame of n bytes whose IP header says so, so that only what
// lies deeper is missing.
func agreeing(frame []byte, n int) []byte {
	b := slices.Clone(frame[:n])
	switch {
	case n < packet.EthernetLen+packet.IPv6Len:
	case b[packet.EthernetLen]>>4 == 4:
		binary.BigEndian.PutUint16(b[packet.EthernetLen+2:], uint16(n-packet.EthernetLen))
	case b[packet.EthernetLen]>>4 == 6:
		binary.BigEndian.PutUint16(b[packet.EthernetLen+4:], uint16(n-packet.EthernetLen-packet.IPv6Len))
	}
	return b
}
