// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/lb/dataplane"
	lbflow "github.com/fairlead/fairlead/lb/flow"
	"github.com/fairlead/fairlead/lb/forward"
	"github.com/fairlead/fairlead/lb/packet"
	"github.com/fairlead/fairlead/xdp"
)

// Flow tables: one in which all known flows fit, and one so small that every
// new flow is forgotten before it comes again.
const (
	knownTable     = 1 << 19
	forgetfulTable = 1 << 18
)

// forwardRow is a kind of packet for lb/forward alone: Go on one core, no sockets.
type forwardRow struct {
	name   string
	shape  shape
	flows  uint32
	reason forward.Reason // that every packet must end with
	egress bool
	bpf    bool // connections are asked of xdp.Owner, and so of the BPF flow table
	known  bool // the flows are established before
}

// forwardRows are all rows of a family but those with new flows at the owner.
func (f family) forwardRows() []forwardRow {
	rows := []forwardRow{
		{name: "forward/pass", shape: f.fromClient(f.notVIP, ack), flows: 1 << 16, reason: forward.NotVIP},
		{name: "forward/drop", shape: f.fromClient(f.unknown, ack), flows: 1 << 16, reason: forward.UnknownPort},
		{name: "forward/remote/new", shape: f.fromClient(f.remote, syn), flows: maxFlows, reason: forward.EncapHome},
		{name: "forward/remote/1", shape: f.fromClient(f.remote, ack), flows: 1, reason: forward.EncapHome},
		{name: "forward/remote/64k", shape: f.fromClient(f.remote, ack), flows: 1 << 16, reason: forward.EncapHome},
		{name: "forward/remote/1M", shape: f.fromClient(f.remote, ack), flows: maxFlows, reason: forward.EncapHome},
		{name: "forward/owner-bpf/1", shape: f.fromNode(ack), flows: 1, reason: forward.Mine, known: true, bpf: true},
	}
	for _, n := range []struct {
		name  string
		flows uint32
	}{{"1", 1}, {"64k", 1 << 16}} {
		rows = append(rows,
			forwardRow{name: "forward/owner/" + n.name, shape: f.fromNode(ack), flows: n.flows, reason: forward.Mine, known: true},
			forwardRow{name: "forward/dnat/" + n.name, shape: f.fromClient(f.local, ack), flows: n.flows, reason: forward.Mine, known: true},
			forwardRow{name: "forward/reply/" + n.name, shape: f.fromPod(ack), flows: n.flows, reason: forward.Translated, known: true, egress: true},
		)
	}
	return rows
}

// newForwardRows are never-seen flows, soon into full tables.
func (f family) newForwardRows() []forwardRow {
	return []forwardRow{
		{name: "forward/owner/new", shape: f.fromNode(syn), flows: maxFlows, reason: forward.New},
		{name: "forward/owner-bpf/new", shape: f.fromNode(syn), flows: maxFlows, reason: forward.New, bpf: true},
	}
}

// forwardRig is two Forwarders on the same tables: one with a flow table of its
// own, one with that of the rig's programs.
type forwardRig struct {
	rig
	own, bpf *forward.Forwarder
	known    uint32 // flows that own has
}

