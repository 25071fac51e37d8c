// SPDX-License-Identifier: Apache-2.0

package xdp

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/dataplane"
	"github.com/fairlead/fairlead/lb/maglev"
)

// Maps are the programs' maps, as the dataplane writes them. What packets are
// decided by from one word to the next is written through shared memory, the
// rest by syscall. Not safe for concurrent writers.
type Maps struct {
	byName  map[string]*ebpf.Map
	mapped  [][]byte
	records []byte // service_records
	lines   []byte // lookup_tables
	flows   []byte // flows
	nodes   []byte // nodes

	loopCounters []byte // loop_counters
	loopStats    []byte // loop_service_stats

	nodesMu      sync.Mutex    // next hops are written beside the dataplane
	nodesChanged chan struct{} // a peer has no next hop yet
}

var _ dataplane.Maps = (*Maps)(nil)

func (m *Maps) mmap() error {
	for _, a := range []struct {
		name string
		mem  *[]byte
		prot int
	}{
		{bpfMapServiceRecords, &m.records, unix.PROT_READ | unix.PROT_WRITE},
		{bpfMapLookupTables, &m.lines, unix.PROT_READ | unix.PROT_WRITE},
		{bpfMapFlows, &m.flows, unix.PROT_READ}, // only programs write flows
		{bpfMapNodes, &m.nodes, unix.PROT_READ},
		{bpfMapLoopCounters, &m.loopCounters, unix.PROT_READ | unix.PROT_WRITE},
		{bpfMapLoopServiceStats, &m.loopStats, unix.PROT_READ | unix.PROT_WRITE},
	} {
		bm := m.byName[a.name]
		mem, err := unix.Mmap(bm.FD(), 0, int(bm.MaxEntries()*bm.ValueSize()), a.prot, unix.MAP_SHARED)
		if err != nil {
			return fmt.Errorf("map %s into memory: %w", a.name, err)
		}
		m.mapped = append(m.mapped, mem)
		*a.mem = mem
	}
	return nil
}

func (m *Maps) close() error {
	var errs []error
	for _, mem := range m.mapped {
		errs = append(errs, unix.Munmap(mem))
	}
	for _, bm := range m.byName {
		errs = append(errs, bm.Close())
	}
	return errors.Join(errs...)
}

func (m *Maps) flowBuckets() uint32 { return m.byName[bpfMapFlows].MaxEntries() }

// Limits are the sizes that the maps were made with.
func (m *Maps) Limits() dataplane.Limits {
	return dataplane.Limits{
		Nodes:    nodesMax,
		Backends: int(m.byName[bpfMapBackends].MaxEntries()),
		Services: int(m.byName[bpfMapServiceRecords].MaxEntries()),
		Lines:    m.byName[bpfMapLookupTables].MaxEntries(),
	}
}

// deleteKey makes deleting the absent a success.
func deleteKey(bm *ebpf.Map, key any) error {
	if err := bm.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return err
	}
	return nil
}

// PutNode sets the outer destination. The next hop is for Run to find; until
// then, packets leave through the stack.
func (m *Maps) PutNode(id lb.NodeID, e dataplane.NodeEntry) error {
	m.nodesMu.Lock()
	defer m.nodesMu.Unlock()
	nodes := m.byName[bpfMapNodes]
	var n bpfLbNode
	if err := nodes.Lookup(uint32(id), &n); err != nil {
		return fmt.Errorf("read node %d: %w", id, err)
	}
	if n.Addr != e.Addr.As16() {
		if err := m.deleteNodeID(n.Addr, id); err != nil {
			return err
		}
		if err := nodes.Put(uint32(id), &bpfLbNode{Addr: e.Addr.As16()}); err != nil {
			return fmt.Errorf("put node %d: %w", id, err)
		}
	}
	if err := m.byName[bpfMapNodeIds].Put(&bpfLbAddr{Addr: e.Addr.As16()}, uint32(id)); err != nil {
		return fmt.Errorf("put id of node %s: %w", e.Addr, err)
	}
	select {
	case m.nodesChanged <- struct{}{}:
	default:
	}
	return nil
}

// deleteNodeID forgets an address, if it is still that node's.
func (m *Maps) deleteNodeID(addr [16]byte, id lb.NodeID) error {
	ids, key := m.byName[bpfMapNodeIds], bpfLbAddr{Addr: addr}
	var known uint32
	if err := ids.Lookup(&key, &known); errors.Is(err, ebpf.ErrKeyNotExist) || err == nil && known != uint32(id) {
		return nil
	}
	if err := deleteKey(ids, &key); err != nil {
		return fmt.Errorf("delete id of node %s: %w", toAddr(addr), err)
	}
	return nil
}

