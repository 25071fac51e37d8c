// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
	desired "github.com/fairlead/fairlead/controller/desired/kube"
	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/kube/agent"
	"github.com/fairlead/fairlead/perf/lab/traffic"
)

// flowsEach is how many connections of each kind and family wait for events.
const flowsEach = 20

// TestEvents lets happen to a cluster what happens to clusters, while connections
// are open and requests go on. None may break but those whose Pod is gone.
func TestEvents(t *testing.T) {
	w := newWorld(t, "generic", 3)
	w.apply(web)
	w.pods("web", replicas)
	w.serve("web", []netip.Addr{vip4, vip6})
	w.backends("web", replicas, 0)
	for _, event := range []struct {
		name string
		do   func(*world)
	}{
		{"requests", (*world).requests},
		{"unready and ready again", (*world).readiness},
		{"all unready", (*world).allUnready},
		{"relabelled Pod drains", (*world).relabel},
		{"relabelled while its agent is dead", (*world).relabelUnseen},
		{"rolling update", (*world).rollingUpdate},
		{"datagrams of a Pod that is gone", (*world).datagrams},
		{"key replaced", (*world).rotateKey},
		{"agents killed", (*world).killAgents},
		{"API server gone and back", (*world).stopAPIServer},
		{"a node leaves and comes back", (*world).nodeLeaves},
	} {
		if !t.Run(event.name, func(t *testing.T) {
			w.t = t
			defer func() { w.t = t }()
			w.flows = traffic.Flows{}
			defer w.flows.Close()
			w.open(flowsEach, target("tcp", vip4, 80), target("tcp", vip6, 80))
			event.do(w)
		}) {
			break // what comes next would tell nothing new
		}
	}
}

func (w *world) requests() {
	for _, to := range webTargets() {
		if r := w.ask(to, 200); len(r.Shares) != replicas {
			w.t.Errorf("%v: answers from %v", to, r.Shares)
		}
	}
}

// notAsked makes requests that none of the Pods may answer. They are TCP: a
// datagram from a port that one came from before belongs to that one's flow.
func (w *world) notAsked(pods ...string) {
	w.t.Helper()
	for _, to := range webTargets()[:2] {
		r := w.ask(to, 200)
		for _, pod := range pods {
			if r.Shares[pod] > 0 {
				w.t.Errorf("%s %s: %s answered %d new requests", to.Network, to.Addr, pod, r.Shares[pod])
			}
		}
	}
}

// busy is a Pod that has connections, and its node.
func (w *world) busy() (*corev1.Pod, *lab.Node) {
	w.t.Helper()
	byPod := w.flows.ByPod()
	names := slices.Sorted(maps.Keys(byPod))
	if len(names) < replicas {
		w.t.Fatalf("connections at %v: want some at all Pods", byPod)
	}
	pod := &corev1.Pod{}
	w.must(w.client.Get(w.t.Context(), types.NamespacedName{Namespace: namespace, Name: names[0]}, pod))
	for _, n := range w.Lab.Nodes {
		if n.Host == pod.Spec.NodeName {
			return pod, n
		}
	}
	w.t.Fatalf("%s is on no node of the lab", pod.Name)
	return nil, nil
}

func (w *world) readiness() {
	pod, _ := w.busy()
	w.during("unready", func() {
		w.must(w.nodes.SetReady(w.t.Context(), namespace, pod.Name, false))
		w.backends("web", replicas-1, 1)
		w.notAsked(pod.Name)
	})
	w.during("ready again", func() {
		w.must(w.nodes.SetReady(w.t.Context(), namespace, pod.Name, true))
		w.backends("web", replicas, 0)
		w.requests()
	})
}

// allUnready refuses new connections, as kube-proxy does, and keeps the old
// ones. A datagram is an old one if one came from its port before; the others
// are dropped at the node that has their Pod.
func (w *world) allUnready() {
	pods := w.pods("web", replicas)
	w.during("all unready", func() {
		for _, pod := range pods {
			w.must(w.nodes.SetReady(w.t.Context(), namespace, pod.Name, false))
		}
		w.backends("web", 0, replicas)
		w.freshPorts()
		for _, to := range webTargets() {
			r := traffic.Requests(w.t.Context(), w.Lab.Client, to, 8)
			if r.Failed != 8 || to.Network == "tcp" && !errors.Is(r.FirstError, unix.ECONNREFUSED) {
				w.t.Errorf("%s %s: %d of 8 requests failed: %v", to.Network, to.Addr, r.Failed, r.FirstError)
			}
		}
	})
	w.during("ready again", func() {
		for _, pod := range pods {
			w.must(w.nodes.SetReady(w.t.Context(), namespace, pod.Name, true))
		}
		w.backends("web", replicas, 0)
		w.requests()
	})
}

// freshPorts gives the client other ports than its datagrams came from before.
func (w *world) freshPorts() {
	w.t.Helper()
	const path = "/proc/sys/net/ipv4/ip_local_port_range" // IPv6's, too
	w.must(w.Lab.Client.Do(func() error { return os.WriteFile(path, []byte("20000 29999"), 0) }))
}

