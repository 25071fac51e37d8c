// SPDX-License-Identifier: Apache-2.0

package afxdp

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Socket is an AF_XDP socket with a UMEM of its own. Its frames and rings are
// for the one goroutine that runs its Loop; what is exported may be called
// from any, Close only when no Loop uses the socket any more.
type Socket struct {
	config Config
	mode   Mode

	// The frames are first those to receive, then those to send.
	umem       []byte
	fill       producer[uint64]
	completion consumer[uint64]
	rx         consumer[unix.XDPDesc]
	tx         producer[unix.XDPDesc]
	free       []uint64 // TX frames that nobody has, the last is the next
	stalled    bool     // waited in vain, and no frame came back since
	blocked    bool     // the kernel wants to be asked again
	gone       bool     // the device was removed
	fd         int

	counters counters

	mu     sync.Mutex // guards what follows against Stats and Close at once
	closed bool
	maps   [][]byte // rings
}

// FD is the socket's file descriptor, which the socket owns.
func (s *Socket) FD() int { return s.fd }

// Queue is the queue of the device that the socket is bound to.
func (s *Socket) Queue() int { return s.config.Queue }

// Mode is Copy or ZeroCopy.
func (s *Socket) Mode() Mode { return s.mode }

// ZeroCopy says that the device writes to and reads from the UMEM itself.
func (s *Socket) ZeroCopy() bool { return s.mode == ZeroCopy }

// XSKMap is the part of an ebpf.Map of type XSKMap that Register needs; so
// lb/ stays free of eBPF.
type XSKMap interface {
	Put(key, value any) error
}

// Register puts the socket into an XSKMAP, so that programs can redirect to
// it. A program may redirect to a socket only what came in on its device and
// queue. The kernel takes the socket out again when it is closed.
func (s *Socket) Register(xskmap XSKMap, key uint32) error {
	if err := xskmap.Put(key, uint32(s.fd)); err != nil {
		return fmt.Errorf("register socket of queue %d under key %d: %w", s.config.Queue, key, err)
	}
	return nil
}

// Close takes the socket off its queue and gives back its memory. Frames that
// were not sent are lost. A second call does nothing.
func (s *Socket) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	var errs []error
	if err := unix.Close(s.fd); err != nil {
		errs = append(errs, fmt.Errorf("close socket: %w", err))
	}
	for _, memory := range append(s.maps, s.umem) {
		if memory == nil {
			continue
		}
		if err := unix.Munmap(memory); err != nil {
			errs = append(errs, fmt.Errorf("unmap %d bytes: %w", len(memory), err))
		}
	}
	return errors.Join(errs...)
}

// errClosed is what a closed socket answers.
var errClosed = fmt.Errorf("af_xdp socket: %w", os.ErrClosed)