// DeleteNode frees the entry.
func (m *Maps) DeleteNode(id lb.NodeID) error {
	m.nodesMu.Lock()
	defer m.nodesMu.Unlock()
	var n bpfLbNode
	if err := m.byName[bpfMapNodes].Lookup(uint32(id), &n); err != nil {
		return fmt.Errorf("read node %d: %w", id, err)
	}
	if err := m.deleteNodeID(n.Addr, id); err != nil {
		return err
	}
	if err := m.byName[bpfMapNodes].Put(uint32(id), &bpfLbNode{}); err != nil {
		return fmt.Errorf("delete node %d: %w", id, err)
	}
	return nil
}

func (m *Maps) backend(id lb.BackendID) (bpfLbBackend, error) {
	var b bpfLbBackend
	err := m.byName[bpfMapBackends].Lookup(uint32(id), &b)
	return b, err
}

// PutBackend writes the entry, then what replies find it by.
func (m *Maps) PutBackend(id lb.BackendID, e dataplane.BackendEntry) error {
	before, err := m.backend(id)
	if err != nil {
		return fmt.Errorf("read backend %d: %w", id, err)
	}
	b := toBackend(e)
	if before.Tag != 0 && before != b {
		if err := m.forgetLocal(id, before); err != nil {
			return err
		}
	}
	if err := m.byName[bpfMapBackends].Put(uint32(id), &b); err != nil {
		return fmt.Errorf("put backend %s: %w", e.Addr, err)
	}
	if e.Node != lb.SelfNode {
		return nil
	}
	key := toBackendKey(e.Addr)
	if err := m.byName[bpfMapLocalBackends].Put(&key, uint32(id)); err != nil {
		return fmt.Errorf("put local backend %s: %w", e.Addr, err)
	}
	return nil
}

// DeleteBackend frees the entry; the reply path forgets the address first.
func (m *Maps) DeleteBackend(id lb.BackendID) error {
	b, err := m.backend(id)
	if err != nil {
		return fmt.Errorf("read backend %d: %w", id, err)
	}
	if b.Tag == 0 {
		return nil
	}
	if err := m.forgetLocal(id, b); err != nil {
		return err
	}
	if err := m.byName[bpfMapBackends].Put(uint32(id), &bpfLbBackend{}); err != nil {
		return fmt.Errorf("delete backend %d: %w", id, err)
	}
	return nil
}

// forgetLocal keeps the reply path from finding the backend, if it is the one
// that is found by its address.
func (m *Maps) forgetLocal(id lb.BackendID, b bpfLbBackend) error {
	local, key := m.byName[bpfMapLocalBackends], bpfLbBackendKey{Addr: b.Addr, Port: b.Port}
	var known uint32
	if err := local.Lookup(&key, &known); errors.Is(err, ebpf.ErrKeyNotExist) || err == nil && known != uint32(id) {
		return nil
	}
	if err := deleteKey(local, &key); err != nil {
		return fmt.Errorf("delete local backend %d: %w", id, err)
	}
	return nil
}

// PutEndpoint ties the backend to the service port.
func (m *Maps) PutEndpoint(s lb.ServiceID, w lb.WireID, e dataplane.EndpointEntry) error {
	key := bpfLbEndpointKey{Service: uint32(s), Tag: uint32(w)}
	value := bpfLbEndpoint{Backend: uint32(e.Backend)}
	if e.Draining {
		value.Flags = uint32(bpfLbEndpointFlagLB_ENDPOINT_DRAINING)
	}
	if err := m.byName[bpfMapEndpoints].Put(&key, &value); err != nil {
		return fmt.Errorf("put endpoint of service %d: %w", s, err)
	}
	return nil
}

// DeleteEndpoint undoes PutEndpoint.
func (m *Maps) DeleteEndpoint(s lb.ServiceID, w lb.WireID) error {
	if err := deleteKey(m.byName[bpfMapEndpoints], &bpfLbEndpointKey{Service: uint32(s), Tag: uint32(w)}); err != nil {
		return fmt.Errorf("delete endpoint of service %d: %w", s, err)
	}
	return nil
}

// PutSourceRange admits the prefix's addresses.
func (m *Maps) PutSourceRange(s lb.ServiceID, p netip.Prefix) error {
	key := toRangeKey(s, p)
	if err := m.byName[bpfMapSourceRanges].Put(&key, uint8(1)); err != nil {
		return fmt.Errorf("put source range %s: %w", p, err)
	}
	return nil
}

// DeleteSourceRange undoes PutSourceRange.
func (m *Maps) DeleteSourceRange(s lb.ServiceID, p netip.Prefix) error {
	key := toRangeKey(s, p)
	if err := deleteKey(m.byName[bpfMapSourceRanges], &key); err != nil {
		return fmt.Errorf("delete source range %s: %w", p, err)
	}
	return nil
}

