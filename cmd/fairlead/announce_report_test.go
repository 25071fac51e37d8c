// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/announce"
	"github.com/fairlead/fairlead/announce/bfd"
	"github.com/fairlead/fairlead/announce/bgp"
	"github.com/fairlead/fairlead/announce/bgp/guard"
	"github.com/fairlead/fairlead/announce/l2"
	"github.com/fairlead/fairlead/announce/l2/ether"
	"github.com/fairlead/fairlead/announce/members"
	"github.com/fairlead/fairlead/controller/api/v1beta1"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// someReports have a VIP of every kind.
func someReports() announceReports {
	router, other := netip.MustParseAddrPort("10.0.0.1:179"), netip.MustParseAddrPort("10.0.0.2:179")
	answers := &announce.L2{Key: testVIP(2), Candidates: []announce.Candidate{{Node: "node1"}, {Node: "node2"}}}
	var received [guard.Reasons]uint64
	received[guard.ReasonUpdate] = 5
	return announceReports{
		view: announced{
			plan: announce.Plan{
				VIPs: []announce.VIP{
					{Addr: testVIP(1), Services: []string{"default/a"}, Pool: "p", Peers: []string{"r1", "r2", "r3"}},
					{Addr: testVIP(2), Services: []string{"default/b"}, Pool: "p", L2: answers},
					{Addr: testVIP(3), Services: []string{"default/c", "default/d"}, Pool: "p", L2: answers},
					{Addr: testVIP(4), Services: []string{"default/e"}, Not: []announce.Reason{{Code: announce.CodeNoPool, Text: "no IPAddressPool has 192.0.2.4"}}},
				},
				Peers:    []announce.PeerPlan{{Name: "r1"}, {Name: "r2"}, {Name: "r3"}},
				Problems: []announce.Problem{{Advertisement: "x", Text: "contradicts"}},
			},
			names:   map[netip.AddrPort]string{router: "r1", other: "r2"},
			refused: map[string]error{"r3": errors.New("spec.interface: \"eth0\"")},
			routed:  map[netip.Addr]time.Time{testVIP(1): noon.Add(time.Minute)},
			elections: elections{winners: map[netip.Addr]election{
				testVIP(2): {Winner: "node1"}, testVIP(3): {Winner: "node2"},
			}},
		},
		bgp: map[string]bgp.PeerReport{
			"r1": {
				Peer: router, State: bgp.StateEstablished, Since: noon, Sessions: 2, Prefixes: 1, ASN: 64513,
				RouterID: netip.MustParseAddr("1.1.1.1"), HoldTime: 90 * time.Second, Received: received,
			},
			"r2": {Peer: other, State: bgp.StateConnecting, Since: noon, Error: "connection refused", ErrorAt: noon},
		},
		bfd: bfd.Report{
			Sessions: []bfd.SessionReport{{Path: bfd.Path{Addr: router.Addr()}, State: bfd.Up, Since: noon, Downs: 3}},
			Dropped:  map[bfd.Drop]uint64{bfd.DropTTL: 4},
		},
		l2: &l2.Report{VIPs: []l2.VIPReport{{
			VIP: testVIP(2), Interfaces: []string{"eth0"}, Since: noon, Conflict: &l2.Conflict{MAC: ether.MAC{2}, Interface: "eth0", First: noon, Last: noon},
		}}, Takeovers: 6, ARP: l2.Counters{Requests: 7}},
		members: &members.Report{Seen: []string{"node1", "node2"}, Quorum: true, Joined: 8, Lost: 9},
	}
}

