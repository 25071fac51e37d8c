// SPDX-License-Identifier: Apache-2.0

package proxycheck

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/kubernetes/pkg/proxy"

	"github.com/fairlead/fairlead/controller/desired/kube"
	"github.com/fairlead/fairlead/lb"
)

// choice is what a client from outside may reach by way of one node.
type choice struct {
	endpoints []string // sorted
	// any says that somewhere in the cluster there is one: without, connections
	// are refused, with one elsewhere they are dropped.
	any bool
}

// port names a port of one VIP on one node.
type port struct {
	node string
	key  lb.ServiceKey
}

// proxied is what kube-proxy says, on every node and for every VIP.
func proxied(c *cluster) map[port]choice {
	choices := map[port]choice{}
	for _, family := range []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol} {
		services := proxy.ServicePortMap{}
		tracker := proxy.NewServiceChangeTracker(family, nil, nil)
		tracker.Update(nil, c.service)
		services.Update(tracker)
		for _, node := range c.nodes {
			endpoints := proxy.EndpointsMap{}
			tracker := proxy.NewEndpointsChangeTracker(family, node, nil, nil)
			for _, s := range c.slices {
				tracker.EndpointSliceUpdate(s, false)
			}
			endpoints.Update(tracker)
			for name, service := range services {
				var one choice
				cluster, local, _, any := proxy.CategorizeEndpoints(endpoints[name], service, node, nil)
				if one.any = any; service.ExternalPolicyLocal() {
					cluster = local
					// The Service is also one inside the cluster, where more counts.
					one.any = anyEligible(endpoints[name])
				}
				for _, e := range cluster {
					one.endpoints = append(one.endpoints, e.String())
				}
				slices.Sort(one.endpoints)
				for _, vip := range service.LoadBalancerVIPs() {
					addr, _ := netip.AddrFromSlice(vip)
					proto, err := lb.ParseProto(string(service.Protocol()))
					if err != nil {
						continue // SCTP is not ours
					}
					choices[port{node, lb.ServiceKey{VIP: addr.Unmap(), Port: uint16(service.Port()), Proto: proto}}] = one
				}
			}
		}
	}
	return choices
}

func anyEligible(endpoints []proxy.Endpoint) bool {
	return slices.ContainsFunc(endpoints, func(e proxy.Endpoint) bool {
		return e.IsReady() || e.IsServing() && e.IsTerminating()
	})
}

// ours is what the datapath is told on every node.
func ours(c *cluster) map[port]choice {
	choices := map[port]choice{}
	for _, node := range c.nodes {
		for _, s := range c.state(node).Apply(time.Time{}).PutServices {
			var one choice
			for _, b := range s.Backends {
				if b.Draining {
					continue
				}
				one.any = true
				if s.Policy == lb.Cluster || b.Node == node {
					one.endpoints = append(one.endpoints, b.Addr.String())
				}
			}
			slices.Sort(one.endpoints)
			choices[port{node, s.Key}] = one
		}
	}
	return choices
}

