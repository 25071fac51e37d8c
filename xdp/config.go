// SPDX-License-Identifier: Apache-2.0

package xdp

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"net/netip"

	"github.com/cilium/ebpf"

	"github.com/fairlead/fairlead/lb/dataplane"
	"github.com/fairlead/fairlead/lb/maglev"
)

// Mode says what stands in front of TC.
type Mode string

// Auto picks Native on hardware drivers and Generic on veth and its kin.
const (
	Auto    Mode = "auto"
	Native  Mode = "native"  // XDP in the driver encapsulates and decapsulates
	Generic Mode = "generic" // XDP on skbs decides, TC forwards
	Off     Mode = "off"     // TC alone
)

// ParseMode accepts the four modes; the empty string is Auto.
func ParseMode(s string) (Mode, error) {
	switch m := Mode(s); m {
	case "":
		return Auto, nil
	case Auto, Native, Generic, Off:
		return m, nil
	}
	return "", fmt.Errorf("unknown xdp mode %q: want auto, native, generic or off", s)
}

// Config is all that the datapath of a node has to know beside its tables.
type Config struct {
	PinPath    string       // directory on a bpffs; made if missing
	Mode       Mode         // the same for all interfaces
	Interfaces []string     // names of the devices that clients' packets arrive on and replies leave by
	Addrs      []netip.Addr // this node's InternalIPs, at most one of each family
	GenevePort uint16
	Keys       [][16]byte // one or two wire keys: the first signs, all are accepted
	// Sizes of the maps, fixed when they are first made: flows is rounded up to
	// a power of two, TableBytes is for all lookup tables together. 0: default.
	FlowEntries, Services, Backends, TableBytes int

	// OpenSockets opens the sockets of an interface, whose packets then go to
	// them: the userspace datapath. nil: the programs forward. It is called
	// again for the same interface when the programs are replaced.
	OpenSockets func(SocketDevice) error

	Logger *slog.Logger
}

// Defaults for the sizes in Config.
const (
	DefaultFlowEntries = 1 << 20 // 64 MiB
	DefaultServices    = 16384
	DefaultBackends    = 65536
	DefaultTableBytes  = 64 << 20
)

func (c *Config) setDefaults() {
	for _, d := range []struct {
		value *int
		def   int
	}{
		{&c.FlowEntries, DefaultFlowEntries},
		{&c.Services, DefaultServices},
		{&c.Backends, DefaultBackends},
		{&c.TableBytes, DefaultTableBytes},
	} {
		if *d.value <= 0 {
			*d.value = d.def
		}
	}
	if c.Mode == "" {
		c.Mode = Auto
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
}

func (c *Config) check() error {
	switch {
	case c.PinPath == "":
		return fmt.Errorf("pin path: missing")
	case len(c.Keys) < 1 || len(c.Keys) > 2:
		return fmt.Errorf("keys: %d given: want one or two", len(c.Keys))
	case c.GenevePort == 0:
		return fmt.Errorf("geneve port: 0: want 1 to 65535")
	case c.OpenSockets != nil && c.Mode == Off:
		return fmt.Errorf("xdp mode off: the userspace datapath needs XDP")
	case c.OpenSockets != nil && len(c.Interfaces) > maxSocketDevices:
		return fmt.Errorf("interfaces: %d given: the userspace datapath takes %d", len(c.Interfaces), maxSocketDevices)
	case len(c.Addrs) == 0:
		return fmt.Errorf("addresses: none given: want this node's InternalIPs")
	}
	return nil
}

// flowBuckets is the number of buckets, a power of two.
func (c *Config) flowBuckets() uint32 {
	buckets := 1
	for buckets*flowWays < c.FlowEntries {
		buckets *= 2
	}
	return uint32(buckets)
}

// sizeMaps sets the sizes that the object leaves open.
func (c *Config) sizeMaps(spec *ebpf.CollectionSpec) {
	for name, n := range map[string]uint32{
		bpfMapServices:       uint32(2 * c.Services), // service ports and VIPs
		bpfMapServiceRecords: uint32(c.Services),
		bpfMapServiceStats:   uint32(c.Services),

		bpfMapLoopServiceStats: uint32(c.Services),
		bpfMapLookupTables:     uint32(c.TableBytes / lineSize),
		bpfMapBackends:         uint32(c.Backends),
		bpfMapLocalBackends:    uint32(c.Backends),
		bpfMapEndpoints:        uint32(4 * c.Backends), // an address and port may serve several ports
		bpfMapSourceRanges:     uint32(4 * c.Services),
		bpfMapFlows:            c.flowBuckets(),
	} {
		spec.Maps[name].MaxEntries = n
	}
}

// variant is what may differ between the interfaces of a node.
type variant struct {
	native bool
	veth   bool // completes partial checksums
	mac    [6]byte
	// Of the userspace datapath.
	socketBase uint32
	ifindex    uint32
}

// constants are the programs' volatile consts, by name.
func (c *Config) constants(v variant, mtu int, flowBuckets uint32, flowKey [2]uint64, csumFlag bool) map[string]any {
	key := func(i int) (uint64, uint64) {
		if i >= len(c.Keys) {
			return 0, 0
		}
		return binary.LittleEndian.Uint64(c.Keys[i][:8]), binary.LittleEndian.Uint64(c.Keys[i][8:])
	}
	set := map[string]any{
		bpfVarXdpNative:         boolean(v.native),
		bpfVarCompleteChecksums: boolean(v.native && v.veth),
		bpfVarCsumIpv6Flag:      boolean(csumFlag),
		bpfVarGenevePort:        swap16(c.GenevePort),
		bpfVarFlowKey0:          flowKey[0],
		bpfVarFlowKey1:          flowKey[1],
		bpfVarFlowMask:          flowBuckets - 1,
		bpfVarHasOtherKey:       boolean(len(c.Keys) > 1),
		bpfVarUplinkMtu:         uint32(mtu),
		bpfVarOwnMac:            macWord(v.mac),
		bpfVarSocketBase:        v.socketBase,
		bpfVarUplinkIfindex:     v.ifindex,
	}
	set[bpfVarWireKey0], set[bpfVarWireKey1] = key(0)
	set[bpfVarOtherKey0], set[bpfVarOtherKey1] = key(1)
	overhead := encapV4
	for _, a := range c.Addrs {
		first, second := addrWords(a)
		if a.Is4() {
			set[bpfVarSelfV4Hi], set[bpfVarSelfV4Lo] = first, second
		} else {
			set[bpfVarSelfV6Hi], set[bpfVarSelfV6Lo] = first, second
			overhead = encapV6
		}
	}
	// The clamp has to fit the largest overhead that a peer may need.
	set[bpfVarMssClampV4] = uint16(mtu - overhead - 40)
	set[bpfVarMssClampV6] = uint16(mtu - overhead - 60)
	var slots, lines, transition [sizesMax]uint32
	for i, m := range maglev.Sizes {
		slots[i+1] = uint32(m)
		lines[i+1] = dataplane.SlotLines(m, false)
		transition[i+1] = dataplane.SlotLines(m, true)
	}
	set[bpfVarTableSlots], set[bpfVarTableLines], set[bpfVarTableTransitionLines] = slots, lines, transition
	return set
}
