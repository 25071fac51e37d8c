// SPDX-License-Identifier: Apache-2.0

package afxdp

import (
	"errors"
	"fmt"
	"math"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// bindInterval is how often Open looks whether a busy queue is free.
const bindInterval = time.Millisecond

// Open makes a socket and binds it to a queue of a device. The device must be
// in the network namespace of the calling thread; afterwards the socket may be
// used in any. A device whose driver has no zero-copy yields an error that
// wraps EOPNOTSUPP under ZeroCopy, a queue that another socket keeps EBUSY.
func Open(c Config) (*Socket, error) {
	c = c.withDefaults()
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("af_xdp socket: %w", err)
	}
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open af_xdp socket: %w", err)
	}
	s := &Socket{config: c, fd: fd}
	for _, step := range []func() error{s.register, s.mapRings, s.fillFrames, s.tune, s.bind, s.readMode} {
		if err := step(); err != nil {
			return nil, errors.Join(fmt.Errorf("open af_xdp socket on interface %d queue %d: %w", c.Interface, c.Queue, err), s.Close())
		}
	}
	return s, nil
}

// register maps the UMEM and tells the kernel of it and of the rings' sizes.
func (s *Socket) register() error {
	c := &s.config
	var err error
	s.umem, err = unix.Mmap(-1, 0, (c.RXFrames+c.TXFrames)*c.FrameSize, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
	if err != nil {
		return fmt.Errorf("map umem of %d frames: %w", c.RXFrames+c.TXFrames, err)
	}
	region := unix.XDPUmemReg{
		Addr: uint64(uintptr(unsafe.Pointer(unsafe.SliceData(s.umem)))),
		Len:  uint64(len(s.umem)),
		Size: uint32(c.FrameSize),
	}
	if err := setsockopt(s.fd, unix.XDP_UMEM_REG, &region); err != nil {
		return fmt.Errorf("register umem of %d bytes: %w", len(s.umem), err)
	}
	// The kernel insists on a fill ring, for a socket that only sends as well.
	for _, r := range []struct {
		option, entries int
	}{
		{unix.XDP_UMEM_FILL_RING, max(c.RXFrames, 1)},
		{unix.XDP_UMEM_COMPLETION_RING, c.TXFrames},
		{unix.XDP_RX_RING, c.RXFrames},
		{unix.XDP_TX_RING, c.TXFrames},
	} {
		if r.entries == 0 {
			continue
		}
		if err := unix.SetsockoptInt(s.fd, unix.SOL_XDP, r.option, r.entries); err != nil {
			return fmt.Errorf("set ring option %d to %d: %w", r.option, r.entries, err)
		}
	}
	return nil
}

func (s *Socket) mapRings() error {
	var offsets unix.XDPMmapOffsets
	if err := getsockopt(s.fd, unix.XDP_MMAP_OFFSETS, &offsets); err != nil {
		return fmt.Errorf("read ring offsets: %w", err)
	}
	completion, err := addRing[uint64](s, unix.XDP_UMEM_PGOFF_COMPLETION_RING, offsets.Cr, s.config.TXFrames)
	if err != nil {
		return err
	}
	tx, err := addRing[unix.XDPDesc](s, unix.XDP_PGOFF_TX_RING, offsets.Tx, s.config.TXFrames)
	if err != nil {
		return err
	}
	s.completion, s.tx = consumerOf(completion), producerOf(tx)
	if s.config.TransmitOnly {
		return nil
	}
	fill, err := addRing[uint64](s, unix.XDP_UMEM_PGOFF_FILL_RING, offsets.Fr, s.config.RXFrames)
	if err != nil {
		return err
	}
	rx, err := addRing[unix.XDPDesc](s, unix.XDP_PGOFF_RX_RING, offsets.Rx, s.config.RXFrames)
	if err != nil {
		return err
	}
	s.fill, s.rx = producerOf(fill), consumerOf(rx)
	return nil
}

// addRing maps a ring for as long as the socket is open.
func addRing[E any](s *Socket, page int64, offset unix.XDPRingOffset, entries int) (ring[E], error) {
	r, memory, err := mapRing[E](s.fd, page, offset, entries)
	if err == nil {
		s.maps = append(s.maps, memory)
	}
	return r, err
}

// fillFrames gives the kernel the frames to receive into, before it is bound:
// drivers want them at once.
func (s *Socket) fillFrames() error {
	size := uint64(s.config.FrameSize)
	for i := range s.config.RXFrames {
		s.fill.put(uint64(i) * size)
	}
	if !s.config.TransmitOnly {
		s.fill.publish()
	}
	s.free = make([]uint64, s.config.TXFrames)
	for i := range s.free {
		s.free[i] = uint64(len(s.umem)) - uint64(i+1)*size
	}
	return nil
}

// tune sets what is not needed for the socket to work.
func (s *Socket) tune() error {
	// In copy mode each frame becomes an skb that counts against the send buffer:
	// let the frames be the limit. Without CAP_NET_ADMIN the default stays.
	sndbuf := min(s.config.TXFrames*s.config.FrameSize, math.MaxInt32/2) // the kernel doubles it
	_ = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, sndbuf)
	// A kernel that does not know this option sends 32 frames a call, and kick repeats it.
	_ = unix.SetsockoptInt(s.fd, unix.SOL_XDP, unix.XDP_MAX_TX_SKB_BUDGET, s.config.TXFrames)
	busy := s.config.BusyPoll
	if busy.Time == 0 {
		return nil
	}
	for _, o := range []struct {
		name          string
		option, value int
	}{
		{"SO_PREFER_BUSY_POLL", unix.SO_PREFER_BUSY_POLL, 1},
		{"SO_BUSY_POLL", unix.SO_BUSY_POLL, int(busy.Time / time.Microsecond)},
		{"SO_BUSY_POLL_BUDGET", unix.SO_BUSY_POLL_BUDGET, busy.Budget},
	} {
		if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, o.option, o.value); err != nil {
			return fmt.Errorf("set %s to %d: %w", o.name, o.value, err)
		}
	}
	return nil
}

func (s *Socket) bind() error {
	address := &unix.SockaddrXDP{Ifindex: uint32(s.config.Interface), QueueID: uint32(s.config.Queue)}
	if !s.config.NoNeedWakeup {
		address.Flags |= unix.XDP_USE_NEED_WAKEUP
	}
	switch s.config.Mode {
	case Copy:
		address.Flags |= unix.XDP_COPY
	case ZeroCopy:
		address.Flags |= unix.XDP_ZEROCOPY
	}
	// The kernel takes a closed socket off its queue some time after close has
	// returned: no frame that it sent may be on its way any more, and RCU and the
	// RTNL lock are waited for.
	deadline := time.Now().Add(s.config.Patience)
	err := unix.Bind(s.fd, address)
	for errors.Is(err, unix.EBUSY) && time.Now().Before(deadline) {
		time.Sleep(bindInterval)
		err = unix.Bind(s.fd, address)
	}
	if err != nil {
		return fmt.Errorf("bind in mode %s: %w", s.config.Mode, err)
	}
	return nil
}

// readMode asks the kernel what it made of Auto.
func (s *Socket) readMode() error {
	flags, err := unix.GetsockoptInt(s.fd, unix.SOL_XDP, unix.XDP_OPTIONS)
	if err != nil {
		return fmt.Errorf("read socket mode: %w", err)
	}
	s.mode = Copy
	if flags&unix.XDP_OPTIONS_ZEROCOPY != 0 {
		s.mode = ZeroCopy
	}
	return nil
}
