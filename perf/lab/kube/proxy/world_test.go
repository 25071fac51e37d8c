// SPDX-License-Identifier: Apache-2.0

package proxy_test

import (
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/cluster"
	"github.com/fairlead/fairlead/perf/lab/kube"
	"github.com/fairlead/fairlead/perf/lab/traffic"
)

// fairlead is the program that all agents run; built by TestMain.
var fairlead string

func TestMain(m *testing.M) { os.Exit(cluster.RunTests(m, &fairlead)) }

const (
	pods        = 6
	waitTimeout = time.Minute
	legacyPort  = 81 // of web's VIPs, left to kube-proxy
)

// pair is an IPv4 and an IPv6 address of the same thing.
type pair [2]netip.Addr

var (
	clients  = pair{lab.ClientAddr4, lab.ClientAddr6}
	webVIPs  = pair{netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("2001:db8:0:1::10")}
	nearVIPs = pair{netip.MustParseAddr("192.0.2.20"), netip.MustParseAddr("2001:db8:0:1::20")}
)

// objects are a Service of each policy over the same Pods, and one more on the
// address of the first.
const objects = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 6
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: web}}}
      containers:
      - name: web
        image: fairlead
        ports: [{containerPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: LoadBalancer
  ipFamilyPolicy: RequireDualStack
  selector: {app: web}
  ports:
  - {name: tcp, port: 80, protocol: TCP, targetPort: 8080}
  - {name: udp, port: 80, protocol: UDP, targetPort: 8080}
---
apiVersion: v1
kind: Service
metadata: {name: near}
spec:
  type: LoadBalancer
  ipFamilyPolicy: RequireDualStack
  externalTrafficPolicy: Local
  selector: {app: web}
  ports:
  - {name: tcp, port: 80, protocol: TCP, targetPort: 8080}
  - {name: udp, port: 80, protocol: UDP, targetPort: 8080}
---
apiVersion: v1
kind: Service
metadata: {name: legacy}
spec:
  type: LoadBalancer
  ipFamilyPolicy: RequireDualStack
  selector: {app: web}
  ports:
  - {name: tcp, port: 81, protocol: TCP, targetPort: 8080}
  - {name: udp, port: 81, protocol: UDP, targetPort: 8080}
`

// world is three nodes with kube-proxy, whose Pods serve three Services.
type world struct {
	control *kube.ControlPlane
	lab     *lab.Lab
	pods    []*lab.Pod
}

func newWorld(t *testing.T) *world {
	t.Helper()
	kube.Require(t, kube.Etcd, kube.APIServer, kube.ControllerManager, kube.Scheduler, kube.Kubectl, kube.Proxy)
	l := lab.ForTest(t, lab.Options{Native: true})
	machine, err := l.AddMachine("control")
	if err != nil {
		t.Fatal(err)
	}
	c := kube.ForTest(t, kube.Options{Machine: machine, ControllerManager: true, Scheduler: true, DualStack: true})
	nodes, err := c.PlayNodes(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := nodes.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := c.Kubectl(t.Context(), objects, "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	w := &world{control: c, lab: l}
	for name, vips := range map[string]pair{"web": webVIPs, "near": nearVIPs, "legacy": webVIPs} {
		w.setIngress(t, name, vips)
	}
	var ready []corev1.Pod
	waitFor(t, "ready Pods", func() (err error) {
		if ready, err = c.ReadyPods(t.Context(), "default", "app=web"); err == nil && len(ready) != pods {
			err = fmt.Errorf("%d of %d", len(ready), pods)
		}
		return err
	})
	for _, p := range ready {
		w.pods = append(w.pods, nodes.Pod("default", p.Name))
	}
	for _, n := range l.Nodes {
		if _, err := c.StartProxy(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
	for _, vips := range []pair{webVIPs, nearVIPs} {
		for _, vip := range vips {
			if err := l.SetVIPRoute(vip, l.Nodes...); err != nil {
				t.Fatal(err)
			}
		}
	}
	return w
}

// setIngress gives the Service its addresses, as a controller would.
func (w *world) setIngress(t *testing.T, name string, vips pair) {
	t.Helper()
	services := w.control.Client().CoreV1().Services("default")
	service, err := services.Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, vip := range vips {
		service.Status.LoadBalancer.Ingress = append(service.Status.LoadBalancer.Ingress,
			corev1.LoadBalancerIngress{IP: vip.String(), IPMode: new(corev1.LoadBalancerIPModeVIP)})
	}
	if _, err := services.UpdateStatus(t.Context(), service, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func (w *world) service(t *testing.T, name string) *corev1.Service {
	t.Helper()
	service, err := w.control.Client().CoreV1().Services("default").Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return service
}

// agents are Fairlead's, for the same Services, in that mode; none runs yet.
func (w *world) agents(mode string) *cluster.Cluster {
	web := cluster.NewService("default/web", "Cluster", w.pods, webVIPs[:]...)
	for _, protocol := range []string{"TCP", "UDP"} {
		web.Ports = append(web.Ports, cluster.Port{Port: legacyPort, Protocol: protocol, Left: true})
	}
	return cluster.New(w.lab, fairlead, mode, web, cluster.NewService("default/near", "Local", w.pods, nearVIPs[:]...))
}

// start runs an agent on every node and waits until all have their tables.
func start(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	if err := c.Apply(); err != nil {
		t.Fatal(err)
	}
	for _, n := range c.Lab.Nodes {
		if err := c.StartAgent(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
}

// remove ends the agents and leaves nothing of them.
func remove(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	for _, n := range c.Lab.Nodes {
		if agent := c.Agent(n); agent != nil {
			if err := agent.Kill(); err != nil {
				t.Error(err)
			}
		}
		if _, err := n.Output(t.Context(), fairlead, "agent", "--cleanup", "--config", cluster.ConfigFile(n)); err != nil {
			t.Error(err)
		}
	}
}

// target is a service port.
type target struct {
	name string
	traffic.Target
}

// targetsOf are the addresses over TCP and UDP, for a client with one address
// of each family.
func targetsOf(addrs pair, port uint16, clients pair) []target {
	var all []target
	for _, network := range []string{"tcp", "udp"} {
		for family, addr := range addrs {
			if !addr.IsValid() {
				continue
			}
			all = append(all, target{
				name:   fmt.Sprintf("%s%d", network, 4+2*family),
				Target: traffic.Target{Network: network, Addr: netip.AddrPortFrom(addr, port), Client: clients[family]},
			})
		}
	}
	return all
}

// ask makes n requests from the namespace, which all must be answered.
func ask(t *testing.T, from *lab.Namespace, target target, n int) traffic.Result {
	t.Helper()
	r := traffic.Requests(t.Context(), from, target.Target, n)
	if r.Failed > 0 {
		t.Errorf("%s %s from %s: %d of %d requests failed: %v", target.name, target.Addr, from.Name, r.Failed, n, r.FirstError)
	}
	return r
}

// askDirect is ask where the Pods have to see the client itself.
func askDirect(t *testing.T, from *lab.Namespace, target target, n int) {
	t.Helper()
	if r := ask(t, from, target, n); r.WrongClient > 0 {
		t.Errorf("%s %s from %s: Pods saw %v, want %s", target.name, target.Addr, from.Name, r.Clients, target.Client)
	}
}

// counted sums a reason over all nodes.
func counted(t *testing.T, c *cluster.Cluster, reason string) (n uint64) {
	t.Helper()
	for _, node := range c.Lab.Nodes {
		s, err := c.Status(t.Context(), node)
		if err != nil {
			t.Fatal(err)
		}
		for _, counter := range s.Counters {
			if counter.Reason == reason {
				n += counter.Packets
			}
		}
	}
	return n
}

func waitFor(t *testing.T, what string, done func() error) {
	t.Helper()
	var last error
	if err := lab.Poll(t.Context(), waitTimeout, func() bool {
		last = done()
		return last == nil
	}); err != nil {
		t.Fatalf("wait for %s: %v (last: %v)", what, err, last)
	}
}
