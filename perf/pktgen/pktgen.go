// SPDX-License-Identifier: Apache-2.0

// Package pktgen floods a lab: it makes frames from a template, each with
// another source, by a BPF program that BPF_PROG_TEST_RUN runs with live
// frames.
package pktgen

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/perf/lab"
)

// MaxFrame is the longest template, in bytes.
const MaxFrame = 128

const (
	// maxBatch is how many frames the kernel makes before it lets the receiver
	// run, on the same CPU; a veth's ring holds 256.
	maxBatch = 64
	// callInterval is how often a Generator with a rate makes frames, as many as
	// are due. A call takes up to 25 ms beside its frames: the kernel gives back
	// its page pool and waits for a grace period of RCU (6.18, two idle cores).
	callInterval = 25 * time.Millisecond
	// unlimitedRun is how many frames one call makes where no rate is kept.
	unlimitedRun = 1 << 17
)

// ErrNotLab says that frames may not be sent out of a device.
var ErrNotLab = errors.New("not a veth of a lab's namespace")

// Config says what is sent. Namespace, Link and Frame are required.
type Config struct {
	// Namespace and Link name the veth that the frames leave by. What is sent
	// arrives at its peer only if that takes them: see lab.AcceptRedirects.
	Namespace *lab.Namespace
	Link      string
	// Frame is a TCP or UDP frame without IP options or extension headers. Its
	// checksums need not be right.
	Frame []byte
	// SourceBits says how many of the low bits of the source address vary, at
	// most 32; the first 2^SourceBits frames have different sources.
	SourceBits int
	// VaryPort gives each frame a source port from 1024 on.
	VaryPort bool
	// Seed chooses the order of the sources.
	Seed uint32
	// Rate in frames per second; 0: as fast as it goes.
	Rate int
}

// Generator is a loaded program. Its maker closes it.
type Generator struct {
	cfg  Config
	coll *ebpf.Collection
}

// Report is what a Run did. Sent frames were given to the device, which may
// have dropped some without saying so.
type Report struct {
	Sent    uint64
	Elapsed time.Duration
}

// Rate is frames per second.
func (r Report) Rate() float64 { return float64(r.Sent) / r.Elapsed.Seconds() }

// New loads the program. It fails with ErrNotLab rather than send out of a
// device that is no veth of a lab.
func New(cfg Config) (*Generator, error) {
	ifindex, err := labVeth(cfg.Namespace, cfg.Link)
	if err != nil {
		return nil, err
	}
	t, err := newTemplate(cfg)
	if err != nil {
		return nil, err
	}
	spec, err := loadBpf()
	if err != nil {
		return nil, fmt.Errorf("read pktgen program: %w", err)
	}
	constants := t.constants()
	constants["ifindex"], constants["seed"] = uint32(ifindex), cfg.Seed
	for name, value := range constants {
		if err := spec.Variables[name].Set(value); err != nil {
			return nil, fmt.Errorf("set %s: %w", name, err)
		}
	}
	coll, err := ebpf.NewCollection(spec)
	if err != nil {
		return nil, fmt.Errorf("load pktgen program: %w", err)
	}
	return &Generator{cfg: cfg, coll: coll}, nil
}

// Close unloads the program; no Run may be under way.
func (g *Generator) Close() { g.coll.Close() }

// labVeth is the index of the device, if packets may be sent there.
func labVeth(n *lab.Namespace, name string) (int, error) {
	if n == nil || !strings.HasPrefix(n.Name, "fl-") {
		return 0, fmt.Errorf("send from namespace %v: %w", n, ErrNotLab)
	}
	own, err := netns.Get()
	if err != nil {
		return 0, fmt.Errorf("open own namespace: %w", err)
	}
	defer own.Close()
	if own.Equal(netns.NsHandle(n.FD())) {
		return 0, fmt.Errorf("send from own namespace: %w", ErrNotLab)
	}
	link, err := n.Netlink().LinkByName(name)
	if err != nil {
		return 0, fmt.Errorf("find link %s in %s: %w", name, n.Name, err)
	}
	if link.Type() != "veth" {
		return 0, fmt.Errorf("send out of %s, a %s: %w", name, link.Type(), ErrNotLab)
	}
	return link.Attrs().Index, nil
}

// Run sends so many frames more and returns early, without an error, when the
// context ends. A rate is an average: what is due leaves in bursts. Sources go
// on where the last Run stopped.
func (g *Generator) Run(ctx context.Context, frames uint64) (Report, error) {
	limit, sent := g.coll.Variables["limit"], g.coll.Variables["sent"]
	var first uint64
	if err := sent.Get(&first); err != nil {
		return Report{}, fmt.Errorf("read counter of pktgen: %w", err)
	}
	start := time.Now()
	var r Report
	err := g.cfg.Namespace.Do(func() error {
		for ctx.Err() == nil && r.Sent < frames {
			due := g.due(time.Since(start), r.Sent, frames)
			if err := limit.Set(first + due); err != nil {
				return fmt.Errorf("set limit of pktgen: %w", err)
			}
			if err := g.send(uint32(due - r.Sent)); err != nil {
				return err
			}
			var now uint64
			if err := sent.Get(&now); err != nil {
				return fmt.Errorf("read counter of pktgen: %w", err)
			}
			if now-first == r.Sent {
				return errors.New("run pktgen: it sends nothing")
			}
			r.Sent = now - first
			g.pace(ctx, start, r.Sent)
		}
		return nil
	})
	r.Elapsed = time.Since(start)
	return r, err
}

// due is how many of the frames are to be sent at a time, more than sent.
func (g *Generator) due(elapsed time.Duration, sent, frames uint64) uint64 {
	if g.cfg.Rate == 0 {
		return min(sent+unlimitedRun, frames)
	}
	due := uint64((elapsed + callInterval).Seconds() * float64(g.cfg.Rate))
	return min(max(due, sent+1), frames)
}

// send makes n frames, or more after an interruption; the limit holds all the same.
func (g *Generator) send(n uint32) error {
	_, err := g.coll.Programs["pktgen"].Run(&ebpf.RunOptions{
		Data: g.cfg.Frame, Repeat: n, BatchSize: min(n, maxBatch), Flags: unix.BPF_F_TEST_XDP_LIVE_FRAMES,
	})
	if err != nil {
		return fmt.Errorf("run pktgen: %w", err)
	}
	return nil
}

// pace waits until the time has come at which so many frames are due.
func (g *Generator) pace(ctx context.Context, start time.Time, sent uint64) {
	if g.cfg.Rate == 0 {
		return
	}
	at := start.Add(time.Duration(float64(sent) / float64(g.cfg.Rate) * float64(time.Second)))
	wait := time.NewTimer(time.Until(at))
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-ctx.Done():
	}
}
