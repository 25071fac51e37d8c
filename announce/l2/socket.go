// SPDX-License-Identifier: Apache-2.0

package l2

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/announce/l2/arp"
	"github.com/fairlead/fairlead/announce/l2/ether"
	"github.com/fairlead/fairlead/announce/l2/ndp"
)

// group is a multicast group on an interface.
type group struct {
	index int
	addr  netip.Addr
}

// socket receives and sends whole frames of one EtherType on all interfaces: on
// each what the kernel itself would take from it, so with VLANs, bonds and
// bridges the device that has the network.
type socket struct {
	file     *os.File
	conn     syscall.RawConn
	protocol uint16 // in network order
	filter   func([]netip.Addr) []bpf.Instruction
	vips     []netip.Addr // of the filter in place

	groups map[group]bool
	// joined holds the same groups for MLD (RFC 3810), where switches that snoop
	// look who wants them.
	joined int
}

func openSocket(etherType uint16, filter func([]netip.Addr) []bpf.Instruction) (*socket, error) {
	// Protocol 0: nothing comes in before the filter is in place.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	s := &socket{
		file: os.NewFile(uintptr(fd), "packet"), filter: filter, groups: map[group]bool{},
		protocol: binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, etherType)), joined: -1,
	}
	if s.conn, err = s.file.SyscallConn(); err == nil {
		err = s.attach(nil)
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: s.protocol})
	}
	if err != nil {
		s.close()
		return nil, fmt.Errorf("bind packet socket to EtherType %#04x: %w", etherType, err)
	}
	// Without IPv6 there is nobody to join for.
	if fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err == nil && etherType == ndp.EtherType {
		s.joined = fd
	} else if err == nil {
		unix.Close(fd)
	}
	return s, nil
}

func (s *socket) close() {
	if s == nil {
		return
	}
	s.file.Close()
	if s.joined >= 0 {
		unix.Close(s.joined)
		s.joined = -1
	}
}

// control calls f with the file descriptor.
func (s *socket) control(f func(fd int) error) error {
	var err error
	if cerr := s.conn.Control(func(fd uintptr) { err = f(int(fd)) }); cerr != nil {
		return cerr
	}
	return err
}

// setFilter lets frames for these VIPs pass.
func (s *socket) setFilter(vips []netip.Addr) error {
	if slices.Equal(s.vips, vips) {
		return nil
	}
	if err := s.attach(vips); err != nil {
		return err
	}
	s.vips = vips
	return nil
}

func (s *socket) attach(vips []netip.Addr) error {
	raw, err := bpf.Assemble(s.filter(vips))
	if err != nil {
		return fmt.Errorf("assemble filter for %d VIPs: %w", len(vips), err)
	}
	program := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		program[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	err = s.control(func(fd int) error {
		return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
			&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
	})
	if err != nil {
		return fmt.Errorf("attach filter of %d instructions: %w", len(program), err)
	}
	return nil
}

// setGroups makes the interfaces receive these multicast groups. No address is
// needed for that.
func (s *socket) setGroups(want map[group]bool) error {
	var errs []error
	for g := range s.groups {
		if !want[g] {
			// It fails where the interface is gone, and with it the group.
			s.member(g, unix.PACKET_DROP_MEMBERSHIP, unix.IPV6_LEAVE_GROUP)
			delete(s.groups, g)
		}
	}
	for g := range want {
		if s.groups[g] {
			continue
		}
		if err := s.member(g, unix.PACKET_ADD_MEMBERSHIP, unix.IPV6_JOIN_GROUP); err != nil {
			errs = append(errs, fmt.Errorf("join %s on interface %d: %w", g.addr, g.index, err))
			continue
		}
		s.groups[g] = true
	}
	return errors.Join(errs...)
}

func (s *socket) member(g group, packetOption, mldOption int) error {
	mac := ether.Multicast(g.addr)
	request := unix.PacketMreq{Ifindex: int32(g.index), Type: unix.PACKET_MR_MULTICAST, Alen: uint16(len(mac))}
	copy(request.Address[:], mac[:])
	err := s.control(func(fd int) error { return unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, packetOption, &request) })
	if err == nil && s.joined >= 0 {
		// An interface without IPv6 tells no switch; what arrives is heard all the same.
		mld := unix.IPv6Mreq{Multiaddr: g.addr.As16(), Interface: uint32(g.index)}
		unix.SetsockoptIPv6Mreq(s.joined, unix.IPPROTO_IPV6, mldOption, &mld)
	}
	return err
}

// receive waits for a frame and returns the interface that it came in on; nil
// is a frame that was for another station. It fails after close.
func (s *socket) receive(buffer []byte) (index int, frame []byte, err error) {
	var n int
	var from unix.Sockaddr
	rerr := s.conn.Read(func(fd uintptr) bool {
		n, from, err = unix.Recvfrom(int(fd), buffer, 0)
		return err != unix.EAGAIN && err != unix.EINTR
	})
	if err = errors.Join(rerr, err); rerr != nil || err != nil {
		return 0, nil, err
	}
	link, ok := from.(*unix.SockaddrLinklayer)
	// A frame of a VLAN that nobody has here counts as another station's, too.
	if !ok || link.Pkttype == unix.PACKET_OTHERHOST || link.Pkttype == unix.PACKET_OUTGOING {
		return 0, nil, nil
	}
	return link.Ifindex, buffer[:n], nil
}

// sendTimeout bounds the wait for room in a device's queue, which the
// announcements of many VIPs fill for a moment.
const sendTimeout = 50 * time.Millisecond

func (s *socket) send(o out) error {
	to := &unix.SockaddrLinklayer{Protocol: s.protocol, Ifindex: o.index}
	err := s.file.SetWriteDeadline(time.Now().Add(sendTimeout))
	werr := s.conn.Write(func(fd uintptr) bool {
		err = unix.Sendto(int(fd), o.frame, 0, to)
		return err != unix.EAGAIN
	})
	if err = cmp.Or(werr, err); err != nil {
		return fmt.Errorf("send frame of %d bytes: %w", len(o.frame), err)
	}
	return nil
}

// isARP tells a frame of ours from the other kind.
func isARP(frame []byte) bool {
	return binary.BigEndian.Uint16(frame[ether.HeaderLen-2:]) == arp.EtherType
}
