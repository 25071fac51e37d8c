// SPDX-License-Identifier: Apache-2.0

package afxdp

import (
	"context"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"github.com/fairlead/fairlead/perf/lab"
)

const (
	deadline = 10 * time.Second
	// testEtherType is for local experiments (IEEE 802): nothing else sends it.
	testEtherType = 0x88b5
	frameLen      = 60
)

// bed is two namespaces that wires are put between.
type bed struct {
	near, far *lab.Namespace
}

func newBed(t testing.TB) bed {
	t.Helper()
	l := lab.ForTest(t, lab.Options{Nodes: 1, NoFirewall: true})
	return bed{near: l.Nodes[0].Namespace, far: l.Client}
}

// wire is a veth pair. Sockets are bound at its near end, its far end is peer.
type wire struct {
	bed
	name  string // of the near end
	index int
	far   netlink.Link
	peer  *peer
}

// addWire makes a wire fl-<name> with so many queues and a raw socket at its far end.
func (b bed) addWire(t testing.TB, name string, queues int) *wire {
	t.Helper()
	w := &wire{bed: b, name: "fl-" + name}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.NumTxQueues, attrs.NumRxQueues = w.name, queues, queues
	veth := netlink.NewVeth(attrs)
	veth.PeerName = w.name + "-far"
	veth.PeerNamespace = netlink.NsFd(b.far.FD())
	veth.PeerNumTxQueues, veth.PeerNumRxQueues = uint32(queues), uint32(queues)
	must(t, b.near.Netlink().LinkAdd(veth))
	near, err := b.near.Netlink().LinkByName(w.name)
	must(t, err)
	w.index = near.Attrs().Index
	w.far, err = b.far.Netlink().LinkByName(veth.PeerName)
	must(t, err)
	must(t, b.near.Netlink().LinkSetUp(near))
	must(t, b.far.Netlink().LinkSetUp(w.far))
	must(t, lab.Poll(context.Background(), deadline, func() bool {
		l, err := b.near.Netlink().LinkByName(w.name)
		return err == nil && l.Attrs().OperState == netlink.OperUp
	}))
	w.peer = newPeer(t, b.far, w.far.Attrs().Index)
	return w
}

// setUp sets the near end up or down.
func (w *wire) setUp(t testing.TB, up bool) {
	t.Helper()
	l, err := w.near.Netlink().LinkByName(w.name)
	must(t, err)
	if up {
		must(t, w.near.Netlink().LinkSetUp(l))
	} else {
		must(t, w.near.Netlink().LinkSetDown(l))
	}
}

func (w *wire) setMTU(t testing.TB, mtu int) {
	t.Helper()
	l, err := w.near.Netlink().LinkByName(w.name)
	must(t, err)
	must(t, w.near.Netlink().LinkSetMTU(l, mtu))
	must(t, w.bed.far.Netlink().LinkSetMTU(w.far, mtu))
}

// open opens a socket at the near end, closed after the test.
func (w *wire) open(t testing.TB, c Config) *Socket {
	t.Helper()
	s, err := w.tryOpen(c)
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return s
}

func (w *wire) tryOpen(c Config) (*Socket, error) {
	c.Interface = w.index
	return openIn(w.near, c)
}

// openFar opens a socket at the far end, closed after the test.
func (w *wire) openFar(t testing.TB, c Config) *Socket {
	t.Helper()
	c.Interface = w.far.Attrs().Index
	s, err := openIn(w.bed.far, c)
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return s
}

func openIn(ns *lab.Namespace, c Config) (s *Socket, err error) {
	err = ns.Do(func() (err error) {
		s, err = Open(c)
		return err
	})
	return s, err
}

// redirect attaches a program that redirects test frames to the sockets, by queue.
func (w *wire) redirect(t testing.TB, flags link.XDPAttachFlags, sockets ...*Socket) {
	t.Helper()
	redirectOn(t, w.near, w.index, flags, sockets...)
}

func redirectOn(t testing.TB, ns *lab.Namespace, index int, flags link.XDPAttachFlags, sockets ...*Socket) {
	t.Helper()
	sockmap, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.XSKMap, KeySize: 4, ValueSize: 4, MaxEntries: 8})
	must(t, err)
	t.Cleanup(func() { sockmap.Close() })
	for _, s := range sockets {
		must(t, s.Register(sockmap, uint32(s.Queue())))
	}
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, License: "Apache-2.0", Instructions: redirectProgram(sockmap)})
	must(t, err)
	t.Cleanup(func() { prog.Close() })
	must(t, ns.Do(func() error {
		attached, err := link.AttachXDP(link.XDPOptions{Program: prog, Interface: index, Flags: flags})
		if err == nil {
			t.Cleanup(func() { attached.Close() })
		}
		return err
	}))
}

// redirectProgram passes what is no test frame, and what comes by a queue without a socket.
func redirectProgram(sockmap *ebpf.Map) asm.Instructions {
	const data, dataEnd, queue, pass = 0, 4, 16, 2 // struct xdp_md, XDP_PASS
	swapped := int32(binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, testEtherType)))
	return asm.Instructions{
		asm.LoadMem(asm.R6, asm.R1, data, asm.Word),
		asm.LoadMem(asm.R7, asm.R1, dataEnd, asm.Word),
		asm.Mov.Reg(asm.R2, asm.R6),
		asm.Add.Imm(asm.R2, 14),
		asm.JGT.Reg(asm.R2, asm.R7, "pass"),
		asm.LoadMem(asm.R2, asm.R6, 12, asm.Half),
		asm.JNE.Imm(asm.R2, swapped, "pass"),
		asm.LoadMem(asm.R2, asm.R1, queue, asm.Word),
		asm.LoadMapPtr(asm.R1, sockmap.FD()),
		asm.Mov.Imm(asm.R3, pass),
		asm.FnRedirectMap.Call(),
		asm.Return(),
		asm.Mov.Imm(asm.R0, pass).WithSymbol("pass"),
		asm.Return(),
	}
}

// handlerFunc is a function as Handler.
type handlerFunc func(frame []byte, tx *Tx)

func (f handlerFunc) Handle(frame []byte, tx *Tx) { f(frame, tx) }

// echo sends every frame back as it is, built anew in the TX frame.
func echo(frame []byte, tx *Tx) {
	tx.Send(tx.From(), append(tx.Frame(tx.From()), frame...))
}

// run runs a loop over the links until the test ends, and checks how it ended.
func run(t testing.TB, c LoopConfig, h Handler) {
	t.Helper()
	l, err := NewLoop(c)
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx, h) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-ended:
			must(t, err)
		case <-time.After(deadline):
			t.Error("loop did not end with its context")
		}
	})
}

// linksOf gives every socket a port of its own.
func linksOf(sockets ...*Socket) (ports []*Port, links []Link) {
	for i, s := range sockets {
		p := NewPort(fmt.Sprintf("port%d", i))
		ports = append(ports, p)
		links = append(links, Link{p, s})
	}
	return ports, links
}

func statsOf(t testing.TB, s *Socket) Stats {
	t.Helper()
	stats, err := s.Stats()
	must(t, err)
	return stats
}

// waitStats waits until the counters are as they should.
func waitStats(t testing.TB, s *Socket, done func(Stats) bool) {
	t.Helper()
	var stats Stats
	if err := lab.Poll(context.Background(), deadline, func() bool { stats = statsOf(t, s); return done(stats) }); err != nil {
		t.Fatalf("wait for counters: %v: %+v", err, stats)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
