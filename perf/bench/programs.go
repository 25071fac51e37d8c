// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cilium/ebpf"

	"github.com/fairlead/fairlead/xdp"
)

// TCP flags of the packets that rows send.
const (
	syn = 2
	ack = 16
)

// row is a program under test and the packets that it gets.
type row struct {
	name    string
	shape   shape
	flows   uint32
	program func(*rig) *ebpf.Program
	floor   string
	hook    string // "xdp", "in" or "out"
	reason  string // that every packet must end with; "" : handed over to TC
	prepare func(*rig, row) error
}

// Flow tables: one in which all flows fit, one that new flows overflow.
const (
	roomyTable = 4 << 20
	fullTable  = 1 << 19
)

// rows are all rows of a family but those with new flows at the owner.
func (f family) rows() []row {
	xdpProgram := func(r *rig) *ebpf.Program { return r.programs.XDP }
	tcIn := func(r *rig) *ebpf.Program { return r.programs.TCIn }
	tcOut := func(r *rig) *ebpf.Program { return r.programs.TCOut }
	rows := []row{
		{name: "xdp/pass", shape: f.fromClient(f.notVIP, ack), flows: 1 << 16, program: xdpProgram, floor: "floor_pass", hook: "xdp", reason: "not_vip"},
		{name: "xdp/drop", shape: f.fromClient(f.unknown, ack), flows: 1 << 16, program: xdpProgram, floor: "floor_pass", hook: "xdp", reason: "unknown_port"},
		{name: "xdp/remote/new", shape: f.fromClient(f.remote, syn), flows: maxFlows, program: xdpProgram, floor: "floor_remote", hook: "xdp", reason: "encap_home"},
	}
	for _, n := range []struct {
		name  string
		flows uint32
	}{{"1", 1}, {"64k", 1 << 16}, {"1M", maxFlows}} {
		rows = append(rows,
			row{name: "xdp/remote/" + n.name, shape: f.fromClient(f.remote, ack), flows: n.flows, program: xdpProgram, floor: "floor_remote", hook: "xdp", reason: "encap_home"},
			row{name: "xdp/owner/" + n.name, shape: f.fromNode(ack), flows: n.flows, program: xdpProgram, floor: "floor_owner", hook: "xdp", prepare: f.establish},
			row{name: "tc/dnat/" + n.name, shape: f.fromClient(f.local, ack), flows: n.flows, program: tcIn, floor: "floor_dnat", hook: "in", reason: "mine", prepare: f.establish},
			row{name: "tc/reply/" + n.name, shape: f.fromPod(ack), flows: n.flows, program: tcOut, floor: "floor_reply", hook: "out", reason: "translated", prepare: f.establish},
		)
	}
	return rows
}

// newRow is never-seen flows into a full table.
func (f family) newRow() row {
	return row{
		name: "xdp/owner/new", shape: f.fromNode(syn), flows: maxFlows, floor: "floor_owner", hook: "xdp",
		program: func(r *rig) *ebpf.Program { return r.programs.XDP },
		prepare: func(r *rig, row row) error { // fill the table once
			return r.pass(f.fromNode(syn), r.programs.XDP, "xdp", maxFlows)
		},
	}
}

// establish opens the row's flows: a SYN from the client, an ACK from the Pod.
func (f family) establish(r *rig, w row) error {
	if r.established >= w.flows {
		return nil
	}
	r.established = w.flows
	if err := r.pass(f.fromNode(syn), r.programs.XDP, "xdp", w.flows); err != nil {
		return err
	}
	return r.pass(f.fromPod(ack), r.programs.TCOut, "out", w.flows)
}

// rig is programs with one flow table, on which rows run.
type rig struct {
	programs    *xdp.Programs
	family      family
	established uint32
}

func timePrograms(t *table, all []family, only string, rounds int) error {
	for _, f := range all {
		for _, set := range []struct {
			entries int
			rows    []row
		}{{roomyTable, f.rows()}, {fullTable, []row{f.newRow()}}} {
			rows := slices.DeleteFunc(set.rows, func(w row) bool { return !strings.Contains(f.rowName(w.name), only) })
			if len(rows) == 0 {
				continue
			}
			if err := f.timeRows(t, set.entries, rows, rounds); err != nil {
				return err
			}
		}
	}
	return nil
}

// rowName puts the family into the name of a row.
func (f family) rowName(name string) string {
	hook, rest, _ := strings.Cut(name, "/")
	return hook + "/" + f.name + "/" + rest
}

func (f family) timeRows(t *table, entries int, rows []row, rounds int) error {
	p, err := f.load(entries)
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	defer p.Close()
	r := &rig{programs: p, family: f}
	for _, w := range rows {
		result, err := r.time(w, rounds)
		if err != nil {
			return fmt.Errorf("%s: %w", f.rowName(w.name), err)
		}
		t.add(result)
	}
	return nil
}

