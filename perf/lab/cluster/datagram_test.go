// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/cluster"
	"github.com/fairlead/fairlead/perf/lab/pod"
)

// datagramPort is of services whose Pods' sockets are the tests' own.
const datagramPort = 9000

// How often a datagram may be lost, and when it counts as lost. On a path with
// unknown narrow places, one is lost at each: between the nodes, behind the
// VIP, and once more where an answer makes fragments shorter.
const (
	maxLost     = 4
	lossTimeout = 250 * time.Millisecond
)

// place is a service with one Pod, whose UDP sockets are the test's own.
type place struct {
	name    string
	pod     *lab.Pod
	service *cluster.Service
	vips    pair
	sockets [2]*udpSocket // in the Pod, by family
}

// target is the service's UDP port of a family.
func (p *place) target(family int) netip.AddrPort {
	return netip.AddrPortFrom(p.vips[family], datagramPort)
}

// newPlace serves the Pod behind VIP number n; its name says where it is. TCP
// goes to the Pod's own server.
func newPlace(t *testing.T, c *cluster.Cluster, name string, p *lab.Pod, n byte) *place {
	t.Helper()
	pl := &place{name: name, pod: p, vips: vips(n), service: cluster.NewService("lab/"+name, "Cluster", []*lab.Pod{p}, vipList(n)...)}
	udp := cluster.Port{Port: datagramPort, Protocol: "UDP"}
	for family, addr := range (pair{p.Addr4, p.Addr6}) {
		udp.Backends = append(udp.Backends, cluster.Backend{Address: addr.String(), Port: datagramPort, Node: p.Node.Host})
		pl.sockets[family] = listenUDP(t, p.Namespace, netip.AddrPortFrom(addr, datagramPort))
	}
	pl.service.Ports = append(pl.service.Ports, udp)
	serve(t, c, pl.service)
	return pl
}

// herePlaces are a Pod on the ingress node and one behind the tunnel.
func herePlaces(t *testing.T, c *cluster.Cluster) []*place {
	t.Helper()
	return []*place{
		newPlace(t, c, "here", c.Lab.Nodes[0].Pods[0], 80),
		newPlace(t, c, "there", c.Lab.Nodes[1].Pods[0], 81),
	}
}

// atEveryPlace runs a test in every mode for the ingress node's Pod and for one
// behind the tunnel, over IPv4 and IPv6, with software checksums at the owners.
func atEveryPlace(t *testing.T, test func(*testing.T, *cluster.Cluster, *place, int)) {
	lab.RequireRoot(t)
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			c := startOn(t, mode, lab.Options{SoftHop: lab.SoftHopOwners})
			for _, p := range herePlaces(t, c) {
				for family := range clientAddrs {
					t.Run(fmt.Sprintf("%s-v%d", p.name, 4+2*family), func(t *testing.T) { test(t, c, p, family) })
				}
			}
		})
	}
}

// dial connects the client to the place.
func (p *place) dial(t *testing.T, c *cluster.Cluster, family int) *udpSocket {
	t.Helper()
	return dialUDP(t, c.Lab.Client, clientAddrs[family], p.target(family))
}

// greet exchanges a word, so that the flow is known, and returns the client as
// the Pod sees it, which has to be as it is.
func (p *place) greet(t *testing.T, client *udpSocket, family int) netip.AddrPort {
	t.Helper()
	client.mustSend(t, "hello", p.target(family))
	seen := p.sockets[family].expect(t, "hello")
	if seen != client.local {
		t.Errorf("%s saw client %s, want %s", p.pod.Host, seen, client.local)
	}
	p.sockets[family].mustSend(t, "welcome", seen)
	if from := client.expect(t, "welcome"); from != p.target(family) {
		t.Errorf("answer from %s, want %s", from, p.target(family))
	}
	return seen
}

var errBlackhole = errors.New("datagram did not arrive")

// transfers tells the datagrams of this process apart.
var transfers uint32

// transfer sends a datagram until it arrives whole, and returns the sender as
// the receiver sees it. It fails with EMSGSIZE when the sender's kernel refuses
// the datagram for its size, and with errBlackhole when it is lost too often.
func transfer(from, to *udpSocket, dst netip.AddrPort, size int) (netip.AddrPort, error) {
	transfers++
	var p pod.Pattern
	datagram := make([]byte, size)
	p.Read(datagram)
	binary.BigEndian.PutUint32(datagram, transfers)
	for range 1 + maxLost {
		err := from.send(datagram, dst)
		if err != nil {
			// The error may be one that came in before; it is told only once.
			err = from.send(datagram, dst)
		}
		if err != nil {
			return netip.AddrPort{}, err
		}
		seen, err := receive(to, datagram)
		if !errors.Is(err, errBlackhole) {
			return seen, err
		}
	}
	return netip.AddrPort{}, fmt.Errorf("%w: %d bytes, %d times", errBlackhole, size, 1+maxLost)
}

// receive waits for the datagram. Others, late ones, are passed over.
func receive(to *udpSocket, datagram []byte) (netip.AddrPort, error) {
	to.SetReadDeadline(time.Now().Add(lossTimeout))
	buf := make([]byte, 1<<16)
	for {
		n, from, err := to.ReadFromUDPAddrPort(buf)
		var failed net.Error
		switch {
		case errors.As(err, &failed) && failed.Timeout():
			return from, errBlackhole
		case err != nil:
			continue // an ICMP error about what was sent earlier
		case n < 4 || !bytes.Equal(buf[:4], datagram[:4]):
			continue
		case !bytes.Equal(buf[:n], datagram):
			return from, fmt.Errorf("datagram of %d bytes arrived as another, of %d bytes", len(datagram), n)
		}
		return from, nil
	}
}

// limits are the path MTUs between the client and a Pod.
type limits struct{ toPod, toClient int }

// bothWays sends a datagram to the Pod and one back, and says whether all went
// as it has to. Where the path MTU of a direction is too small for a socket that
// does not fragment, the sender's kernel has to refuse it.
func (p *place) bothWays(t *testing.T, c *cluster.Cluster, family int, d discovery, size int, l limits) bool {
	t.Helper()
	client := p.dial(t, c, family)
	client.discover(t, d)
	server := p.sockets[family]
	server.discover(t, d)
	// Without a flow, what the Pod sends would be its own affair.
	if _, err := transfer(client, server, p.target(family), smallDatagram); err != nil {
		t.Errorf("client %s, to %s: %d bytes: %v", client.local.Addr(), p.name, smallDatagram, err)
		return false
	}
	seen, toPod := transfer(client, server, p.target(family), size)
	if toPod == nil && seen != client.local {
		t.Errorf("%s saw client %s, want %s", p.pod.Host, seen, client.local)
	}
	_, toClient := transfer(server, client, client.local, size)
	ok := true
	for _, way := range []struct {
		name      string
		got, want error
	}{
		{"to", toPod, tooLong(family, d, size, l.toPod)},
		{"from", toClient, tooLong(family, d, size, l.toClient)},
	} {
		if !errors.Is(way.got, way.want) {
			t.Errorf("client %s, %s %s with %q: %d bytes: %v, want %v", client.local.Addr(), way.name, p.name, d, size, way.got, way.want)
			ok = false
		}
	}
	return ok
}

// tooLong is what the kernel says at last of such a datagram on such a path.
func tooLong(family int, d discovery, size, mtu int) error {
	if d == do && headers[family]+size > mtu {
		return unix.EMSGSIZE
	}
	return nil
}

// smallDatagram fits everywhere.
const smallDatagram = 16

// headers are the lengths of IP and UDP headers.
var headers = [2]int{20 + 8, 40 + 8}
