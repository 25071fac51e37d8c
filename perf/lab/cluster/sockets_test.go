// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/perf/lab"
)

// discovery says what a socket does with a datagram that is longer than the
// path MTU (ip(7), IP_MTU_DISCOVER; IPv6 has the same numbers).
type discovery int

const (
	// dont: fragment it, and let routers do so, too (IPv4).
	dont discovery = unix.IP_PMTUDISC_DONT
	// want: fragment it; what fits is not to be fragmented by others.
	want discovery = unix.IP_PMTUDISC_WANT
	// do: refuse it with EMSGSIZE.
	do discovery = unix.IP_PMTUDISC_DO
)

func (d discovery) String() string { return [...]string{"dont", "want", "do"}[d] }

// udpSocket is one end of datagrams of one family, in a namespace of the lab.
type udpSocket struct {
	*net.UDPConn
	local, remote netip.AddrPort // remote is zero where it is not connected
}

// listenUDP opens a socket that hears everybody; port 0 lets the kernel choose.
func listenUDP(t *testing.T, n *lab.Namespace, local netip.AddrPort) *udpSocket {
	t.Helper()
	network := "udp4"
	if local.Addr().Is6() {
		network = "udp6"
	}
	conn, err := n.ListenPacket(t.Context(), network, local.String())
	if err != nil {
		t.Fatal(err)
	}
	return newUDPSocket(t, conn.(*net.UDPConn), netip.AddrPort{})
}

// dialUDP opens a socket that hears only the remote address.
func dialUDP(t *testing.T, n *lab.Namespace, local netip.Addr, remote netip.AddrPort) *udpSocket {
	t.Helper()
	conn, err := n.Dial(t.Context(), "udp", netip.AddrPortFrom(local, 0), remote)
	if err != nil {
		t.Fatal(err)
	}
	return newUDPSocket(t, conn.(*net.UDPConn), remote)
}

func newUDPSocket(t *testing.T, conn *net.UDPConn, remote netip.AddrPort) *udpSocket {
	t.Cleanup(func() { conn.Close() })
	return &udpSocket{UDPConn: conn, local: netip.MustParseAddrPort(conn.LocalAddr().String()), remote: remote}
}

// send sends to the remote address, or where the socket is not connected to this one.
func (s *udpSocket) send(b []byte, to netip.AddrPort) error {
	var err error
	if s.remote.IsValid() {
		_, err = s.Write(b)
	} else {
		_, err = s.WriteToUDPAddrPort(b, to)
	}
	return err
}

// mustSend sends a word.
func (s *udpSocket) mustSend(t *testing.T, word string, to netip.AddrPort) {
	t.Helper()
	if err := s.send([]byte(word), to); err != nil {
		t.Fatalf("send %q from %s: %v", word, s.local, err)
	}
}

// expect reads the word, and returns who sent it.
func (s *udpSocket) expect(t *testing.T, word string) netip.AddrPort {
	t.Helper()
	s.SetReadDeadline(time.Now().Add(atOnce))
	b := make([]byte, 256)
	n, from, err := s.ReadFromUDPAddrPort(b)
	if err != nil || string(b[:n]) != word {
		t.Fatalf("%s: read %q from %v, %v, want %q", s.local, b[:n], from, err, word)
	}
	return from
}

// set sets a socket option, which has another number for IPv6.
func (s *udpSocket) set(t *testing.T, v4, v6, value int) {
	t.Helper()
	level, option := unix.IPPROTO_IP, v4
	if s.local.Addr().Is6() {
		level, option = unix.IPPROTO_IPV6, v6
	}
	raw, err := s.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	cerr := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, option, value) })
	if err := errors.Join(cerr, err); err != nil {
		t.Fatalf("set option %d of %s to %d: %v", option, s.local, value, err)
	}
}

func (s *udpSocket) discover(t *testing.T, d discovery) {
	t.Helper()
	s.set(t, unix.IP_MTU_DISCOVER, unix.IPV6_MTU_DISCOVER, int(d))
}

// keepErrors makes the kernel keep ICMP errors for nextError.
func (s *udpSocket) keepErrors(t *testing.T) {
	t.Helper()
	s.set(t, unix.IP_RECVERR, unix.IPV6_RECVERR, 1)
}

// icmpError is what the kernel tells a socket of an ICMP error.
type icmpError struct {
	Errno      unix.Errno
	Type, Code uint8
	From       netip.Addr     // who sent it
	About      netip.AddrPort // where the datagram went that it quotes
}

// nextError waits for an error that the kernel kept, and leaves none pending. The
// kernel queues the error, wakes its reader, and only then makes it the one that
// the socket's next call fails with: so that comes first here.
func (s *udpSocket) nextError() (e icmpError, err error) {
	raw, err := s.SyscallConn()
	if err != nil {
		return e, err
	}
	s.SetReadDeadline(time.Now().Add(atOnce))
	control := make([]byte, 256)
	var n int
	var about unix.Sockaddr
	rerr := raw.Read(func(fd uintptr) bool {
		var pending int
		pending, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR) // which clears it
		if err != nil || pending == 0 {
			return err != nil
		}
		_, n, _, about, err = unix.Recvmsg(int(fd), make([]byte, 2048), control, unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
		return true
	})
	if rerr != nil {
		return e, rerr // the deadline
	}
	if err != nil {
		return e, err
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil {
		return e, err
	}
	e.About = addrPort(about)
	for _, m := range messages {
		// struct sock_extended_err: errno, origin, type, code, pad, info, data;
		// then the sender as a socket address.
		d := m.Data
		e.Errno, e.Type, e.Code = unix.Errno(binary.NativeEndian.Uint32(d)), d[5], d[6]
		switch {
		case m.Header.Level == unix.IPPROTO_IP && len(d) >= 24:
			e.From = netip.AddrFrom4([4]byte(d[20:24]))
		case m.Header.Level == unix.IPPROTO_IPV6 && len(d) >= 40:
			e.From = netip.AddrFrom16([16]byte(d[24:40]))
		}
	}
	return e, nil
}

func addrPort(a unix.Sockaddr) netip.AddrPort {
	switch a := a.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port))
	}
	return netip.AddrPort{}
}

// expectError holds the next error against what it has to be.
func (s *udpSocket) expectError(t *testing.T, want icmpError) {
	t.Helper()
	if got, err := s.nextError(); err != nil || got != want {
		t.Errorf("%s: ICMP error %+v, %v, want %+v", s.local, got, err, want)
	}
}
