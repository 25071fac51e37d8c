// SPDX-License-Identifier: Apache-2.0

package xdp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"unsafe"

	"github.com/cilium/ebpf"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/dataplane"
	"github.com/fairlead/fairlead/lb/maglev"
)

func putUint16(b []byte, v uint16) { binary.NativeEndian.PutUint16(b, v) }
func putUint32(b []byte, v uint32) { binary.NativeEndian.PutUint32(b, v) }

// Load reads all but lookup tables back.
func (m *Maps) Load() (dataplane.State, error) {
	s := dataplane.State{
		Nodes:        map[lb.NodeID]dataplane.NodeEntry{},
		Backends:     map[lb.BackendID]dataplane.BackendEntry{},
		Endpoints:    map[dataplane.EndpointKey]dataplane.EndpointEntry{},
		Services:     map[lb.ServiceID]dataplane.ServiceEntry{},
		SourceRanges: map[dataplane.SourceRangeKey]bool{},
		VIPs:         map[netip.Addr]bool{},
	}
	for _, load := range []struct {
		name string
		load func(*dataplane.State) error
	}{
		{bpfMapNodes, m.loadNodes},
		{bpfMapBackends, m.loadBackends},
		{bpfMapEndpoints, m.loadEndpoints},
		{bpfMapServices, m.loadServices},
		{bpfMapSourceRanges, m.loadSourceRanges},
	} {
		if err := load.load(&s); err != nil {
			return dataplane.State{}, fmt.Errorf("read map %s: %w", load.name, err)
		}
	}
	return s, nil
}

func (m *Maps) loadNodes(s *dataplane.State) error {
	return eachNode(m, func(id lb.NodeID, n bpfLbNode) {
		s.Nodes[id] = dataplane.NodeEntry{Addr: toAddr(n.Addr)}
	})
}

func eachNode(m *Maps, f func(lb.NodeID, bpfLbNode)) error {
	var (
		all    = m.byName[bpfMapNodes]
		ids    = make([]uint32, all.MaxEntries())
		nodes  = make([]bpfLbNode, all.MaxEntries())
		cursor ebpf.MapBatchCursor
	)
	n, err := all.BatchLookup(&cursor, ids, nodes, nil)
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) { // that is the end
		return err
	}
	for i := range n {
		if nodes[i].Addr != [16]byte{} {
			f(lb.NodeID(ids[i]), nodes[i])
		}
	}
	return nil
}

func (m *Maps) loadBackends(s *dataplane.State) error {
	backends := m.byName[bpfMapBackends]
	for first := uint32(0); first < backends.MaxEntries(); first++ {
		b, err := m.backend(lb.BackendID(first))
		if err != nil {
			return err
		}
		if b.Tag != 0 {
			s.Backends[lb.BackendID(first)] = b.toEntry()
		}
	}
	return nil
}

func (m *Maps) loadEndpoints(s *dataplane.State) error {
	var (
		key   bpfLbEndpointKey
		value bpfLbEndpoint
		iter  = m.byName[bpfMapEndpoints].Iterate()
	)
	for iter.Next(&key, &value) {
		s.Endpoints[dataplane.EndpointKey{Service: lb.ServiceID(key.Service), Wire: lb.WireID(key.Tag)}] = dataplane.EndpointEntry{
			Backend:  lb.BackendID(value.Backend),
			Draining: value.Flags&uint32(bpfLbEndpointFlagLB_ENDPOINT_DRAINING) != 0,
		}
	}
	return iter.Err()
}

func (m *Maps) loadServices(s *dataplane.State) error {
	var (
		key  bpfLbServiceKey
		id   uint32
		iter = m.byName[bpfMapServices].Iterate()
	)
	for iter.Next(&key, &id) {
		if key.isVIP() {
			s.VIPs[toAddr(key.Vip)] = true
			continue
		}
		e := m.record(id).toEntry()
		e.Key = key.toLB()
		s.Services[lb.ServiceID(id)] = e
	}
	return iter.Err()
}

func (m *Maps) record(id uint32) bpfLbService {
	return *(*bpfLbService)(unsafe.Pointer(&m.records[int(id)*serviceRecordLength]))
}

func (m *Maps) loadSourceRanges(s *dataplane.State) error {
	var (
		key   bpfLbRangeKey
		value uint8
		iter  = m.byName[bpfMapSourceRanges].Iterate()
	)
	for iter.Next(&key, &value) {
		s.SourceRanges[key.toLB()] = true
	}
	return iter.Err()
}

// ReadTable undoes WriteTable. The list is as long as its highest place that a
// slot names. ok is false for a region that is not whole: it reaches outside, or
// one of its lines is not of the generation.
func (m *Maps) ReadTable(ref dataplane.TableRef) (t dataplane.LookupTable, ok bool) {
	if ref.Size == 0 || int(ref.Size) > len(maglev.Sizes) {
		return t, false
	}
	r := regionReader{maps: m, ref: ref}
	size := maglev.Sizes[ref.Size-1]
	t.Slots = make([]uint16, size)
	if ref.Transition {
		t.Past = make([][3]uint16, size)
	}
	length := 0
	place := func(i uint16) uint16 {
		if i != dataplane.NoBackend {
			length = max(length, int(i)+1)
		}
		return i
	}
	for i := range t.Slots {
		if !ref.Transition {
			t.Slots[i] = place(r.uint16(i/dataplane.SlotsPerLine, i%dataplane.SlotsPerLine))
			continue
		}
		n, first := i/dataplane.TransitionSlotsPerLine, i%dataplane.TransitionSlotsPerLine*4
		t.Slots[i] = place(r.uint16(n, first))
		for k := range t.Past[i] {
			t.Past[i][k] = place(r.uint16(n, first+1+k))
		}
	}
	list := int(dataplane.SlotLines(size, ref.Transition))
	for i := range length {
		id := r.uint32(list+i/dataplane.BackendsPerLine, i%dataplane.BackendsPerLine)
		t.List = append(t.List, lb.BackendID(id))
	}
	return t, !r.broken
}

// regionReader reads lines of a region. It reads zeros once it is broken.
type regionReader struct {
	maps   *Maps
	ref    dataplane.TableRef
	broken bool
}

// line is what follows the generation of the region's n-th line.
func (r *regionReader) line(n int) []byte {
	at := (int(r.ref.Line) + n) * lineSize
	if at+lineSize > len(r.maps.lines) || binary.NativeEndian.Uint32(r.maps.lines[at:]) != r.ref.Generation {
		r.broken = true
	}
	if r.broken {
		return make([]byte, lineSize-4)
	}
	return r.maps.lines[at+4 : at+lineSize]
}

func (r *regionReader) uint16(n, place int) uint16 {
	return binary.NativeEndian.Uint16(r.line(n)[2*place:])
}

func (r *regionReader) uint32(n, place int) uint32 {
	return binary.NativeEndian.Uint32(r.line(n)[4*place:])
}
