// SPDX-License-Identifier: Apache-2.0

package afxdp

import (
	"errors"
	"fmt"
	"math/bits"
	"time"
)

// Mode says whether the kernel copies frames between the device and the UMEM.
type Mode uint8

const (
	// Auto binds with zero-copy where the driver has it, else with copies. A
	// Socket is never in this mode.
	Auto Mode = iota
	// Copy works with every driver, natively or in skb mode.
	Copy
	// ZeroCopy needs a driver that has it and an XDP program attached natively.
	ZeroCopy
)

var modeNames = [...]string{"auto", "copy", "zerocopy"}

// String returns the name that logs and metrics use.
func (m Mode) String() string {
	if int(m) < len(modeNames) {
		return modeNames[m]
	}
	return fmt.Sprintf("mode_%d", uint8(m))
}

// ParseMode reads a mode by its name.
func ParseMode(s string) (Mode, error) {
	for m, name := range modeNames {
		if s == name {
			return Mode(m), nil
		}
	}
	return Auto, fmt.Errorf("unknown socket mode %q: want auto, copy or zerocopy", s)
}

// BusyPoll makes the loop's thread drive the device's NAPI instead of waiting
// for interrupts. The zero value leaves it off.
type BusyPoll struct {
	// Time is how long one system call may poll an idle queue (SO_BUSY_POLL), in
	// whole microseconds; 0 is off.
	Time time.Duration
	// Budget is how many frames one poll takes at most (SO_BUSY_POLL_BUDGET); 0: 64.
	Budget int
}

// Config says what a Socket is bound to and how large it is. Only Interface
// has to be set.
type Config struct {
	// Interface is the device's index in the network namespace of the thread that
	// calls Open, Queue the device's queue. One queue has one socket.
	Interface, Queue int
	// TransmitOnly leaves out everything that receives. Such a socket needs no XDP
	// program and takes nothing from the device's stack.
	TransmitOnly bool
	// Mode forces copies or zero-copy; the zero value lets the driver decide.
	Mode Mode
	// FrameSize is the bytes of one UMEM frame, 2048 or 4096; 0: 2048. The kernel
	// keeps 256 bytes of a received one to itself, so 1792 or 3840 remain.
	FrameSize int
	// RXFrames and TXFrames are how many frames the UMEM has for each direction,
	// and how many entries the rings of that direction have: powers of two; 0: 2048.
	RXFrames, TXFrames int
	// NoNeedWakeup binds without XDP_USE_NEED_WAKEUP, so that every batch costs a
	// system call: for drivers that have it wrong.
	NoNeedWakeup bool
	// BusyPoll needs CAP_NET_ADMIN.
	BusyPoll BusyPoll
	// Patience is how long Open waits for a queue that is busy, because the kernel
	// takes a closed socket off it late; 0: 5 s.
	Patience time.Duration
}

const (
	defaultFrameSize  = 2048
	defaultFrames     = 2048
	defaultBusyBudget = 64
	defaultPatience   = 5 * time.Second
	maxFrames         = 1 << 20
)

func (c Config) withDefaults() Config {
	for _, d := range []struct {
		value *int
		zero  int
	}{
		{&c.FrameSize, defaultFrameSize},
		{&c.RXFrames, defaultFrames},
		{&c.TXFrames, defaultFrames},
		{&c.BusyPoll.Budget, defaultBusyBudget},
	} {
		if *d.value == 0 {
			*d.value = d.zero
		}
	}
	if c.Patience == 0 {
		c.Patience = defaultPatience
	}
	if c.TransmitOnly {
		c.RXFrames = 0
	}
	return c
}

// check reports all that is wrong with a Config that has its defaults.
func (c Config) check() error {
	var errs []error
	wrong := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	wrong(c.Interface <= 0, "interface %d: want the index of a device", c.Interface)
	wrong(c.Queue < 0, "queue %d: want 0 or more", c.Queue)
	wrong(c.Mode > ZeroCopy, "mode %d: want auto, copy or zerocopy", c.Mode)
	wrong(c.FrameSize != 2048 && c.FrameSize != 4096, "frame size %d: want 2048 or 4096", c.FrameSize)
	wrong(!c.TransmitOnly && !validFrames(c.RXFrames), "rx frames %d: want a power of two up to %d", c.RXFrames, maxFrames)
	wrong(!validFrames(c.TXFrames), "tx frames %d: want a power of two up to %d", c.TXFrames, maxFrames)
	wrong(c.BusyPoll.Time < 0 || c.BusyPoll.Time%time.Microsecond != 0,
		"busy poll time %s: want whole microseconds", c.BusyPoll.Time)
	wrong(c.BusyPoll.Budget < 0 || c.BusyPoll.Budget > 65535, "busy poll budget %d: want 1 to 65535", c.BusyPoll.Budget)
	wrong(c.Patience < 0, "patience %s: want 0 or more", c.Patience)
	return errors.Join(errs...)
}

func validFrames(n int) bool { return n > 0 && n <= maxFrames && bits.OnesCount(uint(n)) == 1 }
