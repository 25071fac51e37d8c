// SPDX-License-Identifier: Apache-2.0

package l2

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"

	"golang.org/x/net/bpf"

	"github.com/fairlead/fairlead/announce/l2/arp"
	"github.com/fairlead/fairlead/announce/l2/ndp"
	"github.com/fairlead/fairlead/lb/packet"
)

// rangesMax bounds the ranges that a filter compares with. Pools are ranges, so
// that many suffice; of more, the nearest become one, and a few frames too many
// come up.
const rangesMax = 32

const (
	accept = 0xffff // more than any frame
	reject = 0
)

// span is a range of 32-bit keys, both ends included.
type span struct{ first, last uint32 }

// keyOf is the part of an address that filters compare: the last four bytes.
func keyOf(a netip.Addr) uint32 {
	b := a.As16()
	return binary.BigEndian.Uint32(b[12:])
}

// spansOf returns ascending ranges that hold all the keys, not more than limit:
// it cuts at the widest gaps.
func spansOf(keys []uint32, limit int) []span {
	if len(keys) == 0 {
		return nil
	}
	slices.Sort(keys)
	keys = slices.Compact(keys)
	var cuts []int // where a range starts, but the first
	for i := 1; i < len(keys); i++ {
		if keys[i]-keys[i-1] > 1 {
			cuts = append(cuts, i)
		}
	}
	if len(cuts) >= limit {
		gap := func(i int) uint32 { return keys[i] - keys[i-1] }
		slices.SortFunc(cuts, func(i, j int) int { return cmp.Compare(gap(j), gap(i)) })
		cuts = cuts[:limit-1]
		slices.Sort(cuts)
	}
	var spans []span
	start := 0
	for _, end := range append(cuts, len(keys)) {
		spans = append(spans, span{keys[start], keys[end-1]})
		start = end
	}
	return spans
}

// within accepts a frame whose four bytes at the offset are in one of the ranges.
func within(offset uint32, spans []span) []bpf.Instruction {
	program := []bpf.Instruction{bpf.LoadAbsolute{Off: offset, Size: 4}}
	for _, s := range spans {
		program = append(program,
			bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: s.first, SkipFalse: 2},
			bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: s.last, SkipTrue: 1},
			bpf.RetConstant{Val: accept},
		)
	}
	return program
}

// arpFilter passes the ARP packets from or for the VIPs, and those that are too
// short to tell.
func arpFilter(vips []netip.Addr) []bpf.Instruction {
	spans := spansOf(keysOf(vips), rangesMax)
	if len(spans) == 0 {
		return []bpf.Instruction{bpf.RetConstant{Val: reject}}
	}
	program := []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtLen},
		bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: arp.Len, SkipTrue: 1},
		bpf.RetConstant{Val: accept},
	}
	program = append(program, within(arp.TargetOffset, spans)...)
	program = append(program, within(arp.SenderOffset, spans)...)
	return append(program, bpf.RetConstant{Val: reject})
}

// ndpFilter passes neighbor solicitations and advertisements from or for the
// VIPs, told by the last four bytes of their addresses, and those that are too
// short to tell. All else that is IPv6 leaves it after two comparisons.
func ndpFilter(vips []netip.Addr) []bpf.Instruction {
	spans := spansOf(keysOf(vips), rangesMax)
	if len(spans) == 0 {
		return []bpf.Instruction{bpf.RetConstant{Val: reject}}
	}
	program := []bpf.Instruction{
		bpf.LoadAbsolute{Off: ndp.NextHeaderOffset, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: packet.ProtoICMPv6, SkipFalse: 3},
		bpf.LoadAbsolute{Off: ndp.TypeOffset, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(ndp.Solicitation), SkipTrue: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(ndp.Advertisement), SkipTrue: 1},
		bpf.RetConstant{Val: reject},
		bpf.LoadExtension{Num: bpf.ExtLen},
		bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: ndp.Len, SkipTrue: 1},
		bpf.RetConstant{Val: accept},
	}
	program = append(program, within(ndp.TargetOffset+12, spans)...)
	program = append(program, within(ndp.SourceOffset+12, spans)...)
	return append(program, bpf.RetConstant{Val: reject})
}

func keysOf(vips []netip.Addr) []uint32 {
	keys := make([]uint32, len(vips))
	for i, vip := range vips {
		keys[i] = keyOf(vip)
	}
	return keys
}
