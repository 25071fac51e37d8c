// SPDX-License-Identifier: Apache-2.0

package xdp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
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
	seen     []uint64 // packets by reason
	tick     uint32   // at which next hops were confirmed
	tracks   bool     // conntrack knows connections
}

// kernels loads the programs once for vectors with the same settings.
type kernels struct {
	t      *testing.T
	native bool
	veth   bool         // completes partial checksums, and changes no other
	read   objectReader // nil: the programs as they are committed
	loaded map[string]*Programs
}

// get is a kernel for one vector, empty before and after.
func (ks *kernels) get(t testing.TB, s forward.Settings) *kernel {
	t.Helper()
	k := ks.kernel(t, s)
	t.Cleanup(k.reset)
	return k
}

// kernel is one that has to be reset after use.
func (ks *kernels) kernel(t testing.TB, s forward.Settings) *kernel {
	t.Helper()
	name := fmt.Sprint(s)
	if ks.loaded[name] == nil {
		read := ks.read
		if read == nil {
			read = loadBpf
		}
		p, err := loadForVectors(ks.needed(read), s, ks.native, ks.veth)
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
	k.seen = k.counters()
	return k
}

// needed leaves out the programs that vectors do not go through: to verify all
// takes 2 s.
func (ks *kernels) needed(read objectReader) objectReader {
	return func() (*ebpf.CollectionSpec, error) {
		spec, err := read()
		if err != nil {
			return nil, err
		}
		maps.DeleteFunc(spec.Programs, func(name string, _ *ebpf.ProgramSpec) bool {
			return name != bpfProgLbTcIn && name != bpfProgLbTcOut && (name != bpfProgLbXdp || !ks.native)
		})
		return spec, nil
	}
}

func loadForVectors(read objectReader, s forward.Settings, native, veth bool) (*Programs, error) {
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
	return loadPrograms(read, cfg, Uplink{MTU: s.MTU, MAC: s.MAC}, key, more)
}

// reset leaves no table, no flow, no fragment and a full bucket of answers.
func (k *kernel) reset() {
	plane, err := dataplane.New(k.Maps(), dataplane.Options{Now: func() uint32 { return 0 }})
	if err != nil {
		k.t.Fatal(err)
	}
	if err := plane.Sync(forwardtest.TableOf("a")); err != nil {
		k.t.Fatal(err)
	}
	k.setRecords(make([]flow.Record, len(k.Records())))
	if k.tracks {
		if err := k.SetConntrack(nil); err != nil {
			k.t.Fatal(err)
		}
	}
	fragments := k.programs.Maps().byName[bpfMapFragments]
	for key := (bpfLbFragmentKey{}); fragments.NextKey(nil, &key) == nil; {
		if err := fragments.Delete(&key); err != nil {
			k.t.Fatal(err)
		}
	}
	if err := eachNode(k.programs.Maps(), func(id lb.NodeID, n bpfLbNode) {
		n.Mtu = 0
		if err := k.programs.Maps().byName[bpfMapNodes].Put(uint32(id), &n); err != nil {
			k.t.Fatal(err)
		}
	}); err != nil {
		k.t.Fatal(err)
	}
	tokens := k.programs.Maps().byName[bpfMapAnswerTokens]
	if err := tokens.Put(uint32(0), make([]bpfLbBucket, ebpf.MustPossibleCPU())); err != nil {
		k.t.Fatal(err)
	}
}

// counters are the packets of each reason, read in one go.
func (k *kernel) counters() []uint64 {
	var (
		all    = k.programs.Maps().byName[bpfMapCounters]
		cpus   = ebpf.MustPossibleCPU()
		keys   = make([]uint32, all.MaxEntries())
		values = make([]uint64, int(all.MaxEntries())*cpus)
		cursor ebpf.MapBatchCursor
	)
	n, err := all.BatchLookup(&cursor, keys, values, nil)
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) { // that is the end
		k.t.Fatal(err)
	}
	packets := make([]uint64, forward.ReasonCount)
	for i, reason := range keys[:n] {
		for _, count := range values[i*cpus : (i+1)*cpus] {
			packets[reason] += count
		}
	}
	return packets
}

