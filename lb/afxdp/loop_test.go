// SPDX-License-Identifier: Apache-2.0

package afxdp

import (
	"context"
	"testing"

	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

func TestEcho(t *testing.T) {
	b := newBed(t)
	for _, mode := range attachModes {
		t.Run(mode.name, func(t *testing.T) {
			w := b.addWire(t, mode.name, 1)
			s := w.open(t, Config{RXFrames: 256, TXFrames: 256})
			w.redirect(t, mode.flags, s)
			_, links := linksOf(s)
			run(t, LoopConfig{Links: links}, handlerFunc(echo))
			const window, frames = 128, 12_800
			for first := 0; first < frames; first += window {
				w.peer.send(t, first, first+window)
				w.peer.expect(t, first, first+window)
			}
			waitStats(t, s, func(s Stats) bool { return s.Received == frames && s.Sent == frames })
			if st := statsOf(t, s); st.RXDropped+st.NoFrame+st.Refused+st.TXInvalid != 0 {
				t.Errorf("counters %+v", st)
			}
		})
	}
}

// Frames wait for a device that is down as long as there are TX frames. Then
// they are counted; and when the device is up again all goes on, in order,
// while another device never had to wait for it.
func TestOutOfFrames(t *testing.T) {
	const room, lost = 64, 36
	b := newBed(t)
	in, out := b.addWire(t, "in", 1), b.addWire(t, "out", 1)
	s, o := in.open(t, Config{}), out.open(t, Config{TransmitOnly: true, TXFrames: room})
	in.redirect(t, link.XDPDriverMode, s)
	ports, links := linksOf(s, o)
	run(t, LoopConfig{Links: links}, handlerFunc(func(f []byte, tx *Tx) {
		tx.Send(ports[1], append(tx.Frame(ports[1]), f...))
		tx.Send(ports[0], f)
	}))
	out.setUp(t, false)
	in.peer.send(t, 0, room+lost)
	in.peer.expect(t, 0, room+lost)
	waitStats(t, o, func(s Stats) bool { return s.Sent == room && s.NoFrame == lost })
	out.setUp(t, true)
	out.peer.expect(t, 0, room)
	in.peer.send(t, 1000, 1000+room)
	in.peer.expect(t, 1000, 1000+room)
	out.peer.expect(t, 1000, 1000+room)
	if st := statsOf(t, o); st.Sent != 2*room || st.NoFrame != lost {
		t.Errorf("counters after the recovery: %+v", st)
	}
}

// With fewer TX frames than a batch needs, the loop waits for them, and loses none.
func TestFewTXFrames(t *testing.T) {
	w := newBed(t).addWire(t, "few", 1)
	s := w.open(t, Config{TXFrames: 4})
	w.redirect(t, link.XDPDriverMode, s)
	_, links := linksOf(s)
	run(t, LoopConfig{Links: links}, handlerFunc(echo))
	w.peer.send(t, 0, 200)
	w.peer.expect(t, 0, 200)
	if st := statsOf(t, s); st.NoFrame != 0 {
		t.Errorf("%d frames without a TX frame", st.NoFrame)
	}
}

func TestPinned(t *testing.T) {
	w := newBed(t).addWire(t, "pinned", 1)
	s := w.open(t, Config{})
	w.redirect(t, link.XDPDriverMode, s)
	_, links := linksOf(s)
	var before unix.CPUSet
	must(t, unix.SchedGetaffinity(0, &before))
	last := 0
	for cpu := range len(before) * 64 {
		if before.IsSet(cpu) {
			last = cpu
		}
	}
	l, err := NewLoop(LoopConfig{Links: links, CPUs: []int{last}})
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	within := make(chan unix.CPUSet, 1)
	after := make(chan unix.CPUSet, 1)
	go func() {
		err := l.Run(ctx, handlerFunc(func([]byte, *Tx) {
			var set unix.CPUSet
			if unix.SchedGetaffinity(0, &set) == nil {
				within <- set
			}
			cancel()
		}))
		if err != nil {
			t.Error(err)
		}
		var set unix.CPUSet
		if unix.SchedGetaffinity(0, &set) == nil {
			after <- set
		}
	}()
	w.peer.send(t, 0, 1)
	if set := <-within; set.Count() != 1 || !set.IsSet(last) {
		t.Errorf("loop ran on cores %v, want %d only", set, last)
	}
	if set := <-after; set != before {
		t.Errorf("thread left on cores %v, want %v", set, before)
	}
	if l, err = NewLoop(LoopConfig{Links: links, CPUs: []int{1023}}); err != nil {
		t.Fatal(err)
	}
	if err := l.Run(context.Background(), handlerFunc(echo)); err == nil {
		t.Error("loop ran on a core that does not exist")
	}
}

func TestNewLoopErrors(t *testing.T) {
	s := &Socket{config: Config{TransmitOnly: true}}
	for name, c := range map[string]LoopConfig{
		"no links":       {},
		"no port":        {Links: []Link{{nil, s}}},
		"no socket":      {Links: []Link{{NewPort("a"), nil}}},
		"no receiver":    {Links: []Link{{NewPort("a"), s}}},
		"negative batch": {Batch: -1},
	} {
		if _, err := NewLoop(c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// A device may drop what it is given at once. That is counted, and frees the
// TX frames like any sending: here for many more frames than there are.
func TestRefused(t *testing.T) {
	const frames = 200
	w := newBed(t).addWire(t, "refused", 1)
	s := w.open(t, Config{TransmitOnly: true, TXFrames: 64})
	must(t, w.bed.far.Netlink().LinkSetDown(w.far))
	for i := range frames {
		s.send(testFrame(i))
	}
	s.flush()
	if st := statsOf(t, s); st.Refused != frames || st.NoFrame != 0 || s.tx.left() != 0 || len(s.free) != 64 {
		t.Errorf("%d frames free, %d left on the ring, counters %+v", len(s.free), s.tx.left(), st)
	}
}