// label takes a Pod out of its Service, which gets another one in its place.
func (w *world) label(pod *corev1.Pod) {
	w.t.Helper()
	patch := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":{"app":"retired"}}}`))
	w.must(w.client.Patch(w.t.Context(), pod, patch))
}

func (w *world) delete(pod *corev1.Pod) {
	w.t.Helper()
	w.must(w.client.Delete(w.t.Context(), pod, client.GracePeriodSeconds(0)))
}

func (w *world) relabel() {
	pod, node := w.busy()
	w.during("relabelled", func() {
		w.label(pod)
		w.pods("web", replicas)
		w.backends("web", replicas, 1)
		w.waitFor("drains by its NodeState", func() error {
			if state := w.nodeState(node); len(state.Status.Draining) != 4 { // two ports, two families
				return fmt.Errorf("%v", state.Status.Draining)
			}
			return nil
		})
		w.notAsked(pod.Name)
	})
	w.forget(pod)
	w.during("deleted", func() {
		w.delete(pod)
		w.backends("web", replicas, 0)
		w.requests()
	})
}

// forget leaves a Pod's connections alone: they are about to break.
func (w *world) forget(pod *corev1.Pod) {
	var rest []*traffic.Flow
	var gone traffic.Flows
	for _, f := range w.flows.List {
		if f.Pod == pod.Name {
			gone.List = append(gone.List, f)
		} else {
			rest = append(rest, f)
		}
	}
	gone.Close()
	w.flows.List = rest
}

// relabelUnseen is relabel while the agent that would notice is not there.
func (w *world) relabelUnseen() {
	pod, node := w.busy()
	w.during("relabelled", func() {
		w.must(w.Stop(node))
		w.label(pod)
		w.pods("web", replicas)
		w.must(w.Start(node))
		w.backends("web", replicas, 1)
		w.notAsked(pod.Name)
	})
	w.forget(pod)
	w.during("deleted", func() {
		w.delete(pod)
		w.backends("web", replicas, 0)
	})
}

// rollingUpdate replaces all Pods. The old ones go on while they have
// connections, as programs do that end well.
func (w *world) rollingUpdate() {
	old := w.pods("web", replicas)
	for _, pod := range old {
		w.nodes.KeepTerminating(namespace, pod.Name, true)
	}
	ctx, stop := context.WithCancel(w.t.Context())
	defer stop()
	requests := make(chan traffic.Result, 1)
	go func() { requests <- w.endless(ctx) }()
	w.during("rolling update", func() {
		_, err := w.Control.Kubectl(w.t.Context(), "", "rollout", "restart", "deployment/web")
		w.must(err)
		w.waitFor("as many new Pods", func() error {
			pods, err := w.Control.ReadyPods(w.t.Context(), namespace, "app=web")
			fresh := 0
			for _, p := range pods {
				if p.DeletionTimestamp == nil && !slices.ContainsFunc(old, func(o corev1.Pod) bool { return o.Name == p.Name }) {
					fresh++
				}
			}
			if err == nil && fresh != replicas {
				err = fmt.Errorf("%d new ones", fresh)
			}
			return err
		})
		w.backends("web", replicas, replicas)
	})
	for i := range old {
		w.forget(&old[i])
		w.nodes.KeepTerminating(namespace, old[i].Name, false)
	}
	w.open(flowsEach, target("tcp", vip4, 80), target("tcp", vip6, 80))
	w.during("old Pods end", func() { w.backends("web", replicas, 0) })
	stop()
	if r := <-requests; r.Failed > 0 || r.Requests == 0 {
		w.t.Errorf("%d of %d requests failed: %v", r.Failed, r.Requests, r.FirstError)
	} else {
		w.t.Logf("%d requests during the update", r.Requests)
	}
}

// endless makes requests until the context ends, with those in flight.
func (w *world) endless(ctx context.Context) traffic.Result {
	var sum traffic.Result
	for ctx.Err() == nil {
		r := traffic.Requests(context.WithoutCancel(ctx), w.Lab.Client, target("tcp", vip4, 80), 50)
		sum.Requests, sum.Failed = sum.Requests+r.Requests, sum.Failed+r.Failed
		if sum.FirstError == nil {
			sum.FirstError = r.FirstError
		}
	}
	return sum
}

// datagrams from one client port go to another Pod at once when theirs is gone.
func (w *world) datagrams() {
	socket := &datagrams{world: w, to: netip.AddrPortFrom(vip4, 80)}
	defer socket.close()
	first := socket.answer()
	for range 20 {
		if got := socket.answer(); got != first {
			w.t.Fatalf("%s answered, then %s", first, got)
		}
	}
	pod := &corev1.Pod{}
	w.must(w.client.Get(w.t.Context(), types.NamespacedName{Namespace: namespace, Name: first}, pod))
	w.forget(pod)
	w.delete(pod)
	w.waitFor("another Pod", func() error {
		got, err := socket.ask(time.Second)
		if err == nil && got == first {
			err = fmt.Errorf("%s still answers", got)
		}
		return err
	})
	for range 20 {
		if got := socket.answer(); got == first {
			w.t.Errorf("%s answers after its end", got)
		}
	}
	w.pods("web", replicas)
	w.backends("web", replicas, 0)
}

