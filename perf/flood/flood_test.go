// SPDX-License-Identifier: Apache-2.0

package flood

import (
	"context"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/fairlead/fairlead/lb/packet"
	"github.com/fairlead/fairlead/lb/packet/packettest"
	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/cluster"
	"github.com/fairlead/fairlead/perf/lab/traffic"
	"github.com/fairlead/fairlead/perf/pktgen"
)

// The sizes of the thing.
const (
	established = 1000
	roundTrip   = 100 * time.Millisecond
	rate        = 50_000 // SYNs a second
	backlog     = "128"  // of a Pod's listener: what many servers ask for
	sourceBits  = 19     // of each family; together a million sources
)

var (
	vip4 = netip.MustParseAddr("192.0.2.10")
	vip6 = netip.MustParseAddr("2001:db8:0:1::10")
	// Where the flood says that it comes from, and the router's answers go nowhere.
	sources4 = netip.MustParsePrefix("100.64.0.0/10")
	sources6 = netip.MustParsePrefix("2001:db8:f::/64")
)

// soak says whether the long version runs.
func soak() bool { return os.Getenv("FAIRLEAD_SOAK") == "1" }

// A million SYNs from as many sources fill flow tables, the Pods' backlogs and
// the nodes' conntrack. Connections that were established go on, and new ones
// over a long way succeed.
func TestSYNFlood(t *testing.T) {
	for _, row := range []struct {
		name  string
		mode  string
		flows int
		long  bool // in the long version only
	}{
		{name: "small table", mode: "auto", flows: 8192},
		{name: "large table", mode: "auto", flows: 1 << 20, long: true},
		{name: "small table, native", mode: "native", flows: 8192, long: true},
		{name: "small table, off", mode: "off", flows: 8192, long: true},
	} {
		t.Run(row.name, func(t *testing.T) {
			lab.RequireRoot(t)
			if row.long && !soak() {
				t.Skip("long: set FAIRLEAD_SOAK=1")
			}
			w := newWorld(t, row.mode, row.flows)
			w.flood(t, 1<<sourceBits)
			if row.flows < 1<<sourceBits {
				w.expectOverwhelmed(t, uint64(row.flows))
			}
		})
	}
}

// flood sends so many SYNs of each family to the VIPs, beside connections that
// were established before and new ones. It holds what these get, and what was
// counted, against what should be.
func (w *world) flood(t *testing.T, frames uint64) {
	t.Helper()
	w.open(t)
	before, known := w.counters(t), w.establishedFlows(t)
	if len(known) < established {
		t.Fatalf("%d flows are established, want %d", len(known), established)
	}
	kernels := w.kernelCounters(t)
	w.each(func(f *traffic.Flows) { f.Run(t.Context()) })
	results := w.trickle(t.Context())
	w.send(t, frames)
	newOnes := results()
	if broken := w.pause(); broken > 0 {
		t.Errorf("%d of %d established connections broke: %v", broken, established, w.why())
	}
	if newOnes.Failed > 0 || newOnes.Requests == 0 || newOnes.WrongClient > 0 {
		t.Errorf("%d of %d new connections failed, %d with a wrong client address: %v",
			newOnes.Failed, newOnes.Requests, newOnes.WrongClient, newOnes.FirstError)
	}
	w.grown = w.counters(t).since(before)
	t.Logf("%d new connections", newOnes.Requests)
	t.Logf("fairlead: %v", w.grown)
	t.Logf("kernels: %v", w.kernelCounters(t).since(kernels))
	w.expectKept(t, known)
	w.expectCounted(t, newOnes.Requests)
}

// send is the flood itself.
func (w *world) send(t *testing.T, frames uint64) {
	t.Helper()
	start := time.Now()
	for _, g := range w.generators(t) {
		r, err := g.Run(t.Context(), frames)
		if err != nil {
			t.Error(err)
		}
		w.sent += r.Sent
	}
	t.Logf("%d SYNs in %.1f s", w.sent, time.Since(start).Seconds())
}

