// SPDX-License-Identifier: Apache-2.0

package xdp

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"net/netip"
	"strings"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/dataplane"
)

// Versions are the three numbers that other versions of Fairlead look at.
type Versions struct{ Records, Wire, Hash int }

// ABI is what this build writes and speaks.
var ABI = Versions{
	Records: int(bpfLbVersionLB_VERSION_RECORDS),
	Wire:    int(bpfLbVersionLB_VERSION_WIRE),
	Hash:    int(bpfLbVersionLB_VERSION_HASH),
}

const (
	lineSize     = int(bpfLbLimitLB_LINE_SIZE)
	tickShift    = uint(bpfLbLimitLB_TICK_SHIFT)
	encapV4      = int(bpfLbGeneveLB_ENCAP_V4)
	encapV6      = int(bpfLbGeneveLB_ENCAP_V6)
	reasons      = bpfLbReasonLB_R_MAX
	flowWays     = int(bpfLbLimitLB_FLOW_WAYS)
	flowSize     = 64
	sizesMax     = int(bpfLbLimitLB_SIZES_MAX)
	nodesMax     = int(bpfLbLimitLB_NODES_MAX)
	identitySlot = uint32(0)
)

// swap16 turns a 16-bit number from host to network order and back.
func swap16(v uint16) uint16 { return bits.ReverseBytes16(v) }
func swap32(v uint32) uint32 { return bits.ReverseBytes32(v) }

func boolean(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}

// toAddr undoes the IPv4 mapping.
func toAddr(b [16]byte) netip.Addr { return netip.AddrFrom16(b).Unmap() }

// addrWords are the two words in memory order that the programs compare.
func addrWords(a netip.Addr) (first, second uint64) {
	b := a.As16()
	return binary.NativeEndian.Uint64(b[:8]), binary.NativeEndian.Uint64(b[8:])
}

// macWord is a MAC address as the first bytes of a frame, read as a word.
func macWord(mac [6]byte) uint64 {
	var b [8]byte
	copy(b[:], mac[:])
	return binary.NativeEndian.Uint64(b[:])
}

// Bits of lb_service.table, from the lowest.
const (
	tableLineBits       = 24
	tableSizeShift      = 24
	tableSizeMask       = sizesMax - 1
	tableTransition     = 1 << 29
	tableGenShift       = 30
	tableGenMask        = 1<<18 - 1
	tableHashShift      = 48
	tableLineMask       = 1<<tableLineBits - 1
	serviceRecordTable  = 0 // offset of the table word
	serviceRecordLength = 64
)

func packTable(r dataplane.TableRef) uint64 {
	w := uint64(r.Line)&tableLineMask | uint64(r.Size)<<tableSizeShift |
		uint64(r.Generation&tableGenMask)<<tableGenShift | uint64(r.Hash)<<tableHashShift
	if r.Transition {
		w |= tableTransition
	}
	return w
}

func unpackTable(w uint64) dataplane.TableRef {
	return dataplane.TableRef{
		Line:       uint32(w & tableLineMask),
		Size:       uint8(w >> tableSizeShift & uint64(tableSizeMask)),
		Transition: w&tableTransition != 0,
		Generation: uint32(w >> tableGenShift & tableGenMask),
		Hash:       uint16(w >> tableHashShift),
	}
}

func toServiceKey(k lb.ServiceKey) bpfLbServiceKey {
	return bpfLbServiceKey{Vip: k.VIP.As16(), Port: swap16(k.Port), Proto: uint8(k.Proto)}
}

func (k bpfLbServiceKey) toLB() lb.ServiceKey {
	return lb.ServiceKey{VIP: toAddr(k.Vip), Port: swap16(k.Port), Proto: lb.Proto(k.Proto)}
}

// vipKey is the key under which the address alone is known.
func vipKey(a netip.Addr) bpfLbServiceKey { return bpfLbServiceKey{Vip: a.As16()} }

func (k bpfLbServiceKey) isVIP() bool { return k.Port == 0 && k.Proto == 0 }

func toService(e dataplane.ServiceEntry) bpfLbService {
	s := bpfLbService{
		Table:         packTable(e.Table),
		Vip:           e.Key.VIP.As16(),
		Port:          swap16(e.Key.Port),
		Proto:         uint8(e.Key.Proto),
		Flags:         uint8(bpfLbServiceFlagLB_SERVICE_LIVE),
		Tag:           e.Key.Tag(),
		AffinityTicks: e.AffinityTicks,
		PastUntil:     e.PastUntil,
	}
	for _, f := range []struct {
		set  bool
		flag bpfLbServiceFlag
	}{
		{e.Left, bpfLbServiceFlagLB_SERVICE_LEFT},
		{e.Adopted, bpfLbServiceFlagLB_SERVICE_ADOPTED},
		{e.Local, bpfLbServiceFlagLB_SERVICE_LOCAL},
		{e.Closed, bpfLbServiceFlagLB_SERVICE_CLOSED},
		{e.Elsewhere, bpfLbServiceFlagLB_SERVICE_ELSEWHERE},
		{e.HasRanges, bpfLbServiceFlagLB_SERVICE_RANGES},
	} {
		if f.set {
			s.Flags |= uint8(f.flag)
		}
	}
	return s
}

