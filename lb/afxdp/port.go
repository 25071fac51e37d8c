// SPDX-License-Identifier: Apache-2.0

package afxdp

import "fmt"

// Port stands for a device to send to, the same in all loops, each of which
// has a Socket of its own for it. It holds nothing but its identity.
type Port struct{ name string }

// NewPort makes a Port; the name is for people.
func NewPort(name string) *Port { return &Port{name} }

// String returns the name.
func (p *Port) String() string { return p.name }

// Handler decides what becomes of received frames. Loops that share one call
// it at the same time.
type Handler interface {
	// Handle is given one frame, from its Ethernet header on, which it may change
	// and must not keep. What it sends goes out in the order of the calls.
	Handle(frame []byte, tx *Tx)
}

// Batcher is a Handler that wants to know when a batch begins, for instance to
// read the clock once for many frames.
type Batcher interface {
	Handler
	// BeginBatch is called before frames are handled, with their number.
	BeginBatch(frames int)
}

// Tx is a loop's way out, valid within Handle.
type Tx struct {
	links []Link
	from  *Link
	// spare is what Frame returns when a port is out of frames, as large as the
	// largest frame.
	spare []byte
}

// From is the port that the frame came in by.
func (t *Tx) From() *Port { return t.from.Port }

// Frame returns an empty slice to append a frame to: the memory of the next
// frame that goes out by the port, with the capacity of a whole frame. It
// stays the same, and is not used up, until something is sent by that port.
// When the port is out of frames, the memory is the loop's own; Send then
// counts and drops the frame.
func (t *Tx) Frame(to *Port) []byte {
	if f := t.socket(to).frame(); f != nil {
		return f
	}
	return t.spare[:0]
}

// Send sends a frame by the port. From what Frame returned for the same port,
// or a part of it, nothing is copied; any other frame is, for instance the
// received one, or one that was built for another port. It never fails: a
// frame that cannot be sent is counted in the socket's Stats. The transmission
// itself begins at the end of the batch.
func (t *Tx) Send(to *Port, frame []byte) { t.socket(to).send(frame) }

// socket finds the loop's socket for the port. Loops have few ports, so that
// this is faster than a map.
func (t *Tx) socket(to *Port) *Socket {
	if t.from.Port == to {
		return t.from.Socket
	}
	for i := range t.links {
		if t.links[i].Port == to {
			return t.links[i].Socket
		}
	}
	panic(fmt.Sprintf("afxdp: port %v is not one of the loop's", to))
}
