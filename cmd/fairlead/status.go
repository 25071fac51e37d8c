// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"text/tabwriter"
	"time"
)

func runStatus(ctx context.Context, env *env, args []string) error {
	var f clientFlags
	flags := newFlags("status")
	f.register(env, flags)
	of, err := parseArgs(env, flags, args, "[announcements]...")
	switch {
	case err != nil:
		return err
	case len(of) == 0:
		return show(ctx, env, f, "/status", nil, "status", printStatus)
	case len(of) == 1 && of[0] == "announcements":
		return show(ctx, env, f, "/announcements", nil, "announcements", printAnnouncements)
	}
	return usageError{fmt.Errorf("unexpected argument %q: want announcements, or none", of[len(of)-1])}
}

// printer writes aligned columns.
type printer struct{ *tabwriter.Writer }

func newPrinter(w io.Writer) printer {
	return printer{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
}

func (p printer) row(format string, args ...any) { fmt.Fprintf(p, format+"\n", args...) }

func printStatus(w io.Writer, r statusReport) error {
	p := newPrinter(w)
	p.row("Node:\t%s", r.Node)
	p.row("Agent:\tfairlead %s, up %s", r.Version.Version, time.Duration(r.UptimeSeconds)*time.Second)
	if r.Waiting != "" {
		p.row("Waiting:\t%s", r.Waiting)
	}
	if k := r.Kubernetes; k != nil {
		p.row("Kubernetes:\t%s", k)
		for _, problem := range k.Problems {
			p.row("\t  %s", problem)
		}
	}
	p.row("Config:\t%s, %s, revision %s", r.Config.State, r.Config.Path, r.Config.Revision)
	for _, problem := range r.Config.Problems {
		p.row("\t  %s", problem)
	}
	p.row("Tables:\t%s", r.Tables.State)
	for _, problem := range r.Tables.Problems {
		p.row("\t  %s", problem)
	}
	if err := p.Flush(); err != nil {
		return err
	}
	p.row("\nINTERFACE\tXDP MODE")
	for _, i := range r.Interfaces {
		if i.XDPMode == "" {
			i.XDPMode = "not attached"
		}
		p.row("%s\t%s", i.Name, i.XDPMode)
	}
	if err := p.Flush(); err != nil {
		return err
	}
	printServices(p, r.Services)
	if err := p.Flush(); err != nil {
		return err
	}
	printAdopted(p, r.Services)
	if err := p.Flush(); err != nil {
		return err
	}
	p.row("\nVERDICT\tREASON\tPACKETS")
	for _, c := range r.Counters {
		if c.Packets > 0 {
			p.row("%s\t%s\t%d", c.Verdict, c.Reason, c.Packets)
		}
	}
	return p.Flush()
}

// printServices has a line for each backend; what concerns the service stands
// in the first one.
func printServices(p printer, services []serviceReport) {
	p.row("\nSERVICE\tKEY\tPOLICY\tPACKETS\tBYTES\tBACKEND\tNODE\tSTATE\tWEIGHT")
	for _, s := range services {
		head := fmt.Sprintf("%s\t%s/%s\t%s\t%d\t%d", s.Name, s.Protocol, netip.AddrPortFrom(s.VIP, s.Port), s.Policy, s.Packets, s.Bytes)
		switch {
		case s.Left:
			p.row("%s\t(left to kube-proxy)\t\t\t", head)
		case len(s.Backends) == 0:
			p.row("%s\t(none)\t\t\t", head)
		}
		for _, b := range s.Backends {
			p.row("%s\t%s\t%s\t%s\t%d", head, b.Address, b.Node, b.State, b.Weight)
			head = "\t\t\t\t"
		}
	}
}

// printAdopted has a line for each service of which kube-proxy has connections.
func printAdopted(p printer, services []serviceReport) {
	head := "\nTAKEN OVER FROM KUBE-PROXY\tCONNECTIONS THAT IT STILL HAS\n"
	for _, s := range services {
		if s.Adopted != nil && *s.Adopted > 0 {
			p.row("%s%s\t%d", head, s.Name, *s.Adopted)
			head = ""
		}
	}
}
