// SPDX-License-Identifier: Apache-2.0

package xdp

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/dataplane"
	"github.com/fairlead/fairlead/lb/flow"
	"github.com/fairlead/fairlead/lb/forward"
	"github.com/fairlead/fairlead/lb/forward/forwardtest"
	"github.com/fairlead/fairlead/lb/packet"
	"github.com/fairlead/fairlead/perf/lab"
)

// kernel runs the vectors through the programs by BPF_PROG_TEST_RUN: all of it
// in TC, or XDP in native mode as far as that goes.
type kernel struct {
	t        testing.TB
	programs *Programs
	native   bool
	seen     []Counter
}

// kernels loads the programs once for vectors with the same settings.
type kernels struct {
	t      *testing.T
	native bool
	veth   bool // completes partial checksums, and changes no other
	loaded map[string]*Programs
}

// get is a kernel for one vector, empty before and after.
func (ks *kernels) get(t testing.TB, s forward.Settings) *kernel {
	t.Helper()
	name := fmt.Sprint(s)
	if ks.loaded[name] == nil {
		p, err := loadForVectors(s, ks.native, ks.veth)
		if err != nil {
			t.Fatal(err)
		}
		ks.loaded[name] = p
		ks.t.Cleanup(func() {
			if err := p.Close(); err != nil {
				ks.t.Error(err)
			}
		})
	}
	k := &kernel{t: t, programs: ks.loaded[name], native: ks.native}
	t.Cleanup(k.reset)
	k.seen = k.counters()
	return k
}

func loadForVectors(s forward.Settings, native, veth bool) (*Programs, error) {
	cfg := Config{
		Addrs: s.InternalIPs, GenevePort: s.GenevePort, Keys: s.Keys, FlowEntries: s.FlowBuckets * flowWays,
		Services: forwardtest.Limits.Services, Backends: forwardtest.Limits.Backends,
		TableBytes: int(forwardtest.Limits.Lines) * lineSize,
	}
	if native {
		cfg.Mode = Native
	}
	key := [2]uint64{binary.LittleEndian.Uint64(s.FlowKey[:8]), binary.LittleEndian.Uint64(s.FlowKey[8:])}
	more := map[string]any{bpfVarTestClock: uint8(1)}
	if veth {
		more[bpfVarCompleteChecksums] = uint8(1)
	}
	return loadPrograms(cfg, Uplink{MTU: s.MTU, MAC: s.MAC}, key, more)
}

// reset leaves no table, no flow and a full bucket of answers.
func (k *kernel) reset() {
	plane, err := dataplane.New(k.Maps(), dataplane.Options{Now: func() uint32 { return 0 }})
	if err != nil {
		k.t.Fatal(err)
	}
	if err := plane.Sync(forwardtest.TableOf("a")); err != nil {
		k.t.Fatal(err)
	}
	k.setRecords(make([]flow.Record, len(k.Records())))
	tokens := k.programs.Maps().byName[bpfMapAnswerTokens]
	if err := tokens.Put(uint32(0), make([]bpfLbBucket, ebpf.MustPossibleCPU())); err != nil {
		k.t.Fatal(err)
	}
}

func (k *kernel) counters() []Counter {
	c, err := k.programs.Maps().Counters()
	if err != nil {
		k.t.Fatal(err)
	}
	return c
}

// counted is the one reason that was counted since the last call, None if there was none.
func (k *kernel) counted() forward.Reason {
	now := k.counters()
	reason := forward.None
	for i := range now {
		switch now[i].Packets - k.seen[i].Packets {
		case 0:
		case 1:
			if reason != forward.None {
				k.t.Fatalf("counted twice: %s and %s", reason, now[i].Reason)
			}
			reason = forward.Reason(i + 1)
		default:
			k.t.Fatalf("counted %d times: %s", now[i].Packets-k.seen[i].Packets, now[i].Reason)
		}
	}
	k.seen = now
	return reason
}

func (k *kernel) Maps() dataplane.Maps { return k.programs.Maps() }

func (k *kernel) setTick(tick uint32) {
	if err := k.programs.coll.Variables[bpfVarTestTick].Set(tick); err != nil {
		k.t.Fatal(err)
	}
}

func (k *kernel) Forward(egress bool, frame []byte, tick uint32) (forward.Reason, []byte, bool) {
	k.setTick(tick)
	// The kernel refuses test runs on frames without an Ethernet header, and
	// those of TC without a whole IP header.
	if len(frame) < ethernetLen {
		return forward.None, nil, false
	}
	if k.native && !egress {
		return k.runNative(frame, tick)
	}
	if len(frame) < shortestSKB(frame) {
		return forward.None, nil, false
	}
	program := k.programs.TCIn
	if egress {
		program = k.programs.TCOut
	}
	out := make([]byte, len(frame)+256)
	run := &ebpf.RunOptions{Data: frame, DataOut: out}
	if _, err := program.Run(run); err != nil {
		k.t.Fatalf("run on %d bytes: %v", len(frame), err)
	}
	reason := k.counted()
	return reason, sent(reason, run.DataOut), true
}

const ethernetLen = 14

func shortestSKB(frame []byte) int {
	switch binary.BigEndian.Uint16(frame[12:]) {
	case 0x0800:
		return ethernetLen + packet.IPv4Len
	case 0x86dd:
		return ethernetLen + packet.IPv6Len
	}
	return ethernetLen + 1
}

func sent(reason forward.Reason, out []byte) []byte {
	switch reason.Verdict() {
	case forward.Pass, forward.Drop:
		return nil
	}
	return out
}

