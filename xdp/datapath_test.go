// SPDX-License-Identifier: Apache-2.0

package xdp

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/dataplane"
	"github.com/fairlead/fairlead/lb/maglev"
	"github.com/fairlead/fairlead/perf/lab"
)

// byValue lets cmp see netip's values as ==.
var byValue = cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{})

// testNode is a node of a lab with a configuration for it.
func testNode(t *testing.T) (*lab.Node, Config) {
	l := lab.ForTest(t, lab.Options{Nodes: 1, Native: true})
	n := l.Nodes[0]
	return n, Config{
		PinPath: filepath.Join(n.BPF, "fairlead"), Mode: Generic, Interfaces: []string{"eth0"}, Addrs: n.Addrs,
		GenevePort: 6180, Keys: [][16]byte{{1}}, FlowEntries: 1024, Services: 64, Backends: 64, TableBytes: 1 << 20,
	}
}

// open opens inside the node.
func open(t *testing.T, n *lab.Node, cfg Config) *Datapath {
	t.Helper()
	var d *Datapath
	err := n.Do(func() (err error) {
		d, err = Open(cfg)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func closed(t *testing.T, d *Datapath) {
	t.Helper()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

// attached are the programs on the node's uplink, by hook.
func attached(t *testing.T, n *lab.Node) map[string]int {
	t.Helper()
	got := map[string]int{}
	err := n.Do(func() error {
		l, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		if x := l.Attrs().Xdp; x != nil && x.Attached {
			got[map[uint32]string{1: "native", 2: "generic"}[x.AttachMode]]++
		}
		for _, hook := range []string{hookIn, hookOut} {
			where := map[string]ebpf.AttachType{hookIn: ebpf.AttachTCXIngress, hookOut: ebpf.AttachTCXEgress}[hook]
			res, err := link.QueryPrograms(link.QueryOptions{Target: l.Attrs().Index, Attach: where})
			if err != nil {
				return err
			}
			got[hook] += len(res.Programs)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestAttachEveryMode(t *testing.T) {
	n, cfg := testNode(t)
	for _, mode := range []Mode{Generic, Native, Off, Native, Generic, Generic, Auto, Off} {
		cfg.Mode = mode
		d := open(t, n, cfg)
		want := map[string]int{hookIn: 1, hookOut: 1}
		switch mode {
		case Native:
			want["native"] = 1
		case Generic, Auto: // veth
			want["generic"] = 1
		}
		if diff := cmp.Diff(want, attached(t, n)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", mode, diff)
		}
		closed(t, d)
		if diff := cmp.Diff(want, attached(t, n)); diff != "" {
			t.Errorf("%s after close (-want +got):\n%s", mode, diff)
		}
	}
	if err := n.Do(func() error { return Cleanup(cfg.PinPath) }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]int{hookIn: 0, hookOut: 0}, attached(t, n)); diff != "" {
		t.Errorf("after cleanup (-want +got):\n%s", diff)
	}
	if _, err := os.Stat(cfg.PinPath); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("pins after cleanup: %v", err)
	}
}

// An interface that is made anew, or gets another MTU, gets the programs again.
func TestFollowDevices(t *testing.T) {
	n, cfg := testNode(t)
	cfg.Interfaces = []string{"fl-up"}
	makeUplink := func() error {
		if err := n.Netlink().LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "fl-up"}, PeerName: "fl-peer"}); err != nil {
			return err
		}
		return nil
	}
	must(t, makeUplink())
	d := open(t, n, cfg)
	defer closed(t, d)
	follow := func() error { return n.Do(d.followDevices) }
	must(t, follow())
	first := d.devices[0]

	l, err := n.Netlink().LinkByName("fl-up")
	must(t, err, n.Netlink().LinkDel(l))
	if err := follow(); err == nil || err.Error() != `interface "fl-up": Link not found` {
		t.Errorf("while it is gone: %v", err)
	}
	must(t, makeUplink(), follow())
	if d.devices[0].index == first.index {
		t.Fatal("the interface is the same")
	}
	for _, hook := range []string{hookIn, hookOut, xdpHook(Generic)} {
		if !linkIsOn(pinOf(cfg.PinPath, "fl-up", hook), d.devices[0].index) {
			t.Errorf("%s is not on the new interface", hook)
		}
	}

	l, err = n.Netlink().LinkByName("fl-up")
	must(t, err, n.Netlink().LinkSetMTU(l, 1400), follow())
	if d.devices[0].mtu != 1400 {
		t.Errorf("mtu %d", d.devices[0].mtu)
	}
}

func TestOneWriter(t *testing.T) {
	n, cfg := testNode(t)
	d := open(t, n, cfg)
	err := n.Do(func() error {
		_, err := Open(cfg)
		return err
	})
	if !errors.Is(err, ErrLocked) {
		t.Errorf("second open: got %v, want %v", err, ErrLocked)
	}
	if err := Cleanup(cfg.PinPath); !errors.Is(err, ErrLocked) {
		t.Errorf("cleanup beside an agent: got %v, want %v", err, ErrLocked)
	}
	closed(t, d)
	closed(t, open(t, n, cfg))
}

func TestOpenRefuses(t *testing.T) {
	n, good := testNode(t)
	plain := t.TempDir()
	for _, row := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"no keys", func(c *Config) { c.Keys = nil }, "keys: 0 given: want one or two"},
		{"three keys", func(c *Config) { c.Keys = make([][16]byte, 3) }, "keys: 3 given: want one or two"},
		{"no port", func(c *Config) { c.GenevePort = 0 }, "geneve port: 0: want 1 to 65535"},
		{"no address", func(c *Config) { c.Addrs = nil }, "addresses: none given: want this node's InternalIPs"},
		{"no pin path", func(c *Config) { c.PinPath = "" }, "pin path: missing"},
		{"not a bpffs", func(c *Config) { c.PinPath = plain }, `pin path "` + plain + `": not on a bpf file system: mount one there (mount -t bpf)`},
		{"no such interface", func(c *Config) { c.Interfaces = []string{"fl-none"} }, `interface "fl-none": Link not found`},
	} {
		t.Run(row.name, func(t *testing.T) {
			cfg := good
			row.change(&cfg)
			err := n.Do(func() error {
				_, err := Open(cfg)
				return err
			})
			if err == nil || err.Error() != row.want {
				t.Errorf("got %v, want %s", err, row.want)
			}
		})
	}
}

// A region that is not whole is left out, and nothing is read outside the map.
func TestBrokenTablesAreNotRead(t *testing.T) {
	n, cfg := testNode(t)
	d := open(t, n, cfg)
	defer closed(t, d)
	m := d.Maps()
	fill(t, m)
	good := dataplane.TableRef{Line: 3, Size: 1, Generation: 1, Hash: 77}
	if _, ok := m.ReadTable(good); !ok {
		t.Fatal("the whole one is broken")
	}
	for name, change := range map[string]func(*dataplane.TableRef){
		"no size":            func(r *dataplane.TableRef) { r.Size = 0 },
		"unknown size":       func(r *dataplane.TableRef) { r.Size = 15 },
		"other generation":   func(r *dataplane.TableRef) { r.Generation = 7 },
		"outside the map":    func(r *dataplane.TableRef) { r.Line = m.Limits().Lines - 1 },
		"at the end of time": func(r *dataplane.TableRef) { r.Line = 1<<24 - 1 },
		"longer than it is":  func(r *dataplane.TableRef) { r.Size = 2 },
	} {
		ref := good
		change(&ref)
		if _, ok := m.ReadTable(ref); ok {
			t.Errorf("%s: read", name)
		}
	}
}

// What was written is read back by the next Open, and a second write of the
// same changes nothing.
func TestMapsOutliveTheAgent(t *testing.T) {
	n, cfg := testNode(t)
	d := open(t, n, cfg)
	want, tables := fill(t, d.Maps())
	key := d.flowKey
	closed(t, d)

	d = open(t, n, cfg)
	defer closed(t, d)
	if d.flowKey != key {
		t.Error("flow key changed")
	}
	got, err := d.Maps().Load()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, byValue); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for ref, table := range tables {
		if read, ok := d.Maps().ReadTable(ref); !ok || !cmp.Equal(table, read) {
			t.Errorf("table %+v: %v, %+v", ref, ok, read)
		}
	}
	empty(t, d.Maps(), want)
	empty(t, d.Maps(), want) // deleting the absent is success
	got, err = d.Maps().Load()
	if err != nil {
		t.Fatal(err)
	}
	if n := len(got.Nodes) + len(got.Backends) + len(got.Endpoints) + len(got.Services) + len(got.SourceRanges) + len(got.VIPs); n != 0 {
		t.Errorf("%d entries after deleting all: %+v", n, got)
	}
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// fill writes one of each kind, and a table in transition and one at rest.
func fill(t *testing.T, m *Maps) (dataplane.State, map[dataplane.TableRef]dataplane.LookupTable) {
	t.Helper()
	vip := netip.MustParseAddr("2001:db8::1")
	size := maglev.Sizes[0]
	rest := dataplane.LookupTable{Slots: make([]uint16, size), List: []lb.BackendID{1, 2}}
	moving := dataplane.LookupTable{Slots: make([]uint16, size), Past: make([][3]uint16, size), List: []lb.BackendID{2, 1}}
	for i := range size {
		rest.Slots[i] = uint16(i % 2)
		moving.Past[i] = [3]uint16{1, dataplane.NoBackend, dataplane.NoBackend}
	}
	restRef := dataplane.TableRef{Line: 3, Size: 1, Generation: 1, Hash: 77}
	movingRef := dataplane.TableRef{Line: 40, Size: 1, Transition: true, Generation: 2, Hash: 78}
	tables := map[dataplane.TableRef]dataplane.LookupTable{restRef: rest, movingRef: moving}
	s := dataplane.State{
		Nodes: map[lb.NodeID]dataplane.NodeEntry{1: {Addr: netip.MustParseAddr("10.1.0.12")}},
		Backends: map[lb.BackendID]dataplane.BackendEntry{
			1: {Addr: netip.MustParseAddrPort("[fd44::1]:80")},
			2: {Addr: netip.MustParseAddrPort("10.244.2.2:80"), Node: 1},
		},
		Endpoints: map[dataplane.EndpointKey]dataplane.EndpointEntry{
			{Service: 1, Wire: 5}: {Backend: 1, Draining: true},
		},
		Services: map[lb.ServiceID]dataplane.ServiceEntry{
			1: {Key: lb.ServiceKey{VIP: vip, Port: 443, Proto: lb.TCP}, Table: restRef, Local: true},
			2: {Key: lb.ServiceKey{VIP: vip, Port: 443, Proto: lb.UDP}, Table: movingRef, PastUntil: 99},
			3: {Key: lb.ServiceKey{VIP: vip, Port: 444, Proto: lb.UDP}},
		},
		SourceRanges: map[dataplane.SourceRangeKey]bool{{Service: 1, Prefix: netip.MustParsePrefix("10.0.0.0/8")}: true},
		VIPs:         map[netip.Addr]bool{vip: true},
	}
	for id, e := range s.Nodes {
		must(t, m.PutNode(id, e))
	}
	for id, e := range s.Backends {
		must(t, m.PutBackend(id, e))
	}
	for k, e := range s.Endpoints {
		must(t, m.PutEndpoint(k.Service, k.Wire, e))
	}
	for k := range s.SourceRanges {
		must(t, m.PutSourceRange(k.Service, k.Prefix))
	}
	for ref, table := range tables {
		must(t, m.WriteTable(ref, table))
	}
	for id, e := range s.Services {
		must(t, m.PutService(id, e))
	}
	must(t, m.PutVIP(vip))
	return s, tables
}

func empty(t *testing.T, m *Maps, s dataplane.State) {
	t.Helper()
	for id, e := range s.Services {
		must(t, m.DeleteService(id, e.Key))
	}
	for k := range s.Endpoints {
		must(t, m.DeleteEndpoint(k.Service, k.Wire))
	}
	for k := range s.SourceRanges {
		must(t, m.DeleteSourceRange(k.Service, k.Prefix))
	}
	for id := range s.Backends {
		must(t, m.DeleteBackend(id))
	}
	for id := range s.Nodes {
		must(t, m.DeleteNode(id))
	}
	for vip := range s.VIPs {
		must(t, m.DeleteVIP(vip))
	}
}
