// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/cluster"
)

// TestWithoutAgents kills every agent: the nodes forward on, new connections
// too; with the userspace datapath they let nobody else answer for a VIP. Then
// it cleans up: nothing is left.
func TestWithoutAgents(t *testing.T) {
	lab.RequireRoot(t)
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			l := newLab(t, mode, lab.Options{SoftHop: lab.SoftHopOwners})
			var clean []traces
			for _, n := range l.Nodes {
				clean = append(clean, tracesOn(t, n))
			}
			c := startCluster(t, l, mode)
			serve(t, c, cluster.NewService("lab/web", "Cluster", l.Pods(), vipList(10)...))
			for i, n := range l.Nodes {
				if diff := cmp.Diff(clean[i], tracesOn(t, n)); diff == "" {
					t.Errorf("%s: an agent runs and leaves no trace", n.Host)
				}
				if err := c.Agent(n).Kill(); err != nil {
					t.Fatal(err)
				}
			}
			for _, target := range targetsOf(vips(10), cluster.ServicePort) {
				if mode == cluster.ModeUserspace {
					expectSilence(t, c, target)
					continue
				}
				expectShares(t, c, ask(t, c, target, requests), equal(l.Pods()))
			}
			for i, n := range l.Nodes {
				for range 2 { // to clean up what is clean is success
					if _, err := n.Output(t.Context(), fairlead, "agent", "--cleanup", "--config", cluster.ConfigFile(n)); err != nil {
						t.Error(err)
					}
				}
				if diff := cmp.Diff(clean[i], tracesOn(t, n)); diff != "" {
					t.Errorf("left on %s (-before +after):\n%s", n.Host, diff)
				}
			}
		})
	}
}

// traces are what an agent leaves on its node.
type traces struct {
	Pins     []string
	Programs map[string]int // by link and hook, those that there are
	Offloads []string
}

func tracesOn(t *testing.T, n *lab.Node) traces {
	t.Helper()
	tr := traces{Programs: map[string]int{}}
	err := filepath.WalkDir(n.BPF, func(path string, _ os.DirEntry, err error) error {
		tr.Pins = append(tr.Pins, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if tr.Offloads, err = n.Offloads(lab.Uplink); err != nil {
		t.Fatal(err)
	}
	if err := n.Do(func() error { return programsHere(tr.Programs) }); err != nil {
		t.Fatal(err)
	}
	return tr
}

// programsHere counts the programs on every link of the namespace.
func programsHere(programs map[string]int) error {
	links, err := netlink.LinkList()
	if err != nil {
		return err
	}
	for _, l := range links {
		a := l.Attrs()
		if a.Xdp != nil && a.Xdp.Attached {
			programs[a.Name+" xdp"]++
		}
		for _, hook := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
			found, err := link.QueryPrograms(link.QueryOptions{Target: a.Index, Attach: hook})
			if err != nil && !errors.Is(err, ebpf.ErrNotSupported) {
				return fmt.Errorf("query %s of %s: %w", hook, a.Name, err)
			}
			if err == nil && len(found.Programs) > 0 {
				programs[fmt.Sprintf("%s %s", a.Name, hook)] = len(found.Programs)
			}
		}
	}
	return nil
}
