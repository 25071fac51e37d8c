// SPDX-License-Identifier: Apache-2.0

package xdp

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/dataplane"
)

// Two ids name one address while services disagree on its node: what happens to
// the remote one leaves the local one to the reply path.
func TestReplyPathOfTwoNodes(t *testing.T) {
	n, cfg := testNode(t)
	d := open(t, n, cfg)
	defer closed(t, d)
	m := d.Maps()
	addr := netip.MustParseAddrPort("10.244.1.2:8080")
	local, remote := dataplane.BackendEntry{Addr: addr}, dataplane.BackendEntry{Addr: addr, Node: 1}
	found := func() (id lb.BackendID) {
		t.Helper()
		key := toBackendKey(addr)
		if err := m.byName[bpfMapLocalBackends].Lookup(&key, &id); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			t.Fatal(err)
		}
		return id
	}
	for _, step := range []struct {
		name string
		do   func() error
		want lb.BackendID
	}{
		{"only a remote one", func() error { return m.PutBackend(1, remote) }, 0},
		{"a local one, too", func() error { return m.PutBackend(2, local) }, 2},
		{"the remote one again", func() error { return m.PutBackend(1, remote) }, 2},
		{"the remote one goes", func() error { return m.DeleteBackend(1) }, 2},
		{"it returns", func() error { return m.PutBackend(3, remote) }, 2},
		{"the local one goes", func() error { return m.DeleteBackend(2) }, 0},
		{"a local one by another id", func() error { return m.PutBackend(4, local) }, 4},
		{"its id becomes a remote one", func() error { return m.PutBackend(4, remote) }, 0},
	} {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if id := found(); id != step.want {
			t.Errorf("%s: replies find backend %d, want %d", step.name, id, step.want)
		}
	}
}
