// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/fairlead/fairlead/perf/lab/cluster"
)

// TestForgottenConntrack lets a Pod speak again after its node's connection
// tracking forgot the flow. The node masquerades that as a flow that the Pod
// begins; to the client it has to come from the VIP all the same.
func TestForgottenConntrack(t *testing.T) {
	atEveryPlace(t, testForgotten)
}

// testForgotten has a client socket that hears everybody, so that it would hear
// the node, too.
func testForgotten(t *testing.T, c *cluster.Cluster, p *place, family int) {
	client := listenUDP(t, c.Lab.Client, netip.AddrPortFrom(clientAddrs[family], 0))
	server, vip := p.sockets[family], p.target(family)
	seen := p.greet(t, client, family)
	before := countersOf(t, c)
	for round := range 2 {
		forgotten, err := p.pod.Node.ForgetFlows(clientAddrs[family])
		if err != nil || forgotten == 0 {
			t.Fatalf("round %d: %s forgot %d flows of the client, %v", round, p.pod.Node.Host, forgotten, err)
		}
		word := fmt.Sprintf("again %d", round)
		server.mustSend(t, word, seen)
		if from := client.expect(t, word); from != vip {
			t.Errorf("round %d: client heard %s, want %s", round, from, vip)
		}
	}
	// The client's next datagram meets what the node remembers now. It may show
	// the Pod another port of the client, as it keeps them apart, but no other address.
	client.mustSend(t, "still there?", vip)
	seen = server.expect(t, "still there?")
	if seen.Addr() != clientAddrs[family] {
		t.Errorf("%s saw client %s, want %s", p.pod.Host, seen, clientAddrs[family])
	}
	server.mustSend(t, "yes", seen)
	if from := client.expect(t, "yes"); from != vip {
		t.Errorf("client heard %s, want %s", from, vip)
	}
	countersOf(t, c).since(before).expectOnly(t, "encap_home", "mine", "new", "translated")
}
