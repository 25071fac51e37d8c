// SPDX-License-Identifier: Apache-2.0

package xdp

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/flow"
	"github.com/fairlead/fairlead/lb/forward"
	"github.com/fairlead/fairlead/lb/forward/forwardtest"
	"github.com/fairlead/fairlead/lb/packet"
	"github.com/fairlead/fairlead/lb/packet/packettest"
	"github.com/fairlead/fairlead/perf/lab"
)

// A record that a program made is where FlowBucket looks for it.
func TestFlowBucket(t *testing.T) {
	lab.RequireRoot(t)
	onOneCPU(t)
	settings := forwardtest.SettingsOf(forwardtest.Nodes()[0])
	ks := &kernels{t: t, loaded: map[string]*Programs{}}
	k := ks.get(t, settings)
	service := forwardtest.Service(lb.TCP, "192.0.2.1:80", "10.1.1.1:8080")
	forwardtest.Vector{Settings: settings, Tables: []*lb.Table{forwardtest.TableOf("a", service)}}.Records(t, k)
	client := netip.MustParseAddrPort("198.51.100.7:40000")
	key := [2]uint64{binary.LittleEndian.Uint64(settings.FlowKey[:8]), binary.LittleEndian.Uint64(settings.FlowKey[8:])}
	if _, records := k.programs.Maps().flowBucket(key, client.Addr(), client.Port()); records != [flow.Ways]flow.Record{} {
		t.Fatalf("records before the first packet: %+v", records)
	}
	k.setTick(1000)
	if _, _, err := k.programs.TCIn.Test(packettest.TCP(client.String(), "192.0.2.1:80", packet.SYN).Bytes()); err != nil {
		t.Fatal(err)
	}
	if reason := k.counted(); reason != forward.New {
		t.Fatalf("syn: %s", reason)
	}
	index, records := k.programs.Maps().flowBucket(key, client.Addr(), client.Port())
	if index < 0 || index >= settings.FlowBuckets {
		t.Errorf("bucket %d of %d", index, settings.FlowBuckets)
	}
	found := 0
	for _, r := range records {
		if r.Kind == flow.Own && r.Client == packet.AddrOf(client.Addr()) && r.Port == client.Port() && r.Seen == 1000 &&
			r.ServiceTag == service.Key.Tag() && r.PodPort == client.Port() {
			found++
		}
	}
	if found != 1 {
		t.Errorf("%d records of the connection in bucket %d, want 1: %+v", found, index, records)
	}
}
