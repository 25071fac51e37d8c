// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/fairlead/fairlead/lb/afxdp"
	"github.com/fairlead/fairlead/lb/dataplane"
	"github.com/fairlead/fairlead/lb/forward"
	"github.com/fairlead/fairlead/xdp"
)

// socketDevice is a station's uplink and the way to its stack.
type socketDevice struct {
	wire          *wire
	device        xdp.SocketDevice
	uplink, stack *afxdp.Socket
}

// open implements xdp.Config.OpenSockets, for one queue, as the agent does.
func (d *socketDevice) open(device xdp.SocketDevice) error {
	d.device = device
	for _, s := range []struct {
		socket **afxdp.Socket
		config afxdp.Config
	}{
		{&d.uplink, afxdp.Config{Interface: device.Index, FrameSize: 4096}},
		{&d.stack, afxdp.Config{Interface: device.StackIndex, FrameSize: 4096, TransmitOnly: true}},
	} {
		opened, err := afxdp.Open(s.config)
		if err != nil {
			return err
		}
		*s.socket = opened
		d.wire.closers = append(d.wire.closers, opened.Close)
	}
	return device.Put(0, d.uplink.FD())
}

// userspace makes the station's loop and its handler, and returns the maps that
// both datapaths read.
func (s *station) userspace(cfg xdp.Config, d *socketDevice) (dataplane.Maps, error) {
	tables := forward.NewTables(s.datapath.Maps().Limits())
	both, err := dataplane.Both(s.datapath.Maps(), tables)
	if err != nil {
		return nil, err
	}
	owner, err := s.datapath.NewOwner(tables.BackendIsLocal)
	if err != nil {
		return nil, err
	}
	d.wire.closers = append(d.wire.closers, owner.Close)
	v4, v6 := forward.MSSClamps(d.device.MTU, cfg.Addrs)
	f, err := forward.NewForwarderWith(forward.Settings{
		InternalIPs: cfg.Addrs, GenevePort: cfg.GenevePort, Keys: cfg.Keys, MTU: d.device.MTU,
		MSSClampV4: v4, MSSClampV6: v6, CompleteChecksums: d.device.Veth,
	}, tables, owner)
	if err != nil {
		return nil, err
	}
	port, stack := afxdp.NewPort(d.device.Name), afxdp.NewPort(d.device.Stack)
	s.uplink = d.uplink
	s.handler = afxdp.NewForwarding(f, s.datapath.Maps(), []afxdp.Uplink{{Index: d.device.Index, Port: port, Stack: stack}}, xdp.NowTick)
	s.loop, err = afxdp.NewLoop(afxdp.LoopConfig{
		Links: []afxdp.Link{{Port: port, Socket: d.uplink}, {Port: stack, Socket: d.stack}},
		CPUs:  []int{loopCore()},
	})
	return both, err
}