// runNative runs XDP, and what it hands over through TC. Test runs cannot carry
// metadata to TC: that starts again with the client's packet, and has to come
// to the same end.
func (k *kernel) runNative(frame []byte, tick uint32) (forward.Reason, []byte, bool) {
	if err := k.programs.ConfirmNextHops(tick); err != nil {
		k.t.Fatal(err)
	}
	before := k.Records()
	out := make([]byte, len(frame)+256)
	// struct xdp_md
	type md struct{ Data, DataEnd, DataMeta, Ingress, Queue, Egress uint32 }
	ctxOut := md{}
	run := &ebpf.RunOptions{
		Data: frame, DataOut: out, Context: &md{DataEnd: uint32(len(frame))}, ContextOut: &ctxOut,
	}
	if _, err := k.programs.XDP.Run(run); err != nil {
		k.t.Fatalf("run on %d bytes: %v", len(frame), err)
	}
	if ctxOut.Data == ctxOut.DataMeta { // XDP went all the way
		reason := k.counted()
		return reason, sent(reason, run.DataOut), true
	}
	meta := (*bpfLbMeta)(unsafe.Pointer(&run.DataOut[0]))
	if meta.Magic != uint16(bpfLbMetaMagicLB_META_MAGIC) {
		k.t.Fatalf("magic %#x", meta.Magic)
	}
	reason := forward.Reason(meta.Reason)
	after := k.Records()
	k.setRecords(before) // TC decides anew from the same state
	tc := &ebpf.RunOptions{Data: frame, DataOut: make([]byte, len(frame)+256)}
	if _, err := k.programs.TCIn.Run(tc); err != nil {
		k.t.Fatalf("run on %d bytes: %v", len(frame), err)
	}
	counted := k.counted()
	if counted != reason && counted != forward.Rate {
		k.t.Fatalf("xdp decided %s, tc %s", reason, counted)
	}
	k.setRecords(after)
	if reason.Verdict() == forward.Deliver {
		k.checkStripped(run.DataOut[ctxOut.Data:], tc.DataOut)
	}
	return counted, sent(counted, tc.DataOut), true
}

// checkStripped: XDP hands over the client's packet as TC delivers it but for DNAT.
func (k *kernel) checkStripped(xdp, tc []byte) {
	if len(xdp) != len(tc) {
		k.t.Fatalf("xdp hands over %d bytes, tc delivers %d", len(xdp), len(tc))
	}
	if string(xdp[:14]) != string(tc[:14]) {
		k.t.Fatalf("ethernet header: xdp % x, tc % x", xdp[:14], tc[:14])
	}
}

func (k *kernel) Records() []flow.Record {
	m := k.programs.Maps()
	var records []flow.Record
	for at := 0; at < len(m.flows); at += flowSize {
		records = append(records, toRecord((*bpfLbFlow)(unsafe.Pointer(&m.flows[at]))))
	}
	return records
}

func (k *kernel) SetRecord(index int, r flow.Record) {
	all := k.Records()
	all[index] = r
	k.setRecords(all)
}

// setRecords writes the buckets that differ.
func (k *kernel) setRecords(records []flow.Record) {
	m := k.programs.Maps()
	now := k.Records()
	for first := 0; first < len(records); first += flowWays {
		if slices.Equal(records[first:first+flowWays], now[first:first+flowWays]) {
			continue
		}
		var bucket bpfLbFlowBucket
		for i := range bucket.Ways {
			bucket.Ways[i] = fromRecord(records[first+i])
		}
		if err := m.byName[bpfMapFlows].Put(uint32(first/flowWays), &bucket); err != nil {
			k.t.Fatal(err)
		}
	}
}

func toRecord(f *bpfLbFlow) flow.Record {
	return flow.Record{
		Seq: f.Seq, Client: f.Client, Port: swap16(f.Port), Proto: f.Proto, Kind: flow.Kind(f.Kind),
		Service: lb.ServiceID(f.Service), ServiceTag: f.ServiceTag,
		Backend: lb.BackendID(f.Backend), BackendTag: f.BackendTag, Seen: f.Seen, PodPort: swap16(f.PodPort),
		State: flow.State(f.State), Flags: flow.Flags(f.Flags), ISN: f.Isn, Slot: f.Slot,
		Node: lb.NodeID(f.Node), Until: f.Until,
	}
}

func fromRecord(r flow.Record) bpfLbFlow {
	return bpfLbFlow{
		Seq: r.Seq, Client: r.Client, Port: swap16(r.Port), Proto: r.Proto, Kind: uint8(r.Kind),
		Service: uint32(r.Service), ServiceTag: r.ServiceTag,
		Backend: uint32(r.Backend), BackendTag: r.BackendTag, Seen: r.Seen, PodPort: swap16(r.PodPort),
		State: uint8(r.State), Flags: uint8(r.Flags), Isn: r.ISN, Slot: r.Slot,
		Node: uint16(r.Node), Until: r.Until,
	}
}

// The vectors of lb/forward hold for the programs, packet by packet and record
// by record.
func TestVectorsTC(t *testing.T) { runVectors(t, false) }

func TestVectorsNative(t *testing.T) { runVectors(t, true) }

// onOneCPU keeps the test's thread where it is. The thread ends with the test.
func onOneCPU(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	var cpus, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &cpus); err != nil {
		t.Fatal(err)
	}
	for i := range 1024 {
		if cpus.IsSet(i) {
			one.Set(i)
			break
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		t.Fatal(err)
	}
}

func runVectors(t *testing.T, native bool) {
	lab.RequireRoot(t)
	ks := &kernels{t: t, native: native, loaded: map[string]*Programs{}}
	for _, v := range forwardtest.All() {
		t.Run(v.Name, func(t *testing.T) {
			onOneCPU(t) // answers are limited on each
			v.Run(t, ks.get(t, v.Settings))
		})
	}
}