// TestChoice makes up clusters for FAIRLEAD_FUZZTIME, or a few thousand of them.
func TestChoice(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("FAIRLEAD_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	patience, _ := time.ParseDuration(os.Getenv("FAIRLEAD_FUZZTIME"))
	end, n, with := time.Now().Add(patience), 0, 0
	for ; n < 5000 || time.Now().Before(end); n++ {
		c := random(rand.New(rand.NewPCG(seed, uint64(n))))
		want, got := proxied(c), ours(c)
		if len(got) != len(want) {
			t.Fatalf("seed %d, cluster %d: %d service ports, kube-proxy has %d\n%s", seed, n, len(got), len(want), c)
		}
		for p, w := range want {
			if g, ok := got[p]; !ok || g.any != w.any || !slices.Equal(g.endpoints, w.endpoints) {
				t.Fatalf("seed %d, cluster %d, %s on %s: %v, kube-proxy has %v\n%s", seed, n, p.key, p.node, g, w, c)
			}
			with += min(1, len(w.endpoints))
		}
	}
	t.Logf("%d clusters of seed %d, %d choices with endpoints", n, seed, with)
	if with < n {
		t.Errorf("only %d choices with endpoints in %d clusters", with, n)
	}
}

// The rest of a Service, where a rule is Kubernetes' and not ours.
func TestServiceFields(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		c := random(r)
		services := proxy.ServicePortMap{}
		tracker := proxy.NewServiceChangeTracker(corev1.IPv4Protocol, nil, nil)
		tracker.Update(nil, c.service)
		services.Update(tracker)
		for _, s := range c.state(c.nodes[0]).Apply(time.Time{}).PutServices {
			if !s.Key.VIP.Is4() {
				continue
			}
			name := proxy.ServicePortName{
				NamespacedName: types.NamespacedName{Namespace: c.service.Namespace, Name: c.service.Name},
				Port:           c.portName(s.Key), Protocol: corev1.Protocol(map[lb.Proto]string{lb.TCP: "TCP", lb.UDP: "UDP"}[s.Key.Proto]),
			}
			p, ok := services[name]
			if !ok {
				t.Fatalf("kube-proxy has no %s\n%s", name, c)
			}
			affinity := time.Duration(0)
			if p.SessionAffinityType() == corev1.ServiceAffinityClientIP {
				affinity = time.Duration(p.StickyMaxAgeSeconds()) * time.Second
			}
			if s.Affinity != affinity || (s.Policy == lb.Local) != p.ExternalPolicyLocal() {
				t.Fatalf("%s: affinity %s, policy %s; kube-proxy has %s, Local %t\n%s", s.Key, s.Affinity, s.Policy, affinity, p.ExternalPolicyLocal(), c)
			}
			var admitted []string
			for _, net := range p.LoadBalancerSourceRanges() {
				admitted = append(admitted, net.String())
			}
			var ours []string
			for _, prefix := range s.SourceRanges {
				ours = append(ours, prefix.String())
			}
			slices.Sort(admitted)
			slices.Sort(ours)
			if !slices.Equal(slices.Compact(admitted), ours) {
				t.Fatalf("%s: admits %v, kube-proxy admits %v\n%s", s.Key, ours, admitted, c)
			}
		}
	}
}

// cluster is one Service with its slices, on nodes that all forward.
type cluster struct {
	nodes   []string
	service *corev1.Service
	slices  []*discoveryv1.EndpointSlice
}

func (c *cluster) String() string {
	text := fmt.Sprintf("service: %+v %+v\n", c.service.Spec, c.service.Status)
	for _, s := range c.slices {
		text += fmt.Sprintf("slice %s %s:", s.Name, s.AddressType)
		for _, p := range s.Ports {
			text += fmt.Sprintf(" %s/%s=%d", *p.Name, *p.Protocol, *p.Port)
		}
		for _, e := range s.Endpoints {
			text += fmt.Sprintf("\n  %v on %v: %s", e.Addresses, shown(e.NodeName), conditions(e.Conditions))
		}
		text += "\n"
	}
	return text
}

func shown[T any](p *T) string {
	if p == nil {
		return "-"
	}
	return fmt.Sprint(*p)
}

func conditions(c discoveryv1.EndpointConditions) string {
	return fmt.Sprintf("ready=%s serving=%s terminating=%s", shown(c.Ready), shown(c.Serving), shown(c.Terminating))
}

func (c *cluster) portName(key lb.ServiceKey) string {
	for _, p := range c.service.Spec.Ports {
		if proto, err := lb.ParseProto(string(p.Protocol)); err == nil && proto == key.Proto && uint16(p.Port) == key.Port {
			return p.Name
		}
	}
	return ""
}

// state is what the agent of a node makes of it.
func (c *cluster) state(node string) *kube.State {
	versions := kube.Versions{Wire: 1, Hash: 1}
	s := kube.New(kube.Options{Self: node, Class: kube.Class{Name: kube.DefaultClass, Unclassed: true}, Versions: versions})
	for i, name := range c.nodes {
		putNode(s, i, name)
	}
	s.PutService(c.service)
	for _, one := range c.slices {
		s.PutSlice(one)
	}
	return s
}
