// SPDX-License-Identifier: Apache-2.0

package xdp

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink/nl"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/forward"
	"github.com/fairlead/fairlead/lb/forward/forwardtest"
	"github.com/fairlead/fairlead/lb/packet"
	"github.com/fairlead/fairlead/lb/packet/packettest"
	"github.com/fairlead/fairlead/perf/lab"
)

// What is listed is what the programs leave alone.
func TestConnections(t *testing.T) {
	lab.RequireRoot(t)
	onOneCPU(t)
	if err := lab.ForgetTracked(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lab.ForgetTracked(); err != nil {
			t.Error(err)
		}
	})
	const established, ended, reset = nl.TCP_CONNTRACK_ESTABLISHED, nl.TCP_CONNTRACK_TIME_WAIT, nl.TCP_CONNTRACK_CLOSE
	const client4, client6, web4, web6 = "198.51.100.7:1", "[2001:db8:1::7]:1", "192.0.2.1:80", "[2001:db8::1]:80"
	addr := netip.MustParseAddrPort
	var want []Connection
	for i, c := range []struct {
		proto        lb.Proto
		src, dst, to string
		state        uint8
		listed       bool
	}{
		{lb.TCP, client4, web4, "10.1.1.1:8080", established, true},
		{lb.TCP, client6, web6, "[fd00::1]:8080", nl.TCP_CONNTRACK_SYN_SENT, true},
		{lb.UDP, client4, web4, "10.1.1.1:8080", 0, true},
		{lb.UDP, client6, web6, "[fd00::1]:8080", 0, true},
		{lb.TCP, "198.51.100.7:2", web4, "", established, false},
		{lb.TCP, "198.51.100.7:3", web4, "10.1.1.1:8080", ended, false},
		{lb.TCP, "198.51.100.7:4", web4, "10.1.1.1:8080", reset, false},
		{lb.TCP, "198.51.100.7:5", web4, "10.1.1.1:8080", nl.TCP_CONNTRACK_LAST_ACK, true},
	} {
		tracked := lab.Tracked{Proto: uint8(c.proto), Src: addr(c.src), Dst: addr(c.dst), State: c.state}
		if c.to != "" {
			tracked.To = addr(c.to)
		}
		if err := lab.Track(tracked); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		if c.listed {
			key := lb.ServiceKey{VIP: addr(c.dst).Addr(), Port: addr(c.dst).Port(), Proto: c.proto}
			want = append(want, Connection{Service: key, Client: addr(c.src)})
		}
	}
	c, err := openConntrack()
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	for range 2 { // the socket serves again
		var got []Connection
		if err := c.list(func(c Connection) { got = append(got, c) }); err != nil {
			t.Fatal(err)
		}
		less := func(a, b Connection) bool {
			return a.Service.Compare(b.Service) < 0 || a.Service == b.Service && a.Client.Compare(b.Client) < 0
		}
		if diff := cmp.Diff(want, got, cmpopts.SortSlices(less), cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{})); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
}

// On a kernel that does not tell programs of connections they load all the
// same, and know of none.
func TestWithoutConntrack(t *testing.T) {
	lab.RequireRoot(t)
	const client, web, pod = "198.51.100.7:40000", "192.0.2.1:80", "10.1.1.1:8080"
	service, settings := forwardtest.Service(lb.TCP, web, pod), forwardtest.SettingsOf(forwardtest.Nodes()[0])
	syn := packettest.TCP(client, web, packet.SYN)
	delivered := syn
	delivered.Dst = netip.MustParseAddrPort(pod)
	without := bytes.ReplaceAll(_BpfBytes, []byte("_ct_lookup\x00"), []byte("_no_lookup\x00"))
	without = bytes.ReplaceAll(without, []byte("bpf_ct_release\x00"), []byte("bpf_no_release\x00"))
	for _, test := range []struct {
		name   string
		object []byte
		reason forward.Reason
	}{
		{"with", _BpfBytes, forward.Conntracked},
		{"without functions", without, forward.New},
		{"without types", bytes.ReplaceAll(without, []byte("nf_conn\x00"), []byte("nf_none\x00")), forward.New},
	} {
		t.Run(test.name, func(t *testing.T) {
			onOneCPU(t)
			ks := &kernels{t: t, loaded: map[string]*Programs{}, native: true, read: func() (*ebpf.CollectionSpec, error) {
				return ebpf.LoadCollectionSpecFromReader(bytes.NewReader(test.object))
			}}
			step := forwardtest.Step{
				Tick: 50_000, Packet: syn.Bytes(), Reason: test.reason,
				Conntrack: []forwardtest.Connection{{Client: netip.MustParseAddrPort(client), Service: service.Key}},
			}
			if test.reason == forward.New {
				step.Want = delivered.Bytes()
			}
			forwardtest.Vector{
				Settings: settings, Tables: []*lb.Table{forwardtest.TableOf("a", service)}, Adopt: true, Steps: []forwardtest.Step{step},
			}.Records(t, ks.get(t, settings))
		})
	}
}
