// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// SoftHop says which of the router's ports send without offloads. Such a port
// fills in checksums and cuts segments in software, as a wire would demand;
// veth alone passes partial checksums and 64 KB segments on, and so hides faults.
type SoftHop uint8

const (
	// SoftHopNone leaves offloads as the kernel sets them.
	SoftHopNone SoftHop = iota
	// SoftHopAll covers the ports to every node and to the client.
	SoftHopAll
	// SoftHopOwners covers all but the port to node 1: a sender's partial
	// checksums reach an ingress node 1, which must have made them right when the
	// packets come to other nodes or, as replies, to the client.
	SoftHopOwners
)

// covers says whether the port to node i, from 1, is one of them.
func (s SoftHop) covers(i int) bool {
	return s == SoftHopAll || s == SoftHopOwners && i != 1
}

// DisableOffloads turns checksum and segmentation offloads of a link off, for
// the direction that it sends.
func (n *Namespace) DisableOffloads(name string) error {
	err := n.Do(func() error {
		et, err := ethtool.NewEthtool()
		if err != nil {
			return err
		}
		defer et.Close()
		features, err := et.FeaturesWithState(name)
		if err != nil {
			return err
		}
		off := map[string]bool{}
		for feature, state := range features {
			if offload(feature) && state.Available && !state.NeverChanged {
				off[feature] = false
			}
		}
		return et.Change(name, off)
	})
	if err != nil {
		return fmt.Errorf("disable offloads of %s in %s: %w", name, n.Name, err)
	}
	return nil
}

// soften turns the offloads of a router's port off, if it is to be so.
func (n *Namespace) soften(port string, soft bool) error {
	if !soft {
		return nil
	}
	return n.DisableOffloads(port)
}

// offload tells a sending offload by its ethtool name.
func offload(feature string) bool {
	return strings.HasPrefix(feature, "tx-checksum-") ||
		strings.HasPrefix(feature, "tx-") && strings.HasSuffix(feature, "-segmentation") ||
		feature == "tx-gso-partial"
}

// Offloads are the sending offloads of a link that are on, sorted.
func (n *Namespace) Offloads(name string) ([]string, error) {
	var on []string
	err := n.Do(func() error {
		et, err := ethtool.NewEthtool()
		if err != nil {
			return err
		}
		defer et.Close()
		features, err := et.Features(name)
		maps.DeleteFunc(features, func(f string, active bool) bool { return !active || !offload(f) })
		on = slices.Sorted(maps.Keys(features))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read offloads of %s in %s: %w", name, n.Name, err)
	}
	return on, nil
}

// attachPass attaches an XDP program that passes everything, in driver mode.
// It goes by netlink, not by a link, because it has to outlive this process in
// a lab that is kept.
func (n *Namespace) attachPass(name string) error {
	l, err := n.link(name)
	if err != nil {
		return err
	}
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name:         "fl_lab_pass",
		Type:         ebpf.XDP,
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2 /* XDP_PASS */), asm.Return()},
		License:      "Apache-2.0",
	})
	if err != nil {
		return fmt.Errorf("load xdp pass program: %w", err)
	}
	defer prog.Close()
	err = n.Do(func() error { return netlink.LinkSetXdpFdWithFlags(l, prog.FD(), unix.XDP_FLAGS_DRV_MODE) })
	if err != nil {
		return fmt.Errorf("attach xdp pass to %s in %s: %w", name, n.Name, err)
	}
	return nil
}

// AcceptRedirects makes a veth take the frames that XDP_REDIRECT puts into its
// peer; without it the kernel drops them silently.
func (n *Namespace) AcceptRedirects(name string) error {
	err := n.Do(func() error {
		et, err := ethtool.NewEthtool()
		if err != nil {
			return err
		}
		defer et.Close()
		return et.Change(name, map[string]bool{"rx-gro": true})
	})
	if err != nil {
		return fmt.Errorf("turn on gro of %s in %s: %w", name, n.Name, err)
	}
	return nil
}
