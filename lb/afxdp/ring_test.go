// SPDX-License-Identifier: Apache-2.0

package afxdp

import (
	"math"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// pipe is a ring on ordinary memory with both of its ends, the indexes set to at.
func pipe(entries int, at uint32) (producer[uint64], consumer[uint64]) {
	offset := unix.XDPRingOffset{Producer: 0, Consumer: 64, Flags: 128, Desc: 192}
	words := make([]uint64, int(offset.Desc)/8+entries) // aligned as the entries
	memory := unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), 8*len(words))
	r := ringAt[uint64](memory, offset, entries)
	*r.producer, *r.consumer = at, at
	return producerOf(r), consumerOf(r)
}

// The indexes run over the end of uint32, with rings of every fill level.
func TestRingWraps(t *testing.T) {
	for _, entries := range []int{1, 2, 8, 64} {
		for _, at := range []uint32{0, 1, math.MaxUint32, math.MaxUint32 - 1, math.MaxUint32 - 63, 1 << 31} {
			p, c := pipe(entries, at)
			sent, got := uint64(0), uint64(0)
			for step := range 5 * entries {
				for range step%entries + 1 {
					p.put(sent)
					sent++
				}
				if n := c.available(); n != 0 {
					t.Fatalf("%d entries from %d: %d available before they were published", entries, at, n)
				}
				if n := p.publish(); n != step%entries+1 {
					t.Fatalf("%d entries from %d: published %d, want %d", entries, at, n, step%entries+1)
				}
				if left := p.left(); left != step%entries+1 {
					t.Fatalf("%d entries from %d: %d left, want %d", entries, at, left, step%entries+1)
				}
				for n := c.available(); n > 0; n-- {
					if e := c.take(); e != got {
						t.Fatalf("%d entries from %d: took %d, want %d", entries, at, e, got)
					}
					got++
				}
				c.release()
				if p.left() != 0 || got != sent {
					t.Fatalf("%d entries from %d: %d left, %d of %d taken", entries, at, p.left(), got, sent)
				}
			}
		}
	}
}

// A batch may be taken in parts; what is not released is still on the ring.
func TestRingTakesParts(t *testing.T) {
	p, c := pipe(4, math.MaxUint32-1)
	for e := range uint64(4) {
		p.put(e)
	}
	p.publish()
	for want := range uint64(3) {
		c.available()
		if e := c.take(); e != want {
			t.Errorf("took %d, want %d", e, want)
		}
	}
	if p.left() != 4 {
		t.Errorf("%d left before the release, want 4", p.left())
	}
	c.release()
	if p.left() != 1 || c.available() != 1 {
		t.Errorf("%d left and %d available, want 1", p.left(), c.available())
	}
	if n := p.publish(); n != 0 {
		t.Errorf("published %d, want nothing", n)
	}
}

// Two goroutines: under the race detector this also checks the ordering.
func TestRingBetweenGoroutines(t *testing.T) {
	const total = 100_000
	p, c := pipe(64, math.MaxUint32-total/2)
	done := make(chan uint64)
	go func() {
		wrong := uint64(0)
		for want := uint64(0); want < total; {
			n := c.available()
			if n == 0 {
				runtime.Gosched()
			}
			for range n {
				if c.take() != want {
					wrong++
				}
				want++
			}
			c.release()
		}
		done <- wrong
	}()
	for e := uint64(0); e < total; {
		for free := len(p.entries) - p.left(); free > 0 && e < total; free-- {
			p.put(e)
			e++
		}
		if p.publish() == 0 {
			runtime.Gosched()
		}
	}
	if wrong := <-done; wrong != 0 {
		t.Errorf("%d of %d entries wrong", wrong, total)
	}
}

func TestRingNeedsWakeup(t *testing.T) {
	p, _ := pipe(2, 0)
	if p.needsWakeup() {
		t.Error("needs wakeup without the flag")
	}
	*p.flags = unix.XDP_RING_NEED_WAKEUP
	if !p.needsWakeup() {
		t.Error("needs no wakeup with the flag")
	}
}

func TestConfigCheck(t *testing.T) {
	for _, c := range []struct {
		name   string
		config Config
		want   string
	}{
		{"interface only", Config{Interface: 1}, ""},
		{"no interface", Config{}, "interface 0"},
		{"queue", Config{Interface: 1, Queue: -1}, "queue -1"},
		{"mode", Config{Interface: 1, Mode: 3}, "mode 3"},
		{"frame size", Config{Interface: 1, FrameSize: 3000}, "frame size 3000"},
		{"rx frames", Config{Interface: 1, RXFrames: 100}, "rx frames 100"},
		{"negative", Config{Interface: 1, RXFrames: -2}, "rx frames -2"},
		{"tx frames", Config{Interface: 1, TXFrames: 1 << 21}, "tx frames 2097152"},
		{"transmit only", Config{Interface: 1, TransmitOnly: true, RXFrames: 100}, ""},
		{"busy poll", Config{Interface: 1, BusyPoll: BusyPoll{Time: 1500}}, "1.5µs"},
		{"patience", Config{Interface: 1, Patience: -1}, "patience -1ns"},
		{"budget", Config{Interface: 1, BusyPoll: BusyPoll{Budget: -1}}, "budget -1"},
	} {
		err := c.config.withDefaults().check()
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: error %v, want one with %q", c.name, err, c.want)
		}
	}
}