// counted is the one reason that was counted since the last call, None if there was none.
func (k *kernel) counted() forward.Reason {
	now := k.counters()
	reason := forward.None
	for i, packets := range now {
		switch packets - k.seen[i] {
		case 0:
		case 1:
			if reason != forward.None {
				k.t.Fatalf("counted twice: %s and %s", reason, forward.Reason(i))
			}
			reason = forward.Reason(i)
		default:
			k.t.Fatalf("counted %d times: %s", packets-k.seen[i], forward.Reason(i))
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

func (k *kernel) Forward(way forwardtest.Way, frame []byte, tick uint32) (forward.Reason, [][]byte, bool) {
	k.setTick(tick)
	// The kernel refuses test runs on frames without an Ethernet header or of
	// more than a page, and those of TC without a whole IP header.
	if len(frame) < ethernetLen || len(frame) > largestFrame {
		return forward.None, nil, false
	}
	if k.native && way == forwardtest.In {
		return k.runNative(frame, tick)
	}
	if len(frame) < shortestSKB(frame) {
		return forward.None, nil, false
	}
	program, skb := k.programs.TCIn, skbContext{}
	if way != forwardtest.In {
		program = k.programs.TCOut
	}
	if way == forwardtest.OutForwarded {
		skb.IngressIfindex = testDevice + 1
	}
	out := k.runTC(program, frame, skb)
	reason := k.counted()
	if reason == forward.Error && isTagged(frame) {
		return reason, nil, false
	}
	return reason, k.sent(reason, frame, out), true
}

// skbContext is the part of struct __sk_buff that test runs take.
type skbContext struct {
	Len, PktType, Mark, QueueMapping, Protocol, VLANPresent, VLANTCI, VLANProto, Priority uint32
	IngressIfindex, Ifindex                                                               uint32
	_                                                                                     [37]uint32
}

func (k *kernel) runTC(program *ebpf.Program, frame []byte, skb skbContext) []byte {
	run := &ebpf.RunOptions{Data: frame, DataOut: make([]byte, len(frame)+256), Context: &skb}
	if _, err := program.Run(run); err != nil {
		k.t.Fatalf("run on %d bytes: %v", len(frame), err)
	}
	return run.DataOut
}

const (
	ethernetLen  = 14
	largestFrame = 3400 // what a page holds beside what the kernel keeps there
)

// isTagged says that a VLAN tag lies in the frame. On an interface the first
// one lies beside it, and helpers that fail on the others then do not: where
// IP options of a packet with a tag have to go, test runs cannot follow.
func isTagged(frame []byte) bool {
	eth := binary.BigEndian.Uint16(frame[12:])
	return eth == 0x8100 || eth == 0x88a8
}

func shortestSKB(frame []byte) int {
	switch binary.BigEndian.Uint16(frame[12:]) {
	case 0x0800:
		return ethernetLen + packet.IPv4Len
	case 0x86dd:
		return ethernetLen + packet.IPv6Len
	}
	return ethernetLen + 1
}

// sent are the frames that leave; pieces after the first come of runs as the
// clones that the program puts on the device's way in would have.
func (k *kernel) sent(reason forward.Reason, frame, out []byte) [][]byte {
	switch reason.Verdict() {
	case forward.Pass, forward.Drop:
		return nil
	}
	all := [][]byte{out}
	for reason.Verdict() == forward.Encap && goesOn(frame, all[len(all)-1]) {
		skb := skbContext{Mark: pieceMark | uint32(len(all))}
		all = append(all, k.runTC(k.programs.TCIn, frame, skb))
	}
	if again := k.counted(); again != forward.None {
		k.t.Fatalf("counted once more for a piece: %s", again)
	}
	return all
}

// pieceMark is LB_MARK_PIECE.
const pieceMark = 0xfa1d0000

// goesOn says that the packet in the frame does not end with the encapsulated
// piece of it.
func goesOn(frame, piece []byte) bool {
	var whole, outer, inner packet.Packet
	if !whole.Parse(frame) || whole.Version != 4 || !outer.Parse(piece) {
		return false
	}
	if !inner.ParseIP(piece, outer.Data+packet.GeneveLen, len(piece), packet.EtherTypeIPv4) {
		return false
	}
	end := func(p *packet.Packet) int {
		return 8*int(binary.BigEndian.Uint16(p.Frame[p.L3+6:])&0x1fff) + p.End - p.L4
	}
	return end(&inner) < end(&whole)
}

// runNative runs XDP, and what it hands over through TC. Test runs cannot carry
// metadata to TC: that starts again with the client's packet, and has to come
// to the same end.
func (k *kernel) runNative(frame []byte, tick uint32) (forward.Reason, [][]byte, bool) {
	k.confirmNextHops(tick)
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
		return reason, k.sent(reason, frame, run.DataOut), true
	}
	meta := (*bpfLbMeta)(unsafe.Pointer(&run.DataOut[0]))
	if meta.Magic != uint16(bpfLbMetaMagicLB_META_MAGIC) {
		k.t.Fatalf("magic %#x", meta.Magic)
	}
	reason := forward.Reason(meta.Reason)
	after := k.Records()
	k.setRecords(before) // TC decides anew from the same state
	out = k.runTC(k.programs.TCIn, frame, skbContext{})
	counted := k.counted()
	if counted == forward.Error && isTagged(frame) {
		k.setRecords(after)
		return counted, nil, false
	}
	// What stands in the way of what was decided is TC's to find out.
	obstacles := []forward.Reason{forward.Rate, forward.TTL, forward.NoNode, forward.TooBig, forward.PacketTooBig}
	if counted != reason && !slices.Contains(obstacles, counted) {
		k.t.Fatalf("xdp decided %s, tc %s", reason, counted)
	}
	k.setRecords(after)
	if reason.Verdict() == forward.Deliver {
		k.checkStripped(run.DataOut[ctxOut.Data:], out)
	}
	return counted, k.sent(counted, frame, out), true
}

// confirmNextHops makes all next hops fresh, for XDP to go all the way.
func (k *kernel) confirmNextHops(tick uint32) {
	select {
	case <-k.programs.Maps().nodesChanged:
	default:
		if tick == k.tick {
			return
		}
	}
	if err := k.programs.ConfirmNextHops(tick); err != nil {
		k.t.Fatal(err)
	}
	k.tick = tick
}

// checkStripped: XDP hands over the client's packet as TC delivers it but for DNAT.
func (k *kernel) checkStripped(xdp, tc []byte) {
	if isTagged(xdp) {
		return // XDP leaves frames with tags as they are
	}
	if len(xdp) != len(tc) {
		k.t.Fatalf("xdp hands over %d bytes, tc delivers %d", len(xdp), len(tc))
	}
	if string(xdp[:14]) != string(tc[:14]) {
		k.t.Fatalf("ethernet header: xdp % x, tc % x", xdp[:14], tc[:14])
	}
	if packet.EtherType(binary.BigEndian.Uint16(xdp[12:])) == packet.EtherTypeIPv6 {
		if to := 14 + 24; string(xdp[14:to]) != string(tc[14:to]) {
			k.t.Fatalf("IPv6 header: xdp % x, tc % x", xdp[14:to], tc[14:to])
		}
		return
	}
	// The checksum makes up for another destination: the sum is the same.
	end := 14 + 4*int(xdp[14]&15)
	same := string(xdp[14:24]) == string(tc[14:24]) && string(xdp[26:30]) == string(tc[26:30]) && string(xdp[34:end]) == string(tc[34:end])
	if !same || packet.Fold(packet.Sum(0, xdp[14:end])) != packet.Fold(packet.Sum(0, tc[14:end])) {
		k.t.Fatalf("IPv4 header: xdp % x, tc % x", xdp[14:end], tc[14:end])
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

// SetConntrack implements forwardtest.Datapath, with the conntrack of the
// thread's network namespace.
func (k *kernel) SetConntrack(connections []forwardtest.Connection) error {
	if err := lab.ForgetTracked(); err != nil {
		return err
	}
	k.tracks = len(connections) > 0
	for i, c := range connections {
		vip := netip.AddrPortFrom(c.Service.VIP, c.Service.Port)
		to := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 99, 0, byte(i)}), 8080) // of each another one
		if vip.Addr().Is6() {
			to = netip.AddrPortFrom(netip.AddrFrom16([16]byte{0: 0xfd, 15: byte(i)}), 8080)
		}
		tracked := lab.Tracked{Proto: uint8(c.Service.Proto), Src: c.Client, Dst: vip, State: nl.TCP_CONNTRACK_ESTABLISHED}
		switch c.Kind {
		case forwardtest.Translated:
			tracked.To = to
		case forwardtest.Ended:
			tracked.To, tracked.State = to, nl.TCP_CONNTRACK_TIME_WAIT
		case forwardtest.Backwards:
			tracked.Src, tracked.Dst, tracked.To = vip, to, c.Client
		}
		if err := lab.Track(tracked); err != nil {
			return err
		}
	}
	return nil
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

// onOneCPU keeps the test's thread where it is, in a network namespace where
// nothing can go astray. The thread ends with the test.
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
	ns, err := emptyNamespace()
	if err != nil {
		t.Fatal(err)
	}
	if err := netns.Set(ns); err != nil {
		t.Fatal(err)
	}
}

// emptyNamespace has nothing but loopback, and no name.
var emptyNamespace = sync.OnceValues(func() (netns.NsHandle, error) {
	type made struct {
		ns  netns.NsHandle
		err error
	}
	result := make(chan made)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends here
		ns, err := netns.New()
		if err == nil {
			var lo netlink.Link
			if lo, err = netlink.LinkByName("lo"); err == nil {
				err = netlink.LinkSetUp(lo)
			}
		}
		result <- made{ns, err}
	}()
	m := <-result
	return m.ns, m.err
})

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
