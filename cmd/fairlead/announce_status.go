// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// printAnnouncements has a line for each VIP and way to announce it, and for
// each reason why it is not.
func printAnnouncements(w io.Writer, r announcementsReport) error {
	p := newPrinter(w)
	p.row("Node:\t%s", r.Node)
	if r.Waiting != "" {
		p.row("Waiting:\t%s", r.Waiting)
	}
	if r.Drain != "" {
		p.row("Drain:\t%s: 'fairlead drain --undo' ends it", r.Drain)
	}
	if m := r.Members; m != nil {
		quorum := "a quorum"
		if !m.Quorum {
			quorum = "no quorum"
		}
		p.row("Members:\t%s: %s", quorum, strings.Join(m.Live, ", "))
	}
	for _, problem := range r.Problems {
		p.row("Problem:\t%s", problem)
	}
	p.row("\nVIP\tSERVICES\tPROTOCOL\tBY\tTO\tSINCE\tREASON")
	for _, v := range r.VIPs {
		head := fmt.Sprintf("%s\t%s", v.VIP, strings.Join(v.Services, ", "))
		line := func(protocol, by, to string, since *time.Time, reason string) {
			p.row("%s\t%s\t%s\t%s\t%s\t%s", head, protocol, dash(by), dash(to), dash(stamp(since)), reason)
			head = "\t"
		}
		for _, route := range v.BGP {
			by := ""
			if route.Announced {
				by = r.Node
			}
			line("bgp", by, route.Peer, route.Since, route.Reason)
		}
		if l := v.L2; l != nil {
			reason := l.Reason
			if c := l.Conflict; c != nil {
				reason = strings.TrimPrefix(fmt.Sprintf("%s; %s claims it on %s", reason, c.MAC, c.Interface), "; ")
			}
			line("arp/ndp", l.Node, strings.Join(l.Interfaces, ", "), l.Since, reason)
		}
		for _, why := range v.Not {
			line(dash(why.Protocol), "", "", nil, why.Reason+": "+why.Message)
		}
	}
	if err := p.Flush(); err != nil {
		return err
	}
	p.row("\nPEER\tADDRESS\tSTATE\tSINCE\tPREFIXES\tBFD\tERROR")
	for _, peer := range r.Peers {
		bfd := ""
		if b := peer.BFD; b != nil {
			bfd = strings.TrimSpace(b.State + " " + b.Diagnostic)
		}
		p.row("%s\t%s\t%s\t%s\t%d\t%s\t%s", peer.Name, dash(peer.Address), peer.State, dash(stamp(peer.Since)), peer.Prefixes, dash(bfd), peer.Error)
	}
	return p.Flush()
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func stamp(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}
