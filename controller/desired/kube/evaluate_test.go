// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
)

func ingress(addrs ...string) func(*corev1.Service) {
	return func(s *corev1.Service) {
		s.Status.LoadBalancer.Ingress = nil
		for _, a := range addrs {
			s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: a})
		}
	}
}

func local(s *corev1.Service) {
	s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
}

func ranges(texts ...string) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.LoadBalancerSourceRanges = texts }
}

func ports(list ...corev1.ServicePort) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.Ports = list }
}

// edited changes a slice.
func edited(s *discoveryv1.EndpointSlice, edit func(*discoveryv1.EndpointSlice)) *discoveryv1.EndpointSlice {
	edit(s)
	return s
}

type list = []*discoveryv1.EndpointSlice

// Nodes 1 and 2 forward, node 3 does not.
func TestEvaluate(t *testing.T) {
	proxy, vip := corev1.LoadBalancerIPModeProxy, corev1.LoadBalancerIPModeVIP
	udp, sctp, other := corev1.ProtocolUDP, corev1.ProtocolSCTP, "example.com/lb"
	for _, test := range []struct {
		name     string
		service  *corev1.Service
		slices   list
		want     string
		problems string
	}{
		{
			name: "no slices", service: web(), want: "tcp/192.0.2.1:80\n",
			problems: "NoEndpoints: port \"http\": no endpoint is ready, connections are refused\n",
		},
		{
			name: "ready on two nodes", service: web(),
			slices: list{slice("a", 8080, "10.244.2.2@node2 ready serving", "10.244.1.2@node1 ready serving")},
			want:   "tcp/192.0.2.1:80 10.244.1.2:8080@node1 10.244.2.2:8080@node2\n",
		},
		{
			name: "conditions that nobody set", service: web(), slices: list{slice("a", 8080, "10.244.1.2@node1")},
			want: "tcp/192.0.2.1:80 10.244.1.2:8080@node1\n",
		},
		{
			name: "named port at different numbers", service: web(),
			slices: list{slice("a", 8080, "10.244.1.2@node1"), slice("b", 9090, "10.244.1.3@node1")},
			want:   "tcp/192.0.2.1:80 10.244.1.2:8080@node1 10.244.1.3:9090@node1\n",
		},
		{
			name: "an endpoint that moves between slices", service: web(),
			slices: list{slice("a", 8080, "10.244.1.2@node1 serving terminating"), slice("b", 8080, "10.244.1.2@node1 ready serving")},
			want:   "tcp/192.0.2.1:80 10.244.1.2:8080@node1\n",
		},
		{
			name: "unready and terminating beside ready ones", service: web(),
			slices: list{slice("a", 8080, "10.244.1.2@node1 ready serving", "10.244.1.3@node1 x", "10.244.2.2@node2 serving terminating", "10.244.2.3@node2 terminating")},
			want:   "tcp/192.0.2.1:80 10.244.1.2:8080@node1 (10.244.1.3:8080@node1) (10.244.2.2:8080@node2) (10.244.2.3:8080@node2)\n",
		},
		{
			name: "the last that serve while they terminate", service: web(),
			slices: list{slice("a", 8080, "10.244.1.2@node1 terminating", "10.244.1.3@node1 x", "10.244.2.2@node2 serving terminating")},
			want:   "tcp/192.0.2.1:80 (10.244.1.2:8080@node1) (10.244.1.3:8080@node1) 10.244.2.2:8080@node2\n",
		},
		{
			name: "all unready", service: web(), slices: list{slice("a", 8080, "10.244.1.2@node1 x")},
			want:     "tcp/192.0.2.1:80 (10.244.1.2:8080@node1)\n",
			problems: "NoEndpoints: port \"http\": no endpoint is ready, connections are refused\n",
		},
		{
			name: "under Local each node falls back by itself", service: web(local),
			slices: list{slice("a", 8080, "10.244.1.2@node1 ready serving", "10.244.1.3@node1 serving terminating", "10.244.2.2@node2 serving terminating", "10.244.2.3@node2 x")},
			want:   "tcp/192.0.2.1:80 Local 10.244.1.2:8080@node1 (10.244.1.3:8080@node1) 10.244.2.2:8080@node2 (10.244.2.3:8080@node2)\n",
		},
		{
			name: "dual stack, each family by itself", service: web(ingress("192.0.2.1", "2001:db8::1")),
			slices: list{
				slice("a", 8080, "10.244.1.2@node1 ready serving", "10.244.1.3@node1 serving terminating"),
				slice("b", 8080, "fd44:1::2@node1 x", "fd44:1::3@node1 serving terminating"),
			},
			want: "tcp/192.0.2.1:80 10.244.1.2:8080@node1 (10.244.1.3:8080@node1)\n" +
				"tcp/[2001:db8::1]:80 ([fd44:1::2]:8080@node1) [fd44:1::3]:8080@node1\n",
		},
		{
			name: "one family without endpoints", service: web(ingress("192.0.2.1", "2001:db8::1")),
			slices:   list{slice("a", 8080, "10.244.1.2@node1")},
			want:     "tcp/192.0.2.1:80 10.244.1.2:8080@node1\ntcp/[2001:db8::1]:80\n",
			problems: "NoEndpoints: port \"http\" (IPv6): no endpoint is ready, connections are refused\n",
		},
		{
			name:    "several ports and protocols",
			service: web(ports(corev1.ServicePort{Name: "http", Port: 80}, corev1.ServicePort{Name: "dns", Port: 53, Protocol: udp}, corev1.ServicePort{Name: "sig", Port: 2905, Protocol: sctp})),
			slices: list{slice("a", 8080, "10.244.1.2@node1"), edited(slice("b", 5353, "10.244.1.2@node1"), func(s *discoveryv1.EndpointSlice) {
				name := "dns"
				s.Ports[0].Name, s.Ports[0].Protocol = &name, &udp
			})},
			want:     "udp/192.0.2.1:53 10.244.1.2:5353@node1\ntcp/192.0.2.1:80 10.244.1.2:8080@node1\n",
			problems: "UnsupportedProtocol: port \"sig\" is SCTP, which is not forwarded: TCP and UDP are\n",
		},
		{
			name: "the same name for another protocol", service: web(),
			slices: list{edited(slice("a", 8080, "10.244.1.2@node1"), func(s *discoveryv1.EndpointSlice) { s.Ports[0].Protocol = &udp })},
			want:   "tcp/192.0.2.1:80\n", problems: "NoEndpoints: port \"http\": no endpoint is ready, connections are refused\n",
		},
		{
			name: "slices without a port, of names, of nonsense", service: web(),
			slices: list{
				edited(slice("a", 8080, "10.244.1.2@node1"), func(s *discoveryv1.EndpointSlice) { s.Ports[0].Port = nil }),
				edited(slice("b", 8080, "10.244.1.3@node1"), func(s *discoveryv1.EndpointSlice) { s.Ports[0].Name = nil }),
				edited(slice("c", 8080, "10.244.1.4@node1"), func(s *discoveryv1.EndpointSlice) { s.AddressType = discoveryv1.AddressTypeFQDN }),
				edited(slice("d", 8080, "10.244.1.5@node1"), func(s *discoveryv1.EndpointSlice) { s.Endpoints[0].Addresses = nil }),
				edited(slice("e", 8080, "10.244.1.6@node1"), func(s *discoveryv1.EndpointSlice) { s.Endpoints[0].Addresses[0] = "127.0.0.1" }),
				slice("f", 8080, "10.244.1.7@node1"),
			},
			want: "tcp/192.0.2.1:80 10.244.1.7:8080@node1\n",
		},
		{
			name: "host network", service: web(), slices: list{slice("a", 8080, "10.1.0.1@node1")},
			want: "tcp/192.0.2.1:80 10.1.0.1:8080@node1\n",
		},
		{
			name: "the VIP behind itself", service: web(), slices: list{slice("a", 8080, "192.0.2.1@node1", "10.244.1.2@node1")},
			want:     "tcp/192.0.2.1:80 10.244.1.2:8080@node1\n",
			problems: "minor EndpointConflict: endpoint 192.0.2.1:8080 is not used: it is the Service's own address\n",
		},
		{
			name: "a node without Fairlead beside one with it", service: web(), slices: list{slice("a", 8080, "10.244.1.2@node1", "10.244.3.2@node3")},
			want:     "tcp/192.0.2.1:80 10.244.1.2:8080@node1\n",
			problems: "minor EndpointsElsewhere: port \"http\": endpoints on node3 get no connections from outside the cluster: Fairlead does not forward there\n",
		},
		{
			name: "only nodes without Fairlead", service: web(), slices: list{slice("a", 8080, "10.244.3.2@node3", "10.244.9.2@node9")},
			problems: "EndpointsElsewhere: port \"http\" is left to kube-proxy: its endpoints are on node3, node9, where Fairlead does not forward\n",
		},
		{
			name: "manual endpoints", service: web(), slices: list{slice("a", 8080, "198.51.100.7")},
			problems: "EndpointsWithoutNode: port \"http\" is left to kube-proxy: its endpoints have no nodeName\n",
		},
		{
			name: "manual endpoints beside Pods", service: web(), slices: list{slice("a", 8080, "198.51.100.7", "10.244.1.2@node1")},
			want:     "tcp/192.0.2.1:80 10.244.1.2:8080@node1\n",
			problems: "minor EndpointsWithoutNode: port \"http\": 1 endpoints without a nodeName get no connections from outside the cluster\n",
		},
		{
			name: "one port left, one not", service: web(ports(corev1.ServicePort{Name: "http", Port: 80}, corev1.ServicePort{Name: "db", Port: 5432})),
			slices: list{slice("a", 8080, "10.244.1.2@node1"), edited(slice("b", 5432, "198.51.100.7"), func(s *discoveryv1.EndpointSlice) {
				name := "db"
				s.Ports[0].Name = &name
			})},
			want:     "tcp/192.0.2.1:80 10.244.1.2:8080@node1\ntcp/192.0.2.1:5432 left\n",
			problems: "EndpointsWithoutNode: port \"db\" is left to kube-proxy: its endpoints have no nodeName\n",
		},
		{
			name: "affinity and its default", slices: list{slice("a", 8080, "10.244.1.2@node1")},
			service: web(func(s *corev1.Service) { s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP }),
			want:    "tcp/192.0.2.1:80 affinity=3h0m0s 10.244.1.2:8080@node1\n",
		},
		{
			name: "affinity timeout", slices: list{slice("a", 8080, "10.244.1.2@node1")},
			service: web(func(s *corev1.Service) {
				seconds := int32(90)
				s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
				s.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: &seconds}}
			}),
			want: "tcp/192.0.2.1:80 affinity=1m30s 10.244.1.2:8080@node1\n",
		},
		{
			name: "source ranges, trimmed, masked, once", slices: list{slice("a", 8080, "10.244.1.2@node1")},
			service: web(ranges(" 203.0.113.7/24", "203.0.113.0/24 ", "::ffff:198.51.100.0/120", "2001:db8::/32")),
			want:    "tcp/192.0.2.1:80 from=[198.51.100.0/24 203.0.113.0/24] 10.244.1.2:8080@node1\n",
		},
		{
			name: "a source range that is none", slices: list{slice("a", 8080, "10.244.1.2@node1")}, service: web(ranges("203.0.113.0/24", "office")),
			want:     "tcp/192.0.2.1:80 from=[203.0.113.0/24] 10.244.1.2:8080@node1\n",
			problems: "InvalidSourceRange: spec.loadBalancerSourceRanges: \"office\" is no prefix such as 192.0.2.0/24, and admits nobody\n",
		},
		{
			name: "source ranges of one family for two", slices: list{slice("a", 8080, "10.244.1.2@node1"), slice("b", 8080, "fd44:1::2@node1")},
			service:  web(ingress("192.0.2.1", "2001:db8::1"), ranges("203.0.113.0/24")),
			want:     "tcp/192.0.2.1:80 from=[203.0.113.0/24] 10.244.1.2:8080@node1\ntcp/[2001:db8::1]:80 from=[] [fd44:1::2]:8080@node1\n",
			problems: "InvalidSourceRange: spec.loadBalancerSourceRanges has no range of the address family of 2001:db8::1, so nobody is admitted there\n",
		},
		{
			name: "table size", slices: list{slice("a", 8080, "10.244.1.2@node1")},
			service: web(func(s *corev1.Service) { s.Annotations = map[string]string{v1beta1.AnnotationTableSize: "16381"} }),
			want:    "tcp/192.0.2.1:80 slots=16381 10.244.1.2:8080@node1\n",
		},
		{
			name: "a table size that is none", slices: list{slice("a", 8080, "10.244.1.2@node1")},
			service:  web(func(s *corev1.Service) { s.Annotations = map[string]string{v1beta1.AnnotationTableSize: "4096"} }),
			want:     "tcp/192.0.2.1:80 10.244.1.2:8080@node1\n",
			problems: "minor InvalidTableSize: annotation fairlead.io/table-size=\"4096\": want one of [251 509 1021 2039 4093 8191 16381 32749 65521]: 4093 is used\n",
		},
		{
			name: "a node's own address", service: web(ingress("10.1.0.2", "192.0.2.1")), slices: list{slice("a", 8080, "10.244.1.2@node1")},
			want:     "tcp/192.0.2.1:80 10.244.1.2:8080@node1\n",
			problems: "NodeAddress: 10.1.0.2 is an address of node node2, which needs it for itself: exclude it from its pool\n",
		},
		{
			name: "addresses that are none", service: web(ingress("192.0.2.1.example", "127.0.0.1", "", "::ffff:192.0.2.1")), slices: list{slice("a", 8080, "10.244.1.2@node1")},
			want: "tcp/192.0.2.1:80 10.244.1.2:8080@node1\n",
			problems: "InvalidAddress: \"192.0.2.1.example\" in status.loadBalancer.ingress is no IP address\n" +
				"InvalidAddress: 127.0.0.1 in status.loadBalancer.ingress is a loopback address, which cannot be a VIP\n",
		},
		{
			name: "addresses of a proxy", slices: list{slice("a", 8080, "10.244.1.2@node1")},
			service: web(func(s *corev1.Service) {
				s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.9", IPMode: &proxy}, {IP: "192.0.2.1", IPMode: &vip}, {Hostname: "lb.example"}}
			}),
			want: "tcp/192.0.2.1:80 10.244.1.2:8080@node1\n",
		},
		{name: "no address yet", service: web(ingress()), slices: list{slice("a", 8080, "10.244.1.2@node1")}},
		{name: "another class", service: web(func(s *corev1.Service) { s.Spec.LoadBalancerClass = &other }), slices: list{slice("a", 8080, "10.244.1.2@node1")}},
		{name: "another type", service: web(func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeNodePort }), slices: list{slice("a", 8080, "10.244.1.2@node1")}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld("node1")
			w.addNode(1)
			w.addNode(2)
			w.PutNode(nodeObject(3, "boot"))
			w.PutService(test.service)
			for _, s := range test.slices {
				w.PutSlice(s)
			}
			w.apply(t)
			if diff := cmp.Diff(test.want, w.String()); diff != "" {
				t.Errorf("services: -want +got:\n%s", diff)
			}
			if diff := cmp.Diff(test.problems, w.complaints("default/web")); diff != "" {
				t.Errorf("problems: -want +got:\n%s", diff)
			}
		})
	}
}

func TestClass(t *testing.T) {
	ours, other := DefaultClass, "example.com/lb"
	classed := func(name *string) *corev1.Service {
		return web(func(s *corev1.Service) { s.Spec.LoadBalancerClass = name })
	}
	for _, test := range []struct {
		name    string
		class   Class
		service *corev1.Service
		want    bool
	}{
		{"ours", Class{Name: DefaultClass}, classed(&ours), true},
		{"another's", Class{Name: DefaultClass, Unclassed: true}, classed(&other), false},
		{"nobody's, for us", Class{Name: DefaultClass, Unclassed: true}, classed(nil), true},
		{"nobody's, not for us", Class{Name: DefaultClass}, classed(nil), false},
	} {
		if got := test.class.Has(test.service); got != test.want {
			t.Errorf("%s: %t, want %t", test.name, got, test.want)
		}
	}
}
