// SPDX-License-Identifier: Apache-2.0

package bfd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// Facts of the transport (RFC 5881 sections 4 and 5, RFC 5883 section 5).
const (
	singleHopPort   = 3784
	multihopPort    = 4784
	firstSourcePort = 49152
	lastSourcePort  = 65535
	sentTTL         = 255
	// trafficClass is network control (CS6), which queues prefer.
	trafficClass = 0xc0
)

func port(multihop bool) uint16 {
	if multihop {
		return multihopPort
	}
	return singleHopPort
}

// where names a socket that receives.
type where struct{ v6, multihop bool }

func (w where) network() string {
	if w.v6 {
		return "udp6"
	}
	return "udp4"
}

// receiver is a socket that packets come in on.
type receiver struct {
	where
	conn *net.UDPConn
	raw  syscall.RawConn
}

// arrival is a packet with what the kernel says of it.
type arrival struct {
	payload  []byte
	from, to netip.Addr // without zones
	ttl      int
	link     int
}

func openReceiver(w where) (*receiver, error) {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		if w.v6 {
			return setInts(c, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1, unix.IPV6_RECVHOPLIMIT, 1)
		}
		return setInts(c, unix.IPPROTO_IP, unix.IP_PKTINFO, 1, unix.IP_RECVTTL, 1)
	}}
	conn, err := config.ListenPacket(context.Background(), w.network(), fmt.Sprintf(":%d", port(w.multihop)))
	if err != nil {
		return nil, err
	}
	udp := conn.(*net.UDPConn)
	raw, err := udp.SyscallConn()
	if err != nil {
		udp.Close()
		return nil, err
	}
	return &receiver{w, udp, raw}, nil
}

// linkIndex is the number of an interface in the socket's network namespace; -1:
// there is none of the name.
func (r *receiver) linkIndex(name string) int {
	index := -1
	r.raw.Control(func(fd uintptr) {
		request, err := unix.NewIfreq(name)
		if err == nil && unix.IoctlIfreq(int(fd), unix.SIOCGIFINDEX, request) == nil {
			index = int(request.Uint32())
		}
	})
	return index
}

// receive takes one packet from the socket without waiting; its error is EAGAIN
// where there is none. Linux does not look at IP_MINTTL for UDP, so the TTL
// comes along (RFC 5082).
func receive(fd uintptr, buffer []byte) (arrival, error) {
	var control [128]byte
	n, controlLen, flags, from, err := unix.Recvmsg(int(fd), buffer, control[:], unix.MSG_DONTWAIT)
	if err != nil {
		return arrival{}, err
	}
	a := arrival{payload: buffer[:n]}
	switch from := from.(type) {
	case *unix.SockaddrInet4:
		a.from = netip.AddrFrom4(from.Addr)
	case *unix.SockaddrInet6:
		a.from = netip.AddrFrom16(from.Addr)
	}
	if flags&unix.MSG_CTRUNC != 0 {
		return a, nil // without a TTL it is dropped
	}
	messages, err := unix.ParseSocketControlMessage(control[:controlLen])
	for _, m := range messages {
		a.control(m)
	}
	return a, err
}

func (a *arrival) control(m unix.SocketControlMessage) {
	switch [2]int32{m.Header.Level, m.Header.Type} {
	case [2]int32{unix.IPPROTO_IP, unix.IP_TTL}, [2]int32{unix.IPPROTO_IPV6, unix.IPV6_HOPLIMIT}:
		if len(m.Data) >= 4 {
			a.ttl = int(int32(binary.NativeEndian.Uint32(m.Data)))
		}
	case [2]int32{unix.IPPROTO_IP, unix.IP_PKTINFO}:
		if len(m.Data) >= unix.SizeofInet4Pktinfo { // interface, local, destination
			a.link = int(int32(binary.NativeEndian.Uint32(m.Data)))
			a.to = netip.AddrFrom4([4]byte(m.Data[8:12]))
		}
	case [2]int32{unix.IPPROTO_IPV6, unix.IPV6_PKTINFO}:
		if len(m.Data) >= unix.SizeofInet6Pktinfo { // destination, interface
			a.to = netip.AddrFrom16([16]byte(m.Data[:16]))
			a.link = int(int32(binary.NativeEndian.Uint32(m.Data[16:])))
		}
	}
}

// sender is the socket of one session.
type sender struct {
	conn net.PacketConn
	raw  syscall.RawConn
	to   unix.Sockaddr
	port uint16 // its own
}

// openSender binds to a port of its own, the one wished for if that is free; 0:
// no wish.
func openSender(p Path, wish uint16) (*sender, error) {
	one := &sender{port: wish}
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error { return senderOptions(p, c) }}
	source := p.Source
	if !source.IsValid() {
		source = unspecified(p.Addr)
	}
	if p.Addr.Is4() {
		one.to = &unix.SockaddrInet4{Port: int(port(p.Multihop)), Addr: p.Addr.As4()}
	} else {
		one.to = &unix.SockaddrInet6{Port: int(port(p.Multihop)), Addr: p.Addr.As16()}
	}
	for tries := 0; ; tries++ {
		if one.port == 0 {
			one.port = uint16(firstSourcePort + rand.IntN(lastSourcePort-firstSourcePort+1))
		}
		var err error
		one.conn, err = config.ListenPacket(context.Background(), where{v6: p.Addr.Is6()}.network(), netip.AddrPortFrom(source, one.port).String())
		if err == nil {
			one.raw, err = one.conn.(*net.UDPConn).SyscallConn()
			return one, err
		}
		if !errors.Is(err, unix.EADDRINUSE) || tries == 20 {
			return nil, err
		}
		one.port = 0
	}
}

func unspecified(like netip.Addr) netip.Addr {
	if like.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// send does not wait: a packet that finds no room is late anyway.
func (s *sender) send(packet []byte) error {
	var err error
	controlErr := s.raw.Control(func(fd uintptr) { err = unix.Sendto(int(fd), packet, unix.MSG_DONTWAIT, s.to) })
	return errors.Join(controlErr, err)
}

func senderOptions(p Path, c syscall.RawConn) error {
	var err error
	if p.Addr.Is6() {
		err = setInts(c, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, sentTTL, unix.IPV6_TCLASS, trafficClass)
	} else {
		err = setInts(c, unix.IPPROTO_IP, unix.IP_TTL, sentTTL, unix.IP_TOS, trafficClass)
	}
	if err != nil || p.Interface == "" {
		return err
	}
	controlErr := c.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), p.Interface) })
	if err = errors.Join(controlErr, err); err != nil {
		return fmt.Errorf("bind to interface %q: %w", p.Interface, err)
	}
	return nil
}

// setInts sets options of one level, given as pairs of option and value.
func setInts(c syscall.RawConn, level int, pairs ...int) error {
	var err error
	controlErr := c.Control(func(fd uintptr) {
		for i := 0; i < len(pairs) && err == nil; i += 2 {
			err = unix.SetsockoptInt(int(fd), level, pairs[i], pairs[i+1])
		}
	})
	return errors.Join(controlErr, err)
}
