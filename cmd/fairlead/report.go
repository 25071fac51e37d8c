// SPDX-License-Identifier: Apache-2.0

package main

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/xdp"
)

// statusReport is what fairlead status shows and -o json prints.
type statusReport struct {
	Node          string        `json:"node"`
	Version       versionReport `json:"version"`
	UptimeSeconds int64         `json:"uptimeSeconds"`
	Ready         bool          `json:"ready"`
	Datapath      string        `json:"datapath"` // kernel or userspace
	XDPMode       string        `json:"xdpMode"`  // of all interfaces, "a, b" where they differ
	// Waiting says what has to come before the agent takes over.
	Waiting    string            `json:"waiting,omitempty"`
	Kubernetes *kubernetesReport `json:"kubernetes,omitempty"`
	Config     configReport      `json:"config"`
	Tables     tablesReport      `json:"tables"`
	Interfaces []interfaceReport `json:"interfaces"`
	Sockets    []socketReport    `json:"sockets,omitempty"`
	Services   []serviceReport   `json:"services"`
	Counters   []counterReport   `json:"counters"`
}

// configReport is about the file; Revision is the running one's.
type configReport struct {
	Path     string   `json:"path"`
	State    string   `json:"state"` // ok or error
	Revision string   `json:"revision"`
	Problems []string `json:"problems,omitempty"`
}

// tablesReport says whether the datapath has all of the running configuration.
type tablesReport struct {
	State string `json:"state"` // synced, waiting or retrying
	// Revision is the configuration that was applied last, whole or not.
	Revision string   `json:"revision"`
	Problems []string `json:"problems,omitempty"`
}

type interfaceReport struct {
	Name    string `json:"name"`
	XDPMode string `json:"xdpMode"` // native, generic, off; empty: not attached
}

// socketReport is a queue of an interface in the userspace datapath, in frames.
type socketReport struct {
	Interface string `json:"interface"`
	Queue     int    `json:"queue"`
	Mode      string `json:"mode"` // copy or zerocopy
	Received  uint64 `json:"received"`
	Sent      uint64 `json:"sent"`
	Dropped   uint64 `json:"dropped"` // before they were received
	NotSent   uint64 `json:"notSent"`
}

// serviceReport is a service port.
type serviceReport struct {
	Name     string     `json:"name"`
	VIP      netip.Addr `json:"vip"`
	Port     uint16     `json:"port"`
	Protocol string     `json:"protocol"`
	Left     bool       `json:"leftToKubeProxy,omitempty"`
	// Adopted: the service was taken over from kube-proxy, which still has so many
	// connections of it as far as they have been counted.
	Adopted         *int            `json:"adoptedConnections,omitempty"`
	Policy          string          `json:"externalTrafficPolicy"`
	AffinitySeconds int64           `json:"affinitySeconds"`
	SourceRanges    []netip.Prefix  `json:"sourceRanges,omitempty"`
	TableSize       int             `json:"tableSize"`
	Packets         uint64          `json:"packets"`
	Bytes           uint64          `json:"bytes"`
	Backends        []backendReport `json:"backends"`
}

type backendReport struct {
	Address netip.AddrPort `json:"address"`
	Node    string         `json:"node"`
	State   string         `json:"state"` // ready or draining
	Weight  uint16         `json:"weight"`
}

type counterReport struct {
	Verdict string `json:"verdict"`
	Reason  string `json:"reason"`
	Packets uint64 `json:"packets"`
}

// flowReport is a line of the answer to /flows.
type flowReport struct {
	Error    string         `json:"error,omitempty"` // and nothing else
	Protocol string         `json:"protocol"`
	Client   netip.AddrPort `json:"client"`
	VIP      netip.AddrPort `json:"vip"`
	Service  string         `json:"service"`
	Backend  netip.AddrPort `json:"backend"`
	// PodPort is the client's port as the Pod sees it.
	PodPort     uint16   `json:"podPort"`
	Kind        string   `json:"kind"`
	State       string   `json:"state"`
	Flags       []string `json:"flags"`
	IdleSeconds int64    `json:"idleSeconds"`
}

func (a *agent) report() (statusReport, error) {
	state := a.view()
	if state.snapshot == nil {
		return a.reportWaiting(state), nil
	}
	counters, err := a.datapath.Counters()
	if err != nil {
		return statusReport{}, err
	}
	services, err := a.reportServices(state)
	if err != nil {
		return statusReport{}, err
	}
	sockets, err := a.datapath.sockets()
	if err != nil {
		return statusReport{}, err
	}
	r := statusReport{
		Node:          state.snapshot.Settings.Node,
		Version:       thisVersion(),
		UptimeSeconds: int64(time.Since(a.started).Seconds()),
		Ready:         state.ready,
		Config: configReport{
			Path: a.source.Place(), State: configState(state), Revision: state.snapshot.Revision, Problems: problemsOf(state.configErr),
		},
		Tables:     tablesReport{State: tablesState(state), Revision: state.applied, Problems: problemsOf(state.applyErr)},
		Interfaces: reportInterfaces(state.snapshot.Settings.Interfaces, a.datapath.Attachments()),
		Services:   services,
		Datapath:   a.datapath.name(),
		Sockets:    sockets,
		Kubernetes: a.reportKubernetes(),
	}
	r.XDPMode = commonMode(r.Interfaces)
	for _, c := range counters {
		r.Counters = append(r.Counters, counterReport(c))
	}
	return r, nil
}

