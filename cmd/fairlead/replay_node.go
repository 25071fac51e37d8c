// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math"
	"net/netip"
	"time"

	"github.com/fairlead/fairlead/controller/desired"
	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/dataplane"
	"github.com/fairlead/fairlead/lb/flow"
	"github.com/fairlead/fairlead/lb/forward"
	"github.com/fairlead/fairlead/lb/packet"
)

// replayNode is a node in memory: its tables, its connections, and the names
// of what is in them.
type replayNode struct {
	forwarder  *forward.Forwarder
	direction  direction
	mac        [6]byte // zero: not known
	self       []netip.Addr
	genevePort uint16
	names      replayNames
	ids        map[lb.ServiceKey]lb.ServiceID
	backends   map[lb.BackendID]dataplane.BackendEntry
	left       *flow.Fragments // of replies, as they left
	clock      replayClock
	out, reply []byte // buffers
}

// tableLine is the unit of limits.tableMemory.
const tableLine = 64

// newReplayNode is the node as its agent would configure it, with the tables at rest.
func newReplayNode(snapshot *desired.Snapshot, o replayOptions) (*replayNode, error) {
	as := *snapshot
	if o.node != "" {
		node, err := nodeNamed(snapshot, o.node)
		if err != nil {
			return nil, err
		}
		as.Settings.Node, as.Settings.Addrs = node.Name, node.Addrs
	}
	table, err := as.Table()
	if err != nil {
		return nil, err
	}
	s := as.Settings
	tables := forward.NewTables(dataplane.Limits{
		Nodes: len(as.Nodes) + 1, Backends: s.Limits.Backends, Services: s.Limits.Services,
		Lines: uint32(s.Limits.TableMemory / tableLine),
	})
	v4, v6 := forward.MSSClamps(o.mtu, s.Addrs)
	forwarder, err := forward.NewForwarder(forward.Settings{
		InternalIPs: s.Addrs, GenevePort: s.GenevePort, MAC: o.mac, Keys: s.Keys, MTU: o.mtu,
		MSSClampV4: v4, MSSClampV6: v6, FlowBuckets: s.Limits.Flows / flow.Ways,
	}, tables)
	if err != nil {
		return nil, err
	}
	plane, err := dataplane.New(tables, dataplane.Options{Now: func() uint32 { return firstTick }})
	if err != nil {
		return nil, err
	}
	if err := plane.Sync(table); err != nil {
		return nil, fmt.Errorf("fill the tables of node %q: %w", s.Node, err)
	}
	state, err := tables.Load()
	if err != nil {
		return nil, err
	}
	n := &replayNode{
		forwarder: forwarder, direction: o.direction, mac: o.mac, self: s.Addrs, genevePort: s.GenevePort, names: namesOf(&as, table),
		ids: map[lb.ServiceKey]lb.ServiceID{}, backends: state.Backends, left: flow.NewFragments([16]byte{}),
	}
	for id, service := range state.Services {
		n.ids[service.Key] = id
	}
	return n, nil
}

func nodeNamed(s *desired.Snapshot, name string) (lb.Node, error) {
	var names []string
	for _, n := range s.Nodes {
		if n.Name == name {
			return n, nil
		}
		names = append(names, n.Name)
	}
	return lb.Node{}, fmt.Errorf("--node %q: not among the nodes %q", name, names)
}

// forward decides about a frame and fills in the rest of its line; the reason
// is None of what the node itself made. Every frame that it becomes is given to
// send, which must not keep it.
func (n *replayNode) forward(frame []byte, tick uint32, line *replayLine, send func([]byte)) forward.Reason {
	var outer packet.Packet
	isIP := outer.Parse(frame)
	if isIP {
		n.describe(line, &outer)
	}
	line.Direction = directionIn
	if n.leaves(frame, &outer, isIP) {
		line.Direction = directionOut
	}
	leaving := frame
	if isIP && line.Direction == directionOut && n.direction == directionAuto {
		if line.Made = n.made(&outer, tick); line.Made {
			return forward.None
		}
		leaving = outer.Frame
	}
	var reason forward.Reason
	if line.Direction == directionOut {
		reason, n.out = n.forwarder.Egress(leaving, true, tick, n.out[:0])
	} else {
		reason, n.out = n.forwarder.Ingress(frame, tick, n.out[:0])
	}
	line.Verdict, line.Reason = reason.Verdict().String(), reason.String()
	if len(n.out) > 0 {
		n.describeSent(line, reason.Verdict(), &outer)
		send(n.out)
	}
	for more := line.Direction == directionIn; more; {
		if n.out, more = n.forwarder.More(n.out[:0]); more {
			send(n.out)
		}
	}
	return reason
}

// replayClock turns the times of packets into ticks.
type replayClock struct {
	first time.Time
	last  uint32 // 0: there was no packet
}

// firstTick is that of the first packet: far enough from 0 for the rate of
// answers to be as after a long rest.
const firstTick = 1 << 16

// tick never goes back: packets of several interfaces can be a little out of order.
func (n *replayNode) tick(t time.Time) (uint32, error) {
	c := &n.clock
	if c.last == 0 {
		c.first, c.last = t, firstTick
	}
	ticks := t.Sub(c.first) / dataplane.Tick
	if ticks > math.MaxInt32-firstTick {
		return 0, fmt.Errorf("time %s: years after the first packet's, %s", t.Format(time.RFC3339), c.first.Format(time.RFC3339))
	}
	if ticks > 0 {
		c.last = max(c.last, firstTick+uint32(ticks))
	}
	return c.last, nil
}
