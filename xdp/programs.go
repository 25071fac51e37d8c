// SPDX-License-Identifier: Apache-2.0

package xdp

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"

	"github.com/cilium/ebpf"

	"github.com/fairlead/fairlead/lb"
)

// Programs are programs and maps that are attached to nothing and pinned
// nowhere, to be run by BPF_PROG_TEST_RUN: for tests and benchmarks.
type Programs struct {
	XDP        *ebpf.Program
	TCIn       *ebpf.Program
	TCAfterXDP *ebpf.Program
	TCOut      *ebpf.Program

	coll      *ebpf.Collection
	maps      *Maps
	cfg       Config
	flowKey   [2]uint64
	constants map[string]any
}

// Uplink is the device that test runs pretend to take place on.
type Uplink struct {
	MTU int
	MAC [6]byte // zero: programs take frames for every address
}

// LoadPrograms loads for an uplink. Modes other than Native differ only in who
// stands in front of TC. cfg needs no pin path.
func LoadPrograms(cfg Config, uplink Uplink, flowKey [2]uint64) (*Programs, error) {
	return loadPrograms(loadBpf, cfg, uplink, flowKey, nil)
}

// objectReader gives the compiled programs, each time anew: loading changes them.
type objectReader func() (*ebpf.CollectionSpec, error)

// loadPrograms adds constants to those of cfg.
func loadPrograms(read objectReader, cfg Config, uplink Uplink, flowKey [2]uint64, more map[string]any) (*Programs, error) {
	cfg.setDefaults()
	spec, err := read()
	if err != nil {
		return nil, fmt.Errorf("read programs: %w", err)
	}
	cfg.sizeMaps(spec)
	p := &Programs{cfg: cfg, flowKey: flowKey}
	if p.maps, err = openMaps(spec, "", slog.New(slog.DiscardHandler)); err != nil {
		return nil, err
	}
	v := variant{native: cfg.Mode == Native, mac: uplink.MAC}
	p.constants = cfg.constants(v, uplink.MTU, p.maps.flowBuckets(), flowKey, csumFlagKnown())
	maps.Copy(p.constants, more)
	if p.coll, err = p.maps.load(spec, p.constants, map[string]*ebpf.Map{}); err != nil {
		return nil, errors.Join(err, p.maps.close())
	}
	p.XDP, p.TCIn = p.coll.Programs[bpfProgLbXdp], p.coll.Programs[bpfProgLbTcIn]
	p.TCAfterXDP, p.TCOut = p.coll.Programs[bpfProgLbTcAfterXdp], p.coll.Programs[bpfProgLbTcOut]
	return p, nil
}

// LoadBeside loads other programs that are built from the same headers, with
// the same constants and on the same maps.
func (p *Programs) LoadBeside(spec *ebpf.CollectionSpec) (*ebpf.Collection, error) {
	return p.maps.load(spec, p.constants, map[string]*ebpf.Map{})
}

// NewOwner is Datapath.NewOwner on their maps.
func (p *Programs) NewOwner(isLocal func(id lb.BackendID, tag uint32) bool) (*Owner, error) {
	return p.maps.newOwner(&p.cfg, p.flowKey, isLocal)
}

// Maps is where their tables are written.
func (p *Programs) Maps() *Maps { return p.maps }

// Close unloads everything.
func (p *Programs) Close() error {
	p.coll.Close()
	return p.maps.close()
}

// testDevice is the loopback device, on which test runs take place.
const testDevice = 1

// ConfirmNextHops makes every peer be reached by the device of test runs, as of
// that tick: XDP then forwards by itself.
func (p *Programs) ConfirmNextHops(tick uint32) error {
	peers := map[lb.NodeID]bpfLbNode{}
	if err := eachNode(p.maps, func(id lb.NodeID, n bpfLbNode) { peers[id] = n }); err != nil {
		return fmt.Errorf("read nodes: %w", err)
	}
	for id, n := range peers {
		n.Ifindex, n.Confirmed = testDevice, tick
		if err := p.maps.byName[bpfMapNodes].Put(uint32(id), &n); err != nil {
			return fmt.Errorf("put next hop of node %d: %w", id, err)
		}
	}
	return nil
}

// Memory is what the kernel holds for each map, in bytes.
func (m *Maps) Memory() (map[string]uint64, error) { return memoryOf(m.byName) }

func memoryOf(maps map[string]*ebpf.Map) (map[string]uint64, error) {
	sizes := map[string]uint64{}
	for name, bm := range maps {
		info, err := bm.Info()
		if err != nil {
			return nil, fmt.Errorf("ask for map %s: %w", name, err)
		}
		sizes[name], _ = info.Memlock()
	}
	return sizes, nil
}
