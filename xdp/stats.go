// SPDX-License-Identifier: Apache-2.0

package xdp

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/forward"
)

// Counter is how many packets ended with a reason. Each packet is counted once on each
// node that it crosses.
type Counter struct {
	Verdict, Reason string
	Packets         uint64
}

// Counters are all reasons in their order, those that never happened too.
func (d *Datapath) Counters() ([]Counter, error) { return d.maps.Counters() }

// Counters is Datapath.Counters.
func (m *Maps) Counters() ([]Counter, error) {
	var counters []Counter
	for r := bpfLbReasonLB_R_NONE + 1; r < reasons; r++ {
		var perCPU []uint64
		if err := m.byName[bpfMapCounters].Lookup(uint32(r), &perCPU); err != nil {
			return nil, fmt.Errorf("read counter %s: %w", reasonNames[r], err)
		}
		c := Counter{Verdict: verdictOf(r), Reason: reasonNames[r]}
		for _, n := range perCPU {
			c.Packets += n
		}
		for loop := range Loops {
			c.Packets += atomic.LoadUint64(&m.Ledger(loop).Reasons[r])
		}
		counters = append(counters, c)
	}
	return counters, nil
}

// Loops is how many loops of the userspace datapath can count.
const Loops = int(bpfLbLimitLB_QUEUES_MAX)

// Ledger is where a loop of the userspace datapath counts: in pinned memory, so
// that counters go on when the agent is restarted.
func (m *Maps) Ledger(loop int) forward.Ledger {
	row := m.loopCounters[loop*int(unsafe.Sizeof(bpfLbLoopCounters{})):]
	services := int(m.byName[bpfMapLoopServiceStats].MaxEntries())
	return forward.Ledger{
		Reasons:  unsafe.Slice((*uint64)(unsafe.Pointer(&row[0])), reasons),
		Services: unsafe.Slice((*forward.Stats)(unsafe.Pointer(&m.loopStats[0])), services),
	}
}

// Stats are the packets from clients that this node handled for a service
// port, and the bytes of their IP packets.
type Stats struct{ Packets, Bytes uint64 }

// ServiceStats are the counters of the given service ports, replies included.
func (d *Datapath) ServiceStats(ids []lb.ServiceID) (map[lb.ServiceID]Stats, error) {
	all := make(map[lb.ServiceID]Stats, len(ids))
	for _, id := range ids {
		var perCPU []bpfLbServiceStats
		if err := d.maps.byName[bpfMapServiceStats].Lookup(uint32(id), &perCPU); err != nil {
			return nil, fmt.Errorf("read statistics of service %d: %w", id, err)
		}
		var s Stats
		for _, c := range perCPU {
			s.Packets += c.Packets
			s.Bytes += c.Bytes
		}
		if services := d.maps.Ledger(0).Services; int(id) < len(services) {
			s.Packets += atomic.LoadUint64(&services[id].Packets)
			s.Bytes += atomic.LoadUint64(&services[id].Bytes)
		}
		all[id] = s
	}
	return all, nil
}

// Flow is a record of the owner's flow table.
type Flow struct {
	Proto   lb.Proto
	Client  netip.AddrPort
	VIP     netip.AddrPort
	Backend netip.AddrPort
	// PodPort is the client's port as the Pod sees it.
	PodPort     uint16
	Kind, State string
	Flags       []string
	Idle        time.Duration
	Service     lb.ServiceID
}

// Flows calls f for every record in use until it returns false. It sees each
// record whole, but the table as it changes.
func (d *Datapath) Flows(f func(Flow) bool) error {
	now := NowTick()
	for at := 0; at+flowSize <= len(d.maps.flows); at += flowSize {
		rec, ok := readRecord(d.maps.flows[at : at+flowSize])
		if !ok || bpfLbFlowKind(rec.Kind) == bpfLbFlowKindLB_FLOW_FREE {
			continue
		}
		flow, ok := d.flow(&rec, now)
		if ok && !f(flow) {
			return nil
		}
	}
	return nil
}

// readRecord copies a record by its sequence word. A record that a program
// keeps rewriting is not waited for.
func readRecord(mem []byte) (bpfLbFlow, bool) {
	live := (*bpfLbFlow)(unsafe.Pointer(&mem[0]))
	for range 16 {
		seq := atomic.LoadUint64(&live.Seq)
		rec := *live
		if seq%2 == 0 && atomic.LoadUint64(&live.Seq) == seq {
			return rec, true
		}
	}
	return bpfLbFlow{}, false
}

// flow is what the record says; a record of a service or backend that is gone is none.
func (d *Datapath) flow(rec *bpfLbFlow, now uint32) (Flow, bool) {
	service := d.maps.record(rec.Service)
	backend, err := d.maps.backend(lb.BackendID(rec.Backend))
	if err != nil || service.Tag != rec.ServiceTag || backend.Tag != rec.BackendTag {
		return Flow{}, false
	}
	if expired(rec, now) {
		return Flow{}, false
	}
	return Flow{
		Proto:   lb.Proto(rec.Proto),
		Client:  netip.AddrPortFrom(toAddr(rec.Client), swap16(rec.Port)),
		VIP:     netip.AddrPortFrom(toAddr(service.Vip), swap16(service.Port)),
		Backend: backend.toEntry().Addr,
		PodPort: swap16(rec.PodPort),
		Kind:    flowKindName(rec.Kind),
		State:   flowStateName(rec),
		Flags:   flowFlagNames(rec.Flags),
		Idle:    time.Duration(max(0, int32(now-rec.Seen))) * Tick,
		Service: lb.ServiceID(rec.Service),
	}, true
}

// expired is flow_is_alive of the programs without the backend.
func expired(rec *bpfLbFlow, now uint32) bool {
	switch bpfLbFlowKind(rec.Kind) {
	case bpfLbFlowKindLB_FLOW_AFFINITY, bpfLbFlowKindLB_FLOW_REDIRECT:
		return int32(rec.Until-now) < 0
	}
	idle, state := bpfLbTimeout(max(0, int32(now-rec.Seen))), flowStateName(rec)
	if lb.Proto(rec.Proto) == lb.UDP {
		if state == "half-open" {
			return idle > bpfLbTimeoutLB_TIMEOUT_UDP_HALF_OPEN
		}
		return idle > bpfLbTimeoutLB_TIMEOUT_UDP_ESTABLISHED
	}
	switch {
	case state == "half-open":
		return idle > bpfLbTimeoutLB_TIMEOUT_TCP_HALF_OPEN
	case state == "closed", rec.Flags&uint8(bpfLbFlowFlagLB_FLOW_CLIENT_RST) != 0:
		return idle > bpfLbTimeoutLB_TIMEOUT_TCP_CLOSED
	case state == "closing":
		return idle > bpfLbTimeoutLB_TIMEOUT_TCP_FIN
	}
	return idle > bpfLbTimeoutLB_TIMEOUT_TCP_ESTABLISHED
}
