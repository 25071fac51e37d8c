// SPDX-License-Identifier: Apache-2.0

package xdp

import (
	"encoding/binary"
	"fmt"
	"math"
	"runtime"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/forward"
	"github.com/fairlead/fairlead/lb/packet"
)

// Owner decides for the userspace datapath about packets whose home runs here,
// on the same flow table as the programs. It reads records in shared memory;
// whatever changes one is left to a program that it runs, for only programs
// write records. For one goroutine. It implements forward.Owner.
type Owner struct {
	maps     *Maps
	program  *ebpf.Program
	key      packet.Key
	isLocal  func(lb.BackendID, uint32) bool
	question bpfLbOwnerQuery
	answer   bpfLbOwnerQuery
	attr     testRunAttr
}

var _ forward.Owner = (*Owner)(nil)

// testRunAttr is the part of union bpf_attr that BPF_PROG_TEST_RUN takes. The
// library's way allocates.
type testRunAttr struct {
	progFD, retval          uint32
	dataSizeIn, dataSizeOut uint32
	dataIn, dataOut         uint64
	repeat, duration        uint32
	ctxSizeIn, ctxSizeOut   uint32
	ctxIn, ctxOut           uint64
	flags, cpu              uint32
	batchSize, _            uint32
}

// NewOwner makes one. isLocal says that a backend's id still names the one with
// the wire id, and that it runs here.
func (d *Datapath) NewOwner(isLocal func(id lb.BackendID, tag uint32) bool) (*Owner, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.maps.newOwner(&d.cfg, d.flowKey, isLocal)
}

// newOwner is NewOwner on these maps.
func (m *Maps) newOwner(cfg *Config, flowKey [2]uint64, isLocal func(lb.BackendID, uint32) bool) (*Owner, error) {
	program, err := m.ownerProgram(cfg, flowKey)
	if err != nil {
		return nil, err
	}
	var key [16]byte
	binary.LittleEndian.PutUint64(key[:8], flowKey[0])
	binary.LittleEndian.PutUint64(key[8:], flowKey[1])
	o := &Owner{maps: m, program: program, key: packet.KeyOf(key), isLocal: isLocal}
	o.attr = testRunAttr{
		progFD:     uint32(program.FD()),
		dataSizeIn: uint32(unsafe.Sizeof(o.question)), dataSizeOut: uint32(unsafe.Sizeof(o.answer)),
		dataIn: uint64(uintptr(unsafe.Pointer(&o.question))), dataOut: uint64(uintptr(unsafe.Pointer(&o.answer))),
		repeat: 1,
	}
	return o, nil
}

// Close unloads the program.
func (o *Owner) Close() error { return o.program.Close() }

// ownerProgram loads lb_owner alone.
func (m *Maps) ownerProgram(cfg *Config, flowKey [2]uint64) (*ebpf.Program, error) {
	spec, err := loadBpf()
	if err != nil {
		return nil, fmt.Errorf("read programs: %w", err)
	}
	for name := range spec.Programs {
		if name != bpfProgLbOwner {
			delete(spec.Programs, name)
		}
	}
	constants := cfg.constants(variant{}, math.MaxUint16, m.flowBuckets(), flowKey, false)
	coll, err := m.load(spec, constants, map[string]*ebpf.Map{})
	if err != nil {
		return nil, err
	}
	defer coll.Close()
	return coll.DetachProgram(bpfProgLbOwner), nil
}

// Own implements forward.Owner.
func (o *Owner) Own(q *forward.Query) forward.Reason {
	if o.isPlain(q) {
		if rec, ok := o.find(q); ok && o.needsNoWrite(&rec, q) {
			q.Backend, q.PodPort = lb.BackendID(rec.Backend), swap16(rec.PodPort)
			return forward.Mine
		}
	}
	return o.run(q)
}

// isPlain says that the packet may be one of those that change nothing.
func (o *Owner) isPlain(q *forward.Query) bool {
	const notable = packet.SYN | packet.FIN | packet.RST
	return !q.Related && (q.Proto != packet.ProtoTCP || q.Flags&notable == 0)
}

