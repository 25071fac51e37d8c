// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	delayLink = "delay0" // in the client and the router
	// delayQueue bounds the packets under way in one direction.
	delayQueue = 1 << 15
	// delayTxQueue is that of the kernel before the line, for bursts.
	delayTxQueue = 10_000
)

// delayLine connects client and router by a pair of TUN devices and holds each
// packet back: the kernel that the lab is made for has no netem. It lives as
// long as its process.
type delayLine struct {
	delay   time.Duration
	ends    []*os.File
	dropped atomic.Uint64
	running sync.WaitGroup
	ctx     context.Context
	stop    context.CancelFunc
}

// DelayDropped counts the packets that the delay line had no room for.
func (l *Lab) DelayDropped() uint64 {
	if l.delay == nil {
		return 0
	}
	return l.delay.dropped.Load()
}

// connectClient routes between client and router: over their veth, or over a
// delay line beside it. Frames that are put into the veth are never delayed.
func (l *Lab) connectClient() error {
	if l.options.Delay == 0 {
		return l.Client.setDefaults(clientGateway4, clientGateway6)
	}
	d := &delayLine{delay: l.options.Delay}
	d.ctx, d.stop = context.WithCancel(context.Background())
	l.delay = d
	for _, n := range []*Namespace{l.Client, l.Router} {
		end, err := n.addTUN(delayLink, l.options.ClientMTU)
		if err != nil {
			return err
		}
		d.ends = append(d.ends, end)
	}
	d.carry(d.ends[0], d.ends[1], l.options.ClientMTU)
	d.carry(d.ends[1], d.ends[0], l.options.ClientMTU)
	for _, dst := range []netip.Prefix{default4, default6} {
		if err := l.Client.SetRoute(Route{Dst: dst, Link: delayLink}); err != nil {
			return err
		}
	}
	for _, a := range []netip.Addr{ClientAddr4, ClientAddr6} {
		if err := l.Router.SetRoute(Route{Dst: netip.PrefixFrom(a, a.BitLen()), Link: delayLink}); err != nil {
			return err
		}
	}
	return nil
}

// addTUN makes a TUN device, up, without offloads: what is read from it has
// whole checksums. It goes when the file is closed.
func (n *Namespace) addTUN(name string, mtu int) (*os.File, error) {
	var fd int
	err := n.Do(func() (err error) { // the device is made where the file is opened
		fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open tun in %s: %w", n.Name, err)
	}
	req, err := unix.NewIfreq(name)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("name tun %s: %w", name, err)
	}
	req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("add tun %s in %s: %w", name, n.Name, err)
	}
	// Not earlier: epoll would remember that the file is no device yet.
	f := os.NewFile(uintptr(fd), name)
	if err := n.setUpTUN(name, mtu); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (n *Namespace) setUpTUN(name string, mtu int) error {
	link, err := n.link(name)
	if err != nil {
		return err
	}
	err = steps(
		func() error { return n.nl.LinkSetMTU(link, mtu) },
		func() error { return n.nl.LinkSetTxQLen(link, delayTxQueue) },
	)
	if err != nil {
		return fmt.Errorf("set up tun %s in %s: %w", name, n.Name, err)
	}
	return n.linkUp(name)
}

// late is a packet and when it has to arrive.
type late struct {
	packet []byte
	due    time.Time
}

// carry moves packets from one end to the other until the line is closed.
func (d *delayLine) carry(from, to *os.File, mtu int) {
	queue := make(chan late, delayQueue)
	d.running.Go(func() {
		defer close(queue)
		buf := make([]byte, mtu)
		for {
			n, err := from.Read(buf)
			if err != nil {
				return // closed
			}
			select {
			case queue <- late{slices.Clone(buf[:n]), time.Now().Add(d.delay)}:
			default:
				d.dropped.Add(1)
			}
		}
	})
	d.running.Go(func() {
		for p := range queue {
			if d.wait(p.due) {
				to.Write(p.packet) // a device that refuses it is a lossy wire
			}
		}
	})
}

// wait returns at the time, or at once with false when the line is closed.
func (d *delayLine) wait(due time.Time) bool {
	left := time.Until(due)
	if left <= 0 {
		return d.ctx.Err() == nil
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-d.ctx.Done():
		return false
	}
}

// close takes the devices away and waits for the goroutines.
func (d *delayLine) close() {
	if d == nil {
		return
	}
	d.stop()
	for _, end := range d.ends {
		end.Close()
	}
	d.running.Wait()
}
