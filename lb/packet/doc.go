// SPDX-License-Identifier: Apache-2.0

// Package packet reads and writes the headers that a load balancer touches:
// Ethernet, IPv4, IPv6, TCP, UDP, ICMP and Geneve with Fairlead's option. It is
// the alphabet of road C in Go. Nothing here allocates, keeps state or knows
// what a service is.
package packet

// EtherType says what follows an Ethernet header, or a Geneve header.
type EtherType uint16

// The two EtherTypes that are looked at.
const (
	EtherTypeIPv4 EtherType = 0x0800
	EtherTypeIPv6 EtherType = 0x86dd
)

// L4 protocol numbers beside lb.TCP and lb.UDP.
const (
	ProtoICMP         = 1
	ProtoTCP          = 6
	ProtoUDP          = 17
	ProtoIPv6Fragment = 44
	ProtoICMPv6       = 58
)

// Lengths of headers without options, in bytes.
const (
	EthernetLen = 14
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
	ICMPEchoReply     = 0
	ICMPUnreachable   = 3
	ICMPCodePort      = 3 // of ICMPUnreachable
	ICMPEchoRequest   = 8
	ICMPv6Unreachable = 1
	ICMPv6CodePort    = 4 // of ICMPv6Unreachable
	ICMPv6EchoRequest = 128
	ICMPv6EchoReply   = 129
)

// Places and values in headers.
const (
	ipv4ChecksumOffset = 10
	icmpChecksumOffset = 2
	tcpChecksumOffset  = 16
	udpChecksumOffset  = 6
	ipv4MinWords       = 5 // header length
	ipv4DontFragment   = 0x4000
	ipv4FragmentMask   = 0x3fff // more fragments, or an offset
	tcpOptionEnd       = 0
	tcpOptionNop       = 1
	tcpOptionMSS       = 2
	tcpOptionMSSLen    = 4
)

// AnswerTTL is the TTL or hop limit of every packet that starts here.
const AnswerTTL = 64
