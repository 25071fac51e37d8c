// SPDX-License-Identifier: Apache-2.0

package packet

import "encoding/binary"

// ClampMSS lowers the MSS option of a TCP packet to limit; without the option,
// or with a lower one, nothing changes.
func (p *Packet) ClampMSS(limit uint16) {
	options := p.Frame[p.L4+TCPLen : p.Data]
	at := findMSS(options)
	if at < 0 || binary.BigEndian.Uint16(options[at:]) <= limit {
		return
	}
	field := options[at : at+2]
	from := mssSum(field, at)
	binary.BigEndian.PutUint16(field, limit)
	p.updateL4(from, mssSum(field, at))
}

// findMSS returns where the value of the MSS option is, or -1.
func findMSS(options []byte) int {
	for i := 0; i < len(options); {
		switch options[i] {
		case tcpOptionEnd:
			return -1
		case tcpOptionNop:
			i++
			continue
		}
		if i+1 >= len(options) || options[i+1] < 2 || i+int(options[i+1]) > len(options) {
			return -1
		}
		if options[i] == tcpOptionMSS {
			if options[i+1] != tcpOptionMSSLen {
				return -1
			}
			return i + 2
		}
		i += int(options[i+1])
	}
	return -1
}

// mssSum is the sum of a two-byte field, which lies across two words when its
// offset is odd.
func mssSum(field []byte, offset int) uint64 {
	if offset%2 == 0 {
		return Sum(0, field)
	}
	return uint64(field[1])<<8 + uint64(field[0])
}