// expectKept finds every flow that was established before.
func (w *world) expectKept(t *testing.T, known map[netip.AddrPort]bool) {
	t.Helper()
	now := w.establishedFlows(t)
	lost := 0
	for client := range known {
		if !now[client] {
			lost++
		}
	}
	if lost > 0 {
		t.Errorf("%d of %d established flows have no record any more", lost, len(known))
	}
}

// expectCounted holds what the agents counted against what was sent.
func (w *world) expectCounted(t *testing.T, newOnes int) {
	t.Helper()
	lostBefore := int64(w.sent) + int64(newOnes) - int64(w.grown["new"])
	if lostBefore > int64(w.sent)/10 { // a veth's ring holds 256 packets
		t.Errorf("%d packets began a flow, want those of %d SYNs and %d connections", w.grown["new"], w.sent, newOnes)
	}
	for _, reason := range []string{"flows_full", "ports", "error", "stale_table", "not_local", "malformed"} {
		if n := w.grown[reason]; n > 0 {
			t.Errorf("%d packets counted as %q, want none", n, reason)
		}
	}
	// An established flow that was evicted would come back through the Pod's
	// judgement. So may a new one whose half-open record had to go meanwhile.
	if w.grown["judge"] > uint64(newOnes) {
		t.Errorf("%d packets were left to the Pods to judge, want less than the %d new connections", w.grown["judge"], newOnes)
	}
	if w.grown["mine"] < established {
		t.Errorf("%d packets of known flows, want at least %d", w.grown["mine"], established)
	}
}

// expectOverwhelmed: more flows began than the tables hold.
func (w *world) expectOverwhelmed(t *testing.T, flows uint64) {
	t.Helper()
	if room := flows * uint64(len(w.cluster.Lab.Nodes)); w.grown["new"] < 4*room {
		t.Errorf("%d flows began, that does not overwhelm tables of %d records", w.grown["new"], room)
	}
}

// generators flood the VIPs, one after the other, out of the client's veth.
func (w *world) generators(t *testing.T) []*pktgen.Generator {
	t.Helper()
	l := w.cluster.Lab
	if err := l.Router.AcceptRedirects(lab.ClientPort); err != nil {
		t.Fatal(err)
	}
	var all []*pktgen.Generator
	for _, to := range []struct{ src, dst netip.Addr }{{sources4.Addr(), vip4}, {sources6.Addr(), vip6}} {
		f := packettest.TCP(netip.AddrPortFrom(to.src, 1).String(), netip.AddrPortFrom(to.dst, cluster.ServicePort).String(), packet.SYN)
		f.TCPOptions = packettest.MSS(1460)
		f.SrcMAC, f.DstMAC = mac(t, l.Client, lab.Uplink), mac(t, l.Router, lab.ClientPort)
		g, err := pktgen.New(pktgen.Config{
			Namespace: l.Client, Link: lab.Uplink, Frame: f.Bytes(),
			SourceBits: sourceBits, VaryPort: true, Seed: 1, Rate: rate,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(g.Close)
		all = append(all, g)
	}
	return all
}

func mac(t *testing.T, n *lab.Namespace, name string) [6]byte {
	t.Helper()
	link, err := n.Netlink().LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return [6]byte(link.Attrs().HardwareAddr)
}

// trickle makes new connections, a few at a time, until the returned function
// is called, which sums them up.
func (w *world) trickle(ctx context.Context) (end func() traffic.Result) {
	running, stop := context.WithCancel(ctx)
	done := make(chan traffic.Result)
	go func() {
		var sum traffic.Result
		for i := 0; running.Err() == nil; i++ {
			r := traffic.Requests(ctx, w.cluster.Lab.Client, w.targets[i%len(w.targets)], 16)
			sum.Requests += r.Requests
			sum.Failed += r.Failed
			sum.WrongClient += r.WrongClient
			if sum.FirstError == nil {
				sum.FirstError = r.FirstError
			}
		}
		done <- sum
	}()
	return func() traffic.Result {
		stop()
		return <-done
	}
}
