// SPDX-License-Identifier: Apache-2.0

package afxdp

import (
	"errors"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/perf/lab"
)

// attachTC attaches a program of these instructions to a device.
func attachTC(t *testing.T, ns *lab.Namespace, index int, where ebpf.AttachType, program asm.Instructions) {
	t.Helper()
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "Apache-2.0", Instructions: program})
	must(t, err)
	t.Cleanup(func() { prog.Close() })
	must(t, ns.Do(func() error {
		attached, err := link.AttachTCX(link.TCXOptions{Interface: index, Program: prog, Attach: where})
		if err == nil {
			t.Cleanup(func() { attached.Close() })
		}
		return err
	}))
}

// What copy mode sends is handed to the driver: no TC egress program sees it.
// The program does work: it drops what comes by the stack.
func TestEgressProgramsAreBypassed(t *testing.T) {
	const shot = 2 // TC_ACT_SHOT
	w := newBed(t).addWire(t, "egress", 1)
	s := w.open(t, Config{TransmitOnly: true})
	attachTC(t, w.near, w.index, ebpf.AttachTCXEgress, asm.Instructions{asm.Mov.Imm(asm.R0, shot), asm.Return()})
	stack := newPeer(t, w.near, w.index)
	for number := range 3 {
		if _, err := unix.Write(stack.fd, testFrame(999)); !errors.Is(err, unix.ENOBUFS) {
			t.Errorf("send by the stack: %v, want %v", err, unix.ENOBUFS)
		}
		s.send(testFrame(number))
		s.flush()
		w.peer.expect(t, number, number+1)
	}
}

// At the other end of the wire, TC ingress programs do see it: this one writes into it.
func TestIngressProgramsSeeFrames(t *testing.T) {
	const at, mark, next = 40, 0x5a, -1 // TCX_NEXT
	w := newBed(t).addWire(t, "ingress", 1)
	s := w.open(t, Config{TransmitOnly: true})
	attachTC(t, w.bed.far, w.far.Attrs().Index, ebpf.AttachTCXIngress, asm.Instructions{
		asm.StoreImm(asm.RFP, -8, mark, asm.Word),
		asm.Mov.Imm(asm.R2, at),
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, -8),
		asm.Mov.Imm(asm.R4, 1),
		asm.Mov.Imm(asm.R5, 0),
		asm.FnSkbStoreBytes.Call(),
		asm.Mov.Imm(asm.R0, next),
		asm.Return(),
	})
	s.send(testFrame(1))
	s.flush()
	if f := w.peer.receive(t); f[at] != mark || numberOf(f) != 1 {
		t.Errorf("received frame %d with %#x, want 1 with %#x", numberOf(f), f[at], mark)
	}
}
