// SPDX-License-Identifier: Apache-2.0

package xdp

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ErrLocked says that another agent writes these maps.
var ErrLocked = errors.New("another agent holds the lock")

// Datapath is the loaded programs, their maps and their attachments. Its maps
// and links are pinned: Close lets go of them, and forwarding goes on.
type Datapath struct {
	log     *slog.Logger
	lock    *os.File
	maps    *Maps
	netlink *netlink.Handle // of the network namespace of Open, as the next one
	tracked *conntrack      // nil: the kernel tracks no connections

	mu          sync.Mutex // of what follows
	cfg         Config
	flowKey     [2]uint64
	devices     []device // that the last Reconfigure was for
	attachments []Attachment
}

// Open makes the datapath of cfg, or takes over what an earlier one left:
// maps with all they hold, and programs, which are replaced atomically. It
// fails with ErrLocked while another process has it open.
func Open(cfg Config) (*Datapath, error) {
	cfg.setDefaults()
	if err := cfg.check(); err != nil {
		return nil, err
	}
	lock, err := lockDir(cfg.PinPath)
	if err != nil {
		return nil, err
	}
	d := &Datapath{log: cfg.Logger, lock: lock}
	if d.netlink, err = netlink.NewHandle(); err != nil {
		return nil, errors.Join(fmt.Errorf("open netlink: %w", err), d.Close())
	}
	if d.tracked, err = openConntrack(); err != nil {
		d.log.Info("connections cannot stay with kube-proxy when it loses a service", "err", err)
	}
	spec, err := loadBpf()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read programs: %w", err), d.Close())
	}
	cfg.sizeMaps(spec)
	if d.maps, err = openMaps(spec, cfg.PinPath, cfg.Logger); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	if d.flowKey, err = d.maps.flowKey(); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	if err := d.Reconfigure(cfg); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// lockDir makes the directory and takes its lock, which the kernel drops with
// the process.
func lockDir(path string) (*os.File, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("pin path: %w", err)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("pin path: %w", err)
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil || st.Type != unix.BPF_FS_MAGIC {
		f.Close()
		return nil, fmt.Errorf("pin path %q: not on a bpf file system: mount one there (mount -t bpf)", path)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("pin path %q: %w", path, ErrLocked)
		}
		return nil, fmt.Errorf("lock pin path %q: %w", path, err)
	}
	return f, nil
}

// Maps is where the tables are written.
func (d *Datapath) Maps() *Maps { return d.maps }

// Close lets go of everything without detaching anything.
func (d *Datapath) Close() error {
	var errs []error
	if d.maps != nil {
		errs = append(errs, d.maps.close())
	}
	if d.netlink != nil {
		d.netlink.Close()
	}
	if d.tracked != nil {
		d.tracked.close()
	}
	if d.lock != nil {
		errs = append(errs, d.lock.Close())
	}
	return errors.Join(errs...)
}

// Reconfigure replaces the programs by ones with the constants of cfg, and
// attaches and detaches so that exactly its interfaces have them. Sizes of
// maps that exist do not change. On an error of one interface the others are
// done all the same; what was attached before goes on with the old programs.
func (d *Datapath) Reconfigure(cfg Config) error {
	cfg.setDefaults()
	if err := cfg.check(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	devices, err := findDevices(d.netlink, cfg)
	if err != nil {
		return err
	}
	return d.reconfigure(cfg, devices)
}

// followDevices does what Reconfigure does if an interface was made anew since,
// or got another MTU. One that is missing is waited for.
func (d *Datapath) followDevices() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	devices, err := findDevices(d.netlink, d.cfg)
	if err != nil || slices.Equal(devices, d.devices) {
		return err
	}
	d.log.Info("interfaces changed, attach again", "interfaces", d.cfg.Interfaces)
	return d.reconfigure(d.cfg, devices)
}

func (d *Datapath) reconfigure(cfg Config, devices []device) error {
	programs := &programSet{datapath: d, cfg: cfg, mtu: smallestMTU(devices)}
	defer programs.close()
	errs := []error{detachOthers(d.netlink, cfg.PinPath, cfg.Interfaces)}
	var attachments []Attachment
	for _, dev := range devices {
		a, err := programs.attach(dev)
		if err != nil {
			errs = append(errs, fmt.Errorf("interface %q: %w", dev.name, err))
			continue
		}
		attachments = append(attachments, a)
	}
	d.cfg, d.attachments = cfg, attachments
	err := errors.Join(errs...)
	if err == nil {
		d.devices = devices
	}
	return err
}

// Attachments are the interfaces that have the programs, in the order of the configuration.
func (d *Datapath) Attachments() []Attachment {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.attachments)
}

// programSet loads each variant of the programs once for a Reconfigure.
type programSet struct {
	datapath *Datapath
	cfg      Config
	mtu      int
	loaded   map[variant]map[string]*ebpf.Program
	shared   *ebpf.Map // .bss, which XDP and TC share
}

