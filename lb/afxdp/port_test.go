// SPDX-License-Identifier: Apache-2.0

package afxdp

import (
	"encoding/binary"
	"testing"

	"github.com/cilium/ebpf/link"
)

// fan sends each frame back, then twice to another device and once to the stack's.
type fan struct {
	other, stack *Port
	batches      int
	batched      int
}

func (h *fan) BeginBatch(frames int) { h.batches++; h.batched += frames }

func (h *fan) Handle(frame []byte, tx *Tx) {
	number := numberOf(frame)
	echo(frame, tx)
	// Built in the frame, with a header in front that is then left out.
	room := append(tx.Frame(h.other), "head"...)
	room = append(room, frame...)
	binary.BigEndian.PutUint32(room[len("head")+14:], uint32(2*number))
	tx.Send(h.other, room[len("head"):])
	// Built for one port and sent by another.
	changed := append(tx.Frame(h.stack), frame...)
	binary.BigEndian.PutUint32(changed[14:], uint32(2*number+1))
	tx.Send(h.other, changed)
	tx.Send(h.stack, frame)
}

func TestSeveralFramesOut(t *testing.T) {
	const frames = 640
	b := newBed(t)
	in, other, stack := b.addWire(t, "in", 1), b.addWire(t, "other", 1), b.addWire(t, "stack", 1)
	s := in.open(t, Config{})
	in.redirect(t, link.XDPDriverMode, s)
	ports, links := linksOf(s, other.open(t, Config{}), stack.open(t, Config{TransmitOnly: true, TXFrames: 64, FrameSize: 4096}))
	h := &fan{other: ports[1], stack: ports[2]}
	t.Run("loop", func(t *testing.T) {
		run(t, LoopConfig{Links: links}, h)
		for first := 0; first < frames; first += 64 {
			in.peer.send(t, first, first+64)
			in.peer.expect(t, first, first+64)
			other.peer.expect(t, 2*first, 2*first+128)
			stack.peer.expect(t, first, first+64)
		}
	})
	if h.batched != frames || h.batches > frames {
		t.Errorf("%d batches of together %d frames, want %d", h.batches, h.batched, frames)
	}
}

// Two loops share a port without locks: each has a queue of the device.
func TestLoopsShareAPort(t *testing.T) {
	const frames = 6400
	b := newBed(t)
	ins := []*wire{b.addWire(t, "in0", 1), b.addWire(t, "in1", 1)}
	out := b.addWire(t, "out", 2)
	shared := NewPort("out")
	for i, in := range ins {
		s := in.open(t, Config{})
		in.redirect(t, link.XDPDriverMode, s)
		to := out.open(t, Config{Queue: i, TransmitOnly: true})
		links := []Link{{NewPort("in"), s}, {shared, to}}
		run(t, LoopConfig{Links: links}, handlerFunc(func(f []byte, tx *Tx) { tx.Send(shared, f) }))
	}
	var next [2]int
	for first := 0; first < frames; first += 64 {
		for i, in := range ins {
			in.peer.send(t, first|i<<24, (first+64)|i<<24)
		}
		for range 2 * 64 {
			number := numberOf(out.peer.receive(t))
			if loop := number >> 24; number&0xffffff != next[loop] {
				t.Fatalf("loop %d: frame %d, want %d", loop, number&0xffffff, next[loop])
			} else {
				next[loop]++
			}
		}
	}
	if next != [2]int{frames, frames} {
		t.Errorf("%v frames", next)
	}
}

// An answer leaves by the queue that its frame came in by.
func TestPortWithTwoQueues(t *testing.T) {
	w := newBed(t).addWire(t, "two", 2)
	s0, s1 := w.open(t, Config{Queue: 0}), w.open(t, Config{Queue: 1})
	w.redirect(t, link.XDPDriverMode, s0, s1)
	far := []*Socket{w.openFar(t, Config{Queue: 0, TransmitOnly: true}), w.openFar(t, Config{Queue: 1, TransmitOnly: true})}
	port := NewPort("two")
	run(t, LoopConfig{Links: []Link{{port, s0}, {port, s1}}}, handlerFunc(echo))
	for i := range 30 {
		from := far[min(i%3, 1)] // twice as many by queue 1
		from.send(testFrame(i))
		from.flush()
		w.peer.expect(t, i, i+1)
	}
	waitStats(t, s0, func(s Stats) bool { return s.Received == 10 && s.Sent == 10 })
	waitStats(t, s1, func(s Stats) bool { return s.Received == 20 && s.Sent == 20 })
}

// Frames that cannot be sent do not take a TX frame, nor does asking for one.
func TestBadLength(t *testing.T) {
	w := newBed(t).addWire(t, "length", 1)
	s := w.open(t, Config{TransmitOnly: true, TXFrames: 2})
	ports, links := linksOf(s)
	tx := Tx{links: links, from: &links[0]}
	for range 10 {
		if f := tx.Frame(ports[0]); len(f) != 0 || cap(f) != 2048 {
			t.Fatalf("frame of %d bytes and room for %d, want 0 and 2048", len(f), cap(f))
		}
	}
	tx.Send(ports[0], nil)
	tx.Send(ports[0], make([]byte, 13))
	tx.Send(ports[0], append(tx.Frame(ports[0]), make([]byte, 2049)...))
	if st := statsOf(t, s); st.BadLength != 3 || len(s.free) != 2 {
		t.Errorf("%d of bad length, %d frames free, want 3 and 2", st.BadLength, len(s.free))
	}
	tx.Send(ports[0], testFrame(1))
	tx.Send(ports[0], append(tx.Frame(ports[0]), testFrame(2)...))
	s.flush()
	w.peer.expect(t, 1, 3)
}

func TestUnknownPortPanics(t *testing.T) {
	tx := Tx{from: &Link{}}
	defer func() {
		if recover() == nil {
			t.Error("sent by a port that the loop does not have")
		}
	}()
	tx.Send(NewPort("unknown"), nil)
}