// find looks for the record as flow_search does, and copies it.
func (o *Owner) find(q *forward.Query) (bpfLbFlow, bool) {
	var msg [18]byte
	copy(msg[:], q.Client[:])
	binary.BigEndian.PutUint16(msg[16:], q.Port)
	hash := o.key.Hash(msg[:])
	base := int(uint32(hash)&(o.maps.flowBuckets()-1)) * flowWays
	port := swap16(q.Port)
	for i := range uint64(flowWays) {
		at := (base + int((hash>>32+i)%uint64(flowWays))) * flowSize
		live := (*bpfLbFlow)(unsafe.Pointer(&o.maps.flows[at]))
		if live.Port != port || live.Proto != q.Proto || live.Client != q.Client {
			continue
		}
		rec, ok := readRecord(o.maps.flows[at : at+flowSize])
		if !ok || rec.Port != port || rec.Proto != q.Proto || rec.Client != q.Client {
			continue
		}
		if rec.Service == uint32(q.Service) && rec.ServiceTag == q.ServiceTag &&
			bpfLbFlowKind(rec.Kind) == bpfLbFlowKindLB_FLOW_OWN && o.isLocal(lb.BackendID(rec.Backend), rec.BackendTag) {
			return rec, true
		}
	}
	return bpfLbFlow{}, false
}

// needsNoWrite says that the program would leave the record as it is.
func (o *Owner) needsNoWrite(rec *bpfLbFlow, q *forward.Query) bool {
	return rec.Seen == q.Now && bpfLbFlowState(rec.State) == bpfLbFlowStateLB_FLOW_ESTABLISHED
}

// run lets the program decide.
func (o *Owner) run(q *forward.Query) forward.Reason {
	p := &o.question.Pkt
	*p = bpfLbOwnerQuery{}.Pkt
	p.Src = addrPair(q.Client)
	p.Dst = addrPair(q.VIP)
	p.Sport, p.Dport = swap16(q.Port), swap16(q.ServicePort)
	p.Proto, p.Family, p.TcpFlags, p.Seq, p.Ack = q.Proto, q.Version, q.Flags, q.Seq, q.Ack
	p.Related, p.Tunnelled, p.Position = boolean(q.Related), boolean(q.Tunnelled), uint8(q.Position)
	p.TableHash, p.Service, p.Hash = swap16(q.TableHash), uint32(q.Service), q.Hash
	for i, tag := range q.Tags {
		p.Tags[i] = swap32(tag)
	}
	if q.Later {
		p.Fragment, p.Followed = laterFragment, 1
	}
	_, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_TEST_RUN, uintptr(unsafe.Pointer(&o.attr)), unsafe.Sizeof(o.attr))
	runtime.KeepAlive(o)
	if errno != 0 {
		return forward.Error
	}
	a := &o.answer.Pkt
	q.Position, q.Node = packet.Position(a.Position), lb.NodeID(a.Node)
	q.Backend, q.PodPort = lb.BackendID(a.Backend), swap16(a.PodPort)
	return forward.Reason(o.answer.Reason)
}

// laterFragment is enum lb_fragment's.
const laterFragment = 2

func addrPair(a packet.Addr) [2]uint64 {
	return [2]uint64{binary.NativeEndian.Uint64(a[:8]), binary.NativeEndian.Uint64(a[8:])}
}

// NextHop is how a peer is reached by XDP and userspace: the device, and the
// MAC addresses of the frame. ok is false where that is not known, or was
// confirmed too long ago: the stack must find out.
func (m *Maps) NextHop(id lb.NodeID, now uint32) (ifindex int, dmac, smac [6]byte, ok bool) {
	const size = int(unsafe.Sizeof(bpfLbNode{}))
	if int(id) >= len(m.nodes)/size {
		return 0, dmac, smac, false
	}
	n := (*bpfLbNode)(unsafe.Pointer(&m.nodes[int(id)*size]))
	ok = n.Confirmed != 0 && now-n.Confirmed <= uint32(bpfLbLimitLB_NEXT_HOP_TICKS)
	return int(n.Ifindex), n.Dmac, n.Smac, ok
}
