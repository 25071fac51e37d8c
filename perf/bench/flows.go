// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"net/netip"
	"time"
	"unsafe"

	"github.com/fairlead/fairlead/lb/packet"
	"github.com/fairlead/fairlead/lb/packet/packettest"
)

// maxFlows is the number of flows that exist; rows use the first so many.
const maxFlows = 1 << 20

// flow is what differs between the packets of two flows.
type flow struct{ client netip.AddrPort }

// flowAt gives flow i its client address and port.
func (f family) flowAt(i uint32) flow {
	addr := f.clients.As16()
	n := binary.BigEndian.Uint32(addr[12:]) + i>>14
	binary.BigEndian.PutUint32(addr[12:], n)
	return flow{netip.AddrPortFrom(netip.AddrFrom16(addr).Unmap(), uint16(1024+i&0x3fff))}
}

// shape is a kind of packet: its bytes for one flow, and where flows differ.
type shape struct {
	build      func(flow) []byte
	addrOffset uint32
	portOffset uint32
	macOffset  uint32 // 0: none
}

const ethernet = 14

// fromClient is a packet to the service as it comes from the network.
func (f family) fromClient(vip netip.AddrPort, flags uint8) shape {
	l4 := ethernet + f.ipLen
	return shape{
		build: func(fl flow) []byte {
			return f.pad(packettest.TCP(fl.client.String(), vip.String(), flags), 0).Bytes()
		},
		addrOffset: uint32(ethernet + f.srcOffset), portOffset: uint32(l4),
	}
}

// fromPod is a reply before it is translated.
func (f family) fromPod(flags uint8) shape {
	l4 := ethernet + f.ipLen
	return shape{
		build: func(fl flow) []byte {
			return f.pad(packettest.TCP(f.pod.String(), fl.client.String(), flags), 0).Bytes()
		},
		addrOffset: uint32(ethernet + f.srcOffset + f.addrLen), portOffset: uint32(l4 + 2),
	}
}

// fromNode is a client's packet as another node sends it.
func (f family) fromNode(flags uint8) shape {
	overhead := f.ipLen + packet.UDPLen + packet.GeneveLen
	return shape{
		build: func(fl flow) []byte {
			inner := f.pad(packettest.TCP(fl.client.String(), f.local.String(), flags), overhead)
			t := packettest.Encap(f.peer.String(), f.self.String(), genevePort, wireKey, inner)
			t.Tags[0] = uint32(wireID(f.pod))
			return t.Bytes()
		},
		addrOffset: uint32(ethernet + overhead + f.srcOffset),
		portOffset: uint32(ethernet + overhead + f.ipLen),
		macOffset:  uint32(ethernet + f.ipLen + packet.UDPLen + packettest.MACOffset),
	}
}

// pad makes the frame's length a multiple of 8, as the wrapper wants it.
func (f family) pad(frame packettest.Frame, overhead int) packettest.Frame {
	n := ethernet + overhead + f.ipLen + packet.TCPLen
	frame.Payload = make([]byte, (8-n%8)%8+8)
	return frame
}

// stride is odd, and so permutes the flows of a power of two.
const stride = 0x9e3779b1

// entries are the first flows of a shape in the order in which the wrapper
// sends them.
func (f family) entries(s shape, flows uint32) []benchBenchFlow {
	all := make([]benchBenchFlow, flows)
	for i := range all {
		n := uint32(i) * stride & (flows - 1)
		fl := f.flowAt(n)
		e := &all[i]
		e.Addr = fl.client.Addr().As16()
		binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&e.Port))[:], fl.client.Port())
		if s.macOffset != 0 {
			copy((*[8]byte)(unsafe.Pointer(&e.Mac))[:], f.macs.of(n, s, fl))
		}
	}
	return all
}

// macs remembers the options' MACs by flow: a million take seconds.
type macs map[uint32][8]byte

func (m macs) of(n uint32, s shape, fl flow) []byte {
	mac, known := m[n]
	if !known {
		mac = [8]byte(s.build(fl)[s.macOffset:])
		m[n] = mac
	}
	return mac[:]
}

// frameBatch is how many packets are made at a time: as many as a loop over
// sockets handles, few enough to stay in the first cache.
const frameBatch = 64

// packets makes the packets of flows, one after the other and around again.
type packets struct {
	shape    shape
	addrLen  int
	template []byte
	entries  []benchBenchFlow
	next     int
	frames   [frameBatch][]byte
}

func (f family) packets(s shape, flows uint32) *packets {
	p := &packets{shape: s, addrLen: f.addrLen, template: s.build(f.flowAt(0)), entries: f.entries(s, flows)}
	for i := range p.frames {
		p.frames[i] = make([]byte, len(p.template))
	}
	return p
}

// run gives work so many packets, and returns its time for one in ns. Making
// them is not counted.
func (p *packets) run(packets int, work func(frames [][]byte)) float64 {
	var spent time.Duration
	for left := packets; left > 0; left -= frameBatch {
		frames := p.frames[:min(left, frameBatch)]
		p.fill(frames)
		start := time.Now()
		work(frames)
		spent += time.Since(start)
	}
	return float64(spent.Nanoseconds()) / float64(packets)
}

func (p *packets) fill(frames [][]byte) {
	for _, frame := range frames {
		e := &p.entries[p.next]
		if p.next++; p.next == len(p.entries) {
			p.next = 0
		}
		copy(frame, p.template)
		copy(frame[p.shape.addrOffset:], e.Addr[len(e.Addr)-p.addrLen:])
		binary.NativeEndian.PutUint16(frame[p.shape.portOffset:], e.Port)
		if p.shape.macOffset != 0 {
			binary.NativeEndian.PutUint64(frame[p.shape.macOffset:], e.Mac)
		}
	}
}