func (s bpfLbService) toEntry() dataplane.ServiceEntry {
	has := func(f bpfLbServiceFlag) bool { return s.Flags&uint8(f) != 0 }
	return dataplane.ServiceEntry{
		Key:           lb.ServiceKey{VIP: toAddr(s.Vip), Port: swap16(s.Port), Proto: lb.Proto(s.Proto)},
		Table:         unpackTable(s.Table),
		Left:          has(bpfLbServiceFlagLB_SERVICE_LEFT),
		Adopted:       has(bpfLbServiceFlagLB_SERVICE_ADOPTED),
		Local:         has(bpfLbServiceFlagLB_SERVICE_LOCAL),
		Closed:        has(bpfLbServiceFlagLB_SERVICE_CLOSED),
		Elsewhere:     has(bpfLbServiceFlagLB_SERVICE_ELSEWHERE),
		AffinityTicks: s.AffinityTicks,
		HasRanges:     has(bpfLbServiceFlagLB_SERVICE_RANGES),
		PastUntil:     s.PastUntil,
	}
}

func toBackend(e dataplane.BackendEntry) bpfLbBackend {
	return bpfLbBackend{
		Addr: e.Addr.Addr().As16(),
		Port: swap16(e.Addr.Port()),
		Node: uint16(e.Node),
		Tag:  uint32(lb.WireIDOf(e.Addr)),
	}
}

func (b bpfLbBackend) toEntry() dataplane.BackendEntry {
	return dataplane.BackendEntry{
		Addr: netip.AddrPortFrom(toAddr(b.Addr), swap16(b.Port)),
		Node: lb.NodeID(b.Node),
	}
}

func toBackendKey(ap netip.AddrPort) bpfLbBackendKey {
	return bpfLbBackendKey{Addr: ap.Addr().As16(), Port: swap16(ap.Port())}
}

func toRangeKey(id lb.ServiceID, p netip.Prefix) bpfLbRangeKey {
	ones := p.Bits()
	if p.Addr().Is4() {
		ones += 96
	}
	return bpfLbRangeKey{Prefixlen: uint32(32 + ones), Service: uint32(id), Addr: p.Addr().As16()}
}

func (k bpfLbRangeKey) toLB() dataplane.SourceRangeKey {
	addr, ones := toAddr(k.Addr), int(k.Prefixlen)-32
	// ::ffff:0:0/96 and longer are IPv4 prefixes; so is its shortest, 0.0.0.0/0.
	if addr.Is4() && ones >= 96 {
		ones -= 96
	} else {
		addr = netip.AddrFrom16(k.Addr)
	}
	return dataplane.SourceRangeKey{Service: lb.ServiceID(k.Service), Prefix: netip.PrefixFrom(addr, ones)}
}

// Verdicts by reason: the grouping of enum lb_reason.
func verdictOf(r bpfLbReason) string {
	switch {
	case r < bpfLbReasonLB_R_MALFORMED:
		return "pass"
	case r < bpfLbReasonLB_R_ENCAP_HOME:
		return "drop"
	case r < bpfLbReasonLB_R_STEER_PAST:
		return "encap"
	case r < bpfLbReasonLB_R_MINE:
		return "steer"
	case r < bpfLbReasonLB_R_ECHO:
		return "deliver"
	case r < bpfLbReasonLB_R_TRANSLATED:
		return "answer"
	}
	return "reply"
}

