// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/fairlead/fairlead/announce"
	"github.com/fairlead/fairlead/announce/bfd"
	"github.com/fairlead/fairlead/announce/bgp"
	"github.com/fairlead/fairlead/announce/l2"
	"github.com/fairlead/fairlead/announce/members"
)

// announcementsReport is what fairlead status announcements shows and -o json
// prints: of this node alone.
type announcementsReport struct {
	Node string `json:"node"`
	// Waiting says what has to come before anything is announced or withdrawn.
	Waiting string `json:"waiting,omitempty"`
	// Drain is draining or drained, by fairlead drain.
	Drain    string         `json:"drain,omitempty"`
	VIPs     []announcedVIP `json:"vips"`
	Peers    []peerReport   `json:"peers"`
	Members  *membersReport `json:"members,omitempty"` // nil: no L2Advertisement so far
	Problems []string       `json:"problems,omitempty"`
}

// announcedVIP is what becomes of a VIP on this node.
type announcedVIP struct {
	VIP      netip.Addr     `json:"vip"`
	Services []string       `json:"services"`
	Pool     string         `json:"pool,omitempty"`
	BGP      []routeReport  `json:"bgp,omitempty"` // peers that this node has a route for
	L2       *l2Report      `json:"l2,omitempty"`  // if this node is a candidate
	Not      []reasonReport `json:"not,omitempty"` // why it is not announced
}

type routeReport struct {
	Peer string `json:"peer"`
	// Announced: the session is established, and since when the peer has the route.
	Announced bool       `json:"announced"`
	Since     *time.Time `json:"since,omitempty"`
	Reason    string     `json:"reason,omitempty"` // why not announced
}

type l2Report struct {
	Node       string     `json:"node"` // that answers; "": none
	Interfaces []string   `json:"interfaces,omitempty"`
	Since      *time.Time `json:"since,omitempty"`  // if it is this node
	Reason     string     `json:"reason,omitempty"` // why this node does not answer
	// Conflict is a stranger that claims the VIP.
	Conflict *conflictReport `json:"conflict,omitempty"`
}

type conflictReport struct {
	MAC       string    `json:"mac"`
	Interface string    `json:"interface"`
	First     time.Time `json:"first"`
	Last      time.Time `json:"last"`
}

type reasonReport struct {
	Protocol string `json:"protocol,omitempty"` // "": both
	Reason   string `json:"reason"`
	Message  string `json:"message"`
}

// peerReport is a BGPPeer of this node.
type peerReport struct {
	Name            string     `json:"name"`
	Address         string     `json:"address,omitempty"`
	State           string     `json:"state"` // refused, idle, connecting, opening, established
	Since           *time.Time `json:"since,omitempty"`
	Error           string     `json:"error,omitempty"` // why the last session or attempt ended
	ErrorAt         *time.Time `json:"errorAt,omitempty"`
	Sessions        uint64     `json:"sessions"` // established so far
	Source          string     `json:"source,omitempty"`
	RouterID        string     `json:"routerID,omitempty"` // the router's
	ASN             uint32     `json:"asn,omitempty"`
	HoldTimeSeconds float64    `json:"holdTimeSeconds,omitempty"`
	Prefixes        int        `json:"prefixes"`
	Unannounced     int        `json:"unannounced,omitempty"`
	BFD             *bfdReport `json:"bfd,omitempty"`
}

type bfdReport struct {
	State            string    `json:"state"`
	Diagnostic       string    `json:"diagnostic,omitempty"`
	Since            time.Time `json:"since"`
	IntervalSeconds  float64   `json:"intervalSeconds"`
	DetectionSeconds float64   `json:"detectionSeconds"`
	Downs            uint64    `json:"downs"`
	Error            string    `json:"error,omitempty"`
}

type membersReport struct {
	Quorum bool     `json:"quorum"`
	Live   []string `json:"live"`
}

const announcesNothing = "this agent announces nothing: it runs without --kubernetes, or with --announce=false"