func TestAnnouncementsTable(t *testing.T) {
	all := someReports()
	var out strings.Builder
	if err := printAnnouncements(&out, all.report("node1")); err != nil {
		t.Fatal(err)
	}
	want := `Node:     node1
Members:  a quorum: node1, node2
Problem:  BGPAdvertisement "x": contradicts

VIP        SERVICES              PROTOCOL  BY     TO    SINCE                 REASON
192.0.2.1  default/a             bgp       node1  r1    2026-01-02T12:01:00Z  
                                 bgp       -      r2    -                     the session is connecting: connection refused
                                 bgp       -      r3    -                     spec.interface: "eth0"
192.0.2.2  default/b             arp/ndp   node1  eth0  2026-01-02T12:00:00Z  02:00:00:00:00:00 claims it on eth0
192.0.2.3  default/c, default/d  arp/ndp   node2  -     -                     node "node2" answers
192.0.2.4  default/e             -         -      -     -                     NoPool: no IPAddressPool has 192.0.2.4

PEER  ADDRESS       STATE        SINCE                 PREFIXES  BFD  ERROR
r1    10.0.0.1:179  established  2026-01-02T12:00:00Z  1         up   
r2    10.0.0.2:179  connecting   2026-01-02T12:00:00Z  0         -    connection refused
r3    -             refused      -                     0         -    spec.interface: "eth0"
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// Why this node, though it is a candidate, does not answer.
func TestAnswerReasons(t *testing.T) {
	for _, test := range []struct {
		name string
		edit func(*announceReports)
		want string
	}{
		{"not open", func(a *announceReports) { a.l2 = nil }, "sockets for ARP, NDP and members are not open"},
		{"nobody", func(a *announceReports) { a.view.elections.winners[testVIP(2)] = election{Why: "nobody lives"} }, "nobody lives"},
		{"stopped", func(a *announceReports) { a.l2.Lapsed = true }, "the agent was stopped for a while"},
		{"no interface", func(a *announceReports) { a.l2.VIPs[0].Interfaces, a.l2.VIPs[0].Reason = nil, "no link" }, "no link"},
		{"not yet", func(a *announceReports) { a.l2.VIPs = nil }, "not yet"},
	} {
		all := someReports()
		test.edit(&all)
		if got := all.report("node1").VIPs[1].L2; got == nil || got.Reason != test.want || got.Since != nil {
			t.Errorf("%s: %+v, want %q", test.name, got, test.want)
		}
	}
}

// What the cluster is told is grouped, and says nothing of attempts.
func TestSummary(t *testing.T) {
	all := someReports()
	all.view.plan.VIPs = append(all.view.plan.VIPs, announce.VIP{Addr: testVIP(5), Peers: []string{"r1"}})
	all.view.routed[testVIP(5)] = noon.Add(time.Minute)
	all.view.elections.winners[testVIP(3)] = election{Why: "nobody lives"}
	at := metav1.NewTime
	want := summary{
		announced: []v1beta1.Announcement{
			{Protocol: "bgp", To: []string{"r1"}, Since: at(noon.Add(time.Minute)), Addresses: []string{"192.0.2.1", "192.0.2.5"}},
			{Protocol: "l2", To: []string{"eth0"}, Since: at(noon), Addresses: []string{"192.0.2.2"}},
		},
		not: []v1beta1.NotAnnounced{
			{Reason: "NoPool", Message: "no IPAddressPool has 192.0.2.4", Addresses: []string{"192.0.2.4"}},
			{Protocol: "bgp", Reason: "NoSession", Message: `BGPPeer "r2": no session is established`, Addresses: []string{"192.0.2.1"}},
			{Protocol: "bgp", Reason: "NoSession", Message: `BGPPeer "r3": spec.interface: "eth0"`, Addresses: []string{"192.0.2.1"}},
			{Protocol: "l2", Reason: "AddressConflict", Message: "02:00:00:00:00:00 claims the address on eth0", Addresses: []string{"192.0.2.2"}},
			{Protocol: "l2", Reason: "NoAnswer", Message: "nobody lives", Addresses: []string{"192.0.2.3"}},
		},
	}
	if diff := cmp.Diff(want, all.summary("node1"), cmp.AllowUnexported(summary{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	r2 := all.bgp["r2"]
	r2.State, r2.Error, r2.Since = bgp.StateIdle, "timeout", noon.Add(time.Hour)
	all.bgp["r2"] = r2
	if diff := cmp.Diff(want, all.summary("node1"), cmp.AllowUnexported(summary{})); diff != "" {
		t.Errorf("another attempt: -want +got:\n%s", diff)
	}
	for i := range 2 * reasonsShown {
		why := announce.Reason{Code: announce.CodeNoPool, Text: fmt.Sprint(i)}
		all.view.plan.VIPs = append(all.view.plan.VIPs, announce.VIP{Addr: testVIP(byte(100 + i)), Not: []announce.Reason{why}})
	}
	if got := all.summary("node1"); len(got.not) != reasonsShown {
		t.Errorf("%d reasons", len(got.not))
	}
	all.view.waiting = "not yet"
	if got := all.summary("node1"); got.announced != nil || got.not != nil {
		t.Errorf("while waiting: %+v", got)
	}
}

// reportsCollector collects reports that are given.
type reportsCollector struct{ reports announceReports }

func (c reportsCollector) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range announceDescs {
		descs <- d
	}
}

func (c reportsCollector) Collect(metrics chan<- prometheus.Metric) { c.reports.collect(sink{metrics}) }

func TestAnnounceMetrics(t *testing.T) {
	c := reportsCollector{someReports()}
	want := `
# HELP fairlead_bgp_prefixes Prefixes that a BGPPeer has from this node.
# TYPE fairlead_bgp_prefixes gauge
fairlead_bgp_prefixes{peer="r1"} 1
fairlead_bgp_prefixes{peer="r2"} 0
# HELP fairlead_bgp_session_up 1 if the session with a BGPPeer is established.
# TYPE fairlead_bgp_session_up gauge
fairlead_bgp_session_up{peer="r1"} 1
fairlead_bgp_session_up{peer="r2"} 0
# HELP fairlead_bfd_packets_dropped_total Received packets of BFD that no session could use, by reason.
# TYPE fairlead_bfd_packets_dropped_total counter
fairlead_bfd_packets_dropped_total{reason="ttl"} 4
# HELP fairlead_bfd_session_downs_total Times that a path to a router was up and went down.
# TYPE fairlead_bfd_session_downs_total counter
fairlead_bfd_session_downs_total{address="10.0.0.1",source=""} 3
# HELP fairlead_l2_conflicts VIPs that a stranger claims.
# TYPE fairlead_l2_conflicts gauge
fairlead_l2_conflicts 1
# HELP fairlead_l2_takeovers_total VIPs that this node began to answer for on an interface.
# TYPE fairlead_l2_takeovers_total counter
fairlead_l2_takeovers_total 6
# HELP fairlead_l2_vips VIPs that this node answers for by ARP and NDP.
# TYPE fairlead_l2_vips gauge
fairlead_l2_vips 1
# HELP fairlead_member_changes_total Nodes that came (joined) and went (lost), this one left out.
# TYPE fairlead_member_changes_total counter
fairlead_member_changes_total{change="joined"} 8
fairlead_member_changes_total{change="lost"} 9
# HELP fairlead_members Nodes that are alive to this one, itself included.
# TYPE fairlead_members gauge
fairlead_members 2
`
	if err := testutil.CollectAndCompare(c, strings.NewReader(want), "fairlead_bgp_prefixes", "fairlead_bgp_session_up", "fairlead_bfd_packets_dropped_total",
		"fairlead_bfd_session_downs_total", "fairlead_l2_conflicts", "fairlead_l2_takeovers_total", "fairlead_l2_vips", "fairlead_member_changes_total", "fairlead_members"); err != nil {
		t.Error(err)
	}
	if n := testutil.CollectAndCount(c, "fairlead_bgp_messages_received_total"); n != 2*int(guard.Reasons) {
		t.Errorf("%d counters of messages", n)
	}
	if problems, err := testutil.CollectAndLint(c); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v %v", problems, err)
	}
}

// An agent that announces nothing says so.
func TestNoAnnouncements(t *testing.T) {
	recorder := httptest.NewRecorder()
	(&agent{}).socketHandler().ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/announcements", nil))
	if recorder.Code != http.StatusNotFound || !strings.Contains(recorder.Body.String(), "--announce=false") {
		t.Errorf("%d %s", recorder.Code, recorder.Body)
	}
}
