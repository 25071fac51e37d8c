// SPDX-License-Identifier: Apache-2.0

package afxdp

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Link is a device as one loop has it. The loop uses the socket alone; it
// stays the caller's to close, after Run.
type Link struct {
	Port   *Port
	Socket *Socket
}

// LoopConfig says what a Loop serves and how.
type LoopConfig struct {
	// Links are the loop's devices. Those whose socket receives are served in
	// turn. A port may occur with several sockets, one for each of its queues:
	// then an answer leaves by the queue that the frame came in by, and what
	// comes from elsewhere by the first.
	Links []Link
	// CPUs are the cores that the loop's thread may run on; none: all of them.
	CPUs []int
	// Batch is how many frames of one socket are handled at a time; 0: 64.
	Batch int
	// Timeout is how long an idle loop waits for frames before it looks whether
	// its context ended; 0: 50 ms.
	Timeout time.Duration
}

const (
	defaultBatch   = 64
	defaultTimeout = 50 * time.Millisecond
	// retryInterval is how soon an idle loop asks a device again that took no more frames.
	retryInterval = time.Millisecond
)

// Loop carries frames from its sockets to a Handler and out again, in order:
// what came in first on a socket is handled, and sent, first. One Run at a time.
type Loop struct {
	config LoopConfig
	tx     Tx
	rx     []*Link // those that receive
	polled []unix.PollFd
	spins  bool
	gone   *Port // whose device was removed
}

// NewLoop makes a Loop over open sockets.
func NewLoop(c LoopConfig) (*Loop, error) {
	if c.Batch == 0 {
		c.Batch = defaultBatch
	}
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	if c.Batch < 0 || c.Timeout < 0 {
		return nil, fmt.Errorf("loop with batch %d and timeout %s: want more than 0", c.Batch, c.Timeout)
	}
	l := &Loop{config: c, tx: Tx{links: slices.Clone(c.Links)}}
	spare := 0
	for i := range l.tx.links {
		k := &l.tx.links[i]
		if k.Port == nil || k.Socket == nil {
			return nil, fmt.Errorf("link of port %v: want a port and a socket", k.Port)
		}
		spare = max(spare, k.Socket.config.FrameSize)
		if k.Socket.config.TransmitOnly {
			continue
		}
		l.rx = append(l.rx, k)
		l.polled = append(l.polled, unix.PollFd{Fd: int32(k.Socket.fd), Events: unix.POLLIN})
		l.spins = l.spins || k.Socket.config.BusyPoll.Time > 0
	}
	l.tx.spare = make([]byte, spare)
	if len(l.rx) == 0 {
		return nil, errors.New("loop without a socket that receives")
	}
	return l, nil
}

// Run serves the sockets on the calling goroutine, which it locks to a thread,
// until the context ends: then it returns nil, within the timeout. When a
// device is removed it returns an error that wraps ENETDOWN; a device that is
// only set down is waited for.
func (l *Loop) Run(ctx context.Context, h Handler) error {
	unpin, err := pin(l.config.CPUs)
	if err != nil {
		return err
	}
	defer unpin()
	var ended atomic.Bool
	defer context.AfterFunc(ctx, func() { ended.Store(true) })()
	for !ended.Load() {
		if l.round(h) == 0 {
			if err := l.idle(); err != nil {
				return err
			}
		}
		if l.gone != nil {
			return removedError(l.gone, unix.ENETDOWN)
		}
	}
	return nil
}

// pin locks the goroutine to a thread and the thread to the cores.
func pin(cpus []int) (unpin func(), err error) {
	runtime.LockOSThread()
	if len(cpus) == 0 {
		return runtime.UnlockOSThread, nil
	}
	var before, set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		runtime.UnlockOSThread()
		return nil, fmt.Errorf("read cores of the loop's thread: %w", err)
	}
	for _, cpu := range cpus {
		set.Set(cpu)
	}
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		runtime.UnlockOSThread()
		return nil, fmt.Errorf("pin loop to cores %v: %w", cpus, err)
	}
	return func() {
		// A thread that stays pinned must not serve other goroutines: left locked,
		// it ends with this one.
		if unix.SchedSetaffinity(0, &before) == nil {
			runtime.UnlockOSThread()
		}
	}, nil
}

// round handles one batch of every socket, and returns the number of frames.
func (l *Loop) round(h Handler) int {
	total := 0
	for _, from := range l.rx {
		total += l.batch(h, from)
	}
	return total
}

func (l *Loop) batch(h Handler, from *Link) int {
	s := from.Socket
	n := min(s.rx.available(), l.config.Batch)
	if n == 0 {
		return 0
	}
	if b, ok := h.(Batcher); ok {
		b.BeginBatch(n)
	}
	l.tx.from = from
	for range n {
		d := s.rx.take()
		h.Handle(s.received(d), &l.tx)
		s.recycle(d)
	}
	s.rx.release()
	s.counters.received.Add(uint64(n))
	l.flush()
	s.refill()
	return n
}

// flush sends what the handler put on the TX rings, and says whether a device
// has to be asked again.
func (l *Loop) flush() (blocked bool) {
	for i := range l.tx.links {
		k := &l.tx.links[i]
		k.Socket.flush()
		blocked = blocked || k.Socket.blocked
		if k.Socket.gone {
			l.gone = k.Port
		}
	}
	return blocked
}

// idle waits for frames. Meanwhile frames that a device did not take go on.
func (l *Loop) idle() error {
	timeout := l.config.Timeout
	if l.flush() {
		timeout = min(timeout, retryInterval)
	}
	if l.spins {
		l.spin()
		return nil
	}
	// To poll also wakes the kernel where a ring asks for it.
	ts := unix.NsecToTimespec(int64(timeout))
	n, err := unix.Ppoll(l.polled, &ts, nil)
	switch {
	case errors.Is(err, unix.EINTR):
		return nil
	case err != nil:
		return fmt.Errorf("poll sockets: %w", err)
	case n == 0:
		return l.removed()
	}
	for i := range l.polled {
		if events := l.polled[i].Revents; events&^unix.POLLIN != 0 {
			if err := l.removed(); err != nil {
				return err
			}
			return fmt.Errorf("poll socket of port %s: events %#x", l.rx[i].Port, events)
		}
	}
	return nil
}

// spin is idle for sockets that busy-poll: the call drives the device.
func (l *Loop) spin() {
	for _, k := range l.rx {
		if wakeRX(k.Socket.fd) == unix.ENXIO {
			l.gone = k.Port
		}
	}
}

// removed returns an error when the device of a socket was removed. One who
// only receives learns it in no other way: the poll just finds no frames.
func (l *Loop) removed() error {
	for i := range l.tx.links {
		k := &l.tx.links[i]
		code, err := unix.GetsockoptInt(k.Socket.fd, unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && code != 0 {
			err = unix.Errno(code)
		}
		if err != nil {
			return removedError(k.Port, err)
		}
	}
	return nil
}

func removedError(p *Port, err error) error {
	return fmt.Errorf("device of port %s was removed: %w", p, err)
}
