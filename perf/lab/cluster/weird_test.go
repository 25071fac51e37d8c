// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/cluster"
)

// weird is frames that no ordinary client sends, and what becomes of them on
// the ingress node.
type weird struct {
	name   string
	frames [][]byte // each without its MAC addresses
	want   counts
	// arrives says that the Pod gets the payload, which is the name.
	arrives bool
}

// one is a frame that counts as one reason.
func one(name, reason string, frame []byte) weird {
	return weird{name: name, frames: [][]byte{frame}, want: counts{reason: 1}}
}

// arriving is a frame that counts as one reason and reaches the Pod.
func arriving(name, reason string, frame func(payload string) []byte) weird {
	w := one(name, reason, frame(name))
	w.arrives = true
	return w
}

// TestWeirdPackets puts frames on the wire before the ingress node. Each has
// one verdict with one reason, and those that are only odd reach the Pod.
func TestWeirdPackets(t *testing.T) {
	lab.RequireRoot(t)
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			c := startOn(t, mode, lab.Options{})
			wire, err := c.Lab.OpenWire(c.Lab.Nodes[0])
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { wire.Close() })
			for _, p := range herePlaces(t, c) {
				accepted := "new"
				if p.name == "there" {
					accepted = "encap_home"
				}
				for family := range clientAddrs {
					client := netip.AddrPortFrom(clientAddrs[family], 40000)
					for _, w := range weirdPackets(client, p.target(family), accepted) {
						t.Run(p.name+"-"+w.name, func(t *testing.T) { w.send(t, c, wire, p.sockets[family]) })
					}
				}
			}
		})
	}
}

// send sends the frames and waits until all are counted.
func (w weird) send(t *testing.T, c *cluster.Cluster, wire *lab.Wire, socket *udpSocket) {
	ingress := c.Lab.Nodes[0]
	before := countersOf(t, c, ingress)
	for _, f := range w.frames {
		frame := append(append([]byte{}, wire.Node...), wire.Router...)
		if err := wire.Send(append(frame, f...)); err != nil {
			t.Fatal(err)
		}
	}
	var grown counts
	err := lab.Poll(t.Context(), atOnce, func() bool {
		grown = countersOf(t, c, ingress).since(before)
		return grown.total() >= w.want.total()
	})
	if diff := cmp.Diff(w.want, grown); diff != "" {
		t.Errorf("counted (-want +got), %v:\n%s", err, diff)
	}
	if w.arrives {
		socket.expect(t, w.name)
		return
	}
	// What was counted has been handed on by now, if it ever will.
	socket.SetReadDeadline(time.Now().Add(time.Millisecond))
	b := make([]byte, 256)
	n, from, err := socket.ReadFromUDPAddrPort(b)
	var failed net.Error
	if !errors.As(err, &failed) || !failed.Timeout() {
		t.Errorf("the pod received %q from %v, %v, want nothing", b[:n], from, err)
	}
}

// total is how many packets were counted.
func (c counts) total() (n uint64) {
	for _, packets := range c {
		n += packets
	}
	return n
}
