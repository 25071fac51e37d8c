// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/afxdp"
	"github.com/fairlead/fairlead/lb/dataplane"
	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/xdp"
)

// wireDeadline is how long the lab may take to learn a next hop.
const wireDeadline = 10 * time.Second

// wire is a lab with one station for each way to forward, each on a veth of its
// own, all alike.
type wire struct {
	family   family
	lab      *lab.Lab
	closers  []func() error
	zeroCopy string

	kernel, native, generic *station
}

// station is a node whose uplink has a datapath.
type station struct {
	node     *lab.Node
	datapath *xdp.Datapath
	sink     *ebpf.Map // of the other end of its veth

	// Of the userspace datapath.
	uplink  *afxdp.Socket
	loop    *afxdp.Loop
	handler afxdp.Handler
}

// newWire builds all of it. After an error nothing is left behind.
func newWire(f family) (_ *wire, err error) {
	w := &wire{family: f}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	if w.lab, err = lab.New(slog.New(slog.DiscardHandler), lab.Options{Nodes: 3, NoFirewall: true}); err != nil {
		return nil, err
	}
	w.closers = append(w.closers, w.lab.Close)
	for i, s := range []struct {
		station **station
		mode    xdp.Mode
		sockets bool
	}{{&w.kernel, xdp.Native, false}, {&w.native, xdp.Native, true}, {&w.generic, xdp.Generic, true}} {
		if *s.station, err = w.newStation(w.lab.Nodes[i], s.mode, s.sockets); err != nil {
			return nil, fmt.Errorf("station %d: %w", i+1, err)
		}
	}
	w.zeroCopy = w.tryZeroCopy()
	return w, nil
}

// close undoes everything, last things first.
func (w *wire) close() error {
	var errs []error
	for i := range w.closers {
		errs = append(errs, w.closers[len(w.closers)-1-i]())
	}
	return errors.Join(errs...)
}

// tryZeroCopy opens a socket without copies where no other has the queue.
func (w *wire) tryZeroCopy() string {
	n := w.kernel.node
	l, err := n.Netlink().LinkByName(lab.Uplink)
	if err != nil {
		return err.Error()
	}
	var s *afxdp.Socket
	err = n.Do(func() (err error) {
		s, err = afxdp.Open(afxdp.Config{Interface: l.Attrs().Index, Mode: afxdp.ZeroCopy})
		return err
	})
	if err != nil {
		return "veth refuses it: " + err.Error()
	}
	w.closers = append(w.closers, s.Close)
	return "veth takes it"
}

// newStation puts a datapath on a node, with a service whose Pods run on a peer.
func (w *wire) newStation(n *lab.Node, mode xdp.Mode, sockets bool) (*station, error) {
	s, peer := &station{node: n}, w.peer()
	if err := n.AcceptRedirects(lab.Uplink); err != nil {
		return nil, err
	}
	if err := w.attachSink(s); err != nil {
		return nil, err
	}
	cfg := xdp.Config{
		PinPath: filepath.Join(n.BPF, "bench"), Mode: mode, Interfaces: []string{lab.Uplink},
		Addrs: []netip.Addr{n.Addr(peer)}, GenevePort: genevePort, Keys: [][16]byte{wireKey},
		FlowEntries: 1 << 12, Services: 64, Backends: 1024, TableBytes: 1 << 20,
	}
	device := &socketDevice{wire: w}
	if sockets {
		cfg.OpenSockets = device.open
	}
	err := n.Do(func() (err error) {
		s.datapath, err = xdp.Open(cfg)
		return err
	})
	if err != nil {
		return nil, err
	}
	w.closers = append(w.closers, s.datapath.Close)
	maps := dataplane.Maps(s.datapath.Maps())
	if sockets {
		if maps, err = s.userspace(cfg, device); err != nil {
			return nil, err
		}
	}
	if err := w.sync(s, maps); err != nil {
		return nil, err
	}
	return s, w.follow(s)
}

// peer is the address of a node that nobody is at: what is sent there ends in the sink.
func (w *wire) peer() netip.Addr {
	if w.family.self.Is4() {
		return netip.MustParseAddr("10.1.0.250")
	}
	return netip.MustParseAddr("fd01::250")
}

func (w *wire) sync(s *station, maps dataplane.Maps) error {
	peer := w.peer()
	table, err := lb.NewTable("self", []lb.Node{
		{Name: "self", Addrs: []netip.Addr{s.node.Addr(peer)}}, {Name: "peer", Addrs: []netip.Addr{peer}},
	}, []lb.Service{w.family.service(w.family.remote, w.family.remotePods, "peer")})
	if err != nil {
		return err
	}
	plane, err := dataplane.New(maps, dataplane.Options{Now: xdp.NowTick})
	if err != nil {
		return err
	}
	return plane.Sync(table)
}

// follow keeps the peer's next hop fresh, and waits until it is known.
func (w *wire) follow(s *station) error {
	l, err := s.node.Netlink().LinkByName(lab.Uplink)
	if err != nil {
		return err
	}
	err = s.node.Netlink().NeighSet(&netlink.Neigh{
		LinkIndex: l.Attrs().Index, IP: w.peer().AsSlice(), State: netlink.NUD_PERMANENT,
		HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 0xfe},
	})
	if err != nil {
		return fmt.Errorf("add neighbour %s: %w", w.peer(), err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.node.Do(func() error { return s.datapath.Run(ctx) }) }()
	w.closers = append(w.closers, func() error {
		cancel()
		return <-ended
	})
	maps := s.datapath.Maps()
	err = lab.Poll(ctx, wireDeadline, func() bool {
		for id := range lb.NodeID(maps.Limits().Nodes) {
			if _, _, _, ok := maps.NextHop(id, xdp.NowTick()); ok {
				return true
			}
		}
		return false
	})
	if err != nil {
		return fmt.Errorf("wait for the next hop of %s: %w", w.peer(), err)
	}
	return nil
}
