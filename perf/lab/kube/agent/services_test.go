// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/kube/agent"
	"github.com/fairlead/fairlead/perf/lab/traffic"
)

// podOf is a Pod on a node with a port named http at a number of its own.
func podOf(name, app, node string, port int, more string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, labels: {app: %s}}
spec:
  nodeName: %s
  %s
  containers:
  - name: web
    image: fairlead
    ports: [{name: http, containerPort: %d}]
---
`, name, app, node, more, port)
}

// serviceOf is a Service of an app with port 80; fields are more of its spec.
func serviceOf(name string, port int, fields ...string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: %s}
spec:
  type: LoadBalancer
  ipFamilyPolicy: RequireDualStack
  %s
  ports: [{name: http, port: %d, targetPort: http}]
---
`, name, strings.Join(fields, "\n  "), port)
}

func selector(app string) string { return "selector: {app: " + app + "}" }

// TestServices reaches Services of all kinds.
func TestServices(t *testing.T) {
	w := newWorld(t, "generic", 2)
	nodes := w.Lab.Nodes
	w.apply(podOf("a", "mixed", nodes[0].Host, 8080, "") + podOf("b", "mixed", nodes[1].Host, 9090, "") + podOf("c", "mixed", nodes[1].Host, 8080, ""))
	w.apply(podOf("h", "host", nodes[1].Host, 8088, "hostNetwork: true"))
	w.pods("mixed", 3)
	w.pods("host", 1)
	for _, test := range []struct {
		name string
		do   func(*world)
	}{
		{"named ports that differ by Pod", (*world).namedPorts},
		{"session affinity", (*world).affinity},
		{"Local", (*world).local},
		{"host network", (*world).hostNetwork},
		{"source ranges", (*world).sourceRanges},
		{"a shared VIP with a port of kube-proxy's", (*world).leftPort},
		{"a node's own address", (*world).nodeAddress},
	} {
		t.Run(test.name, func(t *testing.T) {
			w.t = t
			defer func() { w.t = t }()
			test.do(w)
		})
	}
}

// address gives number n of the addresses to a Service with one port.
func (w *world) address(service string, n byte, via ...*lab.Node) []traffic.Target {
	w.t.Helper()
	v6 := vip6.As16()
	v6[15] = n
	vips := []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, n}), netip.AddrFrom16(v6)}
	w.serve(service, vips, via...)
	return []traffic.Target{target("tcp", vips[0], 80), target("tcp", vips[1], 80)}
}

// shares are the Pods that answer.
func (w *world) shares(to traffic.Target, n int) []string {
	w.t.Helper()
	return slices.Sorted(maps.Keys(w.ask(to, n).Shares))
}

func (w *world) namedPorts() {
	w.apply(serviceOf("named", 80, selector("mixed")))
	targets := w.address("named", 21)
	w.backends("named", 3, 0)
	for _, to := range targets {
		if got := w.shares(to, 150); !slices.Equal(got, []string{"a", "b", "c"}) {
			w.t.Errorf("%s: answers from %v", to.Addr, got)
		}
	}
}

func (w *world) affinity() {
	w.apply(serviceOf("sticky", 80, selector("mixed"), "sessionAffinity: ClientIP", "sessionAffinityConfig: {clientIP: {timeoutSeconds: 600}}"))
	targets := w.address("sticky", 22)
	w.backends("sticky", 3, 0)
	first := map[netip.AddrPort][]string{}
	for _, to := range targets {
		if first[to.Addr] = w.shares(to, 60); len(first[to.Addr]) != 1 {
			w.t.Errorf("%s: answers from %v", to.Addr, first[to.Addr])
		}
	}
	w.apply(podOf("d", "mixed", w.Lab.Nodes[0].Host, 8080, ""))
	w.pods("mixed", 4)
	w.backends("sticky", 4, 0)
	for _, to := range targets {
		if got := w.shares(to, 60); !slices.Equal(got, first[to.Addr]) {
			w.t.Errorf("%s: answers from %v, with one Pod less from %v", to.Addr, got, first[to.Addr])
		}
	}
	_, err := w.Control.Kubectl(w.t.Context(), "", "delete", "pod", "d", "--force")
	w.must(err)
	w.backends("sticky", 3, 0)
}

