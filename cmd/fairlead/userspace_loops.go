// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fairlead/fairlead/lb/afxdp"
	"github.com/fairlead/fairlead/lb/forward"
	"github.com/fairlead/fairlead/xdp"
)

// userspaceFlags are the flags of the agent that concern its sockets.
type userspaceFlags struct {
	mode     afxdp.Mode
	busyPoll time.Duration
	cpus     []int
}

func (f *userspaceFlags) register(flags *flag.FlagSet) {
	flags.Func("socket-mode", "userspace datapath: `MODE` auto, copy or zerocopy", func(s string) (err error) {
		f.mode, err = afxdp.ParseMode(s)
		return err
	})
	flags.DurationVar(&f.busyPoll, "busy-poll", 0, "userspace datapath: poll an idle queue for so long instead of waiting for interrupts, e.g. 50us")
	flags.Func("cpus", "userspace datapath: `LIST` of cores for its loops, e.g. 2,3; default: all, one loop to each", func(s string) error {
		f.cpus = nil
		for _, field := range strings.Split(s, ",") {
			cpu, err := strconv.Atoi(field)
			if err != nil || cpu < 0 {
				return fmt.Errorf("core %q: want a number from 0 on", field)
			}
			f.cpus = append(f.cpus, cpu)
		}
		return nil
	})
}

// cpu is the core of a loop.
func (f *userspaceFlags) cpu(loop int) int {
	if len(f.cpus) > 0 {
		return f.cpus[loop%len(f.cpus)]
	}
	return loop % runtime.NumCPU()
}

// openDevice opens a socket for each queue of the interface, and one for each
// to hand packets to the stack.
func (f *userspaceFlags) openDevice(dev xdp.SocketDevice) (*userDevice, error) {
	d := &userDevice{SocketDevice: dev, port: afxdp.NewPort(dev.Name), stack: afxdp.NewPort(dev.Stack)}
	open := func(config afxdp.Config) (*afxdp.Socket, error) {
		config.FrameSize = 4096
		return afxdp.Open(config)
	}
	for queue := range dev.Queues {
		uplink, err := open(afxdp.Config{
			Interface: dev.Index, Queue: queue, Mode: f.mode, BusyPoll: afxdp.BusyPoll{Time: f.busyPoll},
		})
		if err == nil {
			d.uplinkSockets = append(d.uplinkSockets, uplink)
			uplink, err = open(afxdp.Config{Interface: dev.StackIndex, Queue: queue, TransmitOnly: true})
		}
		if err != nil {
			errs := []error{fmt.Errorf("open socket of queue %d: %w", queue, err)}
			for _, s := range d.sockets() {
				errs = append(errs, s.Close())
			}
			return nil, errors.Join(errs...)
		}
		d.stackSockets = append(d.stackSockets, uplink)
	}
	return d, nil
}

// userLoop serves one queue of every interface.
type userLoop struct {
	loop    *afxdp.Loop
	handler *afxdp.Forwarding
	owner   *xdp.Owner
}

// serve runs loops for the devices as they are, and others after each change,
// which are made while those before them still run: packets wait in the rings
// for no longer than the change from one to the other takes.
func (u *userspace) serve(ctx context.Context) {
	stop := func() {}
	for ctx.Err() == nil {
		loops, ended, err := u.newLoops()
		stop()
		if err := errors.Join(err, closeAll(ended)); err != nil {
			u.log.Error("start loops of the userspace datapath", "err", err)
		}
		stop = u.runLoops(ctx, loops)
		select {
		case <-ctx.Done():
		case <-u.changed:
		}
	}
	stop()
}

// newLoops makes a loop for each queue number that an interface has. ended are
// sockets that none of them uses, to be closed when those before them ended.
func (u *userspace) newLoops() (loops []*userLoop, ended []*afxdp.Socket, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	ended, u.closing = u.closing, nil
	count := 0
	for _, d := range u.devices {
		count = max(count, d.Queues)
	}
	var errs []error
	for queue := range count {
		l, err := u.newLoop(queue)
		if err != nil {
			errs = append(errs, fmt.Errorf("loop of queue %d: %w", queue, err))
			continue
		}
		loops = append(loops, l)
	}
	return loops, ended, errors.Join(errs...)
}

func (u *userspace) newLoop(queue int) (*userLoop, error) {
	var links []afxdp.Link
	var uplinks []afxdp.Uplink
	for _, d := range u.devices {
		if queue >= d.Queues {
			continue
		}
		links = append(links, afxdp.Link{Port: d.port, Socket: d.uplinkSockets[queue]},
			afxdp.Link{Port: d.stack, Socket: d.stackSockets[queue]})
		uplinks = append(uplinks, afxdp.Uplink{Index: d.Index, Port: d.port, Stack: d.stack})
	}
	loop, err := afxdp.NewLoop(afxdp.LoopConfig{Links: links, CPUs: []int{u.flags.cpu(queue)}})
	if err != nil {
		return nil, err
	}
	owner, err := u.NewOwner(u.memory.BackendIsLocal)
	if err != nil {
		return nil, err
	}
	forwarder, err := forward.NewForwarderWith(u.settings(), u.memory, owner)
	if err == nil {
		err = forwarder.CountIn(u.Maps().Ledger(queue))
	}
	if err != nil {
		return nil, errors.Join(err, owner.Close())
	}
	handler := afxdp.NewForwarding(forwarder, u.Maps(), uplinks, xdp.NowTick)
	return &userLoop{loop: loop, handler: handler, owner: owner}, nil
}

// runLoops runs them until stop is called, which waits for their end.
func (u *userspace) runLoops(ctx context.Context, loops []*userLoop) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var group errgroup.Group
	for i, l := range loops {
		group.Go(func() error {
			if err := l.loop.Run(ctx, l.handler); err != nil {
				u.log.Warn("loop of the userspace datapath ended", "queue", i, "err", err)
			}
			return l.owner.Close()
		})
	}
	return func() {
		cancel()
		if err := group.Wait(); err != nil {
			u.log.Warn("close flow program", "err", err)
		}
	}
}
