// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Nodes that serve are those with endpoints that get new connections.
func TestServing(t *testing.T) {
	local := func(s *corev1.Service) { s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal }
	for _, test := range []struct {
		name      string
		edit      []func(*corev1.Service)
		endpoints []string
		want      []string
	}{
		{"nobody", nil, nil, nil},
		{"both", nil, []string{"10.244.2.2@node2 ready serving", "10.244.1.2@node1 ready serving", "10.244.1.3@node1 ready serving"}, []string{"node1", "node2"}},
		{"the terminating one is in reserve", nil, []string{"10.244.1.2@node1 ready serving", "10.244.2.2@node2 serving terminating"}, []string{"node1"}},
		{
			"under Local each node by itself", []func(*corev1.Service){local},
			[]string{"10.244.1.2@node1 ready serving", "10.244.2.2@node2 serving terminating"}, []string{"node1", "node2"},
		},
		{"not where nobody forwards", nil, []string{"10.244.1.2@node1 ready serving", "10.244.3.2@node3 ready serving"}, []string{"node1"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld("node1")
			w.addNode(1)
			w.addNode(2)
			w.PutNode(nodeObject(3, "boot"))
			w.PutService(web(test.edit...))
			w.PutSlice(slice("a", 8080, test.endpoints...))
			w.apply(t)
			got := w.Serving()
			if len(got) != 1 || got[0].Object.Name != "web" || !slices.Equal(got[0].Nodes, test.want) {
				t.Errorf("%+v, want %v", got, test.want)
			}
			w.PutSlice(slice("a", 8080))
			w.apply(t)
			if got := w.Serving(); len(got) != 1 || len(got[0].Nodes) > 0 {
				t.Errorf("without endpoints: %+v", got)
			}
			w.DeleteService(types.NamespacedName{Namespace: "default", Name: "web"})
			w.apply(t)
			if got := w.Serving(); len(got) > 0 {
				t.Errorf("deleted: %+v", got)
			}
		})
	}
}

func TestAttached(t *testing.T) {
	w := newWorld("node1")
	w.PutNode(nodeObject(1, "boot")) // its own, of which others do not know yet
	w.addNode(2)
	w.PutNode(nodeObject(3, "another"))
	w.PutNodeState(stateObject(3))
	w.PutNode(nodeObject(4, "boot"))
	w.PutNodeState(stateObject(5))
	older := stateObject(6)
	older.Status.WireVersion = 0
	w.PutNode(nodeObject(6, "boot"))
	w.PutNodeState(older)
	for node, want := range map[string][2]bool{
		"node1": {}, "node2": {true, true}, "node3": {false, true}, "node4": {}, "node5": {}, "node6": {true, true}, "node7": {},
	} {
		if attached, known := w.Attached(node); attached != want[0] || known != want[1] {
			t.Errorf("%s: %t %t, want %v", node, attached, known, want)
		}
	}
}
