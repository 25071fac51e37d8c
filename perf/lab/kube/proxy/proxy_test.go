// SPDX-License-Identifier: Apache-2.0

package proxy_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/cluster"
)

// modes are the kernel datapath's, and the userspace datapath.
var modes = []string{"native", "generic", "off", cluster.ModeUserspace}

// TestBesideKubeProxy runs Fairlead beside kube-proxy in every mode, one after
// the other in the same cluster.
func TestBesideKubeProxy(t *testing.T) {
	lab.RequireRoot(t, "nft")
	w := newWorld(t)
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			c := w.agents(mode)
			defer remove(t, c)
			t.Cleanup(func() {
				if t.Failed() {
					for _, n := range c.Lab.Nodes {
						log, _ := os.ReadFile(filepath.Join(n.Dir, "agent.log"))
						t.Logf("agent of %s:\n%s", n.Host, log)
					}
				}
			})
			t.Run("taking over", func(t *testing.T) { testTakeOver(t, w, c) })
			if c.Agent(c.Lab.Nodes[0]) == nil { // the test was called for another part
				start(t, c)
			}
			t.Run("inside the cluster", func(t *testing.T) { testInside(t, w, c) })
			t.Run("node ports", func(t *testing.T) { testNodePorts(t, w) })
			t.Run("left to kube-proxy", func(t *testing.T) { testLeft(t, w, c) })
			t.Run("conntrack", func(t *testing.T) { testTracked(t, w) })
			t.Run("policies", func(t *testing.T) { testPolicies(t, w) })
		})
	}
}