// rotateKey replaces the key in the Secret, in one step, while everybody sends.
func (w *world) rotateKey() {
	next := map[string]string{desired.KeyData: "6e6577206b6579206f66207468652077"}
	first, err := desired.ParseKeys(&corev1.Secret{Data: map[string][]byte{desired.KeyData: []byte(firstKey)}})
	w.must(err)
	before := w.counter("bad_mac")
	w.during("key replaced", func() {
		w.setKey(next)
		w.waitFor("all nodes have the new key alone", func() error {
			for _, n := range w.Lab.Nodes {
				keys := w.nodeState(n).Status.Keys
				if len(keys) != 1 || keys[0] == desired.Fingerprint(first.Key) {
					return fmt.Errorf("%s accepts %v", n.Host, keys)
				}
			}
			return nil
		})
		w.requests()
	})
	if lost := w.counter("bad_mac") - before; lost > 0 {
		w.t.Errorf("%d packets with a key that was not accepted", lost)
	}
}

// counter is the sum of a reason's packets over all nodes.
func (w *world) counter(reason string) (sum uint64) {
	w.t.Helper()
	for _, n := range w.Lab.Nodes {
		s, err := w.Status(w.t.Context(), n)
		w.must(err)
		for _, c := range s.Counters {
			if c.Reason == reason {
				sum += c.Packets
			}
		}
	}
	return sum
}

func (w *world) nodeState(n *lab.Node) *v1beta1.NodeState {
	w.t.Helper()
	state := &v1beta1.NodeState{}
	w.must(w.client.Get(w.t.Context(), types.NamespacedName{Namespace: agent.Namespace, Name: n.Host}, state))
	return state
}

func (w *world) killAgents() {
	w.during("agents killed", func() {
		for _, n := range w.Lab.Nodes {
			w.must(w.Stop(n))
		}
		w.requests()
		for _, n := range w.Lab.Nodes {
			w.must(w.Start(n))
		}
		w.backends("web", replicas, 0)
		w.requests()
	})
}

// stopAPIServer leaves the agents alone, restarts one of them meanwhile, and
// changes the cluster as soon as the API server is back.
func (w *world) stopAPIServer() {
	restarted := w.Lab.Nodes[1]
	w.during("API server gone", func() {
		w.must(w.Control.StopAPIServer())
		w.requests()
		w.must(w.Stop(restarted))
		w.must(w.Start(restarted))
		w.must(w.Wait(w.t.Context(), restarted, func(s agent.Status) error {
			if s.Waiting == "" || s.Ready {
				return fmt.Errorf("waiting %q, ready %t", s.Waiting, s.Ready)
			}
			return nil
		}))
		w.requests()
	})
	w.during("API server back", func() {
		w.must(w.Control.StartAPIServer(w.t.Context()))
		w.must(w.Wait(w.t.Context(), restarted, func(s agent.Status) error {
			if !s.Ready {
				return fmt.Errorf("waiting: %s", s.Waiting)
			}
			return nil
		}))
		w.backends("web", replicas, 0)
		w.requests()
	})
	pod, _ := w.busy()
	w.during("a change after that", func() {
		w.must(w.nodes.SetReady(w.t.Context(), namespace, pod.Name, false))
		w.backends("web", replicas-1, 1)
		w.must(w.nodes.SetReady(w.t.Context(), namespace, pod.Name, true))
		w.backends("web", replicas, 0)
	})
}

// nodeLeaves takes Fairlead off a node: its Pods get no more from outside, while
// the connections of all others live.
func (w *world) nodeLeaves() {
	last := w.Lab.Nodes[2]
	rest := w.Lab.Nodes[:2]
	for _, vip := range []netip.Addr{vip4, vip6} {
		w.must(w.Lab.SetVIPRoute(vip, rest...))
	}
	here := 0
	for _, pod := range w.pods("web", replicas) {
		if pod.Spec.NodeName == last.Host {
			here++
			w.forget(&pod)
		}
	}
	if here == 0 || here == replicas {
		w.t.Fatalf("%d of the Pods are on %s", here, last.Host)
	}
	ready := func(n int) {
		for _, node := range rest {
			w.must(w.Wait(w.t.Context(), node, func(s agent.Status) error { return s.CheckBackends(namespace+"/web", n, 0) }))
		}
	}
	w.during("left", func() {
		w.must(w.Stop(last))
		w.must(w.Cleanup(w.t.Context(), last))
		if w.nodeState(last).Status.Attached {
			w.t.Error("its NodeState says that it is attached")
		}
		ready(replicas - here)
		for _, to := range webTargets() {
			w.ask(to, 100)
		}
	})
	w.during("back", func() {
		w.must(w.Start(last))
		w.backends("web", replicas, 0)
		for _, vip := range []netip.Addr{vip4, vip6} {
			w.must(w.Lab.SetVIPRoute(vip, w.Lab.Nodes...))
		}
		w.requests()
	})
	w.during("its Node deleted", func() {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: last.Host}}
		w.must(w.client.Delete(w.t.Context(), node))
		ready(replicas)
	})
}
