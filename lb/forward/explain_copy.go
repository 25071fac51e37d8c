// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/dataplane"
	"github.com/fairlead/fairlead/lb/flow"
	"github.com/fairlead/fairlead/lb/packet"
)

// affinityPort is where the records of clients that are remembered lie.
const affinityPort = 0

// flowCopy is a part of a flow table: the buckets of some ports of one client.
type flowCopy struct {
	index   map[uint16]int // of a port's bucket
	buckets map[int][flow.Ways]flow.Record
}

func (c *flowCopy) add(read FlowReader, client netip.Addr, ports []uint16) {
	for _, port := range ports {
		if _, known := c.index[port]; known {
			continue
		}
		index, records := read(client, port)
		c.index[port] = index
		if _, known := c.buckets[index]; !known {
			c.buckets[index] = records
		}
	}
}

func (c *flowCopy) has(ports []uint16) bool {
	for _, port := range ports {
		if _, known := c.index[port]; !known {
			return false
		}
	}
	return true
}

// forwarder has the copied buckets in its flow table, which is the smallest one
// in which they keep apart. A bucket's index is the low bits of a hash, so that
// they are found there like in the whole table.
func (c *flowCopy) forwarder(s Settings, tables *Tables) (*Forwarder, error) {
	whole := s.FlowBuckets
	for s.FlowBuckets = 1; s.FlowBuckets < whole && !c.apart(s.FlowBuckets); s.FlowBuckets *= 2 {
	}
	f, err := NewForwarder(s, tables)
	if err != nil {
		return nil, err
	}
	for index, records := range c.buckets {
		copy(f.flows.Records()[index&(s.FlowBuckets-1)*flow.Ways:], records[:])
	}
	return f, nil
}

// apart says that no two buckets are the same in a table of so many.
func (c *flowCopy) apart(buckets int) bool {
	seen := map[int]bool{}
	for index := range c.buckets {
		if seen[index&(buckets-1)] {
			return false
		}
		seen[index&(buckets-1)] = true
	}
	return true
}

// tablesOf are tables with what a packet to the VIP can meet.
func tablesOf(vip netip.Addr, limits dataplane.Limits, state dataplane.State, read TableReader) (*Tables, error) {
	t := NewTables(limits)
	for id, n := range state.Nodes {
		if err := t.PutNode(id, n); err != nil {
			return nil, err
		}
	}
	for id, b := range state.Backends {
		if err := t.PutBackend(id, b); err != nil {
			return nil, err
		}
	}
	for id, s := range state.Services {
		if s.Key.VIP == vip {
			if err := t.copyService(id, s, state, read); err != nil {
				return nil, fmt.Errorf("service %s: %w", s.Key, err)
			}
		}
	}
	if state.VIPs[vip] {
		return t, t.PutVIP(vip)
	}
	return t, nil
}

func (t *Tables) copyService(id lb.ServiceID, s dataplane.ServiceEntry, state dataplane.State, read TableReader) error {
	for key, e := range state.Endpoints {
		if key.Service == id {
			if err := t.PutEndpoint(id, key.Wire, e); err != nil {
				return err
			}
		}
	}
	for key := range state.SourceRanges {
		if key.Service == id {
			if err := t.PutSourceRange(id, key.Prefix); err != nil {
				return err
			}
		}
	}
	// A table that is not there is being replaced: the packet finds it stale.
	if table, ok := read(s.Table); ok {
		if err := t.WriteTable(s.Table, table); err != nil {
			return err
		}
	}
	return t.PutService(id, s)
}

// frame is the packet that is asked about, without payload, with ack in an ACK.
func (q Question) frame(ack uint32) []byte {
	version, proto := versionOf(q.Client.Addr()), uint8(q.Proto)
	ip := packet.IP{
		Src: packet.AddrOf(q.Client.Addr()), Dst: packet.AddrOf(q.VIP.Addr()), Proto: proto,
		TTL: packet.AnswerTTL, Length: packet.UDPLen,
	}
	if proto == packet.ProtoTCP {
		ip.Length = packet.TCPLen
	}
	b := binary.BigEndian.AppendUint16(make([]byte, macsLen), uint16(etherTypeOf(version)))
	b = ip.Append(b, version)
	b = binary.BigEndian.AppendUint16(b, q.Client.Port())
	b = binary.BigEndian.AppendUint16(b, q.VIP.Port())
	if proto != packet.ProtoTCP {
		return binary.BigEndian.AppendUint32(b, packet.UDPLen<<16)
	}
	b = binary.BigEndian.AppendUint32(b, 1)
	if q.Flags&packet.ACK == 0 {
		ack = 0
	}
	b = binary.BigEndian.AppendUint32(b, ack)
	return append(b, packet.TCPLen/4<<4, q.Flags, 0xff, 0xff, 0, 0, 0, 0) // nobody looks at the checksum
}

// tunnelOf reads the outer headers of a packet for another node.
func tunnelOf(out []byte, overhead int, position packet.Position) *Tunnel {
	var outer packet.Packet
	outer.Parse(out)
	addr := func(a packet.Addr, port uint16) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom16(a).Unmap(), port)
	}
	return &Tunnel{
		Src: addr(outer.Src, outer.SrcPort), Dst: addr(outer.Dst, outer.DstPort), Overhead: overhead, Position: position,
	}
}
