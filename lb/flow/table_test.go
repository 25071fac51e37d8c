// SPDX-License-Identifier: Apache-2.0

package flow_test

import (
	"math/rand/v2"
	"testing"
	"unsafe"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/flow"
	"github.com/fairlead/fairlead/lb/packet"
)

// pods is the set of local backends: id to tag.
type pods map[lb.BackendID]uint32

func (p pods) BackendIsLocal(id lb.BackendID, tag uint32) bool { return p[id] == tag && tag != 0 }

// BackendPort: they are numbered like their backends, from 8000 on.
func (p pods) BackendPort(id lb.BackendID) uint16 { return 8000 + uint16(id) }

const now = 10_000

func newTable(t testing.TB, buckets int, p pods) *flow.Table {
	t.Helper()
	table, err := flow.New(buckets, [16]byte{1}, p)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func key(client byte, port uint16, proto uint8) flow.Key {
	return flow.Key{
		Client: packet.Addr{0: 0x20, 15: client}, Port: port, Proto: proto,
		Service: 1, ServiceTag: 11, Backend: 2, BackendTag: 22,
	}
}

func tcpPacket(flags uint8, seq, ack uint32) *packet.Packet {
	frame := make([]byte, packet.TCPLen)
	put := func(at int, v uint32) {
		frame[at], frame[at+1], frame[at+2], frame[at+3] = byte(v>>24), byte(v>>16), byte(v>>8), byte(v)
	}
	put(4, seq)
	put(8, ack)
	return &packet.Packet{Frame: frame, Proto: packet.ProtoTCP, Flags: flags, End: packet.TCPLen, Data: packet.TCPLen}
}

var udpPacket = &packet.Packet{Proto: packet.ProtoUDP}

func insert(t testing.TB, table *flow.Table, k flow.Key, tick uint32) *flow.Record {
	t.Helper()
	if _, result := table.Insert(&k, 0, 7, 1, tick); result != flow.Inserted {
		t.Fatalf("insert %+v: result %d", k, result)
	}
	r := table.Find(&k, tick)
	if r == nil {
		t.Fatalf("insert %+v: not found", k)
	}
	return r
}

func TestRecordIsACacheLine(t *testing.T) {
	if size := unsafe.Sizeof(flow.Record{}); size != 64 {
		t.Errorf("a record is %d bytes, want 64", size)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, buckets := range []int{-8, 0, 3, 6} {
		if _, err := flow.New(buckets, [16]byte{}, pods{}); err == nil {
			t.Errorf("New with %d buckets: no error", buckets)
		}
	}
}

func TestInsertFind(t *testing.T) {
	table := newTable(t, 4, pods{2: 22})
	k := key(1, 40000, packet.ProtoTCP)
	if r := table.Find(&k, now); r != nil {
		t.Fatalf("empty table finds %+v", r)
	}
	r := insert(t, table, k, now)
	want := flow.Record{
		Seq: 2, Client: k.Client, Port: 40000, Proto: packet.ProtoTCP, Kind: flow.Own,
		Service: 1, ServiceTag: 11, Backend: 2, BackendTag: 22, Seen: now, PodPort: 40000, Slot: 7,
	}
	if *r != want {
		t.Errorf("record %+v\nwant   %+v", *r, want)
	}
	for name, other := range map[string]func(*flow.Key){
		"client":      func(k *flow.Key) { k.Client[0]++ },
		"port":        func(k *flow.Key) { k.Port++ },
		"protocol":    func(k *flow.Key) { k.Proto = packet.ProtoUDP },
		"service":     func(k *flow.Key) { k.Service++ },
		"service tag": func(k *flow.Key) { k.ServiceTag++ },
	} {
		miss := k
		other(&miss)
		if table.Find(&miss, now) != nil {
			t.Errorf("found with another %s", name)
		}
	}
}

func TestTimeouts(t *testing.T) {
	const none, est = flow.HalfOpen, flow.Established
	for _, tt := range []struct {
		name  string
		proto uint8
		state flow.State
		flags flow.Flags
		want  uint32
	}{
		{"tcp half-open", packet.ProtoTCP, none, 0, 1118},
		{"tcp half-open and reset", packet.ProtoTCP, none, flow.PodRST, 1118},
		{"tcp established", packet.ProtoTCP, est, flow.HasISN, 6437301},
		{"tcp client fin", packet.ProtoTCP, est, flow.ClientFIN, 1788},
		{"tcp pod fin", packet.ProtoTCP, est, flow.PodFIN, 1788},
		{"tcp both fins", packet.ProtoTCP, est, flow.ClientFIN | flow.PodFIN, 224},
		{"tcp client rst", packet.ProtoTCP, est, flow.ClientRST, 224},
		{"tcp pod rst", packet.ProtoTCP, est, flow.PodRST, 224},
		{"udp half-open", packet.ProtoUDP, none, 0, 894},
		{"udp established", packet.ProtoUDP, est, 0, 2682},
	} {
		t.Run(tt.name, func(t *testing.T) {
			table := newTable(t, 1, pods{2: 22})
			k := key(1, 1, tt.proto)
			r := insert(t, table, k, now)
			r.State, r.Flags = tt.state, tt.flags
			if table.Find(&k, now+tt.want) == nil {
				t.Errorf("dead after %d ticks", tt.want)
			}
			if table.Find(&k, now+tt.want+1) != nil {
				t.Errorf("alive after %d ticks", tt.want+1)
			}
		})
	}
}

func TestDeathOfTheBackend(t *testing.T) {
	p := pods{2: 22}
	table := newTable(t, 1, p)
	k := key(1, 1, packet.ProtoTCP)
	insert(t, table, k, now)
	p[2] = 23
	if table.Find(&k, now) != nil {
		t.Error("found though the id names another backend")
	}
	p[2] = 22
	if table.Find(&k, now) == nil {
		t.Error("not found though the backend is back")
	}
}

func TestTickWraps(t *testing.T) {
	table := newTable(t, 1, pods{2: 22})
	k := key(1, 1, packet.ProtoTCP)
	insert(t, table, k, 0xfffffff0)
	if table.Find(&k, 100) == nil || table.Find(&k, 2000) != nil {
		t.Error("idle time is wrong across the wrap of the tick")
	}
	if table.PutRedirect(&k, flow.Record{Node: 3, Until: 10}, 0xfffffff0) != flow.Inserted {
		t.Fatal("redirect not inserted")
	}
	if r := table.Find(&flow.Key{Client: k.Client, Port: 1, Proto: 6, Service: 1, ServiceTag: 11}, 10); r == nil {
		t.Error("redirect dead before its end")
	}
}

// Another CPU may be a tick ahead: its record is not dead for that.
func TestTickOfAnotherCPU(t *testing.T) {
	table := newTable(t, 1, pods{2: 22})
	k := key(1, 1, packet.ProtoTCP)
	insert(t, table, k, now+1)
	if table.Find(&k, now) == nil {
		t.Error("a record that was seen a tick from now is dead")
	}
}

func TestVictim(t *testing.T) {
	fill := func(t *testing.T, state flow.State) (*flow.Table, []flow.Key) {
		table := newTable(t, 1, pods{2: 22})
		var keys []flow.Key
		for i := range flow.Ways {
			k := key(byte(i), 1, packet.ProtoTCP)
			insert(t, table, k, now+uint32(i)).State = state
			keys = append(keys, k)
		}
		return table, keys
	}
	newcomer := key(99, 1, packet.ProtoTCP)
	t.Run("established flows stay", func(t *testing.T) {
		table, keys := fill(t, flow.Established)
		if _, result := table.Insert(&newcomer, 0, 0, 0, now+10); result != flow.Full {
			t.Fatalf("result %d, want full", result)
		}
		for _, k := range keys {
			if table.Find(&k, now+10) == nil {
				t.Errorf("client %d evicted", k.Client[15])
			}
		}
	})
	t.Run("longest silent half-open goes", func(t *testing.T) {
		table, keys := fill(t, flow.HalfOpen)
		table.Find(&keys[0], now+10).Seen = now + 50
		insert(t, table, newcomer, now+60)
		for i, k := range keys {
			if gone := table.Find(&k, now+60) == nil; gone != (i == 1) {
				t.Errorf("client %d evicted: %t", i, gone)
			}
		}
	})
	t.Run("the expired before the half-open", func(t *testing.T) {
		table, keys := fill(t, flow.HalfOpen)
		table.Find(&keys[5], now+10).Seen = now - flow.TimeoutTCPHalfOpen
		insert(t, table, newcomer, now+60)
		for i, k := range keys {
			if gone := table.Find(&k, now+60) == nil; gone != (i == 5) {
				t.Errorf("client %d evicted: %t", i, gone)
			}
		}
	})
	t.Run("the orphaned before the established", func(t *testing.T) {
		table, keys := fill(t, flow.Established)
		table.Find(&keys[5], now+10).BackendTag = 1
		insert(t, table, newcomer, now+60)
		for i, k := range keys {
			if gone := table.Find(&k, now+60) == nil; gone != (i == 5) {
				t.Errorf("client %d evicted: %t", i, gone)
			}
		}
	})
	t.Run("the same flow before the dead", func(t *testing.T) {
		table, keys := fill(t, flow.Established)
		table.Find(&keys[2], now+10).Flags = flow.PodRST
		table.Find(&keys[5], now+10).BackendTag = 1
		if r := insert(t, table, keys[2], now+20); r.Flags != 0 || r.Seq != 4 {
			t.Errorf("record %+v: want a fresh one, seq 4", *r)
		}
	})
	t.Run("redirects stay", func(t *testing.T) {
		table, keys := fill(t, flow.Established)
		*table.Find(&keys[0], now+10) = flow.Record{Kind: flow.Redirect, Until: now + 100}
		if _, result := table.Insert(&newcomer, 0, 0, 0, now+10); result != flow.Full {
			t.Errorf("result %d, want full", result)
		}
	})
	t.Run("the affinity that ends first", func(t *testing.T) {
		table, keys := fill(t, flow.Established)
		for i, until := range []uint32{now + 300, now + 200, now + 250} {
			*table.Find(&keys[i], now+10) = flow.Record{
				Kind: flow.Affinity, Client: packet.Addr{byte(i)}, Service: 1, ServiceTag: 11,
				Backend: 2, BackendTag: 22, Until: until,
			}
		}
		insert(t, table, newcomer, now+10)
		for i := range 3 {
			k := flow.Key{Client: packet.Addr{byte(i)}, Service: 1, ServiceTag: 11}
			if gone := table.FindAffinity(&k, now+10) == nil; gone != (i == 1) {
				t.Errorf("affinity %d evicted: %t", i, gone)
			}
		}
	})
}

// However many half-open flows come, established ones are found.
func TestFlood(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	table := newTable(t, 64, pods{2: 22})
	var kept []flow.Key
	for i := range 100 {
		k := key(byte(i), uint16(rnd.Uint32()), packet.ProtoTCP)
		if _, result := table.Insert(&k, 0, 0, 0, now); result != flow.Inserted {
			continue
		}
		table.Find(&k, now).State = flow.Established
		kept = append(kept, k)
	}
	for range 20000 {
		k := key(byte(rnd.Uint32()), uint16(rnd.Uint32()), packet.ProtoTCP)
		k.Client[1] = byte(1 + rnd.Uint32()%255)
		table.Insert(&k, 0, 0, 0, now+1)
	}
	for _, k := range kept {
		if table.Find(&k, now+1) == nil {
			t.Errorf("established flow of client %d port %d evicted", k.Client[15], k.Port)
		}
	}
}