// reportWaiting is the report before there is anything to report.
func (a *agent) reportWaiting(state state) statusReport {
	r := statusReport{
		Version: thisVersion(), UptimeSeconds: int64(time.Since(a.started).Seconds()), Kubernetes: a.reportKubernetes(),
		Config:   configReport{Path: a.source.Place(), State: configState(state), Problems: problemsOf(state.configErr)},
		Tables:   tablesReport{State: "waiting"},
		Services: []serviceReport{}, Interfaces: []interfaceReport{}, Counters: []counterReport{},
	}
	if state.waiting != nil {
		r.Waiting = state.waiting.Error()
	}
	if a.kube != nil {
		r.Node = a.kube.flags.node
	}
	return r
}

func configState(s state) string {
	if s.configErr != nil {
		return "error"
	}
	return "ok"
}

func tablesState(s state) string {
	switch {
	case s.applyErr != nil:
		return "retrying"
	case s.snapshot == nil || !s.ready || s.applied != s.snapshot.Revision:
		return "waiting"
	}
	return "synced"
}

// reportInterfaces names every wanted interface, and attached ones that are not.
func reportInterfaces(wanted []string, attached []xdp.Attachment) []interfaceReport {
	reports := make([]interfaceReport, 0, len(wanted))
	for _, name := range wanted {
		reports = append(reports, interfaceReport{Name: name})
	}
	for _, a := range attached {
		i := slices.IndexFunc(reports, func(r interfaceReport) bool { return r.Name == a.Interface })
		if i < 0 {
			i = len(reports)
			reports = append(reports, interfaceReport{Name: a.Interface})
		}
		reports[i].XDPMode = string(a.Mode)
	}
	return reports
}

func commonMode(interfaces []interfaceReport) string {
	var modes []string
	for _, i := range interfaces {
		if i.XDPMode != "" && !slices.Contains(modes, i.XDPMode) {
			modes = append(modes, i.XDPMode)
		}
	}
	return strings.Join(modes, ", ")
}

func (a *agent) reportServices(state state) ([]serviceReport, error) {
	reports := []serviceReport{}
	stats, err := a.stats(state)
	if err != nil || state.table == nil {
		return reports, err
	}
	for _, s := range state.table.Services() {
		report := reportService(*s, stats[s.Key])
		if n, adopted := state.adopted[s.Key]; adopted {
			report.Adopted = &n
		}
		reports = append(reports, report)
	}
	return reports, nil
}

// stats reads the counters of the service ports that the datapath has.
func (a *agent) stats(state state) (map[lb.ServiceKey]xdp.Stats, error) {
	if state.table == nil {
		return nil, nil
	}
	keys := map[lb.ServiceID]lb.ServiceKey{}
	for _, s := range state.table.Services() {
		if id, ok := state.id(s.Key); ok {
			keys[id] = s.Key
		}
	}
	byID, err := a.datapath.ServiceStats(slices.Collect(maps.Keys(keys)))
	if err != nil {
		return nil, err
	}
	stats := make(map[lb.ServiceKey]xdp.Stats, len(byID))
	for id, key := range keys {
		stats[key] = byID[id]
	}
	return stats, nil
}

func reportService(s lb.Service, stats xdp.Stats) serviceReport {
	r := serviceReport{
		Name: s.Name, VIP: s.Key.VIP, Port: s.Key.Port, Protocol: s.Key.Proto.String(), Left: s.Left, Policy: s.Policy.String(),
		AffinitySeconds: int64(s.Affinity.Seconds()), SourceRanges: s.SourceRanges, TableSize: s.TableSize,
		Packets: stats.Packets, Bytes: stats.Bytes, Backends: []backendReport{},
	}
	for _, b := range s.Backends {
		state := "ready"
		if b.Draining {
			state = "draining"
		}
		r.Backends = append(r.Backends, backendReport{Address: b.Addr, Node: b.Node, State: state, Weight: b.Weight})
	}
	return r
}

func reportFlow(f xdp.Flow, service string) flowReport {
	return flowReport{
		Protocol: f.Proto.String(), Client: f.Client, VIP: f.VIP, Service: service, Backend: f.Backend, PodPort: f.PodPort,
		Kind: f.Kind, State: f.State, Flags: append([]string{}, f.Flags...), IdleSeconds: int64(f.Idle.Seconds()),
	}
}
