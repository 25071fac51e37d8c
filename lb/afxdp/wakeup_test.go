// SPDX-License-Identifier: Apache-2.0

package afxdp

import (
	"testing"
	"time"

	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Copy mode asks to be woken for every batch to send, and never to be filled,
// whether or not it was bound to need wakeups.
func TestWakeups(t *testing.T) {
	b := newBed(t)
	for name, no := range map[string]bool{"need": false, "noneed": true} {
		t.Run(name, func(t *testing.T) {
			w := b.addWire(t, name, 1)
			s := w.open(t, Config{RXFrames: 256, TXFrames: 256, NoNeedWakeup: no})
			w.redirect(t, link.XDPDriverMode, s)
			_, links := linksOf(s)
			l, err := NewLoop(LoopConfig{Links: links, Batch: 32})
			must(t, err)
			w.peer.send(t, 0, 128)
			waitStats(t, s, func(Stats) bool { return s.rx.left() == 128 })
			for l.round(handlerFunc(echo)) > 0 {
			}
			w.peer.expect(t, 0, 128)
			st := statsOf(t, s)
			if !s.tx.needsWakeup() || s.fill.needsWakeup() {
				t.Errorf("tx needs wakeup: %v, fill: %v; want true, false", s.tx.needsWakeup(), s.fill.needsWakeup())
			}
			// Four batches; a kernel with a budget of 32 frames takes another call for each.
			if st.Sent != 128 || st.Wakeups < 4 || st.Wakeups > 8 {
				t.Errorf("%d frames sent with %d wakeups, want 128 with 4 to 8", st.Sent, st.Wakeups)
			}
			// An asleep fill ring is woken by a call of its own, and only then.
			*s.fill.flags = unix.XDP_RING_NEED_WAKEUP
			s.refill()
			if again := statsOf(t, s).Wakeups; again != st.Wakeups {
				t.Errorf("%d wakeups for nothing", again-st.Wakeups)
			}
			w.peer.send(t, 0, 1)
			waitStats(t, s, func(Stats) bool { return s.rx.left() == 1 })
			l.round(handlerFunc(func([]byte, *Tx) {}))
			if again := statsOf(t, s).Wakeups; again != st.Wakeups+1 {
				t.Errorf("%d wakeups of the fill ring, want 1", again-st.Wakeups)
			}
		})
	}
}

// Busy polling carries frames as well, and ends with the context.
func TestBusyPoll(t *testing.T) {
	w := newBed(t).addWire(t, "busy", 1)
	s := w.open(t, Config{BusyPoll: BusyPoll{Time: 20 * time.Microsecond}})
	w.redirect(t, link.XDPDriverMode, s)
	for option, want := range map[int]int{unix.SO_PREFER_BUSY_POLL: 1, unix.SO_BUSY_POLL: 20} {
		if got, err := unix.GetsockoptInt(s.FD(), unix.SOL_SOCKET, option); err != nil || got != want {
			t.Errorf("option %d is %d, %v, want %d", option, got, err, want)
		}
	}
	_, links := linksOf(s)
	run(t, LoopConfig{Links: links}, handlerFunc(echo))
	for first := 0; first < 640; first += 64 {
		w.peer.send(t, first, first+64)
		w.peer.expect(t, first, first+64)
	}
}
