// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// Wire puts whole frames on the wire before a node, as they are: no kernel looks
// at them before they arrive. Its maker closes it.
type Wire struct {
	// Router and Node are the MAC addresses of the two ends.
	Router, Node net.HardwareAddr

	socket *os.File
}

// OpenWire opens the router's port to the node.
func (l *Lab) OpenWire(node *Node) (*Wire, error) {
	router := l.Router
	if l.isFar(node) {
		router = l.hop
	}
	port, err := router.link(node.Host)
	if err != nil {
		return nil, err
	}
	uplink, err := node.link(Uplink)
	if err != nil {
		return nil, err
	}
	var fd int
	err = router.Do(func() (err error) {
		// Protocol 0: it only sends.
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open packet socket in %s: %w", router.Name, err)
	}
	w := &Wire{Router: port.Attrs().HardwareAddr, Node: uplink.Attrs().HardwareAddr, socket: os.NewFile(uintptr(fd), node.Host)}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: port.Attrs().Index}); err != nil {
		return nil, errors.Join(fmt.Errorf("bind packet socket to %s in %s: %w", node.Host, router.Name, err), w.Close())
	}
	return w, nil
}

// Send sends one frame.
func (w *Wire) Send(frame []byte) error {
	if _, err := w.socket.Write(frame); err != nil {
		return fmt.Errorf("send frame of %d bytes: %w", len(frame), err)
	}
	return nil
}

// Close gives the socket back.
func (w *Wire) Close() error { return w.socket.Close() }
