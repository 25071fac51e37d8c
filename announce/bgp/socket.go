// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// trafficClass is CS6, that of routing protocols (RFC 4594 section 3.1), as the
// TOS byte.
const trafficClass = 0xc0

// socket says how a TCP socket to or from a router is.
type socket struct {
	remote      netip.Addr // whose segments the password signs
	password    string
	ttl, minTTL uint8
}

// control sets the socket up before it connects or listens.
func (o socket) control(_, _ string, c syscall.RawConn) error {
	var err error
	cerr := c.Control(func(fd uintptr) { err = o.set(int(fd)) })
	return errors.Join(cerr, err)
}

func (o socket) set(fd int) error {
	level, ttl, minTTL, class := unix.IPPROTO_IP, unix.IP_TTL, unix.IP_MINTTL, unix.IP_TOS
	if o.remote.Is6() {
		level, ttl, minTTL, class = unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, unix.IPV6_MINHOPCOUNT, unix.IPV6_TCLASS
	}
	if o.password != "" {
		if err := setPassword(fd, o.remote, o.password); err != nil {
			return err
		}
	}
	for _, option := range []struct {
		name       string
		key, value int
	}{{"ttl", ttl, int(o.ttl)}, {"minimum ttl", minTTL, int(o.minTTL)}, {"traffic class", class, trafficClass}} {
		if option.value == 0 {
			continue
		}
		if err := unix.SetsockoptInt(fd, level, option.key, option.value); err != nil {
			return fmt.Errorf("set %s %d: %w", option.name, option.value, err)
		}
	}
	return nil
}

// setPassword signs segments to and from the address (RFC 2385). An empty
// password ends that, if it was so.
func setPassword(fd int, remote netip.Addr, password string) error {
	sig := &unix.TCPMD5Sig{Keylen: uint16(len(password))}
	copy(sig.Key[:], password)
	if remote.Is4() {
		sig.Addr.Family = unix.AF_INET
		a := remote.As4()
		copy(sig.Addr.Data[2:], a[:]) // behind the port
	} else {
		sig.Addr.Family = unix.AF_INET6
		a := remote.As16()
		copy(sig.Addr.Data[6:], a[:]) // behind port and flow information
	}
	err := unix.SetsockoptTCPMD5Sig(fd, unix.IPPROTO_TCP, unix.TCP_MD5SIG, sig)
	if err != nil && (password != "" || !errors.Is(err, unix.ENOENT)) {
		return fmt.Errorf("set TCP MD5 signature for %s: %w", remote, err)
	}
	return nil
}

// network is Go's name of TCP over the address's family.
func network(a netip.Addr) string {
	if a.Is4() {
		return "tcp4"
	}
	return "tcp6"
}

// dial connects as the settings say, in the time that the dialer has.
func (s settings) dial(ctx context.Context, dial DialFunc) (net.Conn, error) {
	o := socket{remote: s.name.Addr(), password: s.password, ttl: s.ttl, minTTL: s.minTTL}
	d := &net.Dialer{Timeout: connectTimeout, Control: o.control, KeepAlive: -1}
	d.SetMultipathTCP(false)
	if s.source.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(s.source, 0))
	}
	conn, err := dial(ctx, d, network(s.name.Addr()), s.name.String())
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return conn, nil
}
