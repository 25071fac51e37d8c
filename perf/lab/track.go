// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Tracked is a connection for connection tracking to know.
type Tracked struct {
	Proto    uint8 // IPPROTO_TCP or IPPROTO_UDP
	Src, Dst netip.AddrPort
	// To is where its packets go in place of Dst; the zero AddrPort: nowhere else.
	To netip.AddrPort
	// State of TCP is one of nl.TCP_CONNTRACK_SYN_SENT to TCP_CONNTRACK_CLOSE.
	State uint8
}

// Attributes of linux/netfilter/nfnetlink_conntrack.h that nl does not have.
const (
	ctaNATDst         = 13
	ctaNATV4MinIP     = 1
	ctaNATProto       = 3
	ctaNATV6MinIP     = 4
	ctaProtoNATMin    = 1
	trackedForSeconds = 3600
)

// Track makes the connection known in the network namespace of the calling
// thread, for an hour, as if its packets had been seen.
func Track(c Tracked) error {
	req := conntrackRequest(nl.IPCTNL_MSG_CT_NEW, c.Src.Addr(), unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	req.AddData(tuple(nl.CTA_TUPLE_ORIG, c.Proto, c.Src, c.Dst))
	req.AddData(tuple(nl.CTA_TUPLE_REPLY, c.Proto, c.Dst, c.Src))
	req.AddData(nl.NewRtAttr(nl.CTA_TIMEOUT, nl.BEUint32Attr(trackedForSeconds)))
	if c.Proto == unix.IPPROTO_TCP {
		info := nested(nl.CTA_PROTOINFO)
		info.AddRtAttr(nl.CTA_PROTOINFO_TCP|unix.NLA_F_NESTED, nil).AddRtAttr(nl.CTA_PROTOINFO_TCP_STATE, []byte{c.State})
		req.AddData(info)
	}
	if c.To.IsValid() {
		nat, addr := nested(ctaNATDst), ctaNATV4MinIP
		if c.To.Addr().Is6() {
			addr = ctaNATV6MinIP
		}
		nat.AddRtAttr(addr, c.To.Addr().AsSlice())
		nat.AddRtAttr(ctaNATProto|unix.NLA_F_NESTED, nil).AddRtAttr(ctaProtoNATMin, nl.BEUint16Attr(c.To.Port()))
		req.AddData(nat)
	}
	if _, err := req.Execute(unix.NETLINK_NETFILTER, 0); err != nil {
		return fmt.Errorf("track %s to %s: %w", c.Src, c.Dst, err)
	}
	return nil
}

// ForgetTracked forgets all connections of the calling thread's network namespace.
func ForgetTracked() error {
	if err := netlink.ConntrackTableFlush(netlink.ConntrackTable); err != nil {
		return fmt.Errorf("forget tracked connections: %w", err)
	}
	return nil
}

func conntrackRequest(operation int, addr netip.Addr, flags int) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(netlink.ConntrackTable<<8|operation, flags)
	family := uint8(unix.AF_INET)
	if addr.Is6() {
		family = unix.AF_INET6
	}
	req.AddData(&nl.Nfgenmsg{NfgenFamily: family, Version: nl.NFNETLINK_V0})
	return req
}

func nested(kind int) *nl.RtAttr { return nl.NewRtAttr(kind|unix.NLA_F_NESTED, nil) }

func tuple(kind int, proto uint8, src, dst netip.AddrPort) *nl.RtAttr {
	all := nested(kind)
	ip, from, to := nested(nl.CTA_TUPLE_IP), nl.CTA_IP_V4_SRC, nl.CTA_IP_V4_DST
	if src.Addr().Is6() {
		from, to = nl.CTA_IP_V6_SRC, nl.CTA_IP_V6_DST
	}
	ip.AddRtAttr(from, src.Addr().AsSlice())
	ip.AddRtAttr(to, dst.Addr().AsSlice())
	all.AddChild(ip)
	l4 := nested(nl.CTA_TUPLE_PROTO)
	l4.AddRtAttr(nl.CTA_PROTO_NUM, []byte{proto})
	l4.AddRtAttr(nl.CTA_PROTO_SRC_PORT, nl.BEUint16Attr(src.Port()))
	l4.AddRtAttr(nl.CTA_PROTO_DST_PORT, nl.BEUint16Attr(dst.Port()))
	all.AddChild(l4)
	return all
}
