// SPDX-License-Identifier: Apache-2.0

package xdp

import (
	"encoding/binary"
	"fmt"
	"math"
	"net"
	"net/netip"
	"time"
	"unsafe"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/flow"
	"github.com/fairlead/fairlead/lb/forward"
	"github.com/fairlead/fairlead/lb/packet"
)

// NextHopLifetime is how long after its last confirmation a next hop is used.
const NextHopLifetime = time.Duration(bpfLbLimitLB_NEXT_HOP_TICKS) * Tick

// NextHop is how a peer node is reached, as the programs know it. They use it
// in native mode, while it is fresh; else the stack finds the way.
type NextHop struct {
	Interface string // "": not known yet
	MAC       net.HardwareAddr
	Confirmed bool          // ever
	Age       time.Duration // since the last confirmation
}

// MTU is the smallest one of the interfaces: the one that programs go by.
func (d *Datapath) MTU() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return min(smallestMTU(d.devices), math.MaxUint16)
}

// FlowTable is how buckets of the flow table are found: by SipHash under the
// key, in so many buckets.
func (d *Datapath) FlowTable() (key [16]byte, buckets int) {
	binary.LittleEndian.PutUint64(key[:8], d.flowKey[0])
	binary.LittleEndian.PutUint64(key[8:], d.flowKey[1])
	return key, int(d.maps.flowBuckets())
}

// FlowBucket copies the records of a client's address and port. Those that a
// program is writing at the moment are left out.
func (d *Datapath) FlowBucket(client netip.Addr, port uint16) (index int, records [flow.Ways]flow.Record) {
	return d.maps.flowBucket(d.flowKey, client, port)
}

func (m *Maps) flowBucket(key [2]uint64, client netip.Addr, port uint16) (index int, records [flow.Ways]flow.Record) {
	addr := client.As16()
	hash := packet.Key{K0: key[0], K1: key[1]}.Hash(binary.BigEndian.AppendUint16(addr[:], port))
	index = int(hash & uint64(m.flowBuckets()-1))
	for way := range records {
		at := (index*flow.Ways + way) * flowSize
		if rec, ok := readRecord(m.flows[at : at+flowSize]); ok {
			records[way] = rec.toRecord()
		}
	}
	return index, records
}

func (f *bpfLbFlow) toRecord() flow.Record {
	return flow.Record{
		Seq: f.Seq, Client: f.Client, Port: swap16(f.Port), Proto: f.Proto, Kind: flow.Kind(f.Kind),
		Service: lb.ServiceID(f.Service), ServiceTag: f.ServiceTag,
		Backend: lb.BackendID(f.Backend), BackendTag: f.BackendTag, Seen: f.Seen, PodPort: swap16(f.PodPort),
		State: flow.State(f.State), Flags: flow.Flags(f.Flags), ISN: f.Isn, Slot: f.Slot,
		Node: lb.NodeID(f.Node), Until: f.Until,
	}
}

// NextHop reads how a peer node is reached.
func (d *Datapath) NextHop(id lb.NodeID) (NextHop, error) {
	var n bpfLbNode
	if err := d.maps.byName[bpfMapNodes].Lookup(uint32(id), &n); err != nil {
		return NextHop{}, fmt.Errorf("read node %d: %w", id, err)
	}
	hop := NextHop{Confirmed: n.Confirmed != 0}
	if hop.Confirmed {
		hop.Age = time.Duration(max(0, int32(NowTick()-n.Confirmed))) * Tick
	}
	if n.Dmac != [6]byte{} {
		hop.MAC = n.Dmac[:]
	}
	if n.Ifindex == 0 {
		return hop, nil
	}
	link, err := d.netlink.LinkByIndex(int(n.Ifindex))
	if err != nil {
		return NextHop{}, fmt.Errorf("find link %d: %w", n.Ifindex, err)
	}
	hop.Interface = link.Attrs().Name
	return hop, nil
}

// PathMTU is what the programs learned about the way to a node, even if its
// time is over.
func (d *Datapath) PathMTU(id lb.NodeID) forward.PathMTU { return d.maps.pathMTU(id) }

func (m *Maps) pathMTU(id lb.NodeID) forward.PathMTU {
	const size = int(unsafe.Sizeof(bpfLbNode{}))
	if int(id) >= len(m.nodes)/size {
		return forward.PathMTU{}
	}
	n := (*bpfLbNode)(unsafe.Pointer(&m.nodes[int(id)*size]))
	return forward.PathMTU{MTU: int(n.Mtu), Until: n.MtuUntil}
}
