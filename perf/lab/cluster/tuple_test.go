// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/cluster"
	"github.com/fairlead/fairlead/perf/lab/pod"
)

const (
	tuples    = 15
	tupleBulk = 100_000
	otherPort = cluster.ServicePort + 1
)

// testTuples lets one client address and port reach the same port of a Pod by
// two VIPs and two service ports at once. The Pod is on the ingress node, and
// behind the tunnel.
func testTuples(t *testing.T, c *cluster.Cluster) {
	for i, p := range []*lab.Pod{c.Lab.Nodes[0].Pods[0], c.Lab.Nodes[1].Pods[0]} {
		first, second := byte(60+2*i), byte(61+2*i)
		s := cluster.NewService(fmt.Sprintf("lab/tuples-%s", p.Host), "Cluster", []*lab.Pod{p}, append(vipList(first), vipList(second)...)...)
		for _, port := range s.Ports {
			port.Port = otherPort
			s.Ports = append(s.Ports, port)
		}
		serve(t, c, s)
		before := countersOf(t, c)
		for family := range clientAddrs {
			var remotes []netip.AddrPort
			for _, vip := range []byte{first, second} {
				for _, port := range []uint16{cluster.ServicePort, otherPort} {
					remotes = append(remotes, netip.AddrPortFrom(vips(vip)[family], port))
				}
			}
			for range tuples {
				testTCPTuple(t, c, clientAddrs[family], remotes)
				testUDPTuple(t, c, clientAddrs[family], remotes)
			}
		}
		countersOf(t, c).since(before).expectOnly(t, "encap_home", "mine", "new", "translated")
	}
}

// dialTuple connects to all remotes from one local address and port.
func dialTuple(t *testing.T, c *cluster.Cluster, network string, client netip.Addr, remotes []netip.AddrPort) []net.Conn {
	t.Helper()
	local := netip.AddrPortFrom(client, 0)
	var conns []net.Conn
	for _, remote := range remotes {
		conn, err := dialShared(t.Context(), c.Lab.Client, network, local, remote)
		if err != nil {
			t.Fatal(err)
		}
		local = netip.MustParseAddrPort(conn.LocalAddr().String())
		conns = append(conns, conn)
	}
	return conns
}

func closeAll(conns []net.Conn) {
	for _, conn := range conns {
		conn.Close()
	}
}

// testTCPTuple lets all connections speak and transfer in turn. That a socket
// hears at all says that the answer came from its VIP and port.
func testTCPTuple(t *testing.T, c *cluster.Cluster, client netip.Addr, remotes []netip.AddrPort) {
	t.Helper()
	conns := dialTuple(t, c, "tcp", client, remotes)
	defer closeAll(conns)
	ports := map[uint16]bool{}
	var streams []*stream
	for i, conn := range conns {
		s := newStream(conn)
		if err := s.hello(fmt.Sprint(i)); err != nil {
			t.Fatalf("%s to %s: %v", conn.LocalAddr(), remotes[i], err)
		}
		if s.seen.Addr() != client || ports[s.seen.Port()] {
			t.Errorf("%s to %s: pod saw %s, ports seen before: %v", conn.LocalAddr(), remotes[i], s.seen, ports)
		}
		ports[s.seen.Port()] = true
		streams = append(streams, s)
	}
	for i, s := range streams {
		if err := s.bulk(tupleBulk); err != nil {
			t.Errorf("%s to %s: %v", s.conn.LocalAddr(), remotes[i], err)
		}
	}
}

// testUDPTuple sends on all sockets before it reads what came.
func testUDPTuple(t *testing.T, c *cluster.Cluster, client netip.Addr, remotes []netip.AddrPort) {
	t.Helper()
	conns := dialTuple(t, c, "udp", client, remotes)
	defer closeAll(conns)
	for round := range 2 {
		for i, conn := range conns {
			if _, err := fmt.Fprintf(conn, "%d-%d", round, i); err != nil {
				t.Fatal(err)
			}
		}
		ports := map[uint16]bool{}
		for i, conn := range conns {
			conn.SetDeadline(time.Now().Add(5 * time.Second))
			buf := make([]byte, 256)
			n, err := conn.Read(buf)
			if err != nil {
				t.Fatalf("%s to %s: %v", conn.LocalAddr(), remotes[i], err)
			}
			a, err := pod.ParseAnswer(string(buf[:n]))
			if err != nil || a.Rest != fmt.Sprintf("%d-%d", round, i) || a.Client.Addr() != client || ports[a.Client.Port()] {
				t.Errorf("%s to %s, round %d: answer %+v, %v, ports seen before: %v", conn.LocalAddr(), remotes[i], round, a, err, ports)
			}
			ports[a.Client.Port()] = true
		}
	}
}

// dialShared connects from a local address that other sockets have, too.
func dialShared(ctx context.Context, from *lab.Namespace, network string, local, remote netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{Timeout: 5 * time.Second, Control: reuseAddress}
	if network == "udp" {
		d.LocalAddr = net.UDPAddrFromAddrPort(local)
	} else {
		d.LocalAddr = net.TCPAddrFromAddrPort(local)
	}
	var conn net.Conn
	err := from.Do(func() (err error) {
		conn, err = d.DialContext(ctx, network, remote.String())
		return err
	})
	return conn, err
}

// reuseAddress lets several sockets have one local address.
func reuseAddress(_, _ string, raw syscall.RawConn) error {
	var err error
	cerr := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
	if cerr != nil {
		return cerr
	}
	return err
}
