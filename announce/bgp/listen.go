// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"sync"
	"syscall"
)

// listeners take connections of peers, one for each family. Nil is none.
type listeners struct {
	all   []net.Listener
	tasks sync.WaitGroup
}

// listen opens the listeners of both families.
func (s *Speaker) listen() (*listeners, error) {
	l := &listeners{}
	for _, local := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		// A router that drops packets with less than 255 sees no less from us.
		o := socket{remote: local, ttl: math.MaxUint8}
		config := &net.ListenConfig{Control: o.control, KeepAlive: -1}
		config.SetMultipathTCP(false)
		address := netip.AddrPortFrom(local, s.options.ListenPort).String()
		listener, err := s.options.Listen(s.ctx, config, network(local), address)
		if errors.Is(err, syscall.EAFNOSUPPORT) {
			continue // a node without IPv6
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("listen for routers: %w", err), l.close())
		}
		l.all = append(l.all, listener)
		l.tasks.Go(func() { s.accept(s.ctx, l, listener) })
	}
	return l, nil
}

// accept gives connections to peers until the listener is closed.
func (s *Speaker) accept(ctx context.Context, l *listeners, listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			s.log.Warn("accept connection of router", "err", err)
			continue
		}
		p := s.peerOf(conn)
		if p == nil {
			conn.Close()
			continue
		}
		l.tasks.Go(func() { p.offer(ctx, conn) })
	}
}

// peerOf finds the peer by the connection's address, and makes the socket as
// its settings say. Nil: there is none.
func (s *Speaker) peerOf(conn net.Conn) *peer {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return nil
	}
	from := tcp.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
	for _, p := range s.all() {
		if p.name.Addr() != from {
			continue
		}
		raw, err := tcp.SyscallConn()
		if err == nil {
			err = socket{remote: from, ttl: p.ttl, minTTL: p.minTTL}.control("", "", raw)
		}
		if err != nil {
			s.log.Warn("set up connection of router", "peer", p.name, "err", err)
			return nil
		}
		return p
	}
	return nil
}

// allow signs the peer's segments with its password.
func (l *listeners) allow(s settings) error { return l.setPassword(s, s.password) }

// deny takes the password back.
func (l *listeners) deny(s settings) error { return l.setPassword(s, "") }

func (l *listeners) setPassword(s settings, password string) error {
	if l == nil || s.password == "" {
		return nil
	}
	var errs []error
	for _, listener := range l.all {
		tcp := listener.(*net.TCPListener)
		if (tcp.Addr().(*net.TCPAddr).IP.To4() != nil) != s.name.Addr().Is4() {
			continue
		}
		raw, err := tcp.SyscallConn()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		var set error
		err = raw.Control(func(fd uintptr) { set = setPassword(int(fd), s.name.Addr(), password) })
		errs = append(errs, err, set)
	}
	return errors.Join(errs...)
}

func (l *listeners) close() error {
	if l == nil {
		return nil
	}
	var errs []error
	for _, listener := range l.all {
		errs = append(errs, listener.Close())
	}
	l.tasks.Wait()
	return errors.Join(errs...)
}