// reasonNames are the enumerators without their prefix, in lower case.
var reasonNames = [reasons]string{
	bpfLbReasonLB_R_NONE:              "none",
	bpfLbReasonLB_R_NOT_IP:            "not_ip",
	bpfLbReasonLB_R_OTHER_MAC:         "other_mac",
	bpfLbReasonLB_R_NOT_VIP:           "not_vip",
	bpfLbReasonLB_R_LEFT:              "left",
	bpfLbReasonLB_R_CONNTRACKED:       "conntracked",
	bpfLbReasonLB_R_NEIGHBOR:          "neighbor",
	bpfLbReasonLB_R_FOREIGN_TUNNEL:    "foreign_tunnel",
	bpfLbReasonLB_R_NOT_REPLY:         "not_reply",
	bpfLbReasonLB_R_NO_FLOW:           "no_flow",
	bpfLbReasonLB_R_MALFORMED:         "malformed",
	bpfLbReasonLB_R_NO_AGENT:          "no_agent",
	bpfLbReasonLB_R_HEADERS:           "headers",
	bpfLbReasonLB_R_MARTIAN:           "martian",
	bpfLbReasonLB_R_ICMP_ORPHAN:       "icmp_orphan",
	bpfLbReasonLB_R_TUNNEL_ERROR:      "tunnel_error",
	bpfLbReasonLB_R_CONGESTED:         "congested",
	bpfLbReasonLB_R_RELATED:           "related",
	bpfLbReasonLB_R_PACKET_TOO_BIG:    "packet_too_big",
	bpfLbReasonLB_R_FRAGMENT:          "fragment",
	bpfLbReasonLB_R_PROTO:             "proto",
	bpfLbReasonLB_R_ICMP:              "icmp",
	bpfLbReasonLB_R_UNKNOWN_PORT:      "unknown_port",
	bpfLbReasonLB_R_SOURCE_RANGE:      "source_range",
	bpfLbReasonLB_R_NO_LOCAL_BACKENDS: "no_local_backends",
	bpfLbReasonLB_R_STALE_TABLE:       "stale_table",
	bpfLbReasonLB_R_TTL:               "ttl",
	bpfLbReasonLB_R_TOO_BIG:           "too_big",
	bpfLbReasonLB_R_NO_NODE:           "no_node",
	bpfLbReasonLB_R_BAD_OPTION:        "bad_option",
	bpfLbReasonLB_R_BAD_MAC:           "bad_mac",
	bpfLbReasonLB_R_UNKNOWN_SERVICE:   "unknown_service",
	bpfLbReasonLB_R_NOT_LOCAL:         "not_local",
	bpfLbReasonLB_R_FLOWS_FULL:        "flows_full",
	bpfLbReasonLB_R_FLOWS_BUSY:        "flows_busy",
	bpfLbReasonLB_R_PORTS:             "ports",
	bpfLbReasonLB_R_RATE:              "rate",
	bpfLbReasonLB_R_ERROR:             "error",
	bpfLbReasonLB_R_ENCAP_HOME:        "encap_home",
	bpfLbReasonLB_R_ENCAP_PAST:        "encap_past",
	bpfLbReasonLB_R_ENCAP_OWNER:       "encap_owner",
	bpfLbReasonLB_R_STEER_PAST:        "steer_past",
	bpfLbReasonLB_R_STEER_HOME:        "steer_home",
	bpfLbReasonLB_R_STEER_OWNER:       "steer_owner",
	bpfLbReasonLB_R_MINE:              "mine",
	bpfLbReasonLB_R_NEW:               "new",
	bpfLbReasonLB_R_AFFINITY:          "affinity",
	bpfLbReasonLB_R_JUDGE:             "judge",
	bpfLbReasonLB_R_ECHO:              "echo",
	bpfLbReasonLB_R_REFUSED:           "refused",
	bpfLbReasonLB_R_TRANSLATED:        "translated",
}

func flowKindName(k uint8) string {
	switch bpfLbFlowKind(k) {
	case bpfLbFlowKindLB_FLOW_OWN:
		return "own"
	case bpfLbFlowKindLB_FLOW_ALIAS:
		return "alias"
	case bpfLbFlowKindLB_FLOW_REDIRECT:
		return "redirect"
	case bpfLbFlowKindLB_FLOW_AFFINITY:
		return "affinity"
	}
	return fmt.Sprintf("kind-%d", k)
}

func flowFlagNames(flags uint8) []string {
	var names []string
	for _, f := range []struct {
		flag bpfLbFlowFlag
		name string
	}{
		{bpfLbFlowFlagLB_FLOW_UNVERIFIED, "unverified"},
		{bpfLbFlowFlagLB_FLOW_CLIENT_FIN, "client-fin"},
		{bpfLbFlowFlagLB_FLOW_CLIENT_RST, "client-rst"},
		{bpfLbFlowFlagLB_FLOW_POD_FIN, "pod-fin"},
		{bpfLbFlowFlagLB_FLOW_POD_RST, "pod-rst"},
	} {
		if flags&uint8(f.flag) != 0 {
			names = append(names, f.name)
		}
	}
	return names
}

func flowStateName(f *bpfLbFlow) string {
	closed := uint8(bpfLbFlowFlagLB_FLOW_POD_FIN | bpfLbFlowFlagLB_FLOW_CLIENT_FIN)
	switch {
	case bpfLbFlowState(f.State) == bpfLbFlowStateLB_FLOW_HALF_OPEN:
		return "half-open"
	case f.Flags&uint8(bpfLbFlowFlagLB_FLOW_POD_RST) != 0 || f.Flags&closed == closed:
		return "closed"
	case f.Flags&closed != 0:
		return "closing"
	}
	return "established"
}

// String gives the versions as status shows them.
func (v Versions) String() string {
	return strings.Join([]string{
		fmt.Sprintf("records %d", v.Records), fmt.Sprintf("wire %d", v.Wire), fmt.Sprintf("hash %d", v.Hash),
	}, ", ")
}
