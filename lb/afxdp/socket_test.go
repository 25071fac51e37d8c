// SPDX-License-Identifier: Apache-2.0

package afxdp

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// attachModes are the ways in which the redirect program can stand before the stack.
var attachModes = []struct {
	name  string
	flags link.XDPAttachFlags
}{
	{"native", link.XDPDriverMode},
	{"generic", link.XDPGenericMode},
}

// A full RX ring of frames arrives in order and complete; the next is counted.
func TestReceiveInOrder(t *testing.T) {
	const frames = 256
	b := newBed(t)
	for _, mode := range attachModes {
		t.Run(mode.name, func(t *testing.T) {
			w := b.addWire(t, mode.name, 1)
			s := w.open(t, Config{RXFrames: frames, TXFrames: 2})
			w.redirect(t, mode.flags, s)
			var got []int
			_, links := linksOf(s)
			l, err := NewLoop(LoopConfig{Links: links, Batch: 100})
			must(t, err)
			h := handlerFunc(func(f []byte, _ *Tx) {
				if len(f) != frameLen {
					t.Errorf("frame of %d bytes, want %d", len(f), frameLen)
				}
				got = append(got, numberOf(f))
			})
			// Three times, so that the ring is filled again from the middle.
			for first := 0; first < 3*frames; first += frames {
				w.peer.send(t, first, first+frames)
				waitStats(t, s, func(Stats) bool { return s.rx.left() == frames })
				if d := statsOf(t, s).RXDropped; d != uint64(first/frames) {
					t.Errorf("%d frames dropped, want %d", d, first/frames)
				}
				w.peer.send(t, 999_999, 1_000_000)
				waitStats(t, s, func(s Stats) bool { return s.RXDropped == uint64(first/frames)+1 })
				for l.round(h) > 0 {
				}
			}
			for i, number := range got {
				if number != i {
					t.Fatalf("frame %d at place %d", number, i)
				}
			}
			if len(got) != 3*frames {
				t.Errorf("%d frames, want %d", len(got), 3*frames)
			}
			if st := statsOf(t, s); st.Received != 3*frames || st.RXInvalid != 0 || st.RXRingFull != 0 {
				t.Errorf("counters %+v", st)
			}
		})
	}
}

// left is what the kernel put on the RX ring and was not taken.
func (c *consumer[E]) left() int {
	c.end = c.next // look again
	return c.available()
}

// veth has no zero-copy: forced it fails, and Auto falls back.
func TestZeroCopyOnVeth(t *testing.T) {
	w := newBed(t).addWire(t, "zc", 1)
	if _, err := w.tryOpen(Config{Mode: ZeroCopy}); !errors.Is(err, unix.EOPNOTSUPP) {
		t.Errorf("zerocopy: error %v, want %v", err, unix.EOPNOTSUPP)
	}
	for _, mode := range []Mode{Auto, Copy} {
		s, err := w.tryOpen(Config{Mode: mode})
		must(t, err)
		if s.ZeroCopy() || s.Mode() != Copy {
			t.Errorf("opened with %s: mode %s, zerocopy %v", mode, s.Mode(), s.ZeroCopy())
		}
		must(t, s.Close())
	}
}

// A queue is free again once its socket is closed, also one that has sent.
func TestReopen(t *testing.T) {
	w := newBed(t).addWire(t, "reopen", 1)
	for i := range 20 {
		s, err := w.tryOpen(Config{RXFrames: 64, TXFrames: 64})
		must(t, err)
		w.redirectOnce(t, s, i)
		must(t, s.Close())
		must(t, s.Close())
		if _, err := s.Stats(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("stats of a closed socket: %v", err)
		}
	}
}

