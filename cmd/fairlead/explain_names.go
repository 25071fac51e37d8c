// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"time"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/dataplane"
	"github.com/fairlead/fairlead/lb/flow"
	"github.com/fairlead/fairlead/lb/forward"
	"github.com/fairlead/fairlead/lb/maglev"
	"github.com/fairlead/fairlead/xdp"
)

// explainContext turns ids into names.
type explainContext struct {
	state    state
	tables   dataplane.State
	datapath datapath
	now      uint32
}

func (x *explainContext) report(name string, e forward.Explanation) (packetExplain, error) {
	p := packetExplain{
		Packet: name, Verdict: e.Reason.Verdict().String(), Reason: e.Reason.String(),
		Meaning: reasonMeanings[e.Reason.String()], VIPPorts: []string{},
	}
	for _, key := range e.Ports {
		p.VIPPorts = append(p.VIPPorts, key.String())
	}
	if e.Service == nil {
		return p, nil
	}
	p.Service = x.service(e)
	if e.Reason == forward.SourceRange || e.Reason == forward.Left || e.Reason == forward.Conntracked {
		return p, nil
	}
	p.Table = x.table(e)
	if e.Slot != nil {
		x.slot(&p, e)
	}
	if e.Flow != nil {
		p.Flow = x.flow(e.Flow)
		if e.Flow.Kind == flow.Own {
			p.Flow.Match = [...]string{flow.Foreign: "foreign", flow.Unfit: "unfit", flow.Mine: "mine"}[e.Match]
		}
	}
	if e.Remembered != nil {
		p.Affinity = x.flow(e.Remembered)
	}
	if e.Pod.IsValid() {
		p.Deliver = &deliverExplain{Pod: e.Pod, PodPort: e.PodPort, Record: e.Made != nil}
	}
	return p, x.way(&p, e)
}

func (x *explainContext) service(e forward.Explanation) *serviceExplain {
	s := &serviceExplain{
		Name: e.Service.Key.String(), Key: e.Service.Key.String(), Policy: lb.Cluster.String(), Left: e.Service.Left, Adopted: e.Service.Adopted,
		AffinitySeconds: seconds(int32(e.Service.AffinityTicks)), SourceRanges: e.Ranges,
	}
	if e.Service.Local {
		s.Policy = lb.Local.String()
	}
	if x.state.table == nil {
		return s
	}
	if known := x.state.table.Service(e.Service.Key); known != nil {
		s.Name = known.Name
	}
	return s
}

func (x *explainContext) table(e forward.Explanation) *tableExplain {
	ref := e.Service.Table
	if ref.Size == 0 {
		return &tableExplain{Elsewhere: e.Service.Elsewhere}
	}
	t := &tableExplain{
		Closed: e.Service.Closed, Elsewhere: e.Service.Elsewhere,
		Slots: maglev.Sizes[ref.Size-1], Hash: fmt.Sprintf("%04x", ref.Hash), Generation: ref.Generation, Transition: ref.Transition,
	}
	if e.Slot != nil {
		t.Backends = e.Slot.Backends
	}
	if e.Service.PastUntil != 0 {
		t.PastSeconds = x.left(e.Service.PastUntil)
	}
	return t
}

func (x *explainContext) slot(p *packetExplain, e forward.Explanation) {
	p.Slot = &slotExplain{Slot: e.Slot.Slot, Hash: fmt.Sprintf("%016x", e.Slot.Hash), By: "client and ports"}
	if e.Service.AffinityTicks != 0 {
		p.Slot.By = "client"
	}
	home := x.target(e.Slot.Home)
	p.Home = &home
	for _, past := range e.Slot.Past {
		p.Past = append(p.Past, x.target(past))
	}
}

func (x *explainContext) target(t forward.Target) targetExplain {
	r := targetExplain{Address: t.Addr, State: "ready", Local: t.Node == lb.SelfNode && t.Addr.IsValid()}
	switch {
	case !t.Addr.IsValid(), !t.Endpoint:
		r.State = "gone"
	case t.Draining:
		r.State = "draining"
	}
	if t.Addr.IsValid() {
		r.Node = x.node(t.Node)
	}
	return r
}

// node is a node's name, its address where the configuration has none for it.
func (x *explainContext) node(id lb.NodeID) string {
	if id == lb.SelfNode {
		return x.state.snapshot.Settings.Node
	}
	entry, ok := x.tables.Nodes[id]
	if !ok {
		return fmt.Sprintf("unknown (id %d)", id)
	}
	for _, n := range x.state.snapshot.Nodes {
		for _, addr := range n.Addrs {
			if addr == entry.Addr {
				return n.Name
			}
		}
	}
	return entry.Addr.String()
}

func (x *explainContext) flow(r *flow.Record) *flowExplain {
	f := &flowExplain{Flags: []string{}, IdleSeconds: max(0, seconds(int32(x.now-r.Seen)))}
	switch r.Kind {
	case flow.Redirect:
		f.Kind, f.Node, f.LeftSeconds = "redirect", x.node(r.Node), x.left(r.Until)
		return f
	case flow.Affinity:
		f.Kind, f.LeftSeconds = "affinity", x.left(r.Until)
	default:
		f.Kind, f.State, f.PodPort, f.Flags = "own", flowState(r), r.PodPort, flowFlags(r.Flags)
	}
	f.Backend = x.tables.Backends[r.Backend].Addr
	return f
}

// way adds how the packet gets to another node.
func (x *explainContext) way(p *packetExplain, e forward.Explanation) error {
	if e.Tunnel == nil {
		return nil
	}
	p.Tunnel = &tunnelExplain{
		Node: x.node(e.Node), Source: e.Tunnel.Src, Dest: e.Tunnel.Dst,
		Overhead: e.Tunnel.Overhead, MTU: e.MTU, Largest: e.MTU - e.Tunnel.Overhead,
	}
	if e.Learned.MTU != 0 {
		left := x.left(e.Learned.Until)
		p.Tunnel.LearnedSeconds = &left
	}
	hop, err := x.datapath.NextHop(e.Node)
	if err != nil {
		return fmt.Errorf("find the next hop: %w", err)
	}
	p.NextHop = &hopExplain{
		Interface: hop.Interface, MAC: hop.MAC.String(), Fresh: hop.Confirmed && hop.Age <= xdp.NextHopLifetime, AgeSeconds: -1,
		XDPMode: commonMode(reportInterfaces(nil, x.datapath.Attachments())),
	}
	if hop.Confirmed {
		p.NextHop.AgeSeconds = hop.Age.Seconds()
	}
	return nil
}

// left are the seconds until a tick.
func (x *explainContext) left(until uint32) int64 { return max(0, seconds(int32(until-x.now))) }

func seconds(ticks int32) int64 { return int64((time.Duration(ticks) * xdp.Tick).Seconds()) }

// flowState names a record's state as fairlead flows does.
func flowState(r *flow.Record) string {
	switch {
	case r.State == flow.HalfOpen:
		return "half-open"
	case r.Flags.Closed():
		return "closed"
	case r.Flags&(flow.ClientFIN|flow.PodFIN) != 0:
		return "closing"
	}
	return "established"
}

func flowFlags(flags flow.Flags) []string {
	names := []string{}
	for _, f := range []struct {
		flag flow.Flags
		name string
	}{
		{flow.Unverified, "unverified"}, {flow.ClientFIN, "client-fin"}, {flow.ClientRST, "client-rst"},
		{flow.PodFIN, "pod-fin"}, {flow.PodRST, "pod-rst"},
	} {
		if flags&f.flag != 0 {
			names = append(names, f.name)
		}
	}
	return names
}
