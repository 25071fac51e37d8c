// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/packet"
)

// The arguments of fairlead explain, which its errors name.
const (
	argProto  = "PROTO"
	argClient = "CLIENT:PORT"
	argVIP    = "VIP:PORT"
)

func runExplain(ctx context.Context, env *env, args []string) error {
	var f clientFlags
	flags := newFlags("explain")
	f.register(env, flags)
	kind := flags.String("flags", "", "of TCP, explain only a packet with these `FLAGS`: syn, which begins a connection, or ack, which belongs to one; both is the default")
	node := flags.String("node", "", "the `NODE` that gets the packet; an agent knows only its own")
	given, err := parseArgs(env, flags, args, argProto, argClient, argVIP)
	if err != nil {
		return err
	}
	query := url.Values{"proto": given[:1], "client": given[1:2], "vip": given[2:], "flags": {*kind}, "node": {*node}}
	if _, err := parseAsked(query); err != nil {
		return usageError{err}
	}
	return show(ctx, env, f, "/explain", query, "explanation", printExplanation)
}

// asked is what an explanation is wanted of.
type asked struct {
	proto       lb.Proto
	client, vip netip.AddrPort
	node        string
	packets     []askedPacket
}

// askedPacket is a kind of packet. The flags are TCP's.
type askedPacket struct {
	name  string
	flags uint8
}

var (
	askedSYN      = askedPacket{"syn", packet.SYN}
	askedACK      = askedPacket{"ack", packet.ACK}
	askedDatagram = askedPacket{name: "datagram"}
)

// parseAsked checks everything that needs no agent; errors name the argument.
func parseAsked(query url.Values) (asked, error) {
	q := asked{node: query.Get("node")}
	var err error
	if q.proto, err = lb.ParseProto(query.Get("proto")); err != nil {
		return q, fmt.Errorf("%s %q: want tcp or udp", argProto, query.Get("proto"))
	}
	if q.client, err = parseEndpoint(argClient, query.Get("client")); err != nil {
		return q, err
	}
	if q.vip, err = parseEndpoint(argVIP, query.Get("vip")); err != nil {
		return q, err
	}
	if q.client.Addr().Is4() != q.vip.Addr().Is4() {
		return q, fmt.Errorf("%s %q and %s %q: want addresses of one family", argClient, q.client, argVIP, q.vip)
	}
	switch kind := query.Get("flags"); {
	case q.proto == lb.UDP && kind != "":
		return q, fmt.Errorf("--flags %q: UDP has none", kind)
	case q.proto == lb.UDP:
		q.packets = []askedPacket{askedDatagram}
	case kind == "" || kind == "both":
		q.packets = []askedPacket{askedSYN, askedACK}
	case kind == askedSYN.name:
		q.packets = []askedPacket{askedSYN}
	case kind == askedACK.name:
		q.packets = []askedPacket{askedACK}
	default:
		return q, fmt.Errorf("--flags %q: want syn, ack or both", kind)
	}
	return q, nil
}

func parseEndpoint(argument, text string) (netip.AddrPort, error) {
	endpoint, err := netip.ParseAddrPort(text)
	switch {
	case err != nil:
		err = errors.New("want an address and a port, such as 192.0.2.10:80 or [2001:db8::10]:80")
	case endpoint.Addr().Zone() != "":
		err = errors.New("want an address without a zone")
	case endpoint.Addr().Is4In6():
		err = fmt.Errorf("IPv4-mapped address: want %q", netip.AddrPortFrom(endpoint.Addr().Unmap(), endpoint.Port()))
	case endpoint.Port() == 0:
		err = errors.New("port 0: want 1 to 65535")
	default:
		return endpoint, nil
	}
	return netip.AddrPort{}, fmt.Errorf("%s %q: %w", argument, text, err)
}
