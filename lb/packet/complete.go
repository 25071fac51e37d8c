// SPDX-License-Identifier: Apache-2.0

package packet

import "encoding/binary"

// CompleteChecksum computes the TCP or UDP checksum if it is partial: if the
// field holds the sum of the pseudo header, as Linux leaves it to a device
// (CHECKSUM_PARTIAL). A complete checksum that happens to look like that comes
// out as it is. Fragments and ICMP errors never have a partial one.
func (p *Packet) CompleteChecksum() {
	if !p.isTCPOrUDP() || p.Malformed || p.Headers || p.Fragment != Whole || p.Related {
		return
	}
	offset := udpChecksumOffset
	if p.Proto == ProtoTCP {
		offset = tcpChecksumOffset
	}
	segment := p.Frame[p.L4:p.End]
	field := segment[offset:]
	pseudo := PseudoSum(p.SrcBytes(), p.DstBytes(), p.Proto, len(segment))
	value := binary.BigEndian.Uint16(field)
	if value != Fold(pseudo) || Fold(Sum(pseudo, segment)) == 0xffff {
		return
	}
	// The field's own value stands for the pseudo header.
	check := ^Fold(Sum(0, segment))
	if check == 0 && p.Proto == ProtoUDP {
		check = 0xffff
	}
	binary.BigEndian.PutUint16(field, check)
}
