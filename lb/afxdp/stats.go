// SPDX-License-Identifier: Apache-2.0

package afxdp

import (
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Stats are the counters of a socket since it was opened, in frames unless
// they say something else.
type Stats struct {
	Received uint64 // taken from the RX ring
	Sent     uint64 // put on the TX ring
	// NoFrame were not sent because no TX frame came free in time.
	NoFrame uint64
	// BadLength were not sent because they are shorter than an Ethernet header or
	// longer than a UMEM frame.
	BadLength uint64
	// Refused were sent, but the device dropped them at once. Copy mode only.
	Refused uint64
	Wakeups uint64 // system calls to send or to be filled

	// What the kernel counts (XDP_STATISTICS).

	RXDropped   uint64 // too long, or no frame to receive into
	RXInvalid   uint64 // bad entries on the fill ring
	RXRingFull  uint64
	RXFillEmpty uint64 // times that the fill ring was empty
	TXInvalid   uint64 // bad entries on the TX ring
	TXRingEmpty uint64 // times that the TX ring was empty
}

// counters are written by the loop and read by anyone.
type counters struct {
	received, sent, noFrame, badLength, refused, wakeups atomic.Uint64
}

// Stats reads the counters. After Close it returns an error that wraps os.ErrClosed.
func (s *Socket) Stats() (Stats, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return Stats{}, errClosed
	}
	var kernel unix.XDPStatistics
	if err := getsockopt(s.fd, unix.XDP_STATISTICS, &kernel); err != nil {
		return Stats{}, fmt.Errorf("read statistics of af_xdp socket: %w", err)
	}
	return Stats{
		Received:    s.counters.received.Load(),
		Sent:        s.counters.sent.Load(),
		NoFrame:     s.counters.noFrame.Load(),
		BadLength:   s.counters.badLength.Load(),
		Refused:     s.counters.refused.Load(),
		Wakeups:     s.counters.wakeups.Load(),
		RXDropped:   kernel.Rx_dropped,
		RXInvalid:   kernel.Rx_invalid_descs,
		RXRingFull:  kernel.Rx_ring_full,
		RXFillEmpty: kernel.Rx_fill_ring_empty_descs,
		TXInvalid:   kernel.Tx_invalid_descs,
		TXRingEmpty: kernel.Tx_ring_empty_descs,
	}, nil
}
