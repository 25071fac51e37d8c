// SPDX-License-Identifier: Apache-2.0

package frr

import (
	"errors"
	"os"
	"testing"

	"github.com/fairlead/fairlead/perf/lab"
)

func TestRouter(t *testing.T) {
	lab.RequireRoot(t, Tools...)
	l := lab.ForTest(t, lab.Options{Nodes: 1})
	r, err := Start(t.Context(), l, l.Router, "router bgp 65000\n bgp router-id 192.0.2.1\n")
	if err != nil {
		t.Fatal(err)
	}
	var summary struct{ IPv4Unicast struct{ RouterID string } }
	show := func() string {
		t.Helper()
		summary.IPv4Unicast.RouterID = ""
		if err := r.JSON(t.Context(), "show bgp summary json", &summary); err != nil {
			t.Fatal(err)
		}
		return summary.IPv4Unicast.RouterID
	}
	var route map[string][]struct{ Protocol string }
	if err := r.JSON(t.Context(), "show ip route json", &route); err != nil {
		t.Fatal(err)
	}
	if got := route["10.1.0.0/24"]; len(got) != 1 || got[0].Protocol != "connected" {
		t.Errorf("route of the nodes' network in zebra: %+v", got)
	}
	if err := r.Configure(t.Context(), "router bgp 65000\n neighbor 10.1.0.11 remote-as 65001\n"); err != nil {
		t.Fatal(err)
	}
	if got := show(); got != "192.0.2.1" {
		t.Errorf("router id %q, want 192.0.2.1", got)
	}
	if err := r.Configure(t.Context(), "router bgp 65000\n no such thing\n"); err == nil {
		t.Error("no error for configuration that FRR does not know")
	}

	processes := r.started
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Do(t.Context(), "show version"); err == nil {
		t.Error("the shell finds daemons that were killed")
	}
	if err := r.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := show(); got != "" {
		t.Errorf("router id %q after a restart without configuration, want none", got)
	}
	processes = append(processes, r.started...)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, p := range processes {
		if !ended(p) {
			t.Errorf("process %d lives on", p.PID)
		}
	}
	if _, err := os.Stat(r.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("FRR's directory is left: %v", err)
	}
}
