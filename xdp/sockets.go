// SPDX-License-Identifier: Apache-2.0

package xdp

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// SocketDevice is an interface whose packets the userspace datapath takes.
type SocketDevice struct {
	Name   string
	Index  int
	MTU    int
	MAC    [6]byte
	Queues int  // of the receiving side
	Veth   bool // packets may have partial checksums
	// Stack is the device by which packets are handed to the stack: what is
	// sent there comes in by the interface once more. A frame without a
	// destination MAC address is for another node, and leaves by the
	// interface to the neighbour that the stack finds.
	Stack      string
	StackIndex int
	// Put makes a queue's packets go to the socket.
	Put func(queue, fd int) error
}

// The veth by which packets are handed to the stack: names by the interface's
// index, its name as the alias.
const (
	stackNear  = "fl-tx"
	stackFar   = "fl-rx"
	hookInject = "inject"
)

// receiveQueues is how many there are, 1 where the driver does not say.
func receiveQueues(name string) int {
	e, err := ethtool.NewEthtool()
	if err != nil {
		return 1
	}
	defer e.Close()
	c, err := e.GetChannels(name)
	if err != nil {
		return 1
	}
	return int(min(max(1, c.RxCount+c.CombinedCount), uint32(bpfLbLimitLB_QUEUES_MAX)))
}

// openSockets lets the caller open the interface's sockets, before the program
// that sends packets to them takes its place.
func (s *programSet) openSockets(dev device, inject *ebpf.Program) error {
	queues := receiveQueues(dev.name)
	stack, err := s.ensureStack(dev, queues, inject)
	if err != nil {
		return err
	}
	sockets, base := s.datapath.maps.byName[bpfMapSockets], socketBase(dev)
	return s.cfg.OpenSockets(SocketDevice{
		Name: dev.name, Index: dev.index, MTU: dev.mtu, MAC: dev.mac, Queues: queues, Veth: dev.veth,
		Stack: stackName(stackNear, dev), StackIndex: stack,
		Put: func(queue, fd int) error {
			if queue < 0 || queue >= int(bpfLbLimitLB_QUEUES_MAX) {
				return fmt.Errorf("queue %d of %s: want 0 to %d", queue, dev.name, bpfLbLimitLB_QUEUES_MAX-1)
			}
			return sockets.Put(base+uint32(queue), uint32(fd))
		},
	})
}

// socketBase is where the interface's sockets begin in their map.
func socketBase(dev device) uint32 { return uint32(dev.place) * uint32(bpfLbLimitLB_QUEUES_MAX) }

// maxSocketDevices is how many interfaces the map of sockets has room for.
const maxSocketDevices = int(bpfLbLimitLB_SOCKETS_MAX / bpfLbLimitLB_QUEUES_MAX)

func stackName(prefix string, dev device) string { return fmt.Sprintf("%s%d", prefix, dev.index) }

// ensureStack makes the veth, puts the program on its far end, and returns the
// index of the near one.
func (s *programSet) ensureStack(dev device, queues int, inject *ebpf.Program) (int, error) {
	h := s.datapath.netlink
	near, far := stackName(stackNear, dev), stackName(stackFar, dev)
	old, err := h.LinkByName(near)
	if err == nil && old.Attrs().NumTxQueues != queues {
		if err := h.LinkDel(old); err != nil {
			return 0, fmt.Errorf("delete veth %s of %d queues: %w", near, old.Attrs().NumTxQueues, err)
		}
		old = nil
	}
	if old == nil {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU, attrs.NumTxQueues, attrs.NumRxQueues = near, dev.mtu, queues, queues
		veth := netlink.NewVeth(attrs)
		veth.PeerName, veth.PeerMTU = far, uint32(dev.mtu)
		if err := h.LinkAdd(veth); err != nil {
			return 0, fmt.Errorf("add veth %s: %w", near, err)
		}
	}
	var index [2]int
	for i, name := range []string{near, far} {
		l, err := h.LinkByName(name)
		if err != nil {
			return 0, fmt.Errorf("find veth %s: %w", name, err)
		}
		// No address of its own, ever: it has no neighbours. In a container the
		// sysctls cannot be written to. The error is that of a kernel without IPv6.
		if err := h.LinkSetIP6AddrGenMode(l, nl.IN6_ADDR_GEN_MODE_NONE); err != nil && !errors.Is(err, unix.EAFNOSUPPORT) {
			return 0, fmt.Errorf("keep ipv6 addresses off %s: %w", name, err)
		}
		for _, step := range []func() error{
			func() error { return h.LinkSetAlias(l, dev.name) },
			func() error { return h.LinkSetMTU(l, dev.mtu) },
			func() error { return h.LinkSetUp(l) },
		} {
			if err := step(); err != nil {
				return 0, fmt.Errorf("set up veth %s: %w", name, err)
			}
		}
		index[i] = l.Attrs().Index
	}
	return index[0], ensureLink(pinOf(s.cfg.PinPath, dev.name, hookInject), index[1], inject, func() (link.Link, error) {
		return link.AttachTCX(link.TCXOptions{
			Interface: index[1], Program: inject, Attach: ebpf.AttachTCXIngress, Anchor: link.Head(),
		})
	})
}

// removeStack undoes ensureStack for the interface of that name; absent is success.
func removeStack(h *netlink.Handle, pinPath, name string) error {
	if err := unpinLink(pinOf(pinPath, name, hookInject)); err != nil {
		return err
	}
	links, err := h.LinkList()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	for _, l := range links {
		if a := l.Attrs(); strings.HasPrefix(a.Name, stackNear) && a.Alias == name {
			if err := h.LinkDel(l); err != nil && !errors.As(err, &netlink.LinkNotFoundError{}) {
				return fmt.Errorf("delete veth %s: %w", a.Name, err)
			}
		}
	}
	return nil
}