// redirectOnce has one frame echoed by a loop that lives only so long.
func (w *wire) redirectOnce(t *testing.T, s *Socket, number int) {
	t.Run("", func(t *testing.T) {
		w.redirect(t, link.XDPDriverMode, s)
		_, links := linksOf(s)
		run(t, LoopConfig{Links: links}, handlerFunc(echo))
		w.peer.send(t, number, number+1)
		w.peer.expect(t, number, number+1)
	})
}

func TestOpenErrors(t *testing.T) {
	w := newBed(t).addWire(t, "errors", 1)
	if _, err := w.tryOpen(Config{Queue: 1}); !errors.Is(err, unix.EINVAL) {
		t.Errorf("queue that does not exist: %v, want %v", err, unix.EINVAL)
	}
	w.open(t, Config{TransmitOnly: true})
	if _, err := w.tryOpen(Config{Patience: time.Millisecond}); !errors.Is(err, unix.EBUSY) {
		t.Errorf("second socket of a queue: %v, want %v", err, unix.EBUSY)
	}
}

// A UMEM frame takes all of its bytes but the kernel's 256.
func TestLongFrames(t *testing.T) {
	for _, mode := range attachModes {
		t.Run(mode.name, func(t *testing.T) {
			w := newBed(t).addWire(t, mode.name, 1)
			w.setMTU(t, 3000)
			s := w.open(t, Config{RXFrames: 4, TXFrames: 4})
			w.redirect(t, mode.flags, s)
			long := append(testFrame(1), make([]byte, 1792-frameLen)...)
			w.peer.write(t, append(long, 0))
			waitStats(t, s, func(s Stats) bool { return s.RXDropped == 1 })
			w.peer.write(t, long)
			waitStats(t, s, func(Stats) bool { return s.rx.left() == 1 })
			_, links := linksOf(s)
			l, err := NewLoop(LoopConfig{Links: links})
			must(t, err)
			l.round(handlerFunc(func(f []byte, tx *Tx) {
				if len(f) != 1792 || cap(f) != 1792 {
					t.Errorf("received %d bytes with room for %d, want 1792", len(f), cap(f))
				}
				tx.Send(tx.From(), append(append(tx.Frame(tx.From()), f...), make([]byte, 2048-1792)...))
			}))
			if n := len(w.peer.receive(t)); n != 2048 {
				t.Errorf("peer received %d bytes, want 2048", n)
			}
		})
	}
}

// The loop does not outlive a device, whichever way it waits, and whether the
// device is one that it receives from.
func TestRemovedDevice(t *testing.T) {
	b := newBed(t)
	for _, c := range []struct {
		name         string
		busy         time.Duration
		transmitOnly bool
	}{
		{"polled", 0, false},
		{"polled transmit only", 0, true},
		{"busy", time.Microsecond, false},
		{"busy transmit only", time.Microsecond, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			busy := BusyPoll{Time: c.busy}
			w, other := b.addWire(t, "gone", 1), b.addWire(t, "stays", 1)
			s, kept := w.open(t, Config{BusyPoll: busy, TransmitOnly: c.transmitOnly}), other.open(t, Config{BusyPoll: busy})
			other.redirect(t, link.XDPDriverMode, kept)
			ports, links := linksOf(kept, s)
			l, err := NewLoop(LoopConfig{Links: links})
			must(t, err)
			ended := make(chan error, 1)
			go func() {
				ended <- l.Run(context.Background(), handlerFunc(func(f []byte, tx *Tx) { tx.Send(ports[1], f) }))
			}()
			other.peer.send(t, 0, 1)
			w.peer.expect(t, 0, 1)
			must(t, b.far.Netlink().LinkDel(w.far))
			other.peer.send(t, 0, 1)
			select {
			case err := <-ended:
				if !errors.Is(err, unix.ENETDOWN) {
					t.Errorf("loop ended with %v, want %v", err, unix.ENETDOWN)
				}
			case <-time.After(deadline):
				t.Fatal("loop did not end")
			}
			must(t, b.far.Netlink().LinkDel(other.far))
		})
	}
}
