// SPDX-License-Identifier: Apache-2.0

package xdp

import (
	"net/netip"
	"testing"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/dataplane"
)

// A view shows what the agent writes, as it is written.
func TestView(t *testing.T) {
	n, cfg := testNode(t)
	if _, err := OpenView(cfg.PinPath); err == nil {
		t.Error("a view of nothing")
	}
	d := open(t, n, cfg)
	defer closed(t, d)
	v, err := OpenView(cfg.PinPath)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { must(t, v.Close()) }()
	key := lb.ServiceKey{VIP: netip.MustParseAddr("192.0.2.1"), Port: 80, Proto: lb.TCP}
	if _, ok, err := v.ServiceID(key); ok || err != nil {
		t.Errorf("a service before it is there, error %v", err)
	}
	for generation := range uint32(3) {
		want := dataplane.TableRef{Line: 7, Size: 1, Generation: 1 + generation, Hash: 0xabcd}
		must(t, d.Maps().PutService(5, dataplane.ServiceEntry{Key: key, Table: want}))
		id, ok, err := v.ServiceID(key)
		if got := v.Table(id); id != 5 || !ok || err != nil || got != want {
			t.Errorf("service %d, %v, %v with table %+v, want %+v", id, ok, err, got, want)
		}
	}
	memory, err := v.Memory()
	if want := uint64(cfg.TableBytes); err != nil || memory[bpfMapLookupTables] < want {
		t.Errorf("memory %v, %v: want %d at least for the tables", memory, err, want)
	}
}