// pass sends each of the flows' packets through the program once.
func (r *rig) pass(s shape, program *ebpf.Program, hook string, flows uint32) error {
	w, err := r.wrap(s, hook, flows)
	if err != nil {
		return err
	}
	defer w.close()
	_, err = w.run(program, int(flows))
	return err
}

// time measures a row in rounds of wrapper, floor and program in turn.
func (r *rig) time(w row, rounds int) (Result, error) {
	if w.prepare != nil {
		if err := w.prepare(r, w); err != nil {
			return Result{}, fmt.Errorf("prepare: %w", err)
		}
	}
	wrap, err := r.wrap(w.shape, w.hook, w.flows)
	if err != nil {
		return Result{}, err
	}
	defer wrap.close()
	repeat := max(1<<18, int(w.flows))
	if _, err := wrap.run(w.program(r), repeat); err != nil { // warm
		return Result{}, err
	}
	var own, floor []float64
	for range rounds {
		base, err := wrap.run(wrap.coll.Programs["empty_"+w.hook], repeat)
		if err != nil {
			return Result{}, err
		}
		low, err := wrap.run(wrap.coll.Programs[w.floor], repeat)
		if err != nil {
			return Result{}, err
		}
		full, err := r.checked(w, wrap, repeat)
		if err != nil {
			return Result{}, err
		}
		own, floor = append(own, full-base), append(floor, low-base)
	}
	ns, floorNS := median(own), median(floor)
	return Result{Name: r.family.rowName(w.name), NS: ns, FloorNS: floorNS, Ratio: ns / max(floorNS, 1)}, nil
}

// checked runs the program and makes sure that the packets ended as they should.
func (r *rig) checked(w row, wrap *wrapper, repeat int) (float64, error) {
	if err := r.programs.ConfirmNextHops(xdp.NowTick()); err != nil {
		return 0, err
	}
	before, err := r.programs.Maps().Counters()
	if err != nil {
		return 0, err
	}
	ns, err := wrap.run(w.program(r), repeat)
	if err != nil {
		return 0, err
	}
	after, err := r.programs.Maps().Counters()
	if err != nil {
		return 0, err
	}
	for i := range after {
		n := after[i].Packets - before[i].Packets
		// A bucket of the flow table may be full: a few in a million.
		if after[i].Reason != w.reason && n > uint64(repeat)/1000 {
			return 0, fmt.Errorf("%d of %d packets ended as %s, want %q", n, repeat, after[i].Reason, w.reason)
		}
	}
	return ns, nil
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// wrapper is the wrapping programs, loaded for one shape.
type wrapper struct {
	coll  *ebpf.Collection
	entry *ebpf.Program
	tails string // the map with the program that entry goes on to
	frame []byte
}

func (r *rig) wrap(s shape, hook string, flows uint32) (*wrapper, error) {
	spec, err := loadBench()
	if err != nil {
		return nil, err
	}
	frame := s.build(r.family.flowAt(0))
	for name, value := range map[string]any{
		"frame_len": uint32(len(frame)), "flow_count_mask": flows - 1,
		"addr_offset": s.addrOffset, "addr_len": uint32(r.family.addrLen), "port_offset": s.portOffset,
		"mac_offset": s.macOffset,
	} {
		if err := spec.Variables[name].Set(value); err != nil {
			return nil, fmt.Errorf("set %s: %w", name, err)
		}
	}
	spec.Maps["bench_flows"].MaxEntries = flows
	coll, err := r.programs.LoadBeside(spec)
	if err != nil {
		return nil, err
	}
	w := &wrapper{coll: coll, entry: coll.Programs["bench_"+hook], tails: hook + "_tails", frame: frame}
	template := benchBenchTemplate{}
	copy(template.Frame[:], frame)
	if err := coll.Maps["templates"].Put(uint32(0), &template); err != nil {
		w.close()
		return nil, err
	}
	return w, w.fill(r.family.entries(s, flows))
}

func (w *wrapper) fill(entries []benchBenchFlow) error {
	keys := make([]uint32, len(entries))
	for i := range keys {
		keys[i] = uint32(i)
	}
	_, err := w.coll.Maps["bench_flows"].BatchUpdate(keys, entries, nil)
	return err
}

func (w *wrapper) close() { w.coll.Close() }

// run is the time of one packet in ns, the wrapper's part included.
func (w *wrapper) run(program *ebpf.Program, repeat int) (float64, error) {
	if err := w.coll.Maps[w.tails].Put(uint32(0), program); err != nil {
		return 0, fmt.Errorf("put tail: %w", err)
	}
	_, d, err := w.entry.Benchmark(w.frame, repeat, nil)
	return float64(d) / float64(time.Nanosecond), err
}
