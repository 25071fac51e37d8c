// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/lb/packet"
	"github.com/fairlead/fairlead/lb/packet/packettest"
	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/cluster"
	"github.com/fairlead/fairlead/perf/lab/pod"
)

const (
	geneve   = 6180 // the agents' default
	echoPort = 9001
	echoed   = 8000 // bytes of a datagram that has to be fragmented
	echoes   = 12   // of each family: enough for homes on every node

	linkLength = 1500 // of the longest IP packet
)

// serveEchoes has the Pods send every datagram back, until the test ends.
func serveEchoes(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	for _, p := range c.Lab.Pods() {
		conn, err := p.ListenPacket(t.Context(), "udp", fmt.Sprintf(":%d", echoPort))
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			buffer := make([]byte, 1<<16)
			for {
				n, from, err := conn.ReadFrom(buffer)
				if err != nil {
					return
				}
				conn.WriteTo(buffer[:n], from)
			}
		}()
		t.Cleanup(func() {
			conn.Close()
			<-done
		})
	}
}

// replayTraffic is what ordinary clients do.
func replayTraffic(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	for _, vip := range []byte{10, 20} {
		for _, target := range targetsOf(vips(vip), cluster.ServicePort) {
			ask(t, c, target, 40)
		}
	}
	// Up only: the node's TC counts a segment that the Pod's kernel has not cut
	// yet as one packet, of which the capture has many.
	for _, target := range targetsOf(vips(10), cluster.ServicePort)[:2] {
		s := openStream(t, c, target.Target)
		if err := upload(s, 100_000); err != nil {
			t.Error(err)
		}
		s.conn.Close()
	}
	for _, vip := range vips(10) {
		for _, size := range []string{"56", "3000"} {
			if out, err := c.Lab.Client.Output(t.Context(), "ping", "-n", "-i", "0.01", "-c", "3", "-s", size, vip.String()); err != nil {
				t.Errorf("ping %s: %v: %s", vip, err, out)
			}
		}
	}
	for _, target := range slices.Concat(
		targetsOf(vips(40), cluster.ServicePort),   // refused
		targetsOf(vips(50), cluster.ServicePort),   // not for this client
		targetsOf(vips(20), cluster.ServicePort+1), // no such port
	) {
		if err := tryOnce(t.Context(), c, target, "hello\n", silence); err == nil {
			t.Errorf("%s %s: answered", target.name, target.Addr)
		}
	}
	for _, target := range targetsOf(vips(60), cluster.ServicePort)[2:] {
		for range echoes {
			echoOnce(t, c, target, echoed)
		}
		for range echoes {
			newProber(t, c, target, netip.AddrPortFrom(target.Client, 0)).send(t, linkLength)
		}
	}
}

// upload is the second half of bulk.
func upload(s *stream, n int64) error {
	s.conn.SetDeadline(time.Now().Add(bulkTimeout))
	if _, err := fmt.Fprintf(s.conn, "sink %d\n", n); err != nil {
		return err
	}
	if _, err := io.CopyN(s.conn, &pod.Pattern{}, n); err != nil {
		return err
	}
	return s.answer(fmt.Sprintf("sunk %d", n))
}

// echoOnce sends datagrams until one comes back: over IPv6, the first one may
// only tell the client how long its fragments may be.
func echoOnce(t *testing.T, c *cluster.Cluster, target target, size int) {
	t.Helper()
	conn, err := c.Lab.Client.Dial(t.Context(), "udp", netip.AddrPortFrom(target.Client, 0), target.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	buffer := make([]byte, 1<<16)
	err = lab.Poll(t.Context(), atOnce, func() bool {
		if _, err := conn.Write(make([]byte, size)); err != nil {
			return false
		}
		conn.SetReadDeadline(time.Now().Add(silence))
		n, err := conn.Read(buffer)
		return err == nil && n == size
	})
	if err != nil {
		t.Errorf("%s: no echo of %d bytes: %v", target.name, size, err)
	}
}

// prober is a UDP socket of the client whose packets nobody may fragment.
type prober struct {
	conn    *net.UDPConn
	headers int
}

func newProber(t *testing.T, c *cluster.Cluster, target target, from netip.AddrPort) prober {
	t.Helper()
	conn, err := c.Lab.Client.Dial(t.Context(), "udp", from, target.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	p := prober{conn.(*net.UDPConn), packet.IPv4Len + packet.UDPLen}
	raw, err := p.conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	level, option, mode := unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE
	if target.Addr.Addr().Is6() {
		p.headers = packet.IPv6Len + packet.UDPLen
		level, option, mode = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE
	}
	cerr := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, option, mode) })
	if cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
	return p
}

