// SPDX-License-Identifier: Apache-2.0

package xdp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/lb"
)

// Connection is one that the kernel's connection tracking knows by its original
// direction: from a client to a service.
type Connection struct {
	Service lb.ServiceKey
	Client  netip.AddrPort
}

// conntrack asks the connection tracking of one network namespace.
type conntrack struct{ socket *nl.SocketHandle }

// openConntrack is for the network namespace of the calling thread.
func openConntrack() (*conntrack, error) {
	socket, err := nl.Subscribe(unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("open netlink to netfilter: %w", err)
	}
	if err := socket.SetReceiveTimeout(&nl.SocketTimeoutTv); err != nil {
		socket.Close()
		return nil, fmt.Errorf("set timeout of netlink to netfilter: %w", err)
	}
	return &conntrack{&nl.SocketHandle{Socket: socket}}, nil
}

func (c *conntrack) close() { c.socket.Close() }

// Connections calls each with the connections that are not ours although they
// may be for a service of ours: of TCP and UDP, those with another destination
// than their first packet had, as rules of kube-proxy make them. They are the
// ones that the programs leave alone while their service is an adopted one. It
// fails with ErrNoConntrack where the kernel knows of no connections.
func (d *Datapath) Connections(each func(Connection)) error {
	if d.tracked == nil {
		return ErrNoConntrack
	}
	return d.tracked.list(each)
}

// TracksConnections says that the kernel can be asked for Connections.
func (d *Datapath) TracksConnections() bool { return d.tracked != nil }

// ErrNoConntrack says that the kernel tracks no connections.
var ErrNoConntrack = errors.New("the kernel tracks no connections")

// Attributes and bits of linux/netfilter/nfnetlink_conntrack.h and
// nf_conntrack_common.h that nl does not have.
const (
	ctaStatusMask = 26
	ipsDstNAT     = 1 << 5
)

func (c *conntrack) list(each func(Connection)) error {
	req := nl.NewNetlinkRequest(netlink.ConntrackTable<<8|nl.IPCTNL_MSG_CT_GET, unix.NLM_F_DUMP)
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_NETFILTER: c.socket}
	req.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_UNSPEC, Version: nl.NFNETLINK_V0})
	// Kernels before 5.15 do not filter, and send everything.
	req.AddData(nl.NewRtAttr(nl.CTA_STATUS, nl.BEUint32Attr(ipsDstNAT)))
	req.AddData(nl.NewRtAttr(ctaStatusMask, nl.BEUint32Attr(ipsDstNAT)))
	err := req.ExecuteIter(unix.NETLINK_NETFILTER, 0, func(message []byte) bool {
		if connection, ok := parseConntrack(message); ok {
			each(connection)
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("list tracked connections: %w", err)
	}
	return nil
}

// parseConntrack reads a message of a dump; ok is false for what is no matter
// of the programs.
func parseConntrack(message []byte) (connection Connection, ok bool) {
	if len(message) < nl.SizeofNfgenmsg {
		return connection, false
	}
	translated, over := false, false
	for kind, value := range attributes(message[nl.SizeofNfgenmsg:]) {
		switch kind {
		case nl.CTA_STATUS:
			translated = len(value) == 4 && binary.BigEndian.Uint32(value)&ipsDstNAT != 0
		case nl.CTA_TUPLE_ORIG:
			connection, ok = parseTuple(value)
		case nl.CTA_PROTOINFO:
			over = tcpIsOver(value)
		case nl.CTA_ZONE: // the programs look into the one without a number
			return connection, false
		}
	}
	return connection, ok && translated && !over
}

func tcpIsOver(info []byte) bool {
	for kind, tcp := range attributes(info) {
		if kind != nl.CTA_PROTOINFO_TCP {
			continue
		}
		for kind, state := range attributes(tcp) {
			if kind == nl.CTA_PROTOINFO_TCP_STATE && len(state) == 1 {
				return state[0] == nl.TCP_CONNTRACK_TIME_WAIT || state[0] == nl.TCP_CONNTRACK_CLOSE
			}
		}
	}
	return false
}

func parseTuple(tuple []byte) (c Connection, ok bool) {
	var src, dst netip.Addr
	var ports [2]uint16
	for kind, value := range attributes(tuple) {
		switch kind {
		case nl.CTA_TUPLE_IP:
			for kind, addr := range attributes(value) {
				switch kind {
				case nl.CTA_IP_V4_SRC, nl.CTA_IP_V6_SRC:
					src, _ = netip.AddrFromSlice(addr)
				case nl.CTA_IP_V4_DST, nl.CTA_IP_V6_DST:
					dst, _ = netip.AddrFromSlice(addr)
				}
			}
		case nl.CTA_TUPLE_PROTO:
			for kind, number := range attributes(value) {
				switch {
				case kind == nl.CTA_PROTO_NUM && len(number) == 1:
					c.Service.Proto = lb.Proto(number[0])
				case kind == nl.CTA_PROTO_SRC_PORT && len(number) == 2:
					ports[0] = binary.BigEndian.Uint16(number)
				case kind == nl.CTA_PROTO_DST_PORT && len(number) == 2:
					ports[1] = binary.BigEndian.Uint16(number)
				}
			}
		}
	}
	c.Client, c.Service.VIP, c.Service.Port = netip.AddrPortFrom(src, ports[0]), dst, ports[1]
	known := c.Service.Proto == lb.TCP || c.Service.Proto == lb.UDP
	return c, known && src.IsValid() && dst.IsValid()
}

// attributes are those of a netlink message, without the flags of their types;
// what is cut off ends them.
func attributes(b []byte) iter.Seq2[int, []byte] {
	return func(yield func(int, []byte) bool) {
		for len(b) >= nl.SizeofNfattr {
			length, kind := int(binary.NativeEndian.Uint16(b)), binary.NativeEndian.Uint16(b[2:])
			if length < nl.SizeofNfattr || length > len(b) {
				return
			}
			if !yield(int(kind&^(nl.NLA_F_NESTED|nl.NLA_F_NET_BYTEORDER)), b[nl.SizeofNfattr:length]) {
				return
			}
			b = b[min((length+3)&^3, len(b)):]
		}
	}
}
