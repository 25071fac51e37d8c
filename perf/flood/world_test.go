// SPDX-License-Identifier: Apache-2.0

package flood

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/cluster"
	"github.com/fairlead/fairlead/perf/lab/traffic"
)

// groups of connections are opened at once: one after the other over a long way
// would take minutes.
const groups = 50

// world is a cluster with a service, far from its client, and connections to it.
type world struct {
	cluster *cluster.Cluster
	targets []traffic.Target
	groups  []*traffic.Flows

	sent  uint64 // SYNs of the flood
	grown counts // what the agents counted meanwhile
}

// newWorld has two nodes that share the VIPs, and two Pods on each.
func newWorld(t *testing.T, mode string, flows int) *world {
	t.Helper()
	l := lab.ForTest(t, lab.Options{Nodes: 2, PodsPerNode: 2, Delay: roundTrip / 2, Native: mode == "native"})
	service := cluster.NewService("flood/web", "Cluster", l.Pods(), vip4, vip6)
	c := cluster.New(l, fairlead, mode, service)
	c.FlowLimit = flows
	t.Cleanup(func() {
		if t.Failed() {
			showAgents(t, c)
		}
	})
	prepare(t, l)
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	w := &world{cluster: c}
	clients := map[netip.Addr]netip.Addr{vip4: lab.ClientAddr4, vip6: lab.ClientAddr6}
	for _, vip := range []netip.Addr{vip4, vip6} {
		if err := l.SetVIPRoute(vip, l.Nodes...); err != nil {
			t.Fatal(err)
		}
		w.targets = append(w.targets, traffic.Target{
			Network: "tcp", Addr: netip.AddrPortFrom(vip, cluster.ServicePort), Client: clients[vip],
		})
	}
	return w
}

// prepare gives the Pods a backlog that the flood fills, and lets answers to
// the flood's sources vanish as on the Internet.
func prepare(t *testing.T, l *lab.Lab) {
	t.Helper()
	for _, p := range l.Pods() {
		err := p.Do(func() error {
			return os.WriteFile("/proc/sys/net/core/somaxconn", []byte(backlog), 0)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range []netip.Prefix{sources4, sources6} {
		dst := &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
		if err := l.Router.Netlink().RouteAdd(&netlink.Route{Dst: dst, Type: unix.RTN_BLACKHOLE}); err != nil {
			t.Fatal(err)
		}
	}
}

func showAgents(t *testing.T, c *cluster.Cluster) {
	for _, n := range c.Lab.Nodes {
		log, _ := os.ReadFile(filepath.Join(n.Dir, "agent.log"))
		t.Logf("agent of %s:\n%s", n.Host, log)
	}
}

// open opens the connections that are to outlive the flood.
func (w *world) open(t *testing.T) {
	t.Helper()
	errs := make([]error, groups)
	var opening sync.WaitGroup
	for i := range groups {
		f := &traffic.Flows{Pace: time.Second}
		w.groups = append(w.groups, f)
		opening.Go(func() {
			target := w.targets[i%len(w.targets)]
			errs[i] = f.Open(t.Context(), w.cluster.Lab.Client, target, traffic.Active, established/groups)
		})
	}
	opening.Wait()
	t.Cleanup(func() { w.each((*traffic.Flows).Close) })
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// each calls f for all groups at once and waits.
func (w *world) each(f func(*traffic.Flows)) {
	var all sync.WaitGroup
	for _, group := range w.groups {
		all.Go(func() { f(group) })
	}
	all.Wait()
}

// pause lets every connection speak once more, and counts those that are broken.
func (w *world) pause() (broken int) {
	var mu sync.Mutex
	w.each(func(f *traffic.Flows) {
		n := f.Pause()
		mu.Lock()
		defer mu.Unlock()
		broken += n
	})
	return broken
}

// why is the error of the first broken connection.
func (w *world) why() error {
	for _, f := range w.groups {
		if err := f.Forget(); err != nil {
			return err
		}
	}
	return nil
}

// counts are numbers of events by name.
type counts map[string]uint64

// since leaves what has happened after before.
func (c counts) since(before counts) counts {
	grown := maps.Clone(c)
	for name := range grown {
		grown[name] -= before[name]
	}
	maps.DeleteFunc(grown, func(_ string, n uint64) bool { return n == 0 })
	return grown
}

// counters sums what the agents count.
func (w *world) counters(t *testing.T) counts {
	t.Helper()
	sum := counts{}
	for _, n := range w.cluster.Lab.Nodes {
		s, err := w.cluster.Status(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range s.Counters {
			sum[c.Reason] += c.Packets
		}
	}
	return sum
}

// establishedFlows are the client's established flows on all nodes.
func (w *world) establishedFlows(t *testing.T) map[netip.AddrPort]bool {
	t.Helper()
	found := map[netip.AddrPort]bool{}
	for _, n := range w.cluster.Lab.Nodes {
		args := []string{"flows", "-o", "json", "--limit", "0", "--socket", cluster.Socket(n)}
		out, err := n.Output(t.Context(), fairlead, args...)
		if err != nil {
			t.Fatal(err)
		}
		var report struct {
			Flows []struct {
				Client netip.AddrPort `json:"client"`
				State  string         `json:"state"`
			} `json:"flows"`
		}
		if err := json.Unmarshal([]byte(out), &report); err != nil {
			t.Fatal(fmt.Errorf("parse flows of %s: %w", n.Host, err))
		}
		for _, f := range report.Flows {
			own := f.Client.Addr() == lab.ClientAddr4 || f.Client.Addr() == lab.ClientAddr6
			if own && f.State == "established" {
				found[f.Client] = true
			}
		}
	}
	return found
}
