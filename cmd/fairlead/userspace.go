// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/fairlead/fairlead/lb/afxdp"
	"github.com/fairlead/fairlead/lb/dataplane"
	"github.com/fairlead/fairlead/lb/forward"
	"github.com/fairlead/fairlead/xdp"
)

// userspace is the datapath of AF_XDP sockets and lb/forward. XDP only sends
// packets to the sockets. TC, which translates replies, and the maps are the
// kernel datapath's, so that flows outlive a change between the two.
type userspace struct {
	*xdp.Datapath
	log    *slog.Logger
	flags  userspaceFlags
	memory *forward.Tables // what the maps hold, for the forwarders
	both   dataplane.Maps

	mu      sync.Mutex // of what follows
	cfg     xdp.Config
	devices map[string]*userDevice // by interface
	closing []*afxdp.Socket        // once their loops have ended
	changed chan struct{}          // the loops have to begin anew
}

// userDevice is an uplink and its sockets, by queue.
type userDevice struct {
	xdp.SocketDevice
	port, stack                 *afxdp.Port
	uplinkSockets, stackSockets []*afxdp.Socket
}

// openUserspace opens the datapath with flags of the command line.
func openUserspace(cfg xdp.Config, flags userspaceFlags) (datapath, error) {
	u := &userspace{
		log: cfg.Logger, flags: flags, cfg: cfg, devices: map[string]*userDevice{}, changed: make(chan struct{}, 1),
	}
	cfg.OpenSockets = u.openSockets
	d, err := xdp.Open(cfg)
	if err != nil {
		return nil, errors.Join(err, u.closeSockets())
	}
	u.Datapath = d
	u.memory = forward.NewTables(d.Maps().Limits())
	if u.both, err = dataplane.Both(d.Maps(), u.memory); err != nil {
		return nil, errors.Join(err, u.Close())
	}
	return u, nil
}

func (u *userspace) name() string           { return datapathUserspace }
func (u *userspace) tables() dataplane.Maps { return u.both }

// sockets tells of all sockets that receive.
func (u *userspace) sockets() ([]socketReport, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	var reports []socketReport
	for _, name := range slices.Sorted(maps.Keys(u.devices)) {
		for queue, s := range u.devices[name].uplinkSockets {
			stats, err := s.Stats()
			if err != nil {
				return nil, fmt.Errorf("socket of queue %d of %s: %w", queue, name, err)
			}
			reports = append(reports, socketReport{
				Interface: name, Queue: queue, Mode: s.Mode().String(), Received: stats.Received, Sent: stats.Sent,
				Dropped: stats.RXDropped + stats.RXInvalid + stats.RXRingFull, NotSent: stats.NoFrame + stats.BadLength + stats.Refused,
			})
		}
	}
	return reports, nil
}

// Reconfigure gives the loops the new settings too.
func (u *userspace) Reconfigure(cfg xdp.Config) error {
	cfg.OpenSockets = u.openSockets
	u.mu.Lock()
	u.cfg = cfg
	u.mu.Unlock()
	err := u.Datapath.Reconfigure(cfg)
	u.restart()
	return err
}

// restart has the loops begin anew with what is configured then.
func (u *userspace) restart() {
	select {
	case u.changed <- struct{}{}:
	default:
	}
}

// openSockets opens those of an interface, or keeps those that it has.
func (u *userspace) openSockets(dev xdp.SocketDevice) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	known := u.devices[dev.Name]
	if known == nil || known.Index != dev.Index || known.MTU != dev.MTU || known.Queues != dev.Queues {
		if known != nil {
			u.closing = append(u.closing, known.sockets()...)
			delete(u.devices, dev.Name)
		}
		opened, err := u.flags.openDevice(dev)
		if err != nil {
			return err
		}
		u.devices[dev.Name], known = opened, opened
		u.restart()
	}
	for queue, s := range known.uplinkSockets {
		if err := dev.Put(queue, s.FD()); err != nil {
			return fmt.Errorf("send queue %d of %s to its socket: %w", queue, dev.Name, err)
		}
	}
	return nil
}

func (d *userDevice) sockets() []*afxdp.Socket {
	return append(append([]*afxdp.Socket{}, d.uplinkSockets...), d.stackSockets...)
}

// closeSockets closes those that no loop has any more.
func (u *userspace) closeSockets() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	for name, d := range u.devices {
		u.closing = append(u.closing, d.sockets()...)
		delete(u.devices, name)
	}
	defer func() { u.closing = nil }()
	return closeAll(u.closing)
}

func closeAll(sockets []*afxdp.Socket) error {
	var errs []error
	for _, s := range sockets {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

// Close lets go of everything. Packets for VIPs are dropped then, until an
// agent runs again.
func (u *userspace) Close() error { return errors.Join(u.closeSockets(), u.Datapath.Close()) }

// settings are those of the forwarders. Frames for other MAC addresses do not
// come as far as here.
func (u *userspace) settings() forward.Settings {
	mtu, veth := 1<<16-1, false
	for _, d := range u.devices {
		mtu, veth = min(mtu, d.MTU), veth || d.Veth
	}
	v4, v6 := forward.MSSClamps(mtu, u.cfg.Addrs)
	var key [16]byte
	rand.Read(key[:]) // never fails (crypto/rand)
	return forward.Settings{
		InternalIPs: append([]netip.Addr{}, u.cfg.Addrs...), GenevePort: u.cfg.GenevePort, Keys: u.cfg.Keys, MTU: mtu,
		MSSClampV4: v4, MSSClampV6: v6, CompleteChecksums: veth, FlowKey: key,
	}
}

// Run serves the sockets too, until ctx ends.
func (u *userspace) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	served := make(chan struct{})
	go func() {
		defer close(served)
		u.serve(ctx)
	}()
	err := u.Datapath.Run(ctx)
	stop()
	<-served
	return err
}
