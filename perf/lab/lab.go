// SPDX-License-Identifier: Apache-2.0

// Package lab builds networks of namespaces for root tests, the demo and the
// benchmarks: a client, a router, nodes and their Pods. It stands beside road C.
//
//	client ── router ─ br0 ─┬─ node1 ─┬─ pod1-1
//	                        │         └─ pod1-2
//	                        └─ node2 ─┬─ pod2-1 …
//
// With Options.FarMTU the last node is behind a second router, hop, instead:
//
//	client ── router ─ br0 ─── node1 …
//	             └── hop ─── node2 …
//
// The nodes carry what real ones do: masquerading for Pods, a FORWARD policy
// of drop with accepts for Pods, a drop of INVALID, and rp_filter.
package lab

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Options say what the lab is like. The zero value is three nodes without Pods.
type Options struct {
	Nodes       int // 0: three
	PodsPerNode int
	// Bridged puts a node's Pods on a bridge; else each has a route of its own.
	Bridged bool
	// Hub makes the bridge between nodes flood every frame to all of them.
	Hub bool
	// Native makes XDP_TX and XDP_REDIRECT out of the nodes' uplinks work on
	// veth: the uplink's peer gets an XDP program that passes everything.
	Native bool
	// SoftHop says where offloads are missing.
	SoftHop SoftHop
	// MTU of every link; 0: 1500.
	MTU int
	// ClientMTU is that of the link between client and router; 0: MTU.
	ClientMTU int
	// FarMTU puts the last node behind a router of its own, and is the MTU of
	// the link between the two routers: the errors about what does not fit come
	// from a router, and only they tell the nodes. 0: all nodes share a bridge.
	FarMTU int
	// FarUplinkMTU is that of the far node's own uplink; 0: MTU, so that the node
	// cannot know of FarMTU.
	FarUplinkMTU int
	// Delay holds packets between client and router back, each way.
	Delay time.Duration
	// NoFirewall leaves the nodes' nftables rules out, where nft is missing.
	NoFirewall bool
}

func (o Options) withDefaults() Options {
	if o.Nodes == 0 {
		o.Nodes = 3
	}
	if o.MTU == 0 {
		o.MTU = 1500
	}
	o.ClientMTU = cmp.Or(o.ClientMTU, o.MTU)
	if o.FarMTU != 0 {
		o.FarUplinkMTU = cmp.Or(o.FarUplinkMTU, o.MTU)
	}
	return o
}

// Node is a machine of the cluster.
type Node struct {
	*Namespace
	Index int          // from 1
	Host  string       // "node1", its name in the cluster
	Addrs []netip.Addr // InternalIPs: IPv4, IPv6
	// Dir is the node's own directory, BPF a bpffs in it.
	Dir, BPF string
	Pods     []*Pod

	nextPod int
}

// Lab is a running topology. Its owner closes it. Methods that change it are
// for one goroutine at a time; those of Namespace and Process are for any.
type Lab struct {
	ID     string
	Dir    string
	Client *Namespace
	Router *Namespace
	Nodes  []*Node

	hop        *Namespace // the far node's router, nil without one
	options    Options
	logger     *slog.Logger
	lock       *os.File
	namespaces []*Namespace
	delay      *delayLine
	machines   int

	mu        sync.Mutex
	processes []*Process
}

// New builds a lab. After an error nothing is left behind.
func New(logger *slog.Logger, o Options) (*Lab, error) {
	l := &Lab{options: o.withDefaults(), logger: logger}
	if err := l.options.validate(); err != nil {
		return nil, err
	}
	if err := l.newState(); err != nil {
		return nil, err
	}
	if err := l.build(); err != nil {
		return nil, errors.Join(fmt.Errorf("build lab: %w", err), l.Close())
	}
	logger.Debug("lab is up", "id", l.ID, "nodes", l.options.Nodes, "pods", l.options.PodsPerNode)
	return l, nil
}

func (o Options) validate() error {
	switch {
	case o.Nodes < 1 || o.Nodes > maxNodes:
		return fmt.Errorf("lab of %d nodes: want 1 to %d", o.Nodes, maxNodes)
	case o.PodsPerNode < 0 || o.PodsPerNode > maxPods:
		return fmt.Errorf("lab of %d pods per node: want 0 to %d", o.PodsPerNode, maxPods)
	case o.Delay < 0:
		return fmt.Errorf("lab with a delay of %s: want 0 or more", o.Delay)
	case o.FarMTU == 0 && o.FarUplinkMTU != 0:
		return fmt.Errorf("lab with a far uplink's MTU %d: want FarMTU, too", o.FarUplinkMTU)
	}
	mtus := []int{o.MTU, o.ClientMTU}
	if o.FarMTU != 0 {
		mtus = append(mtus, o.FarMTU, o.FarUplinkMTU)
	}
	for _, mtu := range mtus {
		// IPv6 needs 1280; a native XDP program on veth allows one page per frame.
		if mtu < 1280 || mtu > 3498 {
			return fmt.Errorf("lab with MTU %d: want 1280 to 3498", mtu)
		}
	}
	return nil
}

func (l *Lab) build() error {
	if err := l.buildRouter(); err != nil {
		return err
	}
	if l.options.FarMTU != 0 {
		if err := l.buildHop(); err != nil {
			return fmt.Errorf("far node's router: %w", err)
		}
	}
	for i := 1; i <= l.options.Nodes; i++ {
		if err := l.addNode(i); err != nil {
			return fmt.Errorf("node %d: %w", i, err)
		}
	}
	for _, n := range l.Nodes {
		if err := l.routePods(n); err != nil {
			return err
		}
		for range l.options.PodsPerNode {
			if _, err := l.AddPod(n); err != nil {
				return err
			}
		}
	}
	return l.waitReady()
}

// mountBPF gives the node a bpffs. It is not under /sys, which `ip netns exec`
// hides.
func (n *Node) mountBPF() error {
	n.BPF = filepath.Join(n.Dir, "bpf")
	if err := os.MkdirAll(n.BPF, 0o755); err != nil {
		return fmt.Errorf("make node directory: %w", err)
	}
	if err := unix.Mount("bpf", n.BPF, "bpf", 0, ""); err != nil {
		return fmt.Errorf("mount bpffs at %q: %w", n.BPF, err)
	}
	return nil
}

// Close removes everything: processes by pid, mounts, namespaces, directory.
// A second call does nothing.
func (l *Lab) Close() error {
	if l.lock == nil {
		return nil
	}
	errs := []error{l.killProcesses(func(*Process) bool { return true })}
	for _, n := range l.Nodes {
		for _, p := range n.Pods {
			p.stopServers()
		}
	}
	l.delay.close()
	for _, n := range l.namespaces {
		errs = append(errs, n.close())
	}
	errs = append(errs, remove(l.ID, l.Dir))
	l.lock.Close()
	l.lock = nil
	return errors.Join(errs...)
}