// handleAnnouncements answers fairlead status announcements.
func (a *agent) handleAnnouncements(w http.ResponseWriter, _ *http.Request) {
	if a.announcer == nil {
		http.Error(w, announcesNothing, http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(a.announcer.report()) // the client is gone then
}

// reports are those of the parts.
type announceReports struct {
	view    announced
	bgp     map[string]bgp.PeerReport // by BGPPeer
	bfd     bfd.Report
	l2      *l2.Report      // nil: not open
	members *members.Report // likewise
}

func (n *announcer) reports() announceReports {
	n.mu.Lock()
	r := announceReports{view: n.view, bgp: map[string]bgp.PeerReport{}}
	speaker := n.speaker
	n.mu.Unlock()
	if speaker != nil {
		for _, p := range speaker.Report() {
			if name, known := r.view.names[p.Peer]; known {
				r.bgp[name] = p
			}
		}
	}
	r.bfd = n.paths.Report()
	if responder := r.view.elections.responder; responder != nil {
		report := responder.Report()
		r.l2 = &report
	}
	if m := r.view.elections.members; m != nil {
		report := m.Report()
		r.members = &report
	}
	return r
}

func (n *announcer) report() announcementsReport {
	all := n.reports()
	r := all.report(n.node)
	r.Drain = n.draining().String()
	return r
}

func (a *announceReports) report(node string) announcementsReport {
	r := announcementsReport{Node: node, Waiting: a.view.waiting, VIPs: []announcedVIP{}, Peers: []peerReport{}}
	for i := range a.view.plan.VIPs {
		r.VIPs = append(r.VIPs, a.vip(&a.view.plan.VIPs[i], node))
	}
	for _, p := range a.view.plan.Peers {
		r.Peers = append(r.Peers, a.peer(p.Name))
	}
	if a.members != nil {
		r.Members = &membersReport{Quorum: a.members.Quorum, Live: append([]string{}, a.members.Seen...)}
	}
	for _, p := range a.view.plan.Problems {
		r.Problems = append(r.Problems, fmt.Sprintf("BGPAdvertisement %q: %s", p.Advertisement, p.Text))
	}
	for _, err := range []error{a.view.bgpErr, a.view.bfdErr, a.view.elections.err} {
		r.Problems = append(r.Problems, problemsOf(err)...)
	}
	return r
}

func (a *announceReports) vip(v *announce.VIP, node string) announcedVIP {
	r := announcedVIP{VIP: v.Addr, Services: v.Services, Pool: v.Pool}
	for _, name := range v.Peers {
		r.BGP = append(r.BGP, a.route(name, a.view.routed[v.Addr]))
	}
	if v.L2 != nil {
		r.L2 = a.answer(v, node)
	}
	for _, why := range v.Not {
		r.Not = append(r.Not, reasonReport{string(why.Protocol), string(why.Code), why.Text})
	}
	return r
}

// route is what a peer has of a VIP. It got the route with the session, or later.
func (a *announceReports) route(name string, routed time.Time) routeReport {
	r := routeReport{Peer: name}
	p, known := a.bgp[name]
	switch err := a.view.refused[name]; {
	case err != nil:
		r.Reason = err.Error()
	case !known:
		r.Reason = "there is no session yet"
	case p.State == bgp.StateEstablished:
		since := p.Since
		if routed.After(since) {
			since = routed
		}
		r.Announced, r.Since = true, &since
	case p.Error != "":
		r.Reason = fmt.Sprintf("the session is %s: %s", p.State, p.Error)
	default:
		r.Reason = fmt.Sprintf("the session is %s", p.State)
	}
	return r
}

func (a *announceReports) answer(v *announce.VIP, node string) *l2Report {
	winner := a.view.elections.winners[v.Addr]
	r := &l2Report{Node: winner.Winner, Reason: winner.Why}
	var own *l2.VIPReport
	if a.l2 != nil {
		i, found := slices.BinarySearchFunc(a.l2.VIPs, v.Addr, func(r l2.VIPReport, vip netip.Addr) int { return r.VIP.Compare(vip) })
		if found {
			own = &a.l2.VIPs[i]
		}
	}
	switch {
	case a.l2 == nil || a.members == nil:
		r.Reason = "sockets for ARP, NDP and members are not open"
	case winner.Winner == "":
	case winner.Winner != node:
		r.Reason = fmt.Sprintf("node %q answers", winner.Winner)
	case a.l2.Lapsed:
		r.Reason = "the agent was stopped for a while"
	case own == nil:
		r.Reason = "not yet"
	case len(own.Interfaces) == 0:
		r.Reason = own.Reason
	default:
		r.Interfaces, r.Since = own.Interfaces, &own.Since
	}
	if own != nil && own.Conflict != nil {
		c := own.Conflict
		r.Conflict = &conflictReport{MAC: c.MAC.String(), Interface: c.Interface, First: c.First, Last: c.Last}
	}
	return r
}

func (a *announceReports) peer(name string) peerReport {
	p, known := a.bgp[name]
	if !known {
		r := peerReport{Name: name, State: "refused", Error: "it is not valid"}
		if err := a.view.refused[name]; err != nil {
			r.Error = err.Error()
		}
		return r
	}
	r := peerReport{
		Name: name, Address: p.Peer.String(), State: string(p.State), Since: &p.Since, Error: p.Error, Sessions: p.Sessions,
		Source: addrText(p.Source), RouterID: addrText(p.RouterID), ASN: p.ASN, HoldTimeSeconds: p.HoldTime.Seconds(),
		Prefixes: p.Prefixes, Unannounced: p.Unannounced,
	}
	if err := a.view.refused[name]; err != nil {
		r.Error = strings.TrimSuffix(err.Error()+"; "+r.Error, "; ")
	}
	if !p.ErrorAt.IsZero() {
		r.ErrorAt = &p.ErrorAt
	}
	i := slices.IndexFunc(a.bfd.Sessions, func(s bfd.SessionReport) bool { return s.Addr == p.Peer.Addr() })
	if i >= 0 {
		s := a.bfd.Sessions[i]
		r.BFD = &bfdReport{
			State: s.State.String(), Since: s.Since, IntervalSeconds: s.Interval.Seconds(), DetectionSeconds: s.Detection.Seconds(), Downs: s.Downs,
		}
		if s.State != bfd.Up {
			r.BFD.Diagnostic = s.Diag.String()
		}
		if s.Err != nil {
			r.BFD.Error = s.Err.Error()
		}
	}
	return r
}

// addrText is "" for no address.
func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