func (w *world) local() {
	w.apply(serviceOf("near", 80, selector("mixed"), "externalTrafficPolicy: Local"))
	for i, want := range [][]string{{"a"}, {"b", "c"}} {
		targets := w.address("near", 23, w.Lab.Nodes[i])
		w.backends("near", 3, 0)
		for _, to := range targets {
			if got := w.shares(to, 100); !slices.Equal(got, want) {
				w.t.Errorf("%s by %s: answers from %v, want %v", to.Addr, w.Lab.Nodes[i].Host, got, want)
			}
		}
	}
}

func (w *world) hostNetwork() {
	w.apply(serviceOf("host", 80, selector("host")))
	targets := w.address("host", 24, w.Lab.Nodes[0])
	w.backends("host", 1, 0)
	for _, to := range targets {
		if got := w.shares(to, 50); !slices.Equal(got, []string{"h"}) {
			w.t.Errorf("%s: answers from %v", to.Addr, got)
		}
	}
}

func (w *world) sourceRanges() {
	w.apply(serviceOf("guarded", 80, selector("mixed"), `loadBalancerSourceRanges: ["203.0.113.0/24", "2001:db8:ffff::/48"]`))
	targets := w.address("guarded", 25)
	w.backends("guarded", 3, 0)
	for _, to := range targets {
		if r := traffic.Requests(w.t.Context(), w.Lab.Client, to, 1); r.Failed != 1 {
			w.t.Errorf("%s: a client of no range was answered", to.Addr)
		}
	}
	s := w.service("guarded")
	s.Spec.LoadBalancerSourceRanges = []string{" " + lab.ClientNet4.String(), lab.ClientNet6.String() + " "}
	w.must(w.client.Update(w.t.Context(), s))
	for _, to := range targets {
		w.waitFor("an answer", func() error { return traffic.Requests(w.t.Context(), w.Lab.Client, to, 1).FirstError })
		w.ask(to, 50)
	}
}

// manual is a slice without nodes, as people write them for what is outside.
const manual = `
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: outside-1, labels: {kubernetes.io/service-name: outside}}
addressType: IPv4
ports: [{name: http, port: 5432, protocol: TCP}]
endpoints: [{addresses: [198.51.100.7]}]
`

func (w *world) leftPort() {
	w.apply(serviceOf("shared", 80, selector("mixed")) + serviceOf("outside", 5432) + manual)
	w.address("shared", 26)
	w.address("outside", 26)
	w.everywhere("one port left", func(s agent.Status) error {
		var found []string
		for _, one := range s.Services {
			if strings.Contains(one.VIP, ".26") {
				found = append(found, fmt.Sprintf("%d left %t", one.Port, one.Left))
			}
		}
		if !slices.Equal(found, []string{"80 left false", "5432 left true"}) {
			return fmt.Errorf("%v", found)
		}
		return nil
	})
	w.ask(target("tcp", netip.MustParseAddr("192.0.2.26"), 80), 50)
}

// nodeAddress gives a Service the address of a node, which hurts nobody.
func (w *world) nodeAddress() {
	w.apply(serviceOf("wrong", 6443, selector("mixed")) + serviceOf("right", 80, selector("mixed")))
	right := w.address("right", 27)
	s := w.service("wrong")
	patch := fmt.Sprintf(`{"status":{"loadBalancer":{"ingress":[{"ip":%q}]}}}`, w.Lab.Nodes[1].Addrs[0])
	w.must(w.client.Status().Patch(w.t.Context(), s, client.RawPatch(types.MergePatchType, []byte(patch))))
	w.backends("right", 3, 0)
	for _, to := range right {
		w.ask(to, 50)
	}
	for _, n := range w.Lab.Nodes {
		status, err := w.Status(w.t.Context(), n)
		w.must(err)
		for _, one := range status.Services {
			if strings.Contains(one.Name, "/wrong:") {
				w.t.Errorf("%s has %s at %s", n.Host, one.Name, one.VIP)
			}
		}
	}
}
