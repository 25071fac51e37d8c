// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
	"github.com/fairlead/fairlead/controller/desired"
	desiredkube "github.com/fairlead/fairlead/controller/desired/kube"
	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/xdp"
)

// publishInterval is how soon it is told that programs are not attached any
// more; what the agent does itself is told at once.
const publishInterval = 5 * time.Second

// problemsShown bounds the NodeState; the log has the rest.
const problemsShown = 32

// publish tells the cluster how the datapath does. It is the loop's.
func (a *agent) publish() {
	if a.kube == nil {
		return
	}
	state := a.view()
	attached := a.datapath.Attachments()
	if a.announcer != nil {
		a.announcer.forwards(len(attached) > 0)
	}
	v := thisVersion()
	status := &v1beta1.NodeStateStatus{
		Attached: state.table != nil && len(attached) > 0,
		BootID:   a.kube.boot, Version: v.Version, Mode: modesOf(a.datapath.name(), attached),
		RecordsVersion: int32(v.Records), WireVersion: int32(v.Wire), HashVersion: int32(v.Hash),
		Keys:     a.acceptedKeys(state.snapshot.Settings),
		Draining: a.kube.cluster.Draining(),
		Problems: serviceProblems(state.table, state.applyErr),
	}
	if a.announcer != nil {
		s := a.announcer.lastSummary()
		status.Announcements, status.NotAnnounced = s.announced, s.not
	}
	if uid, ok := a.kube.cluster.Node(); ok && !equality.Semantic.DeepEqual(status, a.published) {
		a.published = status
		a.kube.publisher.Set(status.DeepCopy(), uid)
	}
	a.kube.publisher.Check(a.kube.cluster.NodeState())
}

// acceptedKeys names the keys that the datapath accepts: while it does not have
// the newest settings, those of before.
func (a *agent) acceptedKeys(s desired.Settings) []string {
	if !a.reconfigure {
		a.accepted = desiredkube.Fingerprints(s.Keys)
	}
	return a.accepted
}

// serviceProblems are what the datapath could not take, by Service.
func serviceProblems(t *lb.Table, err error) []v1beta1.ServiceProblem {
	var problems []v1beta1.ServiceProblem
	for _, one := range leaves(err) {
		var about *lb.ServiceError
		if t == nil || !errors.As(one, &about) {
			continue
		}
		service := t.Service(about.Key)
		if service == nil || len(problems) == problemsShown {
			continue
		}
		problems = append(problems, v1beta1.ServiceProblem{Service: serviceName(service.Name), Message: one.Error()})
	}
	return problems
}

// kubernetesReport is how the agent does with its cluster.
type kubernetesReport struct {
	Synced         bool     `json:"synced"`
	Services       int      `json:"services"` // Fairlead's own
	EndpointSlices int      `json:"endpointSlices"`
	Endpoints      int      `json:"endpoints"`
	Nodes          int      `json:"nodes"`
	Members        int      `json:"members"` // nodes that forward
	Draining       int      `json:"draining"`
	RequestErrors  uint64   `json:"requestErrors"`
	Problems       []string `json:"problems,omitempty"`
}

// String is the line that fairlead status prints.
func (r *kubernetesReport) String() string {
	synced := "reading"
	if r.Synced {
		synced = "synced"
	}
	return fmt.Sprintf("%s, %d services, %d endpoints in %d slices, %d of %d nodes forward, %d endpoints drain", synced,
		r.Services, r.Endpoints, r.EndpointSlices, r.Members, r.Nodes, r.Draining)
}

func (a *agent) reportKubernetes() *kubernetesReport {
	if a.kube == nil {
		return nil
	}
	cluster := a.kube.cluster.Report()
	r := &kubernetesReport{
		Synced: cluster.Synced, Services: cluster.Counts.Services, EndpointSlices: cluster.Counts.Slices, Endpoints: cluster.Counts.Endpoints,
		Nodes: cluster.Counts.Nodes, Members: cluster.Counts.Members, Draining: cluster.Counts.Draining,
		RequestErrors: cluster.Errors, Problems: cluster.Problems,
	}
	if cluster.Error != "" {
		r.Problems = append(r.Problems, fmt.Sprintf("%s ago: %s", time.Since(cluster.ErrorAt).Round(time.Second), cluster.Error))
	}
	if _, err := a.kube.publisher.State(); err != nil {
		r.Problems = append(r.Problems, fmt.Sprintf("publish NodeState: %v", err))
	}
	return r
}

// modesOf are the modes of attached programs, as NodeState has them.
func modesOf(name string, attached []xdp.Attachment) string {
	if name == datapathUserspace {
		return name
	}
	mode := ""
	for _, m := range attached {
		if m.Mode != "" && mode == "" {
			mode = string(m.Mode)
		}
	}
	return mode
}

// serviceName is the namespace/name in the name of a service port.
func serviceName(port string) string { return port[:strings.LastIndexByte(port, ':')] }