// PutService writes the record, the table's word last and at once, and then the
// key. What was left to kube-proxy gets its table before it is ours.
func (m *Maps) PutService(id lb.ServiceID, e dataplane.ServiceEntry) error {
	if int(id) >= m.Limits().Services {
		return fmt.Errorf("put service %s: id %d: above the limit", e.Key, id)
	}
	s := toService(e)
	at := m.records[int(id)*serviceRecordLength:][:serviceRecordLength]
	const word = 8
	table := (*uint64)(unsafe.Pointer(&at[serviceRecordTable]))
	if (*bpfLbService)(unsafe.Pointer(&at[0])).toEntry().Left {
		atomic.StoreUint64(table, s.Table)
	}
	copy(at[word:], unsafe.Slice((*byte)(unsafe.Pointer(&s)), serviceRecordLength)[word:])
	atomic.StoreUint64(table, s.Table)
	key := toServiceKey(e.Key)
	if err := m.byName[bpfMapServices].Put(&key, uint32(id)); err != nil {
		return fmt.Errorf("put service %s: %w", e.Key, err)
	}
	return nil
}

// DeleteService takes the key away, then the record. Flows of it find the
// record's tag changed.
func (m *Maps) DeleteService(id lb.ServiceID, k lb.ServiceKey) error {
	key := toServiceKey(k)
	if err := deleteKey(m.byName[bpfMapServices], &key); err != nil {
		return fmt.Errorf("delete service %s: %w", k, err)
	}
	at := m.records[int(id)*serviceRecordLength:][:serviceRecordLength]
	atomic.StoreUint64((*uint64)(unsafe.Pointer(&at[serviceRecordTable])), 0)
	clear(at)
	return nil
}

// PutVIP makes the address known.
func (m *Maps) PutVIP(a netip.Addr) error {
	key := vipKey(a)
	if err := m.byName[bpfMapServices].Put(&key, uint32(0)); err != nil {
		return fmt.Errorf("put vip %s: %w", a, err)
	}
	return nil
}

// DeleteVIP undoes PutVIP.
func (m *Maps) DeleteVIP(a netip.Addr) error {
	key := vipKey(a)
	if err := deleteKey(m.byName[bpfMapServices], &key); err != nil {
		return fmt.Errorf("delete vip %s: %w", a, err)
	}
	return nil
}

// line is the memory of a line; its generation is set first and apart, so that
// a program that read a slot of the old table sees that it is gone.
func (m *Maps) writeLine(n, generation uint32, fill func(line []byte)) {
	at := m.lines[int(n)*lineSize:][:lineSize]
	gen := (*uint32)(unsafe.Pointer(&at[0]))
	atomic.StoreUint32(gen, 0)
	fill(at[4:])
	atomic.StoreUint32(gen, generation)
}

// WriteTable fills a region that nothing refers to.
func (m *Maps) WriteTable(ref dataplane.TableRef, t dataplane.LookupTable) error {
	slotLines := dataplane.SlotLines(len(t.Slots), ref.Transition)
	end := uint64(ref.Line) + uint64(slotLines) + uint64(dataplane.ListLines(len(t.List)))
	if ref.Size == 0 || int(ref.Size) > len(maglev.Sizes) || maglev.Sizes[ref.Size-1] != len(t.Slots) ||
		ref.Transition != (t.Past != nil) || end > uint64(m.Limits().Lines) {
		return fmt.Errorf("write table at line %d: %d slots, size %d, end %d: do not fit", ref.Line, len(t.Slots), ref.Size, end)
	}
	per := dataplane.SlotsPerLine
	if ref.Transition {
		per = dataplane.TransitionSlotsPerLine
	}
	for n := range slotLines {
		first := int(n) * per
		last := min(first+per, len(t.Slots))
		m.writeLine(ref.Line+n, ref.Generation, func(line []byte) {
			for i := first; i < last; i++ {
				if !ref.Transition {
					putUint16(line[2*(i-first):], t.Slots[i])
					continue
				}
				at := line[8*(i-first):]
				putUint16(at, t.Slots[i])
				for k, past := range t.Past[i] {
					putUint16(at[2+2*k:], past)
				}
			}
		})
	}
	for n := range dataplane.ListLines(len(t.List)) {
		first := int(n) * dataplane.BackendsPerLine
		last := min(first+dataplane.BackendsPerLine, len(t.List))
		m.writeLine(ref.Line+slotLines+n, ref.Generation, func(line []byte) {
			for i := first; i < last; i++ {
				putUint32(line[4*(i-first):], uint32(t.List[i]))
			}
		})
	}
	return nil
}
