// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead/fairlead/announce/bfd"
	"github.com/fairlead/fairlead/announce/bgp"
	"github.com/fairlead/fairlead/announce/bgp/guard"
	"github.com/fairlead/fairlead/announce/l2"
)

// What the agent tells Prometheus of announcing.
var (
	bgpUpDesc       = description("bgp_session_up", "1 if the session with a BGPPeer is established.", "peer")
	bgpSessionsDesc = description("bgp_sessions_total", "Sessions with a BGPPeer that were established.", "peer")
	bgpPrefixesDesc = description("bgp_prefixes", "Prefixes that a BGPPeer has from this node.", "peer")
	bgpReceivedDesc = description("bgp_messages_received_total",
		"Messages of a BGPPeer by what they were taken for; those with routes, wrong ones and too many do not get through.", "peer", "kind")
	bfdUpDesc    = description("bfd_session_up", "1 if the path to a router is up.", "address", "source")
	bfdDownsDesc = description("bfd_session_downs_total", "Times that a path to a router was up and went down.", "address", "source")
	bfdDropDesc  = description("bfd_packets_dropped_total", "Received packets of BFD that no session could use, by reason.", "reason")
	l2VIPsDesc   = description("l2_vips", "VIPs that this node answers for by ARP and NDP.")
	l2TakeDesc   = description("l2_takeovers_total", "VIPs that this node began to answer for on an interface.")
	l2PacketDesc = description("l2_packets_total",
		"Packets about VIPs that this node answers for: requests and probes received, replies, announcements and questions sent, claims of strangers and of other nodes, malformed ones, and those that could not be sent.",
		"protocol", "kind")
	l2ConflictsDesc  = description("l2_conflicts", "VIPs that a stranger claims.")
	membersDesc      = description("members", "Nodes that are alive to this one, itself included.")
	quorumDesc       = description("members_quorum", "1 if they are enough to answer by ARP and NDP.")
	memberChangeDesc = description("member_changes_total", "Nodes that came (joined) and went (lost), this one left out.", "change")
)

var announceDescs = []*prometheus.Desc{
	bgpUpDesc, bgpSessionsDesc, bgpPrefixesDesc, bgpReceivedDesc, bfdUpDesc, bfdDownsDesc, bfdDropDesc,
	l2VIPsDesc, l2TakeDesc, l2PacketDesc, l2ConflictsDesc, membersDesc, quorumDesc, memberChangeDesc,
}

// collect leaves out protocols that are not in use.
func (a *announceReports) collect(out sink) {
	for name, p := range a.bgp {
		out.gauge(bgpUpDesc, boolean(p.State == bgp.StateEstablished), name)
		out.counter(bgpSessionsDesc, p.Sessions, name)
		out.gauge(bgpPrefixesDesc, float64(p.Prefixes), name)
		for kind, n := range p.Received {
			out.counter(bgpReceivedDesc, n, name, guard.Reason(kind).String())
		}
	}
	for _, s := range a.bfd.Sessions {
		labels := []string{s.Addr.String(), addrText(s.Source)}
		out.gauge(bfdUpDesc, boolean(s.State == bfd.Up), labels...)
		out.counter(bfdDownsDesc, s.Downs, labels...)
	}
	for drop, n := range a.bfd.Dropped {
		out.counter(bfdDropDesc, n, string(drop))
	}
	if a.l2 != nil {
		a.collectL2(out)
	}
	if a.members != nil {
		out.gauge(membersDesc, float64(len(a.members.Seen)))
		out.gauge(quorumDesc, boolean(a.members.Quorum))
		out.counter(memberChangeDesc, a.members.Joined, "joined")
		out.counter(memberChangeDesc, a.members.Lost, "lost")
	}
}

func (a *announceReports) collectL2(out sink) {
	answered, conflicts := 0, 0
	for _, v := range a.l2.VIPs {
		if len(v.Interfaces) > 0 {
			answered++
		}
		if v.Conflict != nil {
			conflicts++
		}
	}
	out.gauge(l2VIPsDesc, float64(answered))
	out.gauge(l2ConflictsDesc, float64(conflicts))
	out.counter(l2TakeDesc, a.l2.Takeovers)
	for protocol, c := range map[string]l2.Counters{"arp": a.l2.ARP, "ndp": a.l2.NDP} {
		for kind, n := range map[string]uint64{
			"request": c.Requests, "probe": c.Probes, "reply": c.Replies, "announcement": c.Announcements, "question": c.Questions,
			"conflict": c.Conflicts, "fellow_claim": c.FellowClaims, "malformed": c.Malformed, "send_error": c.SendErrors,
		} {
			out.counter(l2PacketDesc, n, protocol, kind)
		}
	}
}
