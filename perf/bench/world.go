// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/netip"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/dataplane"
	"github.com/fairlead/fairlead/lb/maglev"
	"github.com/fairlead/fairlead/lb/packet/packettest"
	"github.com/fairlead/fairlead/xdp"
)

const (
	genevePort   = 6180
	servicePort  = 80
	podPort      = 8080
	backendCount = 100 // of each service
)

// uplink is what the frames arrive on.
var uplink = xdp.Uplink{MTU: 1500, MAC: packettest.NodeMAC}

var wireKey = [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}

// family is the world of the rows in one IP version: a service with all its
// backends on a peer, and one with all of them here.
type family struct {
	macs                      macs
	name                      string
	ipLen, srcOffset, addrLen int
	clients                   netip.Addr // the first
	remote, local, unknown    netip.AddrPort
	notVIP                    netip.AddrPort
	self, peer                netip.Addr
	remotePods, pods          netip.Addr // the first
	pod                       netip.AddrPort
}

func families() []family {
	addr, port := netip.MustParseAddr, netip.MustParseAddrPort
	return []family{
		{
			name: "v4", macs: macs{}, ipLen: 20, srcOffset: 12, addrLen: 4, clients: addr("198.18.0.0"),
			remote: port("192.0.2.1:80"), local: port("192.0.2.2:80"), unknown: port("192.0.2.1:81"),
			notVIP: port("192.0.2.9:80"), self: addr("10.0.0.1"), peer: addr("10.0.0.2"),
			remotePods: addr("10.244.2.0"), pods: addr("10.244.1.0"), pod: port("10.244.1.0:8080"),
		},
		{
			name: "v6", macs: macs{}, ipLen: 40, srcOffset: 8, addrLen: 16, clients: addr("2001:db8:c::"),
			remote: port("[2001:db8::1]:80"), local: port("[2001:db8::2]:80"), unknown: port("[2001:db8::1]:81"),
			notVIP: port("[2001:db8::9]:80"), self: addr("fd00::1"), peer: addr("fd00::2"),
			remotePods: addr("fd44:2::"), pods: addr("fd44:1::"), pod: port("[fd44:1::]:8080"),
		},
	}
}

func wireID(pod netip.AddrPort) lb.WireID { return lb.WireIDOf(pod) }

// load makes the programs with the family's services, and a flow table of so
// many records.
func (f family) load(flowEntries int) (*xdp.Programs, error) {
	p, err := xdp.LoadPrograms(xdp.Config{
		Mode: xdp.Native, Addrs: []netip.Addr{f.self}, GenevePort: genevePort, Keys: [][16]byte{wireKey},
		FlowEntries: flowEntries, Services: 64, Backends: 1024, TableBytes: 1 << 20,
	}, uplink, [2]uint64{1, 2})
	if err != nil {
		return nil, err
	}
	table, err := lb.NewTable("self", []lb.Node{
		{Name: "self", Addrs: []netip.Addr{f.self}}, {Name: "peer", Addrs: []netip.Addr{f.peer}},
	}, []lb.Service{f.service(f.remote, f.remotePods, "peer"), f.service(f.local, f.pods, "self")})
	if err != nil {
		return nil, err
	}
	plane, err := dataplane.New(p.Maps(), dataplane.Options{Now: xdp.NowTick})
	if err != nil {
		return nil, err
	}
	if err := plane.Sync(table); err != nil {
		return nil, fmt.Errorf("sync: %w", err)
	}
	return p, nil
}

func (f family) service(vip netip.AddrPort, pods netip.Addr, node string) lb.Service {
	s := lb.Service{
		Key:       lb.ServiceKey{VIP: vip.Addr(), Port: vip.Port(), Proto: lb.TCP},
		TableSize: maglev.DefaultSize,
	}
	for range backendCount {
		s.Backends = append(s.Backends, lb.Backend{Addr: netip.AddrPortFrom(pods, podPort), Node: node, Weight: 1})
		pods = pods.Next()
	}
	return s
}
