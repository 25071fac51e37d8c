// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/controller/desired"
	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/dataplane"
	"github.com/fairlead/fairlead/lb/flow"
	"github.com/fairlead/fairlead/lb/forward"
	"github.com/fairlead/fairlead/xdp"
)

// explainable is what an explanation reads of the datapath beside its tables.
// Nothing of it writes.
type explainable interface {
	MTU() int
	FlowTable() (key [16]byte, buckets int)
	FlowBucket(client netip.Addr, port uint16) (index int, records [flow.Ways]flow.Record)
	NextHop(lb.NodeID) (xdp.NextHop, error)
	PathMTU(lb.NodeID) forward.PathMTU
}

// PathMTU is what the loops learned: errors about tunnels come to them, and
// what they encapsulate does not go by the programs' own.
func (u *userspace) PathMTU(id lb.NodeID) forward.PathMTU { return u.memory.PathMTU(id) }

// notKnown is an answer about something that this agent does not have.
type notKnown struct{ error }

func (a *agent) handleExplain(w http.ResponseWriter, r *http.Request) {
	q, err := parseAsked(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	report, err := a.explain(q)
	var unknown notKnown
	switch {
	case errors.As(err, &unknown):
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(report) // the client is gone then
}

// explain decides about the packets on copies of the datapath's tables and of
// the flow records that matter, as they are at this moment.
func (a *agent) explain(q asked) (explainReport, error) {
	state := a.view()
	settings := state.snapshot.Settings
	if err := checkNode(q, state.snapshot); err != nil {
		return explainReport{}, err
	}
	maps := a.datapath.tables()
	tables, err := maps.Load()
	if err != nil {
		return explainReport{}, fmt.Errorf("read tables: %w", err)
	}
	if !tables.VIPs[q.vip.Addr()] {
		return explainReport{}, notKnown{noVIP(q, settings.Node, tables)}
	}
	explainer, err := forward.NewExplainer(a.forwardSettings(settings), maps.Limits(), tables, q.vip.Addr(), forward.Sources{
		Tables: maps.ReadTable, Flows: a.datapath.FlowBucket, Paths: a.datapath.PathMTU,
	})
	if err != nil {
		return explainReport{}, fmt.Errorf("copy tables: %w", err)
	}
	x := explainContext{state: state, tables: tables, datapath: a.datapath, now: xdp.NowTick()}
	report := explainReport{
		Node: settings.Node, Tables: tablesState(state), Revision: state.applied,
		Protocol: q.proto.String(), Client: q.client, VIP: q.vip,
	}
	for _, p := range q.packets {
		e, err := explainer.Explain(forward.Question{Proto: q.proto, Client: q.client, VIP: q.vip, Flags: p.flags}, x.now)
		if err != nil {
			return explainReport{}, fmt.Errorf("explain %s: %w", p.name, err)
		}
		one, err := x.report(p.name, e)
		if err != nil {
			return explainReport{}, err
		}
		report.Packets = append(report.Packets, one)
	}
	return report, nil
}

// forwardSettings are those that the programs run with.
func (a *agent) forwardSettings(s desired.Settings) forward.Settings {
	mtu := a.datapath.MTU()
	key, buckets := a.datapath.FlowTable()
	v4, v6 := forward.MSSClamps(mtu, s.Addrs)
	return forward.Settings{
		InternalIPs: s.Addrs, GenevePort: s.GenevePort, Keys: s.Keys, MTU: mtu,
		MSSClampV4: v4, MSSClampV6: v6, FlowBuckets: buckets, FlowKey: key, Conntrack: a.isTracked,
	}
}

// isTracked says that conntrack knows the connection as kube-proxy's, as far as
// it can be asked.
func (a *agent) isTracked(c forward.Connection) bool {
	asked := xdp.Connection{
		Service: lb.ServiceKey{VIP: netip.AddrFrom16(c.VIP).Unmap(), Port: c.ServicePort, Proto: lb.Proto(c.Proto)},
		Client:  netip.AddrPortFrom(netip.AddrFrom16(c.Client).Unmap(), c.ClientPort),
	}
	tracked := false
	err := a.datapath.Connections(func(known xdp.Connection) { tracked = tracked || known == asked })
	return tracked && err == nil
}

// checkNode refuses to speak for another node.
func checkNode(q asked, s *desired.Snapshot) error {
	if q.node == "" || q.node == s.Settings.Node {
		return nil
	}
	var names []string
	for _, n := range s.Nodes {
		if n.Name == q.node {
			return notKnown{fmt.Errorf("--node %q: this is the agent of node %q and knows the tables and connections of that node only: run 'fairlead explain %s %s %s' on node %q",
				q.node, s.Settings.Node, q.proto, q.client, q.vip, q.node)}
		}
		names = append(names, n.Name)
	}
	return notKnown{fmt.Errorf("--node %q: not among the nodes: %s", q.node, strings.Join(names, ", "))}
}

const vipsShown = 8

// noVIP says which addresses there are instead.
func noVIP(q asked, node string, tables dataplane.State) error {
	var vips []netip.Addr
	for vip := range tables.VIPs {
		vips = append(vips, vip)
	}
	slices.SortFunc(vips, netip.Addr.Compare)
	what := "has no VIPs"
	if len(vips) > 0 {
		var names []string
		for _, vip := range vips[:min(len(vips), vipsShown)] {
			names = append(names, vip.String())
		}
		if more := len(vips) - len(names); more > 0 {
			names = append(names, fmt.Sprintf("and %d more", more))
		}
		what = "has the VIPs " + strings.Join(names, ", ")
	}
	return fmt.Errorf("%s %q: %s is no VIP, so its packets pass untouched: node %q %s", argVIP, q.vip, q.vip.Addr(), node, what)
}
