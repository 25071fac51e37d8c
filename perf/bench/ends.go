// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/fairlead/fairlead/lb/forward"
	"github.com/fairlead/fairlead/lb/packet/packettest"
	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/pktgen"
	"github.com/fairlead/fairlead/xdp"
)

// sourceBits of the clients' addresses vary; their ports do, too.
const sourceBits = 16

// generator makes clients' packets at the other end of the station's veth.
func (w *wire) generator(s *station, vip netip.AddrPort) (*pktgen.Generator, error) {
	l, err := s.node.Netlink().LinkByName(lab.Uplink)
	if err != nil {
		return nil, err
	}
	frame := packettest.TCP(netip.AddrPortFrom(w.family.clients, 1).String(), vip.String(), ack)
	frame.DstMAC = [6]byte(l.Attrs().HardwareAddr)
	return pktgen.New(pktgen.Config{
		Namespace: w.lab.Router, Link: s.node.Host, Frame: frame.Bytes(),
		SourceBits: sourceBits, VaryPort: true, Seed: 1,
	})
}

// attachSink has a program count and drop the tunnelled packets that come out
// of the other end of the station's veth. It also makes veth take what XDP sends.
func (w *wire) attachSink(s *station) error {
	l, err := w.lab.Router.Netlink().LinkByName(s.node.Host)
	if err != nil {
		return err
	}
	if s.sink, err = ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1}); err != nil {
		return fmt.Errorf("make map of the sink: %w", err)
	}
	w.closers = append(w.closers, s.sink.Close)
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "fl_bench_sink", Type: ebpf.XDP, License: "Apache-2.0",
		Instructions: sinkProgram(s.sink, ethernet+w.family.ipLen+2),
	})
	if err != nil {
		return fmt.Errorf("load sink: %w", err)
	}
	defer program.Close()
	return w.lab.Router.Do(func() error {
		attached, err := link.AttachXDP(link.XDPOptions{Program: program, Interface: l.Attrs().Index, Flags: link.XDPDriverMode})
		if err != nil {
			return fmt.Errorf("attach sink: %w", err)
		}
		w.closers = append(w.closers, attached.Close)
		return nil
	})
}

// sinkProgram passes what does not have the Geneve port where a packet without
// IP options has that of its destination.
func sinkProgram(counter *ebpf.Map, portOffset int) asm.Instructions {
	const data, dataEnd, drop, pass = 0, 4, 1, 2 // struct xdp_md, XDP_DROP, XDP_PASS
	geneve := int32(binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, genevePort)))
	return asm.Instructions{
		asm.LoadMem(asm.R6, asm.R1, data, asm.Word),
		asm.LoadMem(asm.R7, asm.R1, dataEnd, asm.Word),
		asm.Mov.Reg(asm.R2, asm.R6),
		asm.Add.Imm(asm.R2, int32(portOffset+2)),
		asm.JGT.Reg(asm.R2, asm.R7, "pass"),
		asm.LoadMem(asm.R2, asm.R6, int16(portOffset), asm.Half),
		asm.JNE.Imm(asm.R2, geneve, "pass"),
		asm.StoreImm(asm.RFP, -4, 0, asm.Word),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.LoadMapPtr(asm.R1, counter.FD()),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "pass"),
		asm.Mov.Imm(asm.R1, 1),
		asm.AddAtomic.Mem(asm.R0, asm.R1, asm.DWord, 0),
		asm.Mov.Imm(asm.R0, drop),
		asm.Return(),
		asm.Mov.Imm(asm.R0, pass).WithSymbol("pass"),
		asm.Return(),
	}
}

// sunk are the packets that came out of the station's veth.
func (s *station) sunk() (n uint64, err error) {
	err = s.sink.Lookup(uint32(0), &n)
	return n, err
}

// unknownPort are the packets that XDP dropped for their port.
func (s *station) unknownPort() (uint64, error) {
	counters, err := s.datapath.Counters()
	if err != nil {
		return 0, err
	}
	i := slices.IndexFunc(counters, func(c xdp.Counter) bool { return c.Reason == forward.UnknownPort.String() })
	return counters[i].Packets, nil
}
