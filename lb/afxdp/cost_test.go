// SPDX-License-Identifier: Apache-2.0

package afxdp

import (
	"testing"
	"time"

	"github.com/cilium/ebpf/link"
)

// A batch costs no allocation from the RX ring to the completion ring, nor
// does waiting, nor frames that are lost or too long.
func TestNothingAllocates(t *testing.T) {
	const batch = 64
	b := newBed(t)
	w, dead := b.addWire(t, "alloc", 1), b.addWire(t, "dead", 1)
	s := w.open(t, Config{})
	d := dead.open(t, Config{TransmitOnly: true, TXFrames: 16})
	dead.setUp(t, false)
	w.redirect(t, link.XDPDriverMode, s)
	ports, links := linksOf(s, d)
	l, err := NewLoop(LoopConfig{Links: links, Timeout: time.Nanosecond})
	must(t, err)
	long := make([]byte, 4096)
	h := handlerFunc(func(f []byte, tx *Tx) {
		echo(f, tx)
		tx.Send(ports[0], f)
		tx.Send(ports[1], append(tx.Frame(ports[1]), f...))
		tx.Send(ports[0], long)
	})
	frame := testFrame(1)
	handled := 0
	// The stack of the far end takes 2 x 64 frames a run into a buffer for all runs.
	if n := testing.AllocsPerRun(100, func() {
		for range batch {
			w.peer.write(t, frame)
		}
		for got := 0; got < batch; {
			n := l.round(h)
			got += n
			handled += n
			if err := l.idle(); err != nil {
				t.Fatal(err)
			}
		}
	}); n != 0 {
		t.Errorf("%v allocations for a batch of %d frames", n, batch)
	}
	if st := statsOf(t, s); handled != 101*batch || st.Sent != 2*101*batch || st.BadLength != 101*batch {
		t.Errorf("%d frames handled, counters %+v", handled, st)
	}
	if st := statsOf(t, d); st.Sent != 16 || st.NoFrame != 101*batch-16 {
		t.Errorf("counters of the device that is down: %+v", st)
	}
}

// BenchmarkEcho is the time for one frame through two sockets, two loops and
// the veth pair between them, each way: the far end sends, the near end echoes.
// Both loops share the cores with the softirqs of the wire.
func BenchmarkEcho(b *testing.B) {
	for _, mode := range attachModes {
		b.Run(mode.name, func(b *testing.B) {
			w := newBed(b).addWire(b, mode.name, 1)
			s := w.open(b, Config{})
			w.redirect(b, mode.flags, s)
			far := w.openFar(b, Config{})
			redirectOn(b, w.bed.far, w.far.Attrs().Index, mode.flags, far)
			_, links := linksOf(s)
			run(b, LoopConfig{Links: links, CPUs: []int{0}}, handlerFunc(echo))

			b.ReportAllocs()
			b.ResetTimer()
			lost := pingpong(b, far, b.N)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "frames/s")
			b.ReportMetric(float64(lost), "lost")
		})
	}
}

// pingpong sends so many frames and takes the echoes, with no more frames on
// their way than a veth queues. It returns how many frames got lost.
func pingpong(b *testing.B, s *Socket, frames int) (lost int) {
	const window, patience = 128, time.Second
	ports, links := linksOf(s)
	echoes := 0
	count := handlerFunc(func([]byte, *Tx) { echoes++ })
	l, err := NewLoop(LoopConfig{Links: links, Timeout: patience})
	must(b, err)
	tx := Tx{links: links, from: &links[0]}
	frame := testFrame(0)
	for sent := 0; echoes+lost < frames; {
		for ; sent < frames && sent-echoes-lost < window; sent++ {
			tx.Send(ports[0], frame)
		}
		s.flush()
		began := time.Now()
		for l.round(count) == 0 {
			must(b, l.idle())
			if time.Since(began) > patience {
				lost = sent - echoes
				break
			}
		}
	}
	return lost
}
