// SPDX-License-Identifier: Apache-2.0

package afxdp

import (
	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/forward"
)

// NextHops knows how other nodes are reached.
type NextHops interface {
	// NextHop is the device by which a node is reached and the MAC addresses of
	// the frame. Without ok they are not known, or were confirmed too long ago.
	NextHop(id lb.NodeID, now uint32) (ifindex int, dmac, smac [6]byte, ok bool)
}

// Uplink is a device that clients' packets arrive on, as a Forwarding has it.
type Uplink struct {
	Index int
	Port  *Port
	// Stack takes what the kernel shall do: a packet for a Pod comes in by the
	// uplink once more; one without a destination MAC address leaves by it, to
	// the neighbour that the kernel finds.
	Stack *Port
}

// Forwarding is the userspace datapath as the Handler of one Loop: lb/forward
// decides, and every frame leaves by the port that its verdict asks for. It
// neither locks nor allocates.
type Forwarding struct {
	forwarder *forward.Forwarder
	hops      NextHops
	uplinks   []Uplink
	clock     func() uint32
	now       uint32 // of the batch
}

// NewForwarding makes one. The Forwarder is its own; clock tells the tick.
func NewForwarding(f *forward.Forwarder, hops NextHops, uplinks []Uplink, clock func() uint32) *Forwarding {
	return &Forwarding{forwarder: f, hops: hops, uplinks: uplinks, clock: clock, now: clock()}
}

// BeginBatch implements Batcher.
func (w *Forwarding) BeginBatch(int) { w.now = w.clock() }

// Handle implements Handler.
func (w *Forwarding) Handle(frame []byte, tx *Tx) {
	from := tx.From()
	reason, out := w.forwarder.Ingress(frame, w.now, tx.Frame(from))
	switch reason.Verdict() {
	case forward.Answer:
		tx.Send(from, out)
	case forward.Deliver:
		tx.Send(w.stack(from), out)
	case forward.Encap, forward.Steer:
		w.sendToNode(tx, from, out)
	}
}

// sendToNode sends what was encapsulated, and all other pieces of it.
func (w *Forwarding) sendToNode(tx *Tx, from *Port, out []byte) {
	ifindex, dmac, smac, ok := w.hops.NextHop(w.forwarder.Node(), w.now)
	to := w.port(ifindex)
	if to == nil || !ok {
		to, dmac = w.stack(from), [6]byte{}
	}
	for more := true; more; out, more = w.forwarder.More(tx.Frame(to)) {
		copy(out, dmac[:])
		copy(out[len(dmac):], smac[:])
		tx.Send(to, out)
	}
}

func (w *Forwarding) port(ifindex int) *Port {
	for i := range w.uplinks {
		if w.uplinks[i].Index == ifindex {
			return w.uplinks[i].Port
		}
	}
	return nil
}

func (w *Forwarding) stack(of *Port) *Port {
	for i := range w.uplinks {
		if w.uplinks[i].Port == of {
			return w.uplinks[i].Stack
		}
	}
	return w.uplinks[0].Stack
}
