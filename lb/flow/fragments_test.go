// SPDX-License-Identifier: Apache-2.0

package flow_test

import (
	"math/rand/v2"
	"testing"

	"github.com/fairlead/fairlead/lb/flow"
	"github.com/fairlead/fairlead/lb/packet"
)

// piece is a fragment of the datagram with that id.
func piece(id uint32, src byte, port uint16) *packet.Packet {
	return &packet.Packet{
		Src: packet.Addr{15: src}, Dst: packet.Addr{15: 1}, ID: id, Proto: packet.ProtoUDP, SrcPort: port, DstPort: 53,
		Fragment: packet.LaterFragment,
	}
}

func follows(f *flow.Fragments, id uint32, src byte, tick uint32) (uint16, bool) {
	p := piece(id, src, 0)
	ok := f.Follow(p, tick)
	return p.SrcPort, ok
}

func TestFragments(t *testing.T) {
	f := flow.NewFragments([16]byte{1})
	f.Record(piece(7, 1, 1000), now)
	other := piece(7, 1, 0)
	other.Proto = packet.ProtoTCP
	for _, row := range []struct {
		name string
		id   uint32
		src  byte
		tick uint32
		want bool
	}{
		{"same tick", 7, 1, now, true}, {"last tick", 7, 1, now + flow.FragmentTicks, true},
		{"too late", 7, 1, now + flow.FragmentTicks + 1, false}, {"before", 7, 1, now - 1, false},
		{"another id", 8, 1, now, false}, {"another source", 7, 2, now, false},
	} {
		if port, ok := follows(f, row.id, row.src, row.tick); ok != row.want || ok && port != 1000 {
			t.Errorf("%s: port %d, %t", row.name, port, ok)
		}
	}
	if f.Follow(other, now) {
		t.Error("another protocol follows")
	}
	f.Record(piece(7, 1, 2000), now+9)
	if port, ok := follows(f, 7, 1, now+9); !ok || port != 2000 {
		t.Errorf("recorded again: port %d, %t", port, ok)
	}
}

// The oldest make way, and only they: a list in the order of coming says who.
func TestFragmentsAgainstList(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	f := flow.NewFragments([16]byte{2})
	came := map[uint32]int{} // by id, the number of the record
	ports := map[uint32]uint16{}
	for n := range 3 * flow.FragmentsMax {
		id := rnd.Uint32N(2 * flow.FragmentsMax)
		came[id], ports[id] = n, uint16(rnd.Uint32())
		f.Record(piece(id, 1, ports[id]), now)
		for range 4 {
			id := rnd.Uint32N(2 * flow.FragmentsMax)
			at, known := came[id]
			port, ok := follows(f, id, 1, now)
			if want := known && n-at < flow.FragmentsMax; ok != want || ok && port != ports[id] {
				t.Fatalf("after %d records, one that came %d before: port %d, %t, want %d, %t", n+1, n-at, port, ok, ports[id], want)
			}
		}
	}
}

func TestFragmentsAllocateNothing(t *testing.T) {
	f := flow.NewFragments([16]byte{3})
	first, later := piece(0, 1, 1), piece(0, 1, 0)
	if n := testing.AllocsPerRun(1000, func() {
		first.ID++
		later.ID = first.ID
		f.Record(first, now)
		if !f.Follow(later, now) {
			t.Fatal("does not follow")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// A reply whose source is lost finds its backend by the backend's port.
func TestFindMasqueraded(t *testing.T) {
	p := pods{2: 22, 3: 33}
	table := newTable(t, 4, p)
	own := key(1, 1000, packet.ProtoTCP)
	insert(t, table, own, now)
	second := own // another service of the same Pod: gets a substitute port
	second.Service, second.ServiceTag = 5, 55
	port, result := table.Insert(&second, 0, 7, 1, now)
	if result != flow.Inserted || port == own.Port {
		t.Fatalf("substitute port %d, result %d", port, result)
	}
	find := func(client byte, port uint16, proto uint8, backendPort uint16, tick uint32) lbID {
		k := key(client, port, proto)
		k.Backend, k.BackendTag = 0, 0
		id, ok := table.FindMasqueraded(&k, backendPort, tick)
		if !ok {
			return none
		}
		return lbID(id)
	}
	for _, row := range []struct {
		name string
		got  lbID
		want lbID
	}{
		{"own", find(1, 1000, packet.ProtoTCP, 8002, now), 2},
		{"alias", find(1, port, packet.ProtoTCP, 8002, now), 2},
		{"another backend's port", find(1, 1000, packet.ProtoTCP, 8003, now), none},
		{"another client", find(2, 1000, packet.ProtoTCP, 8002, now), none},
		{"another client port", find(1, 1001, packet.ProtoTCP, 8002, now), none},
		{"another protocol", find(1, 1000, packet.ProtoUDP, 8002, now), none},
		{"dead", find(1, 1000, packet.ProtoTCP, 8002, now+flow.TimeoutTCPHalfOpen+1), none},
	} {
		if row.got != row.want {
			t.Errorf("%s: backend %d, want %d", row.name, row.got, row.want)
		}
	}
	delete(p, 2)
	if got := find(1, 1000, packet.ProtoTCP, 8002, now); got != none {
		t.Errorf("the backend is gone: backend %d", got)
	}
}

type lbID int

const none lbID = -1
