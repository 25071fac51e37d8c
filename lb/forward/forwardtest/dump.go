// SPDX-License-Identifier: Apache-2.0

package forwardtest

import (
	_ "embed"
	"fmt"
	"net/netip"
	"strings"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/flow"
)

//go:embed testdata/flows.txt
var golden string

// WantRecords is the wanted Dump after the vector's last step.
func (v Vector) WantRecords() string {
	if v.dump != nil {
		return *v.dump
	}
	_, rest, found := strings.Cut(golden, header(v.Name))
	if !found {
		return ""
	}
	if end := strings.Index(rest, "\n-- "); end >= 0 {
		return rest[:end+1]
	}
	return rest
}

func header(name string) string { return "-- " + name + " --\n" }

// GoldenEntry is the piece of the golden file for one vector's dump.
func GoldenEntry(name, dump string) string {
	if dump == "" {
		return ""
	}
	return header(name) + dump
}

// names says in words what a tag names.
func (v Vector) names() map[uint32]string {
	names := map[uint32]string{}
	tables := v.Tables
	for _, s := range v.Steps {
		if s.Table != nil {
			tables = append(tables[:len(tables):len(tables)], s.Table)
		}
	}
	for _, table := range tables {
		for _, s := range table.Services() {
			names[s.Key.Tag()] = s.Key.String()
			for _, b := range s.Backends {
				names[uint32(b.WireID())] = b.Addr.String()
			}
		}
	}
	return names
}

var (
	kinds  = [...]string{"free", "own", "alias", "redirect", "affinity"}
	states = [...]string{"half-open", "established"}
	flags  = [...]string{"isn", "unverified", "client-fin", "client-rst", "pod-fin", "pod-rst"}
)

// Dump writes the records that are not free in index order, one a line. Ids are
// a node's own affair, so services and backends stand there by name; ticks are
// relative to now.
func Dump(records []flow.Record, names map[uint32]string, now uint32) string {
	var b strings.Builder
	for i, r := range records {
		if r.Kind == flow.Free {
			continue
		}
		client := netip.AddrPortFrom(netip.AddrFrom16(r.Client).Unmap(), r.Port)
		fmt.Fprintf(&b, "%d seq %d %s %s %s service %s backend %s pod-port %d idle %d %s",
			i, r.Seq, kinds[r.Kind], lb.Proto(r.Proto), client, names[r.ServiceTag], orNone(names[r.BackendTag]),
			r.PodPort, now-r.Seen, states[r.State])
		for bit, name := range flags {
			if r.Flags&(1<<bit) != 0 {
				b.WriteString(" " + name)
			}
		}
		fmt.Fprintf(&b, " isn %d slot %d", r.ISN, r.Slot)
		if r.Kind == flow.Redirect {
			fmt.Fprintf(&b, " node %d", r.Node)
		}
		if r.Kind == flow.Redirect || r.Kind == flow.Affinity {
			fmt.Fprintf(&b, " left %d", int32(r.Until-now))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
