// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/announce"
	"github.com/fairlead/fairlead/controller/api/v1beta1"
)

// Bounds of what a NodeState says; fairlead status announcements has the rest.
const (
	addressesShown = 4096
	reasonsShown   = 32
)

// summary is what the cluster is told. It changes only when something else is
// announced: not with every attempt to connect.
type summary struct {
	announced []v1beta1.Announcement
	not       []v1beta1.NotAnnounced
}

// summarize has the agent tell the cluster what is announced now.
func (n *announcer) summarize() {
	all := n.reports()
	now := all.summary(n.node)
	n.mu.Lock()
	changed := !reflect.DeepEqual(n.summary, now)
	n.summary = now
	n.mu.Unlock()
	if changed {
		notify(n.news)
	}
}

func (n *announcer) lastSummary() summary {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.summary
}

func (a *announceReports) summary(node string) summary {
	var done []v1beta1.Announcement
	var not []v1beta1.NotAnnounced
	if a.view.waiting != "" {
		return summary{}
	}
	for i := range a.view.plan.VIPs {
		if i == addressesShown {
			break
		}
		v := &a.view.plan.VIPs[i]
		to, since, missing := a.routes(v)
		if len(to) > 0 {
			done = announcing(done, "bgp", to, since, v.Addr.String())
		}
		if v.L2 != nil {
			l := a.answer(v, node)
			switch {
			case l.Since != nil:
				done = announcing(done, "l2", l.Interfaces, *l.Since, v.Addr.String())
			case l.Node == "":
				missing = append(missing, announce.Reason{Protocol: announce.ProtocolL2, Code: codeNoAnswer, Text: l.Reason})
			}
			if c := l.Conflict; c != nil {
				text := fmt.Sprintf("%s claims the address on %s", c.MAC, c.Interface)
				missing = append(missing, announce.Reason{Protocol: announce.ProtocolL2, Code: v1beta1.ReasonAddressConflict, Text: text})
			}
		}
		for _, why := range slices.Concat(missing, v.Not) {
			not = notAnnouncing(not, why, v.Addr.String())
		}
	}
	slices.SortFunc(done, func(x, y v1beta1.Announcement) int {
		return cmp.Or(cmp.Compare(x.Protocol, y.Protocol), slices.Compare(x.To, y.To), x.Since.Compare(y.Since.Time))
	})
	slices.SortFunc(not, func(x, y v1beta1.NotAnnounced) int {
		return cmp.Or(cmp.Compare(x.Protocol, y.Protocol), cmp.Compare(x.Reason, y.Reason), cmp.Compare(x.Message, y.Message))
	})
	return summary{done, not}
}

// Reasons beside those of announce.Select.
const (
	codeNoSession announce.Code = "NoSession"
	codeNoAnswer  announce.Code = "NoAnswer" // nobody can answer by ARP or NDP
)

// routes are the peers that have a VIP's route, since when all of them, and why
// others do not.
func (a *announceReports) routes(v *announce.VIP) (to []string, since time.Time, missing []announce.Reason) {
	for _, name := range v.Peers {
		if r := a.route(name, a.view.routed[v.Addr]); r.Announced {
			to = append(to, name)
			if r.Since.After(since) {
				since = *r.Since
			}
			continue
		}
		text := fmt.Sprintf("BGPPeer %q: no session is established", name)
		if err := a.view.refused[name]; err != nil {
			text = fmt.Sprintf("BGPPeer %q: %v", name, err)
		}
		missing = append(missing, announce.Reason{Protocol: announce.ProtocolBGP, Code: codeNoSession, Text: text})
	}
	return to, since, missing
}

// announcing adds an address to those that are announced in the same way.
func announcing(all []v1beta1.Announcement, protocol string, to []string, since time.Time, address string) []v1beta1.Announcement {
	at := metav1.NewTime(since.Truncate(time.Second)) // as the API has it
	for i := range all {
		if a := &all[i]; a.Protocol == protocol && slices.Equal(a.To, to) && a.Since.Equal(&at) {
			a.Addresses = append(a.Addresses, address)
			return all
		}
	}
	return append(all, v1beta1.Announcement{Protocol: protocol, To: to, Since: at, Addresses: []string{address}})
}

// notAnnouncing adds an address to those that something is in the way of, as
// long as there is room.
func notAnnouncing(all []v1beta1.NotAnnounced, why announce.Reason, address string) []v1beta1.NotAnnounced {
	for i := range all {
		if n := &all[i]; n.Protocol == string(why.Protocol) && n.Reason == string(why.Code) && n.Message == why.Text {
			n.Addresses = append(n.Addresses, address)
			return all
		}
	}
	if len(all) == reasonsShown {
		return all
	}
	return append(all, v1beta1.NotAnnounced{
		Protocol: string(why.Protocol), Reason: string(why.Code), Message: strings.ToValidUTF8(why.Text, ""), Addresses: []string{address},
	})
}
