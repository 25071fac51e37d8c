// SPDX-License-Identifier: Apache-2.0

package xdp

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"unsafe"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/dataplane"
	"github.com/fairlead/fairlead/lb/maglev"
)

func putUint16(b []byte, v uint16) { binary.NativeEndian.PutUint16(b, v) }
func putUint32(b []byte, v uint32) { binary.NativeEndian.PutUint32(b, v) }

// Load reads everything back.
func (m *Maps) Load() (dataplane.State, error) {
	s := dataplane.State{
		Nodes:        map[lb.NodeID]dataplane.NodeEntry{},
		Backends:     map[lb.BackendID]dataplane.BackendEntry{},
		Endpoints:    map[dataplane.EndpointKey]dataplane.EndpointEntry{},
		Services:     map[lb.ServiceID]dataplane.ServiceEntry{},
		Tables:       map[dataplane.TableRef]dataplane.LookupTable{},
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
		id   uint32
		n    bpfLbNode
		iter = m.byName[bpfMapNodes].Iterate()
	)
	for iter.Next(&id, &n) {
		if n.Addr != [16]byte{} {
			f(lb.NodeID(id), n)
		}
	}
	return iter.Err()
}

// loadBackends reads by batches: an array of 65,536 takes as many syscalls otherwise.
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
		if e.Table != (dataplane.TableRef{}) {
			if _, known := s.Tables[e.Table]; !known {
				s.Tables[e.Table] = m.readTable(e.Table)
			}
		}
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

// readTable undoes WriteTable. The list ends at its first unused place, for 0
// is no backend; places after it in the last line were zeroed or never written.
func (m *Maps) readTable(ref dataplane.TableRef) dataplane.LookupTable {
	size := maglev.Sizes[ref.Size-1]
	t := dataplane.LookupTable{Slots: make([]uint16, size)}
	line := func(n uint32) []byte { return m.lines[int(ref.Line+n)*lineSize+4:][:lineSize-4] }
	u16 := binary.NativeEndian.Uint16
	most := 0
	note := func(i uint16) uint16 {
		if i != dataplane.NoBackend {
			most = max(most, int(i)+1)
		}
		return i
	}
	if ref.Transition {
		t.Past = make([][3]uint16, size)
	}
	for i := range t.Slots {
		if !ref.Transition {
			t.Slots[i] = note(u16(line(uint32(i / dataplane.SlotsPerLine))[2*(i%dataplane.SlotsPerLine):]))
			continue
		}
		at := line(uint32(i / dataplane.TransitionSlotsPerLine))[8*(i%dataplane.TransitionSlotsPerLine):]
		t.Slots[i] = note(u16(at))
		for k := range t.Past[i] {
			t.Past[i][k] = note(u16(at[2+2*k:]))
		}
	}
	slotLines := dataplane.SlotLines(size, ref.Transition)
	for i := range most {
		at := line(slotLines + uint32(i/dataplane.BackendsPerLine))[4*(i%dataplane.BackendsPerLine):]
		t.List = append(t.List, lb.BackendID(binary.NativeEndian.Uint32(at)))
	}
	return t
}
