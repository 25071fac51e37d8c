// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
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
)

// What one sendmsg with UDP_SEGMENT carries; each segment fits the tunnel.
const (
	segmentSize  = 1200
	segmentCount = 20
	segmentPort  = 9000
	burstCommand = "burst"
)

// segments are as many datagrams in one buffer, each with its number and bytes
// that depend on it.
func segments(count int) []byte {
	var all []byte
	for i := range count {
		start := len(all)
		all = binary.BigEndian.AppendUint32(all, uint32(i))
		for len(all)-start < segmentSize {
			all = append(all, byte(i*31+(len(all)-start)))
		}
	}
	return all
}

var errSegment = errors.New("datagram is no segment as it was sent")

// segmentNumber checks one datagram.
func segmentNumber(b []byte) (int, error) {
	if len(b) != segmentSize {
		return 0, fmt.Errorf("%w: %d bytes", errSegment, len(b))
	}
	n := int(binary.BigEndian.Uint32(b))
	if n < 0 || n >= segmentCount || string(segments(n + 1)[n*segmentSize:]) != string(b) {
		return 0, errSegment
	}
	return n, nil
}

// segmentServer answers every segment with its number, and a burst command with
// segments that leave in one sendmsg.
type segmentServer struct {
	name string
	conn *net.UDPConn
}

// serveSegments runs the server in the Pod until the test ends.
func serveSegments(t *testing.T, p *lab.Pod) {
	t.Helper()
	conn, err := p.ListenPacket(t.Context(), "udp", fmt.Sprintf(":%d", segmentPort))
	if err != nil {
		t.Fatal(err)
	}
	s := segmentServer{p.Host, conn.(*net.UDPConn)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.run()
	}()
	t.Cleanup(func() {
		conn.Close()
		<-done
	})
}

func (s segmentServer) run() {
	if setSegment(s.conn) != nil {
		return // requests without answers tell
	}
	buf := make([]byte, 1<<16)
	for {
		n, client, err := s.conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		if string(buf[:n]) == burstCommand {
			s.conn.WriteToUDPAddrPort(segments(segmentCount), client)
			continue
		}
		i, err := segmentNumber(buf[:n])
		seen := netip.AddrPortFrom(client.Addr().Unmap(), client.Port())
		s.conn.WriteToUDPAddrPort(fmt.Appendf(nil, "%s %s %d %v", s.name, seen, i, err), client)
	}
}

// setSegment makes every write that is longer leave as segments.
func setSegment(conn *net.UDPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	cerr := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT, segmentSize)
	})
	return errors.Join(cerr, err)
}

// testSegments sends UDP GSO packets to Pods on the ingress node and behind the
// tunnel, and lets the Pods send such packets back.
func testSegments(t *testing.T, c *cluster.Cluster) {
	s := &cluster.Service{Name: "lab/segments", Policy: "Cluster", VIPs: []string{vips(30)[0].String(), vips(30)[1].String()}}
	port := cluster.Port{Port: segmentPort, Protocol: "UDP"}
	for _, p := range c.Lab.Pods() {
		serveSegments(t, p)
		for _, addr := range []netip.Addr{p.Addr4, p.Addr6} {
			port.Backends = append(port.Backends, cluster.Backend{Address: addr.String(), Port: segmentPort, Node: p.Node.Host})
		}
	}
	s.Ports = []cluster.Port{port}
	serve(t, c, s)
	before := countersOf(t, c)
	for _, target := range targetsOf(vips(30), segmentPort)[2:] {
		done := map[bool]bool{}
		for range placeTries {
			pod := exchangeSegments(t, c, target)
			done[nodeOf(t, c, pod) == c.Lab.Nodes[0]] = true
			if len(done) == 2 {
				break
			}
		}
		if len(done) != 2 {
			t.Errorf("%s: no flow to both places", target.name)
		}
	}
	countersOf(t, c).since(before).expectOnly(t, "encap_home", "mine", "new", "translated")
}

// exchangeSegments does it on one flow and returns the Pod that answered.
func exchangeSegments(t *testing.T, c *cluster.Cluster, target target) (pod string) {
	t.Helper()
	dialed, err := c.Lab.Client.Dial(t.Context(), "udp", netip.AddrPortFrom(target.Client, 0), target.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer dialed.Close()
	conn := dialed.(*net.UDPConn)
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	if err := setSegment(conn); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(segments(segmentCount)); err != nil {
		t.Fatal(err)
	}
	missing := numbers()
	for len(missing) > 0 {
		line := mustRead(t, conn, target, len(missing))
		var n int
		var seen, verdict string
		if _, err := fmt.Sscan(line, &pod, &seen, &n, &verdict); err != nil || verdict != "<nil>" || !missing[n] {
			t.Fatalf("%s: answer %q", target.name, line)
		}
		if seen != conn.LocalAddr().String() {
			t.Errorf("%s: %s saw client %s, want %s", target.name, pod, seen, conn.LocalAddr())
		}
		delete(missing, n)
	}
	expectBurst(t, conn, target)
	return pod
}

// expectBurst lets the Pod send segments.
func expectBurst(t *testing.T, conn *net.UDPConn, target target) {
	t.Helper()
	if _, err := conn.Write([]byte(burstCommand)); err != nil {
		t.Fatal(err)
	}
	for missing := numbers(); len(missing) > 0; {
		n, err := segmentNumber([]byte(mustRead(t, conn, target, len(missing))))
		if err != nil || !missing[n] {
			t.Fatalf("%s: segment %d of the pod: %v", target.name, n, err)
		}
		delete(missing, n)
	}
}

func numbers() map[int]bool {
	all := map[int]bool{}
	for i := range segmentCount {
		all[i] = true
	}
	return all
}

// mustRead returns a datagram.
func mustRead(t *testing.T, conn *net.UDPConn, target target, missing int) string {
	t.Helper()
	buf := make([]byte, 1<<16)
	n, err := conn.Read(buf)
	if err != nil {
		t.Fatalf("%s: %d of %d segments missing: %v", target.name, missing, segmentCount, err)
	}
	return string(buf[:n])
}
