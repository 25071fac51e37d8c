// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/lb/packet"
	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/cluster"
)

// oldFlows are opened for each family: so many that slots of some of them move.
const (
	oldFlows = 12
	oldBulk  = 200_000
)

// oldFlow is an established connection of which a SYN comes again.
type oldFlow struct {
	*stream
	isn uint32 // the client's
}

// TestSYNOfEstablishedFlow sends SYNs with the tuple of established flows: blind
// ones, and the flow's own, late. They do no harm, wherever the slot's home is.
func TestSYNOfEstablishedFlow(t *testing.T) {
	lab.RequireRoot(t)
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			c := startCluster(t, newLab(t, mode, lab.Options{}), mode)
			web := cluster.NewService("lab/web", "Cluster", c.Lab.Pods(), vipList(10)...)
			serve(t, c, web)
			var flows []oldFlow
			for _, target := range targetsOf(vips(10), cluster.ServicePort)[:2] {
				for range oldFlows {
					flows = append(flows, openOld(t, c, target))
				}
			}
			before := countersOf(t, c)
			attack(t, c, flows)
			countersOf(t, c).since(before).expectOnly(t, "encap_home", "mine", "translated")

			for _, n := range c.Lab.Nodes {
				addPod(t, c, n, web)
			}
			sync(t, c)
			before = countersOf(t, c)
			attack(t, c, flows)
			moved := countersOf(t, c).since(before)
			moved.expectOnly(t, "encap_home", "encap_past", "steer_past", "mine", "translated")
			if moved.sum("encap_past", "steer_past") == 0 {
				t.Errorf("no slot moved: %v", moved)
			}
		})
	}
}

// addPod adds a Pod on the node to the service, without telling the agents.
func addPod(t *testing.T, c *cluster.Cluster, n *lab.Node, s *cluster.Service) {
	t.Helper()
	p, err := c.Lab.AddPod(n)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.StartPod(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	s.Add(p)
}

// openOld notes the sequence number that the connection began with.
func openOld(t *testing.T, c *cluster.Cluster, target target) oldFlow {
	t.Helper()
	conn, err := c.Lab.Client.Dial(t.Context(), "tcp", netip.AddrPortFrom(target.Client, 0), target.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	next, err := nextSequence(conn.(*net.TCPConn))
	if err != nil {
		t.Fatal(err)
	}
	f := oldFlow{stream: newStream(conn), isn: next - 1}
	if err := f.hello("first"); err != nil {
		t.Fatal(err)
	}
	return f
}

// nextSequence is the number of the next byte that the connection sends.
func nextSequence(conn *net.TCPConn) (uint32, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var next int
	cerr := raw.Control(func(fd uintptr) {
		const sendQueue = 2 // TCP_SEND_QUEUE of linux/tcp.h
		set := func(option, value int) {
			if err == nil {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, option, value)
			}
		}
		set(unix.TCP_REPAIR, unix.TCP_REPAIR_ON)
		set(unix.TCP_REPAIR_QUEUE, sendQueue)
		if err == nil {
			next, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUEUE_SEQ)
		}
		set(unix.TCP_REPAIR, unix.TCP_REPAIR_OFF_NO_WP)
	})
	return uint32(next), errors.Join(cerr, err)
}

// attack sends a blind and a late SYN for each flow, each while bytes move and
// while none do.
func attack(t *testing.T, c *cluster.Cluster, flows []oldFlow) {
	t.Helper()
	for _, f := range flows {
		for _, isn := range []uint32{rand.Uint32(), f.isn} {
			sendSYN(t, c, f, isn)
			if err := f.hello("again"); err != nil {
				t.Fatalf("after a SYN to %s, sequence number %d (its own: %d): %v", f.pod, isn, f.isn, err)
			}
			during := make(chan error, 1)
			go func() { during <- f.bulk(oldBulk) }()
			sendSYN(t, c, f, isn)
			if err := <-during; err != nil {
				t.Fatalf("during a SYN to %s, sequence number %d (its own: %d): %v", f.pod, isn, f.isn, err)
			}
		}
	}
}

// sendSYN sends one with the flow's tuple, from the client.
func sendSYN(t *testing.T, c *cluster.Cluster, f oldFlow, isn uint32) {
	t.Helper()
	from := f.conn.LocalAddr().(*net.TCPAddr).AddrPort()
	to := f.conn.RemoteAddr().(*net.TCPAddr).AddrPort()
	segment := make([]byte, packet.TCPLen)
	binary.BigEndian.PutUint16(segment[0:], from.Port())
	binary.BigEndian.PutUint16(segment[2:], to.Port())
	binary.BigEndian.PutUint32(segment[4:], isn)
	segment[12], segment[13] = packet.TCPLen/4<<4, packet.SYN
	binary.BigEndian.PutUint16(segment[14:], 64240)
	sum := packet.L4Checksum(from.Addr().AsSlice(), to.Addr().AsSlice(), packet.ProtoTCP, segment)
	binary.BigEndian.PutUint16(segment[16:], sum)
	if err := c.Lab.Client.Do(func() error { return sendRaw(from.Addr(), to.Addr(), segment) }); err != nil {
		t.Fatal(err)
	}
}

// sendRaw sends a TCP segment; the kernel writes the IP header.
func sendRaw(from, to netip.Addr, segment []byte) error {
	family := unix.AF_INET
	address := func(a netip.Addr) unix.Sockaddr { return &unix.SockaddrInet4{Addr: a.As4()} }
	if to.Is6() {
		family = unix.AF_INET6
		address = func(a netip.Addr) unix.Sockaddr { return &unix.SockaddrInet6{Addr: a.As16()} }
	}
	fd, err := unix.Socket(family, unix.SOCK_RAW, unix.IPPROTO_TCP)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, address(from)); err != nil {
		return err
	}
	return unix.Sendto(fd, segment, 0, address(to))
}
