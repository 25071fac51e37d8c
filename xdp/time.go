// SPDX-License-Identifier: Apache-2.0

package xdp

import (
	"time"

	"golang.org/x/sys/unix"
)

// Tick is the unit of time in the maps: 2^26 ns of CLOCK_MONOTONIC.
const Tick = time.Duration(1) << tickShift

// NowTick is the current tick, as the programs see it.
func NowTick() uint32 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC_COARSE, &ts); err != nil {
		panic(err) // the clock exists on every Linux
	}
	return uint32(uint64(ts.Nano()) >> tickShift)
}

// Ticks rounds a duration up to whole ticks.
func Ticks(d time.Duration) uint32 { return uint32((d + Tick - 1) / Tick) }
