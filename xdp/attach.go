// SPDX-License-Identifier: Apache-2.0

package xdp

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Attachment is an interface that has the programs.
type Attachment struct {
	Interface string
	Mode      Mode // Native, Generic or Off
}

// device is an interface as found.
type device struct {
	name  string
	index int
	mtu   int
	mode  Mode // resolved
	veth  bool
	mac   [6]byte
	place int // among the interfaces
}

// softwareDrivers have nothing to gain from native XDP: their packets are skbs
// already, and native mode takes segmentation offload from their senders.
var softwareDrivers = []string{"veth", "bridge", "tun", "macvlan", "vxlan", ""}

func findDevices(h *netlink.Handle, cfg Config) ([]device, error) {
	var devices []device
	var errs []error
	for place, name := range cfg.Interfaces {
		l, err := h.LinkByName(name)
		if err != nil {
			errs = append(errs, fmt.Errorf("interface %q: %w", name, err))
			continue
		}
		driver := driverOf(name)
		d := device{name: name, index: l.Attrs().Index, mtu: l.Attrs().MTU, mode: cfg.Mode, veth: driver == "veth", place: place}
		copy(d.mac[:], l.Attrs().HardwareAddr)
		if d.mode == Auto {
			d.mode = Native
			// Userspace has no use for segments that are longer than a frame.
			if slices.Contains(softwareDrivers, driver) && cfg.OpenSockets == nil {
				d.mode = Generic
			}
		}
		devices = append(devices, d)
	}
	return devices, errors.Join(errs...)
}

// driverOf is the driver's name, "" where there is none.
func driverOf(name string) string {
	e, err := ethtool.NewEthtool()
	if err != nil {
		return ""
	}
	defer e.Close()
	driver, err := e.DriverName(name)
	if err != nil {
		return ""
	}
	return driver
}

func smallestMTU(devices []device) int {
	mtu := 1 << 16
	for _, d := range devices {
		mtu = min(mtu, d.mtu)
	}
	return mtu
}

// The hooks of an interface, and the pins of their links. The XDP pin's name
// carries its mode, for a link cannot change that.
const (
	hookIn    = "in"
	hookOut   = "out"
	linksName = "links"
	hookXDP   = "xdp"
)

func pinOf(pinPath, iface, hook string) string {
	return filepath.Join(pinPath, linksName, iface+"@"+hook)
}

func xdpHook(m Mode) string { return hookXDP + "-" + string(m) }

// attach brings one interface to its mode. In every moment either TC decides
// alone, or XDP stands in front of it: first comes the TC program that can do
// everything, then XDP, then the TC program that relies on it.
func (s *programSet) attach(dev device) (Attachment, error) {
	pins := s.cfg.PinPath
	if err := os.MkdirAll(filepath.Join(pins, linksName), 0o700); err != nil {
		return Attachment{}, err
	}
	v := variant{native: dev.mode == Native, veth: dev.veth, mac: dev.mac}
	if s.cfg.OpenSockets != nil {
		v.socketBase, v.ifindex = socketBase(dev), uint32(dev.index)
	}
	programs, err := s.load(v)
	if err != nil {
		return Attachment{}, err
	}
	if dev.veth {
		if err := segmentEarly(dev.name, dev.mode != Native); err != nil {
			s.datapath.log.Warn("leave udp segmentation as it is", "interface", dev.name, "err", err)
		}
	}
	if err := ensureTCX(pins, dev, hookOut, ebpf.AttachTCXEgress, programs[bpfProgLbTcOut]); err != nil {
		return Attachment{}, err
	}
	keeps := dev.mode != Off && linkIsOn(pinOf(pins, dev.name, xdpHook(dev.mode)), dev.index)
	if !keeps {
		if err := ensureTCX(pins, dev, hookIn, ebpf.AttachTCXIngress, programs[bpfProgLbTcIn]); err != nil {
			return Attachment{}, err
		}
		for _, m := range []Mode{Native, Generic} {
			if m != dev.mode {
				if err := unpinLink(pinOf(pins, dev.name, xdpHook(m))); err != nil {
					return Attachment{}, err
				}
			}
		}
	}
	first := programs[bpfProgLbXdp]
	if s.cfg.OpenSockets != nil {
		if err := s.openSockets(dev, programs[bpfProgLbTcInject]); err != nil {
			return Attachment{}, err
		}
		first = programs[bpfProgLbXdpSocket]
	}
	if dev.mode != Off {
		if err := ensureXDP(pins, dev, first); err != nil {
			return Attachment{}, err
		}
		if err := ensureTCX(pins, dev, hookIn, ebpf.AttachTCXIngress, programs[bpfProgLbTcAfterXdp]); err != nil {
			return Attachment{}, err
		}
	}
	if s.cfg.OpenSockets == nil {
		if err := removeStack(s.datapath.netlink, pins, dev.name); err != nil {
			return Attachment{}, err
		}
	}
	return Attachment{Interface: dev.name, Mode: dev.mode}, nil
}

