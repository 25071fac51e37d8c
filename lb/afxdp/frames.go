// SPDX-License-Identifier: Apache-2.0

package afxdp

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/lb/packet"
)

// How long a frame that has no free TX frame waits, and how often it looks.
// The interval is slept, so that on the loop's own core the kernel's threads
// can send meanwhile.
const (
	sendPatience = 500 * time.Microsecond
	waitInterval = 20 * time.Microsecond
)

// received is the frame of an RX descriptor.
func (s *Socket) received(d unix.XDPDesc) []byte {
	end := d.Addr + uint64(d.Len)
	return s.umem[d.Addr:end:end]
}

// recycle puts the frame of an RX descriptor on the fill ring.
func (s *Socket) recycle(d unix.XDPDesc) {
	s.fill.put(d.Addr &^ uint64(s.config.FrameSize-1))
}

// refill shows the kernel what was recycled.
func (s *Socket) refill() {
	if s.fill.publish() > 0 && s.fill.needsWakeup() {
		s.counters.wakeups.Add(1)
		wakeRX(s.fd)
	}
}

// next is the address of the TX frame that the next send takes. It may have to
// be waited for; a socket that is stalled does not wait again before a frame
// came back, so that a dead device costs the others one wait.
func (s *Socket) next() (uint64, bool) {
	if len(s.free) == 0 && !s.makeRoom() {
		return 0, false
	}
	return s.free[len(s.free)-1], true
}

// frame is the next TX frame, empty; nil when there is none.
func (s *Socket) frame() []byte {
	at, ok := s.next()
	if !ok {
		return nil
	}
	return s.umem[at : at : at+uint64(s.config.FrameSize)]
}

// send puts a frame on the TX ring, where flush finds it. What lies in the
// next TX frame is sent from there, anything else is copied into it.
func (s *Socket) send(frame []byte) {
	size := uintptr(s.config.FrameSize)
	if len(frame) < packet.EthernetLen || uintptr(len(frame)) > size {
		s.counters.badLength.Add(1)
		return
	}
	at, ok := s.next()
	if !ok {
		s.counters.noFrame.Add(1)
		return
	}
	own := s.umem[at:]
	// Below the frame, the difference wraps to a large number.
	offset := uintptr(unsafe.Pointer(unsafe.SliceData(frame))) - uintptr(unsafe.Pointer(unsafe.SliceData(own)))
	if offset >= size {
		copy(own, frame)
		offset = 0
	}
	s.free = s.free[:len(s.free)-1]
	s.tx.put(unix.XDPDesc{Addr: at + uint64(offset), Len: uint32(len(frame))})
}

// makeRoom looks for free TX frames, and says whether there are any.
func (s *Socket) makeRoom() bool {
	if s.reclaim() || s.stalled {
		return len(s.free) > 0
	}
	s.flush()
	for began := time.Now(); len(s.free) == 0; {
		if time.Since(began) >= sendPatience {
			s.stalled = true
			return false
		}
		sleep := unix.NsecToTimespec(int64(waitInterval))
		_, _ = unix.Ppoll(nil, &sleep, nil)
		s.flush()
	}
	return true
}

// reclaim takes the frames that were sent back from the kernel, and says
// whether there were any.
func (s *Socket) reclaim() bool {
	n := s.completion.available()
	if n == 0 {
		return false
	}
	for range n {
		s.free = append(s.free, s.completion.take()&^uint64(s.config.FrameSize-1))
	}
	s.completion.release()
	s.stalled = false
	return true
}

// flush has the kernel send what is on the TX ring, and takes back what was sent.
func (s *Socket) flush() {
	if n := s.tx.publish(); n > 0 {
		s.counters.sent.Add(uint64(n))
	}
	s.kick()
	s.reclaim()
}

// kick wakes the kernel for as long as it wants to be woken and gets on with
// the TX ring. In copy mode it is the call itself that sends.
func (s *Socket) kick() {
	s.blocked = false
	for left := s.tx.left(); left > 0 && s.tx.needsWakeup(); {
		s.counters.wakeups.Add(1)
		switch wakeTX(s.fd) {
		case 0:
			return
		case unix.EBUSY:
			// The device dropped this one; the kernel shows that it has taken it
			// only with the next. So it ends at the latest when all were refused.
			s.counters.refused.Add(1)
		case unix.EAGAIN, unix.ENOBUFS, unix.EINTR:
			now := s.tx.left()
			if now == left {
				s.blocked = true
				return
			}
			left = now
		case unix.ENXIO: // not bound any more
			s.gone = true
			return
		default: // the device is down: the frames wait for it
			return
		}
	}
}
