// SPDX-License-Identifier: Apache-2.0

// Package packet reads and writes the headers that a load balancer touches:
// Ethernet, IPv4, IPv6, TCP, UDP, ICMP and Geneve with Fairlead's option. It is
// the alphabet of road C in Go. Nothing here allocates, keeps state or knows
// what a service is.
package packet

// EtherType says what follows an Ethernet header, or a Geneve header.
type EtherType uint16

// The EtherTypes that are looked at. The last two are tags in front of another
// one (IEEE 802.1Q).
const (
	EtherTypeIPv4 EtherType = 0x0800
	EtherTypeIPv6 EtherType = 0x86dd
	EtherTypeVLAN EtherType = 0x8100
	EtherTypeQinQ EtherType = 0x88a8
)

// Protocol numbers: L4, and the IPv6 extension headers that are walked.
const (
	ProtoHopByHop     = 0
	ProtoICMP         = 1
	ProtoTCP          = 6
	ProtoUDP          = 17
	ProtoRouting      = 43
	ProtoIPv6Fragment = 44
	ProtoICMPv6       = 58
	ProtoDestination  = 60
)

// How much is walked; abi.h has the same numbers.
const (
	TagsMax         = 2  // in front of the IP header
	ExtensionsMax   = 4  // IPv6 extension headers
	ExtensionsBytes = 64 // all of them together
)

// Lengths of headers without options, in bytes.
const (
	EthernetLen = 14
	TagLen      = 4
	IPv4Len     = 20
	IPv6Len     = 40
	TCPLen      = 20
	UDPLen      = 8
	ICMPLen     = 8
)

// TCP flags.
const (
	FIN = 1 << iota
	SYN
	RST
	PSH
	ACK
)

// ICMP types and codes.
const (
	ICMPEchoReply      = 0
	ICMPUnreachable    = 3
	ICMPCodePort       = 3 // of ICMPUnreachable
	ICMPCodeTooBig     = 4 // of ICMPUnreachable: fragmentation needed and DF set
	ICMPEchoRequest    = 8
	ICMPTimeExceeded   = 11
	ICMPParameter      = 12
	ICMPv6Unreachable  = 1
	ICMPv6CodePort     = 4 // of ICMPv6Unreachable
	ICMPv6TooBig       = 2
	ICMPv6TimeExceeded = 3
	ICMPv6Parameter    = 4
	ICMPv6EchoRequest  = 128
	ICMPv6EchoReply    = 129
	// Of neighbor discovery (RFC 4861).
	ICMPv6NeighborSolicitation  = 135
	ICMPv6NeighborAdvertisement = 136
)

// ECN codepoints, the low two bits of TOS or traffic class (RFC 3168).
const (
	NotECT = iota
	ECT1
	ECT0
	CE
	ECNMask = 3
)

// Places and values in headers.
const (
	ipv4ChecksumOffset = 10
	icmpChecksumOffset = 2
	tcpChecksumOffset  = 16
	udpChecksumOffset  = 6
	ipv4MinWords       = 5 // header length
	ipv4DontFragment   = 0x4000
	ipv4MoreFragments  = 0x2000
	ipv4OffsetMask     = 0x1fff
	extensionMinLen    = 8 // of IPv6, and the unit of their lengths
	quotedL4Min        = 8 // bytes of TCP or UDP that an ICMP error has to quote
	tcpOptionEnd       = 0
	tcpOptionNop       = 1
	tcpOptionMSS       = 2
	tcpOptionMSSLen    = 4
)

// AnswerTTL is the TTL or hop limit of every packet that starts here.
const AnswerTTL = 64
