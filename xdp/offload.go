// SPDX-License-Identifier: Apache-2.0

package xdp

import (
	"errors"

	"github.com/cilium/ebpf/asm"
	"github.com/safchain/ethtool"
	"golang.org/x/sys/unix"

	"sync"

	"github.com/cilium/ebpf"
)

// udpSegmentation is the offload that lets a UDP GSO packet cross a device whole.
const udpSegmentation = "tx-udp-segmentation"

// segmentEarly makes the kernel cut UDP GSO packets before they leave by a
// veth. Inside our Geneve they would reach the peer whole, and TC's
// decapsulation there leaves the tunnel's mark on the packet, on which the
// kernel then chokes (seen on Linux 6.18). TCP is not affected, and no real
// wire carries such packets.
func segmentEarly(name string, on bool) error {
	e, err := ethtool.NewEthtool()
	if err != nil {
		return err
	}
	defer e.Close()
	return e.Change(name, map[string]bool{udpSegmentation: !on})
}

// restoreSegmentation undoes segmentEarly. An interface that is gone needs nothing.
func restoreSegmentation(name string) error {
	if driverOf(name) != "veth" {
		return nil
	}
	if err := segmentEarly(name, false); err != nil && !errors.Is(err, unix.ENODEV) {
		return err
	}
	return nil
}

// csumFlagKnown says whether bpf_l4_csum_replace accepts BPF_F_IPV6 (Linux
// 6.16). Older kernels refuse it, and get along without unless a device hands
// up complete sums. Asked once.
var csumFlagKnown = sync.OnceValue(func() bool {
	const checksumOffset, flags = 20, 1<<4 | 1<<7 // BPF_F_PSEUDO_HDR | BPF_F_IPV6
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS,
		Instructions: asm.Instructions{
			asm.Mov.Imm(asm.R2, checksumOffset),
			asm.Mov.Imm(asm.R3, 0),
			asm.Mov.Imm(asm.R4, 0),
			asm.Mov.Imm(asm.R5, flags),
			asm.FnL4CsumReplace.Call(),
			asm.Return(),
		},
		License: "GPL",
	})
	if err != nil {
		return false
	}
	defer prog.Close()
	ret, _, err := prog.Test(make([]byte, 64))
	return err == nil && ret == 0
})
