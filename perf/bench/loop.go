// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/lb/afxdp"
)

// running is a loop under way; the zero value is none.
type running struct {
	cancel  context.CancelFunc
	ended   chan error
	handled uint64        // frames
	cpu     time.Duration // of its thread, with the interrupts that fell upon it
}

// start runs the station's loop on the last core, until it is stopped.
func (s *station) start(h afxdp.Handler) *running {
	if h == nil {
		return &running{}
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{cancel: cancel, ended: make(chan error, 1)}
	go func() {
		runtime.LockOSThread() // the thread's time is asked for
		defer runtime.UnlockOSThread()
		before, err := s.handled()
		cpu := cpuTime(unix.CLOCK_THREAD_CPUTIME_ID)
		err = errors.Join(err, s.loop.Run(ctx, h))
		r.cpu = cpuTime(unix.CLOCK_THREAD_CPUTIME_ID) - cpu
		after, late := s.handled()
		r.handled = after - before
		r.ended <- errors.Join(err, late)
	}()
	return r
}

// stop ends the loop; only then are its figures there.
func (r *running) stop() error {
	if r.cancel == nil {
		return nil
	}
	r.cancel()
	return <-r.ended
}

// handled are the frames that the loop took.
func (s *station) handled() (uint64, error) {
	stats, err := s.uplink.Stats()
	return stats.Received, err
}

// loopCore is the core that loops have, the last one.
func loopCore() int { return runtime.NumCPU() - 1 }

// reserveLoopCore keeps the process's threads off it, those of loops excepted,
// and those that they will start: a generator gives way to nobody.
func reserveLoopCore() (release func() error, err error) {
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return nil, fmt.Errorf("read cores: %w", err)
	}
	others := all
	if others.Clear(loopCore()); others.Count() == 0 {
		return func() error { return nil }, nil
	}
	return func() error { return setCores(&all) }, setCores(&others)
}

// setCores is for all threads that there are.
func setCores(set *unix.CPUSet) error {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return fmt.Errorf("list threads: %w", err)
	}
	for _, t := range threads {
		id, err := strconv.Atoi(t.Name())
		if err != nil {
			return fmt.Errorf("thread %q: %w", t.Name(), err)
		}
		if err := unix.SchedSetaffinity(id, set); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("set cores of thread %d: %w", id, err)
		}
	}
	return nil
}

// cpuTime reads one of the clocks that count the processor's time.
func cpuTime(clock int32) time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(clock, &ts); err != nil {
		panic(err) // the clock exists on every Linux
	}
	return time.Duration(ts.Nano())
}