// load loads what an interface can need in this datapath.
func (s *programSet) load(v variant) (map[string]*ebpf.Program, error) {
	if p := s.loaded[v]; p != nil {
		return p, nil
	}
	needed := []string{bpfProgLbXdp, bpfProgLbTcIn, bpfProgLbTcAfterXdp, bpfProgLbTcOut}
	if s.cfg.OpenSockets != nil {
		needed[0] = bpfProgLbXdpSocket
		needed = append(needed, bpfProgLbTcInject)
	}
	spec, err := loadBpf()
	if err != nil {
		return nil, fmt.Errorf("read programs: %w", err)
	}
	maps.DeleteFunc(spec.Programs, func(name string, _ *ebpf.ProgramSpec) bool { return !slices.Contains(needed, name) })
	replace := map[string]*ebpf.Map{}
	if s.shared != nil {
		replace[bssName] = s.shared
	}
	constants := s.cfg.constants(v, s.mtu, s.datapath.maps.flowBuckets(), s.datapath.flowKey, csumFlagKnown())
	coll, err := s.datapath.maps.load(spec, constants, replace)
	if err != nil {
		return nil, err
	}
	defer coll.Close()
	programs := map[string]*ebpf.Program{}
	for _, name := range needed {
		programs[name] = coll.DetachProgram(name)
	}
	if s.shared == nil {
		s.shared = coll.DetachMap(bssName)
		s.loaded = map[variant]map[string]*ebpf.Program{}
	}
	s.loaded[v] = programs
	return programs, nil
}

func (s *programSet) close() {
	for _, programs := range s.loaded {
		for _, p := range programs {
			p.Close()
		}
	}
	if s.shared != nil {
		s.shared.Close()
	}
}

// bssName is the map of the programs' variables that are not constant.
const bssName = ".bss"

// load loads spec's programs with the constants that they have, on these maps
// and those of replace.
func (m *Maps) load(spec *ebpf.CollectionSpec, constants map[string]any, replace map[string]*ebpf.Map) (*ebpf.Collection, error) {
	for name, value := range constants {
		v := spec.Variables[name]
		if v == nil { // not used by these programs
			continue
		}
		if err := v.Set(value); err != nil {
			return nil, fmt.Errorf("set %s: %w", name, err)
		}
	}
	for name, bm := range m.byName {
		if spec.Maps[name] != nil {
			spec.Maps[name].MaxEntries = bm.MaxEntries() // whatever size it was made with
			replace[name] = bm
		}
	}
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: replace})
	if err != nil {
		return nil, fmt.Errorf("load programs: %w", err)
	}
	return coll, nil
}

// openMaps takes over the pinned maps and makes the missing ones. A map that
// was made with another size keeps it: it holds flows. Without a path nothing
// is pinned.
func openMaps(spec *ebpf.CollectionSpec, pinPath string, log *slog.Logger) (*Maps, error) {
	m := &Maps{byName: map[string]*ebpf.Map{}, nodesChanged: make(chan struct{}, 1)}
	for name, ms := range spec.Maps {
		if name[0] == '.' {
			continue
		}
		opened, err := openMap(ms, pinPath)
		switch {
		case err == nil && (opened.KeySize() != ms.KeySize || opened.ValueSize() != ms.ValueSize || opened.Type() != ms.Type):
			err = errors.New("has the layout of another version")
		case err == nil && opened.MaxEntries() != ms.MaxEntries:
			log.Warn("map keeps the size that it was made with", "map", name, "size", opened.MaxEntries(), "wanted", ms.MaxEntries)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("map %s: %w", name, err), m.close())
		}
		m.byName[name] = opened
	}
	if err := m.mmap(); err != nil {
		return nil, errors.Join(err, m.close())
	}
	return m, nil
}

func openMap(spec *ebpf.MapSpec, pinPath string) (*ebpf.Map, error) {
	if pinPath == "" {
		return ebpf.NewMap(spec)
	}
	path := filepath.Join(pinPath, spec.Name)
	opened, err := ebpf.LoadPinnedMap(path, nil)
	if !errors.Is(err, fs.ErrNotExist) {
		return opened, err
	}
	if opened, err = ebpf.NewMap(spec); err != nil {
		return nil, err
	}
	return opened, opened.Pin(path)
}

// flowKey is the flow table's hash key: made once, for a new one would lose every flow.
func (m *Maps) flowKey() ([2]uint64, error) {
	identity := m.byName[bpfMapIdentity]
	var id bpfLbIdentity
	if err := identity.Lookup(identitySlot, &id); err != nil {
		return [2]uint64{}, fmt.Errorf("read identity: %w", err)
	}
	if id.Records == uint32(ABI.Records) {
		return id.FlowKey, nil
	}
	if id.Records != 0 {
		return [2]uint64{}, fmt.Errorf("pinned maps have records version %d: this agent knows %d", id.Records, ABI.Records)
	}
	var key [16]byte
	rand.Read(key[:]) // never fails (crypto/rand)
	id.FlowKey = [2]uint64{binary.LittleEndian.Uint64(key[:8]), binary.LittleEndian.Uint64(key[8:])}
	id.Records = uint32(ABI.Records)
	if err := identity.Put(identitySlot, &id); err != nil {
		return [2]uint64{}, fmt.Errorf("write identity: %w", err)
	}
	return id.FlowKey, nil
}
