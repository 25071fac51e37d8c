// SPDX-License-Identifier: Apache-2.0

package forward_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/dataplane"
	"github.com/fairlead/fairlead/lb/flow"
	"github.com/fairlead/fairlead/lb/forward"
	"github.com/fairlead/fairlead/lb/forward/forwardtest"
	"github.com/fairlead/fairlead/lb/packet"
	"github.com/fairlead/fairlead/lb/packet/packettest"
)

const vip = "192.0.2.1:80"

// cluster is several nodes whose frames reach each other.
type cluster struct {
	t      *testing.T
	tick   uint32
	twins  map[string]*forwardtest.Twin
	planes map[string]*dataplane.Dataplane
	nodeOf map[netip.Addr]string
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{
		t: t, tick: 1000, twins: map[string]*forwardtest.Twin{},
		planes: map[string]*dataplane.Dataplane{}, nodeOf: map[netip.Addr]string{},
	}
	for _, n := range forwardtest.Nodes() {
		if n.Name == "d" { // has another address family
			continue
		}
		twin := forwardtest.NewTwin(t, forwardtest.SettingsOf(n))
		plane, err := dataplane.New(twin.Maps(), dataplane.Options{PastTicks: 1000, Now: func() uint32 { return c.tick }})
		if err != nil {
			t.Fatal(err)
		}
		c.twins[n.Name], c.planes[n.Name] = twin, plane
		for _, a := range n.Addrs {
			c.nodeOf[a] = n.Name
		}
	}
	return c
}

func (c *cluster) sync(node string, services ...lb.Service) {
	c.t.Helper()
	for _, s := range services {
		if err := c.planes[node].Sync(forwardtest.TableOf(node, s)); err != nil {
			if !strings.Contains(err.Error(), `node "d"`) {
				c.t.Fatal(err)
			}
		}
	}
}

// send follows a client's packet from the ingress node to where it ends.
func (c *cluster) send(node string, frame []byte) (end string, path []forward.Reason) {
	c.t.Helper()
	for len(path) < 20 {
		reason, out := c.twins[node].Forwarder.Ingress(frame, c.tick, nil)
		path = append(path, reason)
		if v := reason.Verdict(); v != forward.Encap && v != forward.Steer {
			return node, path
		}
		var p packet.Packet
		if !p.Parse(out) || p.Malformed {
			c.t.Fatalf("node %s sends a frame that does not parse: %x", node, out)
		}
		next, ok := c.nodeOf[netip.AddrFrom16(p.Dst).Unmap()]
		if !ok { // a node that is not there
			return "", path
		}
		node, frame = next, out
	}
	c.t.Fatalf("the packet circles: %v", path)
	return "", nil
}

func tcp(client string, flags uint8) packettest.Frame { return packettest.TCP(client, vip, flags) }

// A connection outlives the move of its slot, whatever node the packets enter by.
func TestPastFindsTheFlow(t *testing.T) {
	c := newCluster(t)
	before := forwardtest.Service(lb.TCP, vip, "10.1.1.1:8080")
	after := forwardtest.Service(lb.TCP, vip, "10.1.2.1:8080", "-10.1.1.1:8080")
	for _, node := range []string{"a", "b", "c"} {
		c.sync(node, before)
	}
	client := "198.51.100.7:40000"
	if end, path := c.send("c", tcp(client, packet.SYN).Bytes()); end != "a" || path[len(path)-1] != forward.New {
		t.Fatalf("syn ended on %s by %v", end, path)
	}
	answer := packettest.TCP("10.1.1.1:8080", client, packet.ACK)
	if reason, _ := c.twins["a"].Forwarder.Egress(answer.Bytes(), false, c.tick, nil); reason != forward.Translated {
		t.Fatalf("reply: %s", reason)
	}
	for _, node := range []string{"a", "b", "c"} {
		c.sync(node, after)
		for _, ingress := range []string{"a", "b", "c"} {
			for _, flags := range []uint8{packet.ACK, packet.SYN} {
				if end, path := c.send(ingress, tcp(client, flags).Bytes()); end != "a" || path[len(path)-1] != forward.Mine {
					t.Errorf("with %s changed, from %s: ended on %s by %v", node, ingress, end, path)
				}
			}
		}
	}
	if end, path := c.send("c", tcp("198.51.100.8:40000", packet.SYN).Bytes()); end != "b" || path[len(path)-1] != forward.New {
		t.Errorf("a new flow ended on %s by %v", end, path)
	}
}

// However the nodes' tables contradict each other, a packet ends within six
// hops: ingress, past 1 to 3, home, redirected.
func TestNothingCircles(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	longest := 0
	for range 30 {
		c := newCluster(t)
		for _, n := range forwardtest.Nodes() {
			if c.twins[n.Name] == nil {
				continue
			}
			for range 1 + rnd.IntN(4) {
				c.sync(n.Name, randomService(rnd))
			}
		}
		for name := range c.twins {
			for range rnd.IntN(20) {
				c.redirect(name, randomClient(rnd), lb.NodeID(1+rnd.IntN(3)))
			}
		}
		for range 100 {
			ingress := []string{"a", "b", "c", "e"}[rnd.IntN(4)]
			flags := []uint8{packet.SYN, packet.ACK, packet.RST, packet.FIN | packet.ACK}[rnd.IntN(4)]
			_, path := c.send(ingress, tcp(randomClient(rnd), flags).Bytes())
			longest = max(longest, len(path)-1)
			if len(path)-1 > 6 {
				t.Fatalf("%d hops: %v", len(path)-1, path)
			}
		}
	}
	t.Logf("longest way: %d hops", longest)
}

func randomClient(rnd *rand.Rand) string {
	return fmt.Sprintf("198.51.100.%d:%d", rnd.IntN(8), 1000+rnd.IntN(8))
}

func randomService(rnd *rand.Rand) lb.Service {
	var pods []string
	for _, p := range []string{"10.1.1.1:8080", "10.1.2.1:8080", "10.1.3.1:8080", "10.1.5.1:8080", "10.1.1.2:8080", "10.1.2.2:8080"} {
		switch rnd.IntN(3) {
		case 0:
			pods = append(pods, p)
		case 1:
			pods = append(pods, "-"+p)
		}
	}
	return forwardtest.Service(lb.TCP, vip, pods...)
}

// redirect registers a stray, be it nonsense.
func (c *cluster) redirect(node, client string, to lb.NodeID) {
	ap, key := netip.MustParseAddrPort(client), forwardtest.Service(lb.TCP, vip).Key
	id, ok := c.planes[node].ServiceID(key)
	if !ok {
		return
	}
	k := flow.Key{
		Client: ap.Addr().As16(), Port: ap.Port(), Proto: packet.ProtoTCP, Service: id, ServiceTag: key.Tag(),
	}
	c.twins[node].Forwarder.Flows().PutRedirect(&k, flow.Record{Node: to, Until: c.tick + 100}, c.tick)
}