func ensureTCX(pins string, dev device, hook string, where ebpf.AttachType, p *ebpf.Program) error {
	return ensureLink(pinOf(pins, dev.name, hook), dev.index, p, func() (link.Link, error) {
		return link.AttachTCX(link.TCXOptions{Interface: dev.index, Program: p, Attach: where, Anchor: link.Head()})
	})
}

func ensureXDP(pins string, dev device, p *ebpf.Program) error {
	flags := link.XDPGenericMode
	if dev.mode == Native {
		flags = link.XDPDriverMode
	}
	return ensureLink(pinOf(pins, dev.name, xdpHook(dev.mode)), dev.index, p, func() (link.Link, error) {
		return link.AttachXDP(link.XDPOptions{Interface: dev.index, Program: p, Flags: flags})
	})
}

// ensureLink puts the program into the pinned link, or attaches and pins a new
// one where there is none on this very interface.
func ensureLink(pin string, ifindex int, p *ebpf.Program, attach func() (link.Link, error)) error {
	hook := filepath.Base(pin)
	if linkIsOn(pin, ifindex) {
		l, err := link.LoadPinnedLink(pin, nil)
		if err != nil {
			return fmt.Errorf("open link %s: %w", hook, err)
		}
		defer l.Close()
		if err := l.Update(p); err != nil {
			return fmt.Errorf("replace program of %s: %w", hook, err)
		}
		return nil
	}
	if err := unpinLink(pin); err != nil {
		return err
	}
	l, err := attach()
	if err != nil {
		return fmt.Errorf("attach %s: %w", hook, err)
	}
	defer l.Close()
	if err := l.Pin(pin); err != nil {
		return fmt.Errorf("pin link %s: %w", hook, err)
	}
	return nil
}

// linkIsOn says whether the pin holds a link that is attached to the interface.
func linkIsOn(pin string, ifindex int) bool {
	l, err := link.LoadPinnedLink(pin, nil)
	if err != nil {
		return false
	}
	defer l.Close()
	info, err := l.Info()
	if err != nil {
		return false
	}
	if x := info.XDP(); x != nil {
		return int(x.Ifindex) == ifindex
	}
	if x := info.TCX(); x != nil {
		return int(x.Ifindex) == ifindex
	}
	return false
}

// unpinLink detaches at once, and not when the kernel gets round to dropping
// the link, for a link of another mode may follow. Nothing there is success.
func unpinLink(pin string) error {
	if l, err := link.LoadPinnedLink(pin, nil); err == nil {
		defer l.Close()
		if err := l.Detach(); err != nil && !errors.Is(err, unix.ENOLINK) {
			return fmt.Errorf("detach %s: %w", filepath.Base(pin), err)
		}
	}
	if err := os.Remove(pin); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("unpin %s: %w", filepath.Base(pin), err)
	}
	return nil
}

// detachOthers takes the programs off every interface that is not in keep.
func detachOthers(h *netlink.Handle, pinPath string, keep []string) error {
	entries, err := os.ReadDir(filepath.Join(pinPath, linksName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	var errs []error
	// XDP goes first, for without TC behind it its decisions come to nothing.
	slices.SortFunc(entries, func(a, b os.DirEntry) int { return strings.Compare(b.Name(), a.Name()) })
	for _, e := range entries {
		iface, _, _ := strings.Cut(e.Name(), "@")
		if slices.Contains(keep, iface) {
			continue
		}
		errs = append(errs, unpinLink(filepath.Join(pinPath, linksName, e.Name())), restoreSegmentation(iface),
			removeStack(h, pinPath, iface))
	}
	return errors.Join(errs...)
}

// Cleanup detaches every program and removes every map that was pinned below
// pinPath. Nothing there is success.
func Cleanup(pinPath string) error {
	if _, err := os.Stat(pinPath); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	lock, err := lockDir(pinPath)
	if err != nil {
		return err
	}
	defer lock.Close()
	h, err := netlink.NewHandle()
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer h.Close()
	if err := detachOthers(h, pinPath, nil); err != nil {
		return err
	}
	if err := os.RemoveAll(pinPath); err != nil {
		return fmt.Errorf("remove pins: %w", err)
	}
	return nil
}
