// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// netnsDir is where iproute2 and netns keep named network namespaces.
const netnsDir = "/run/netns"

// errGoexit is what Do returns for a function that ended its goroutine.
var errGoexit = errors.New("function ended its goroutine inside the namespace")

// Namespace is one named network namespace of a Lab, which owns and closes it.
type Namespace struct {
	// Name is what `ip netns` shows, for instance fl-3fa9-node1.
	Name string

	lab *Lab
	fd  netns.NsHandle
	nl  *netlink.Handle
}

// newNamespace creates the namespace and registers it with the lab. In it,
// loopback is up and addresses are usable at once (no DAD).
func (l *Lab) newNamespace(role string) (*Namespace, error) {
	n := &Namespace{Name: l.prefix() + role, lab: l, fd: netns.None()}
	err := shareNetnsDir()
	if err != nil {
		return nil, err
	}
	l.namespaces = append(l.namespaces, n)
	err = onThread(func() (err error) {
		n.fd, err = netns.NewNamed(n.Name)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("create namespace %s: %w", n.Name, err)
	}
	if n.nl, err = netlink.NewHandleAt(n.fd, unix.NETLINK_ROUTE); err != nil {
		return nil, fmt.Errorf("open netlink in %s: %w", n.Name, err)
	}
	if err := n.setSysctls(baseSysctls); err != nil {
		return nil, err
	}
	return n, n.linkUp("lo")
}

// shareNetnsDir makes netnsDir a shared mount of its own, as `ip netns add` does.
// Were it left to the next one who calls that, the names made before would
// then lie beneath a second mount, and could not be removed any more.
func shareNetnsDir() error {
	if err := os.MkdirAll(netnsDir, 0o755); err != nil {
		return fmt.Errorf("make %s: %w", netnsDir, err)
	}
	share := func() error { return unix.Mount("", netnsDir, "none", unix.MS_SHARED|unix.MS_REC, "") }
	err := share()
	if errors.Is(err, unix.EINVAL) { // no mount point yet
		if err = unix.Mount(netnsDir, netnsDir, "none", unix.MS_BIND|unix.MS_REC, ""); err == nil {
			err = share()
		}
	}
	if err != nil {
		return fmt.Errorf("share %s: %w", netnsDir, err)
	}
	return nil
}

// Netlink is a handle to the namespace's links, addresses and routes. The
// namespace owns it.
func (n *Namespace) Netlink() *netlink.Handle { return n.nl }

// FD is the namespace's file descriptor, valid until the lab is closed.
func (n *Namespace) FD() int { return int(n.fd) }

// Do calls fn inside the namespace, on a goroutine and a thread of its own,
// and returns its error. Sockets that fn makes stay in the namespace wherever
// they are used afterwards; goroutines that fn starts are not in it.
func (n *Namespace) Do(fn func() error) error {
	return onThread(func() error {
		if err := netns.Set(n.fd); err != nil {
			return fmt.Errorf("enter namespace %s: %w", n.Name, err)
		}
		return fn()
	})
}

// DoWith is Do on a thread that prepare may change for good, for instance by
// entering other namespaces: it ends with fn, and shares nothing that can be
// unshared with the threads of this process.
func (n *Namespace) DoWith(prepare, fn func() error) error {
	return onLastThread(func() error {
		// Working directory and umask are shared, or no mount namespace can be entered.
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return fmt.Errorf("unshare thread: %w", err)
		}
		if err := netns.Set(n.fd); err != nil {
			return fmt.Errorf("enter namespace %s: %w", n.Name, err)
		}
		if err := prepare(); err != nil {
			return err
		}
		return fn()
	})
}

// onLastThread calls fn on a thread that ends soon after it.
func onLastThread(fn func() error) error {
	result := make(chan error, 1)
	go func() {
		err := errGoexit
		defer func() { result <- err }()
		runtime.LockOSThread() // and not unlocked: the thread ends with the goroutine
		if unix.Gettid() != unix.Getpid() {
			err = fn()
			return
		}
		// The first thread cannot end, and /proc/self shows what it sees. Hold it
		// and take another.
		defer runtime.UnlockOSThread()
		err = onLastThread(fn)
	}()
	return <-result
}

// onThread calls fn on a locked thread and restores the thread's namespace.
func onThread(fn func() error) error {
	result := make(chan error, 1)
	go func() {
		err := errGoexit
		defer func() { result <- err }()
		runtime.LockOSThread()
		own, oerr := netns.Get()
		if oerr != nil {
			err = fmt.Errorf("open own namespace: %w", oerr)
			return
		}
		defer own.Close()
		defer func() {
			// A goroutine that ends while locked takes its thread with it.
			if netns.Set(own) == nil {
				runtime.UnlockOSThread()
			}
		}()
		err = fn()
	}()
	return <-result
}

// Dial connects from inside the namespace. The address is numeric, so that one
// socket is made, on this thread. A zero local address lets the kernel choose.
func (n *Namespace) Dial(ctx context.Context, network string, local, remote netip.AddrPort) (net.Conn, error) {
	var conn net.Conn
	err := n.Do(func() (err error) {
		conn, err = DialHere(ctx, network, local, remote)
		return err
	})
	return conn, err
}

// DialHere is Namespace.Dial for a caller that is inside Do already: the cheap
// way to make many connections.
func DialHere(ctx context.Context, network string, local, remote netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTimeout}
	if local.IsValid() {
		if network == "udp" {
			d.LocalAddr = net.UDPAddrFromAddrPort(local)
		} else {
			d.LocalAddr = net.TCPAddrFromAddrPort(local)
		}
	}
	return d.DialContext(ctx, network, remote.String())
}

// dialTimeout is above the first three SYN retransmits.
const dialTimeout = 10 * time.Second

// Listen makes a stream listener ("tcp", "tcp4", "tcp6", "unix") inside the namespace.
func (n *Namespace) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	var ln net.Listener
	err := n.Do(func() (err error) {
		var lc net.ListenConfig
		lc.SetMultipathTCP(false)
		ln, err = lc.Listen(ctx, network, address)
		return err
	})
	return ln, err
}

// ListenPacket makes a datagram socket inside the namespace.
func (n *Namespace) ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error) {
	var pc net.PacketConn
	err := n.Do(func() (err error) {
		pc, err = new(net.ListenConfig).ListenPacket(ctx, network, address)
		return err
	})
	return pc, err
}

// close gives back what holds the namespace alive and deletes its name.
func (n *Namespace) close() error {
	if n.nl != nil {
		n.nl.Close()
	}
	var err error
	if n.fd.IsOpen() {
		err = n.fd.Close()
	}
	return errors.Join(err, deleteNamespace(n.Name))
}

// deleteNamespace removes a name under netnsDir. One that is absent, or was
// never mounted because its creation broke off, is success.
func deleteNamespace(name string) error {
	path := filepath.Join(netnsDir, name)
	err := unix.Unmount(path, unix.MNT_DETACH)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount namespace %s: %w", name, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("delete namespace %s: %w", name, err)
	}
	return nil
}
