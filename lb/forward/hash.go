// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"encoding/binary"

	"github.com/fairlead/fairlead/lb/packet"
)

// FlowHash chooses the slot and the outer source port; the same on every node
// (LB_VERSION_HASH 1). ports is PortsWord, or 0 for the slot of a service with
// affinity.
func FlowHash(client packet.Addr, ports uint64) uint64 {
	const multiplier = 0x9e3779b97f4a7c15
	h := uint64(0x9ae16a3b2f90404f)
	for _, word := range [...]uint64{
		binary.LittleEndian.Uint64(client[:8]),
		binary.LittleEndian.Uint64(client[8:]),
		ports,
	} {
		h = (h ^ word) * multiplier
		h ^= h >> 32
	}
	h *= 0xd6e8feb86659fd93
	return h ^ h>>32
}

// PortsWord is what FlowHash takes of a packet beside the client's address.
func PortsWord(src, dst uint16, proto uint8) uint64 {
	return uint64(src) | uint64(dst)<<16 | uint64(proto)<<32
}

// SlotOf is the slot of a flow hash in a table of m slots.
func SlotOf(hash uint64, m int) uint32 {
	return uint32((hash >> 32) * uint64(m) >> 32)
}
