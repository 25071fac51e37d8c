// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/cluster"
)

// closedPort is a service port whose Pods have no such socket.
const closedPort = 9001

// The types and codes of ICMP errors, by family.
var (
	portUnreachable = [2][2]uint8{{3, 3}, {1, 4}}
	adminProhibited = [2][2]uint8{{3, 13}, {1, 1}}
	timeExceeded    = [2][2]uint8{{11, 0}, {3, 0}}
)

var routerAddrs = pair{lab.RouterAddr4, lab.RouterAddr6}

func errorOf(errno unix.Errno, kind [2]uint8, from netip.Addr, about netip.AddrPort) icmpError {
	return icmpError{Errno: errno, Type: kind[0], Code: kind[1], From: from, About: about}
}

// TestICMPErrors lets client, Pod and router say no to a datagram: the error
// has to reach the kernel that sent it, as if there were no VIP between them.
func TestICMPErrors(t *testing.T) {
	lab.RequireRoot(t)
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			c := startOn(t, mode, lab.Options{SoftHop: lab.SoftHopOwners})
			for _, p := range herePlaces(t, c) {
				addClosedPort(t, c, p)
				for family, socket := range p.sockets {
					socket.keepErrors(t)
					name := fmt.Sprintf("%s-v%d", p.name, 4+2*family)
					t.Run(name+"/closed client", func(t *testing.T) { testClosedClient(t, c, p, family) })
					t.Run(name+"/other node", func(t *testing.T) { testErrorByOtherNode(t, c, p, family) })
					t.Run(name+"/closed pod", func(t *testing.T) { testClosedPod(t, c, p, family) })
					t.Run(name+"/time exceeded", func(t *testing.T) { testTimeExceeded(t, c, p, family) })
					t.Run(name+"/prohibited", func(t *testing.T) { testProhibited(t, c, p, family) })
				}
			}
		})
	}
}

func addClosedPort(t *testing.T, c *cluster.Cluster, p *place) {
	t.Helper()
	port := cluster.Port{Port: closedPort, Protocol: "UDP"}
	for _, addr := range (pair{p.pod.Addr4, p.pod.Addr6}) {
		port.Backends = append(port.Backends, cluster.Backend{Address: addr.String(), Port: closedPort, Node: p.pod.Node.Host})
	}
	p.service.Ports = append(p.service.Ports, port)
	sync(t, c)
}

// expectRelated holds what was counted against an error on its way to the Pod,
// after one datagram there and two back, the second of which did not arrive.
func expectRelated(t *testing.T, c *cluster.Cluster, before counts) {
	t.Helper()
	grown := countersOf(t, c).since(before)
	grown.expectOnly(t, "encap_home", "mine", "new", "translated", "related")
	if grown["related"] != 1 {
		t.Errorf("%d packets counted as related, want 1: %v", grown["related"], grown)
	}
}

// testClosedClient closes the client's socket before the Pod speaks again.
func testClosedClient(t *testing.T, c *cluster.Cluster, p *place, family int) {
	before := countersOf(t, c)
	client := p.dial(t, c, family)
	seen := p.greet(t, client, family)
	client.Close()
	p.sockets[family].mustSend(t, "too late", seen)
	p.sockets[family].expectError(t, errorOf(unix.ECONNREFUSED, portUnreachable[family], clientAddrs[family], seen))
	expectRelated(t, c, before)
}

// testErrorByOtherNode is that with the VIP at another node by then, which is
// neither the first ingress node nor the owner.
func testErrorByOtherNode(t *testing.T, c *cluster.Cluster, p *place, family int) {
	before := countersOf(t, c)
	client := p.dial(t, c, family)
	seen := p.greet(t, client, family)
	other := c.Lab.Nodes[2]
	route(t, c, p.service, other)
	defer route(t, c, p.service, c.Lab.Nodes[0])
	client.Close()
	beforeOther := countersOf(t, c, other)
	p.sockets[family].mustSend(t, "too late", seen)
	p.sockets[family].expectError(t, errorOf(unix.ECONNREFUSED, portUnreachable[family], clientAddrs[family], seen))
	expectRelated(t, c, before)
	if got := countersOf(t, c, other).since(beforeOther); got["encap_home"] != 1 {
		t.Errorf("counted on %s: %v, want one encap_home", other.Host, got)
	}
}

// testClosedPod sends to a port that the Pod does not listen on: the error names
// the VIP alone.
func testClosedPod(t *testing.T, c *cluster.Cluster, p *place, family int) {
	before := countersOf(t, c)
	vip := netip.AddrPortFrom(p.vips[family], closedPort)
	client := dialUDP(t, c.Lab.Client, clientAddrs[family], vip)
	client.keepErrors(t)
	client.mustSend(t, "hello", vip)
	client.expectError(t, errorOf(unix.ECONNREFUSED, portUnreachable[family], vip.Addr(), vip))
	grown := countersOf(t, c).since(before)
	grown.expectOnly(t, "encap_home", "new", "translated")
	if grown["translated"] != 1 {
		t.Errorf("%d packets translated, want 1", grown["translated"])
	}
}

// testTimeExceeded lets the Pod's answer die at the router.
func testTimeExceeded(t *testing.T, c *cluster.Cluster, p *place, family int) {
	before := countersOf(t, c)
	client := p.dial(t, c, family)
	seen := p.greet(t, client, family)
	server := p.sockets[family]
	server.set(t, unix.IP_TTL, unix.IPV6_UNICAST_HOPS, 2) // the node takes one
	defer server.set(t, unix.IP_TTL, unix.IPV6_UNICAST_HOPS, 64)
	server.mustSend(t, "not so far", seen)
	server.expectError(t, errorOf(unix.EHOSTUNREACH, timeExceeded[family], routerAddrs[family], seen))
	expectRelated(t, c, before)
}

// refuseRules make the router refuse what comes from the service's port.
const refuseRules = `
table inet refuse {
	chain forward {
		type filter hook forward priority filter; policy accept;
		udp sport %d reject with icmpx type admin-prohibited
	}
}
`

// testProhibited lets the router refuse the Pod's answer.
func testProhibited(t *testing.T, c *cluster.Cluster, p *place, family int) {
	before := countersOf(t, c)
	client := p.dial(t, c, family)
	seen := p.greet(t, client, family)
	refuse := exec.CommandContext(t.Context(), "nft", "-f", "-")
	refuse.Stdin = strings.NewReader(fmt.Sprintf(refuseRules, datagramPort))
	if _, err := c.Lab.Router.OutputWith(refuse); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if _, err := c.Lab.Router.Output(t.Context(), "nft", "delete", "table", "inet", "refuse"); err != nil {
			t.Error(err)
		}
	}()
	errno := [2]unix.Errno{unix.EHOSTUNREACH, unix.EACCES}[family]
	p.sockets[family].mustSend(t, "forbidden", seen)
	p.sockets[family].expectError(t, errorOf(errno, adminProhibited[family], routerAddrs[family], seen))
	expectRelated(t, c, before)
}
