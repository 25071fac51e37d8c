// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"slices"
	"strings"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
	"github.com/fairlead/fairlead/controller/desired/kube"
)

// ReasonNode is the reason of problems that nodes report.
const ReasonNode = "NodeProblem"

// sliceSize is what counts of a slice for the size of tables.
type sliceSize struct {
	family    discoveryv1.AddressType
	endpoints int
}

func serviceOf(o *discoveryv1.EndpointSlice) types.NamespacedName {
	return types.NamespacedName{Namespace: o.Namespace, Name: o.Labels[discoveryv1.LabelServiceName]}
}

func (w *Watcher) putSlice(o *discoveryv1.EndpointSlice) {
	w.state.PutSlice(o)
	name := serviceOf(o)
	if w.slices[name] == nil {
		w.slices[name] = map[string]sliceSize{}
	}
	before := w.endpoints(name)
	w.slices[name][o.Name] = sliceSize{o.AddressType, len(o.Endpoints)}
	if w.endpoints(name) > before && w.services[name] != nil {
		w.touched[name] = true // its table may have to grow
		w.signal()
	}
}

func (w *Watcher) dropSlice(o *discoveryv1.EndpointSlice) {
	w.state.DeleteSlice(o)
	name := serviceOf(o)
	if delete(w.slices[name], o.Name); len(w.slices[name]) == 0 {
		delete(w.slices, name)
	}
}

// endpoints is the number of endpoints of a Service, of the family that has
// more. Those with ports of their own stand in several slices and count in each.
func (w *Watcher) endpoints(name types.NamespacedName) int {
	count := map[discoveryv1.AddressType]int{}
	most := 0
	for _, s := range w.slices[name] {
		count[s.family] += s.endpoints
		most = max(most, count[s.family])
	}
	return most
}

// Endpoints is the number of endpoints of a Service, of the family that has more.
func (w *Watcher) Endpoints(name types.NamespacedName) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.endpoints(name)
}

// setProblems notes what a node says is wrong with Services there.
func (w *Watcher) setProblems(node string, problems []v1beta1.ServiceProblem) {
	old := w.problems[node]
	if slices.Equal(old, problems) {
		return
	}
	if w.problems[node] = problems; len(problems) == 0 {
		delete(w.problems, node)
	}
	for _, p := range slices.Concat(old, problems) {
		namespace, name, _ := strings.Cut(p.Service, "/")
		w.touched[types.NamespacedName{Namespace: namespace, Name: name}] = true
	}
	w.signal()
}

// nodeProblems are those of a Service, by the name of the node.
func (w *Watcher) nodeProblems(name types.NamespacedName) []kube.Problem {
	var found []kube.Problem
	for node, problems := range w.problems {
		for _, p := range problems {
			if p.Service == name.String() {
				found = append(found, kube.Problem{Reason: ReasonNode, Message: "node " + node + ": " + p.Message})
			}
		}
	}
	slices.SortFunc(found, func(a, b kube.Problem) int { return strings.Compare(a.Message, b.Message) })
	return found
}
