// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/cluster"
)

// capabilitiesFile says what the agent's container is given, by datapath.
const capabilitiesFile = "../../../deploy/helm/fairlead/files/capabilities.yaml"

func capabilities(t *testing.T, mode string) []string {
	t.Helper()
	data, err := os.ReadFile(capabilitiesFile)
	if err != nil {
		t.Fatal(err)
	}
	var all map[string][]string
	if err := yaml.Unmarshal(data, &all); err != nil {
		t.Fatal(err)
	}
	datapath := "kernel"
	if mode == cluster.ModeUserspace {
		datapath = cluster.ModeUserspace
	}
	if len(all[datapath]) == 0 {
		t.Fatalf("no capabilities for %s in %s", datapath, capabilitiesFile)
	}
	return all[datapath]
}

// container runs the rest of the command line as a container runtime would run
// user 0 without privileges: only these capabilities, none to be gained, and
// file systems that cannot be written to, apart from the node's directory and
// bpffs. A program that user 0 executes gets its bounding set.
const container = `
mount --rbind "$1" "$1"
mount --bind /proc/sys /proc/sys
for each in / /proc/sys /sys; do mount -o remount,bind,ro "$each"; done
capabilities=$2
shift 2
exec setpriv --no-new-privs --inh-caps=-all --ambient-caps=-all --bounding-set="$capabilities" "$@"
`

// withRights starts agents with no other capabilities than these.
func withRights(capabilities []string) func(*lab.Node) []string {
	set := "-all"
	for _, c := range capabilities {
		set += ",+" + strings.ToLower(c)
	}
	return func(n *lab.Node) []string {
		return []string{"unshare", "--mount", "--propagation", "slave", "sh", "-eu", "-c", container, "container", n.Dir, set}
	}
}

// TestRights forwards with the capabilities that the agent's container has, in
// every mode, and removes with them what was forwarding. It also shows that
// none of them is too many.
func TestRights(t *testing.T) {
	lab.RequireRoot(t, "setpriv", "unshare", "mount")
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			needed := capabilities(t, mode)
			c := cluster.New(newLab(t, mode, lab.Options{}), fairlead, mode)
			c.AgentPrefix = withRights(needed)
			run(t, c)
			expectMode(t, c, mode)
			serve(t, c, cluster.NewService("lab/web", "Cluster", c.Lab.Pods(), vipList(10)...))
			for _, target := range targetsOf(vips(10), cluster.ServicePort) {
				ask(t, c, target, fewRequests)
			}
			n := c.Lab.Nodes[0]
			restart(t, c, n)
			if err := c.Agent(n).Kill(); err != nil {
				t.Fatal(err)
			}
			for i, one := range needed {
				t.Run("without "+one, func(t *testing.T) {
					expectRefused(t, c, n, slices.Delete(slices.Clone(needed), i, i+1))
				})
			}
			expectCleanup(t, c, n, needed)
		})
	}
}

// fewRequests are enough to see that the datapath works at all.
const fewRequests = 25

// expectRefused starts the node's agent, which must not come up.
func expectRefused(t *testing.T, c *cluster.Cluster, n *lab.Node, rights []string) {
	t.Helper()
	c.AgentPrefix = withRights(rights)
	if err := c.StartAgent(t.Context(), n); err == nil {
		t.Errorf("the agent is ready with %v alone", rights)
	}
}

// expectCleanup removes the datapath, of which nothing may stay.
func expectCleanup(t *testing.T, c *cluster.Cluster, n *lab.Node, rights []string) {
	t.Helper()
	command := append(withRights(rights)(n), fairlead, "agent", "--cleanup", "--config", cluster.ConfigFile(n))
	if _, err := n.Output(t.Context(), command[0], command[1:]...); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(n.BPF, "fairlead")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("pins after the cleanup: %v", err)
	}
}