// send sends an IP packet of so many bytes.
func (p prober) send(t *testing.T, length int) {
	t.Helper()
	if _, err := p.conn.Write(make([]byte, length-p.headers)); err != nil {
		t.Errorf("send %d bytes to %s: %v", length, p.conn.RemoteAddr(), err)
	}
}

// sendOdd puts frames in front of the node that no ordinary client sends.
func sendOdd(t *testing.T, c *cluster.Cluster, p *tap) {
	t.Helper()
	const client4, client6, vip4, vip6 = "10.2.0.2:40000", "[fd02::2]:40000", "192.0.2.10:80", "[2001:db8:0:1::a]:80"
	own, peer := "10.1.0.11", "10.1.0.12"
	raw, err := hex.DecodeString(c.Key)
	if err != nil {
		t.Fatal(err)
	}
	key, other := [16]byte(raw), [16]byte{1}
	tunnel := func(key [16]byte, dst string, change func(*packettest.Tunnel)) []byte {
		e := packettest.Encap(peer, own, geneve, key, packettest.UDP(client4, dst, "tunnelled"))
		change(&e)
		return e.Bytes()
	}
	asIs := func(*packettest.Tunnel) {}
	gre, short, timestamp, last := packettest.UDP(client4, vip4, ""), packettest.TCP(client6, vip6, packet.SYN),
		packettest.Ping("10.2.0.2", "192.0.2.10"), packettest.UDP(client4, vip4, "the last hop")
	gre.Proto, gre.Raw = 47, make([]byte, 8)
	short.Raw = make([]byte, 10)
	timestamp.ICMPType = 13
	last.TTL = 1
	long := packettest.UDP(client6, vip6, "behind long headers")
	long.Extensions = []packettest.Extension{packettest.HopByHop(72)}
	sent := packettest.UDP(own+":50000", fmt.Sprintf("%s:%d", peer, geneve), strings.Repeat("x", 1400))
	for _, frame := range [][]byte{
		// The client has no such socket, and says so about the Pod's answer.
		packettest.UDP(client4, "192.0.2.20:80", "unasked").Bytes(),
		packettest.UDP(client6, "[2001:db8:0:1::14]:80", "unasked").Bytes(),
		packettest.UDP("127.0.0.1:1", vip4, "").Bytes(),
		packettest.UDP("[ff02::1]:1", vip6, "").Bytes(),
		packettest.TCP(vip4, vip4, packet.SYN).Bytes(),
		packettest.UDP("10.2.0.2:0", vip4, "").Bytes(),
		gre.Bytes(), short.Bytes(), timestamp.Bytes(), long.Bytes(),
		packettest.ICMPError("10.2.0.9", packettest.UDP(vip4, "10.2.0.2:1", "never sent"), 3, 1, 8).Bytes(),
		packettest.UDP(client4, vip4, strings.Repeat("x", 64)).Fragments(77, 32)[1].Bytes(),
		packettest.UDP(client4, fmt.Sprintf("%s:%d", own, geneve), "another's tunnel").Bytes(),
		tunnel(other, vip4, asIs),
		tunnel(key, "192.0.2.10:81", asIs),
		tunnel(key, vip4, func(e *packettest.Tunnel) { e.Position = 77 }),
		tunnel(key, vip4, func(e *packettest.Tunnel) { e.Position = uint8(packet.PositionRedirected) }),
		tunnel(key, vip4, func(e *packettest.Tunnel) { e.TOS = packet.CE }),
		// From here on, what goes to the second node has to be shorter.
		packettest.ICMPError("10.1.0.1", sent, packet.ICMPUnreachable, packet.ICMPCodeTooBig, 8).WithMTU(1400).Bytes(),
	} {
		p.send(t, frame)
	}
	for port := range echoes {
		last.Src = netip.AddrPortFrom(lab.ClientAddr4, uint16(41000+port))
		p.send(t, last.Bytes())
	}
}