func timeForward(t *table, all []family, only string, rounds int) error {
	for _, f := range all {
		for _, set := range []struct {
			entries int
			rows    []forwardRow
		}{{knownTable, f.forwardRows()}, {forgetfulTable, f.newForwardRows()}} {
			rows := slices.DeleteFunc(set.rows, func(w forwardRow) bool { return !strings.Contains(f.rowName(w.name), only) })
			if len(rows) == 0 {
				continue
			}
			if err := f.timeForward(t, set.entries, rows, rounds); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f family) timeForward(t *table, entries int, rows []forwardRow, rounds int) error {
	p, err := f.load(entries)
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	defer p.Close()
	tables := forward.NewTables(p.Maps().Limits())
	if _, err := dataplane.Both(p.Maps(), tables); err != nil {
		return err
	}
	owner, err := p.NewOwner(tables.BackendIsLocal)
	if err != nil {
		return err
	}
	defer owner.Close()
	r := &forwardRig{rig: rig{programs: p, family: f}}
	settings := f.settings(entries)
	if r.own, err = forward.NewForwarder(settings, tables); err != nil {
		return err
	}
	if r.bpf, err = forward.NewForwarderWith(settings, tables, owner); err != nil {
		return err
	}
	for _, w := range rows {
		result, err := r.time(w, rounds)
		if err != nil {
			return fmt.Errorf("%s: %w", f.rowName(w.name), err)
		}
		t.add(result)
	}
	return nil
}

// settings are those of the programs, with a flow table of so many records.
func (f family) settings(flowEntries int) forward.Settings {
	self := []netip.Addr{f.self}
	v4, v6 := forward.MSSClamps(uplink.MTU, self)
	return forward.Settings{
		InternalIPs: self, GenevePort: genevePort, MAC: uplink.MAC, Keys: [][16]byte{wireKey}, MTU: uplink.MTU,
		MSSClampV4: v4, MSSClampV6: v6, FlowBuckets: flowEntries / lbflow.Ways,
	}
}

// time measures a row in rounds of floor and Forwarder in turn. The floor
// parses the frame and copies it out.
func (r *forwardRig) time(w forwardRow, rounds int) (Result, error) {
	if w.known {
		if err := r.establish(w); err != nil {
			return Result{}, fmt.Errorf("establish: %w", err)
		}
	}
	p, repeat := r.family.packets(w.shape, w.flows), max(1<<18, int(w.flows))
	f, work := r.work(w)
	p.run(repeat, work) // warm
	var parsed packet.Packet
	out := make([]byte, 0, 2048)
	var own, floor []float64
	var allocated uint64
	for range rounds {
		floor = append(floor, p.run(repeat, func(frames [][]byte) {
			for _, frame := range frames {
				parsed.Parse(frame)
				out = append(out[:0], frame...)
			}
		}))
		counted, allocs := f.Counters(), allocations()
		own = append(own, p.run(repeat, work))
		allocated += allocations() - allocs
		if err := check(w.reason, counted, f.Counters(), repeat); err != nil {
			return Result{}, err
		}
	}
	ns, floorNS := median(own), median(floor)
	// The runtime itself makes an object now and then.
	allocs := float64(allocated*1000/uint64(rounds*repeat)) / 1000
	return Result{
		Name: r.family.rowName(w.name), NS: ns, FloorNS: floorNS, Ratio: ns / max(floorNS, 1), Allocs: &allocs,
	}, nil
}

// work gives frames to the row's Forwarder, which is the other result. Like a
// loop over sockets it reads the clock once for a batch.
func (r *forwardRig) work(w forwardRow) (*forward.Forwarder, func([][]byte)) {
	f, out := r.own, make([]byte, 0, 2048)
	if w.bpf {
		f = r.bpf
	}
	if w.egress {
		return f, func(frames [][]byte) {
			now := xdp.NowTick()
			for _, frame := range frames {
				f.Egress(frame, false, now, out)
			}
		}
	}
	return f, func(frames [][]byte) {
		now := xdp.NowTick()
		for _, frame := range frames {
			f.Ingress(frame, now, out)
		}
	}
}

// establish opens the row's flows: a SYN from the client, an ACK from the Pod.
func (r *forwardRig) establish(w forwardRow) error {
	if w.bpf {
		return r.family.establish(&r.rig, row{flows: w.flows})
	}
	if r.known >= w.flows {
		return nil
	}
	r.known = w.flows
	for _, w := range []forwardRow{
		{shape: r.family.fromNode(syn), flows: w.flows},
		{shape: r.family.fromPod(ack), flows: w.flows, egress: true},
	} {
		_, work := r.work(w)
		r.family.packets(w.shape, w.flows).run(int(w.flows), work)
	}
	return nil
}

// check makes sure that the packets ended as they should.
func check(want forward.Reason, before, after []uint64, packets int) error {
	for i := range after {
		n := after[i] - before[i]
		// A bucket of the flow table may be full: a few in a million.
		if reason := forward.Reason(i); reason != want && n > uint64(packets)/1000 {
			return fmt.Errorf("%d of %d packets ended as %s, want %s", n, packets, reason, want)
		}
	}
	return nil
}

// allocations are the objects that the process has made.
func allocations() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}
