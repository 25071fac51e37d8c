// SPDX-License-Identifier: Apache-2.0

// Package desired says what a node has to do, from what the operator wrote. It
// is the pure middle of roads A and B: a Snapshot goes in, an lb.Table and
// settings, or all problems at once, come out. So far it reads the standalone
// configuration file.
package desired

import (
	"cmp"
	"iter"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/fairlead/fairlead/lb"
)

// Snapshot is one state of the configuration, complete and valid. Whoever has
// one only reads it.
type Snapshot struct {
	// Revision names the text that the Snapshot was read from.
	Revision string
	Settings Settings
	Nodes    []lb.Node
	Services []Service
	// Received says when what is new here was told, change by change, where the
	// source knows.
	Received []time.Time

	// Built stands in the place of Services where the source keeps a table
	// itself, so that little of it is new when little has changed.
	Built *lb.Table
}

// Settings are what concerns this node alone.
type Settings struct {
	Node       string
	Interfaces []string
	XDPMode    string // auto, native, generic or off
	PinPath    string
	Socket     string
	GenevePort uint16
	Addrs      []netip.Addr // this node's InternalIPs
	// Keys authenticate the wire: the first one is sent, all are accepted.
	Keys [][16]byte
	// Past is how long slots remember earlier backends.
	Past   time.Duration
	Limits Limits
}

// Limits are the sizes of the maps, fixed when these are first made.
type Limits struct {
	Flows       int // a power of two
	Services    int // service ports: one for each VIP, port and protocol
	Backends    int // one for each address and port
	TableMemory int // bytes for all lookup tables
}

// Service is a service with all its VIPs and ports.
type Service struct {
	Name         string
	VIPs         []netip.Addr
	Policy       lb.Policy
	Affinity     time.Duration // 0: off
	SourceRanges []netip.Prefix
	TableSize    int
	Ports        []Port
}

// Port is one port of all VIPs of a service.
type Port struct {
	Name     string // may be empty
	Port     uint16
	Proto    lb.Proto
	Backends []lb.Backend // of every family
	// Left ones are kube-proxy's on the service's VIPs of that family.
	LeftIPv4, LeftIPv6 bool
}

// Table returns the services as the datapath is to have them: one for each VIP
// and port, with the backends and source ranges of the VIP's family. A VIP whose
// ports are all left to kube-proxy is not ours, and not there.
func (s *Snapshot) Table() (*lb.Table, error) {
	if s.Built != nil {
		return s.Built, nil
	}
	var services []lb.Service
	for _, service := range s.Services {
		services = slices.AppendSeq(services, service.Rows())
	}
	ours := map[netip.Addr]bool{}
	for _, row := range services {
		ours[row.Key.VIP] = ours[row.Key.VIP] || !row.Left
	}
	services = slices.DeleteFunc(services, func(row lb.Service) bool { return !ours[row.Key.VIP] })
	return lb.NewTable(s.Settings.Node, s.Nodes, services)
}

// Rows are the service as the datapath knows it: one for each VIP and port.
func (s Service) Rows() iter.Seq[lb.Service] {
	return func(yield func(lb.Service) bool) {
		for _, port := range s.Ports {
			for _, vip := range s.VIPs {
				if !yield(s.at(vip, port)) {
					return
				}
			}
		}
	}
}

func (s Service) at(vip netip.Addr, port Port) lb.Service {
	one := lb.Service{
		Key:       lb.ServiceKey{VIP: vip, Port: port.Port, Proto: port.Proto},
		Name:      s.Name + ":" + cmp.Or(port.Name, strconv.Itoa(int(port.Port))),
		Policy:    s.Policy,
		Affinity:  s.Affinity,
		TableSize: s.TableSize,
	}
	if one.Left = port.LeftIPv4 && vip.Is4() || port.LeftIPv6 && vip.Is6(); one.Left {
		return one
	}
	for _, b := range port.Backends {
		if b.Addr.Addr().Is4() == vip.Is4() {
			one.Backends = append(one.Backends, b)
		}
	}
	if s.SourceRanges != nil {
		one.SourceRanges = []netip.Prefix{} // admits nobody, should there be none of the family
	}
	for _, p := range s.SourceRanges {
		if p.Addr().Is4() == vip.Is4() {
			one.SourceRanges = append(one.SourceRanges, p)
		}
	}
	return one
}
