// SPDX-License-Identifier: Apache-2.0

package forwardtest

import (
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/forward"
	"github.com/fairlead/fairlead/lb/packet/packettest"
)

// family is the vectors' world as one IP version sees it, for what has to be
// the same in both.
type family struct {
	name, client, web, dns string
	local, remote          string // Pods of this node and of node b
	router                 string // somewhere on the way
	self                   string
	loopback               string
	unreachable            [2]uint8
	noFragment             bool // routers may not fragment
}

var families = []family{
	{
		name: " v4", client: clientV4, web: webV4, dns: dnsV4, local: a1, remote: b1, router: "203.0.113.9", self: selfV4,
		loopback: "127.0.0.1:40000", unreachable: [2]uint8{3, 1},
	},
	{
		name: " v6", client: clientV6, web: webV6, dns: dnsV6, local: a1v6, remote: b1v6, router: "2001:db8:9::9", self: selfV6,
		loopback: "[::1]:40000", unreachable: [2]uint8{1, 0}, noFragment: true,
	},
}

// inBoth are vectors for each family.
func inBoth(vectors func(family) []Vector) []Vector {
	var all []Vector
	for _, w := range families {
		all = append(all, vectors(w)...)
	}
	return all
}

// vector is one that has the family's name.
func (w family) vector(name string, tables []*lb.Table, steps ...Step) Vector {
	return vector(name+w.name, tables, steps...)
}

// vip is the VIP's address.
func (w family) vip() string { return netip.MustParseAddrPort(w.web).Addr().String() }

// host is the client's address.
func (w family) host() string { return netip.MustParseAddrPort(w.client).Addr().String() }

func (w family) tcp(flags uint8) packettest.Frame { return packettest.TCP(w.client, w.web, flags) }

// query is a datagram with so many bytes of payload.
func (w family) query(length int) packettest.Frame {
	f := packettest.UDP(w.client, w.dns, "")
	f.Payload = make([]byte, length)
	for i := range f.Payload {
		f.Payload[i] = byte(i)
	}
	return f
}

// ping is one with so many bytes of payload.
func (w family) ping(length int) packettest.Frame {
	f := packettest.Ping(w.host(), w.vip())
	f.Payload = make([]byte, length)
	return f
}

// from is f from another source.
func from(f packettest.Frame, src string) packettest.Frame {
	f.Src = netip.MustParseAddrPort(src)
	return f
}

// to is f to another destination.
func to(f packettest.Frame, dst string) packettest.Frame {
	f.Dst = netip.MustParseAddrPort(dst)
	return f
}

// tunnelFrom is f by tunnel from node b, whatever its TTL is by now.
func tunnelFrom(f packettest.Frame, position uint8, pods ...string) packettest.Tunnel {
	f.Tags = nil
	return tunnel(f, position, tags(pods...))
}

// toNode is f in the tunnel to node b, where its service's only backend runs.
func (w family) toNode(f packettest.Frame, s lb.Service) []byte {
	return encapped(f, nodeB, 0, tableHash(s), tags(w.remote)).Bytes()
}

// translated is a step with a packet that leaves as another.
func translated(f, want packettest.Frame) Step { return out(f, forward.Translated, want.Bytes()) }

// all are steps in order.
func all(steps ...[]Step) []Step { return slices.Concat(steps...) }
