// SPDX-License-Identifier: Apache-2.0

package packet

import "encoding/binary"

// Sum adds data to an unfolded ones' complement sum (RFC 1071). An odd last
// byte counts as the high half of a word.
func Sum(sum uint64, data []byte) uint64 {
	for len(data) >= 8 {
		word := binary.BigEndian.Uint64(data)
		sum += word>>48 + word>>32&0xffff + word>>16&0xffff + word&0xffff
		data = data[8:]
	}
	for len(data) >= 2 {
		sum += uint64(binary.BigEndian.Uint16(data))
		data = data[2:]
	}
	if len(data) == 1 {
		sum += uint64(data[0]) << 8
	}
	return sum
}

// Fold brings a sum down to 16 bits. Only the sum 0 folds to 0.
func Fold(sum uint64) uint16 {
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// Checksum is the Internet checksum of data whose own checksum field is 0.
func Checksum(data []byte) uint16 { return ^Fold(Sum(0, data)) }

// Update returns the checksum after data with the sum from became data with
// the sum to (RFC 1624, equation 3). Both must start at an even offset.
func Update(check uint16, from, to uint64) uint16 {
	// 0xffff is the other zero: with it the result is never 0xffff, like that
	// of a checksum over anything but zeros, and like the kernel's.
	return ^Fold(uint64(^check) + 0xffff + uint64(^Fold(from)) + uint64(Fold(to)))
}

// Update16 is Update for one word.
func Update16(check, from, to uint16) uint16 { return Update(check, uint64(from), uint64(to)) }

// PseudoSum is the sum of the pseudo header of TCP, UDP and ICMPv6 (RFC 9293
// section 3.1, RFC 8200 section 8.1). The addresses are both of 4 or 16 bytes.
func PseudoSum(src, dst []byte, proto uint8, length int) uint64 {
	return Sum(Sum(uint64(length>>16)+uint64(length&0xffff)+uint64(proto), src), dst)
}

// L4Checksum is the checksum of a TCP, UDP or ICMPv6 segment whose checksum
// field is 0. For UDP a result of 0 becomes 0xffff (RFC 768).
func L4Checksum(src, dst []byte, proto uint8, segment []byte) uint16 {
	check := ^Fold(Sum(PseudoSum(src, dst, proto, len(segment)), segment))
	if check == 0 && proto == ProtoUDP {
		return 0xffff
	}
	return check
}
