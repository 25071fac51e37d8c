// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
	"unsafe"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/cluster"
)

const (
	tapBuffer = 256 << 20 // holds all frames until they are drained
	tapFrame  = 1 << 18   // more than any
)

// tap is the router's port to a node, where every frame to the node and from it
// is seen, and others can be put in. On the node itself nobody sees what native
// XDP takes or sends.
type tap struct {
	node           *lab.Node
	mac, router    net.HardwareAddr // of both ends
	capture, inlet int              // packet sockets
	buffer, oob    []byte
	pcap           bytes.Buffer
	out            *pcapgo.Writer
}

// openTap begins to capture. It has to be closed.
func openTap(t *testing.T, l *lab.Lab, n *lab.Node) *tap {
	t.Helper()
	port, err := l.Router.Netlink().LinkByName(n.Host)
	if err != nil {
		t.Fatal(err)
	}
	uplink, err := n.Netlink().LinkByName(lab.Uplink)
	if err != nil {
		t.Fatal(err)
	}
	p := &tap{
		node: n, mac: uplink.Attrs().HardwareAddr, router: port.Attrs().HardwareAddr,
		buffer: make([]byte, tapFrame), oob: make([]byte, 128),
	}
	p.out = pcapgo.NewWriterNanos(&p.pcap)
	if err := p.out.WriteFileHeader(tapFrame, layers.LinkTypeEthernet); err != nil {
		t.Fatal(err)
	}
	open := func(proto uint16) int {
		// With protocol 0 it has nothing of other links until it is bound.
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		err = errors.Join(
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, tapBuffer),
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
			unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: proto, Ifindex: port.Attrs().Index}),
		)
		if err != nil {
			t.Fatal(err)
		}
		return fd
	}
	err = l.Router.Do(func() error {
		p.inlet, p.capture = open(0), open(networkOrder(unix.ETH_P_ALL))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *tap) close() {
	unix.Close(p.inlet)
	unix.Close(p.capture)
}

func networkOrder(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}

// send puts a frame in front of the node, from the router.
func (p *tap) send(t *testing.T, frame []byte) {
	t.Helper()
	copy(frame, p.mac)
	copy(frame[6:], p.router)
	if _, err := unix.Write(p.inlet, frame); err != nil {
		t.Fatal(err)
	}
}

// drain appends to the capture what has come since.
func (p *tap) drain(t *testing.T) {
	t.Helper()
	for {
		n, oobn, flags, _, err := unix.Recvmsg(p.capture, p.buffer, p.oob, 0)
		if errors.Is(err, unix.EAGAIN) {
			break
		}
		if err != nil || flags&unix.MSG_TRUNC != 0 {
			t.Fatalf("read frame of %d bytes, flags %x: %v", n, flags, err)
		}
		ci := gopacket.CaptureInfo{Timestamp: stampOf(t, p.oob[:oobn]), CaptureLength: n, Length: n}
		if err := p.out.WritePacket(ci, p.buffer[:n]); err != nil {
			t.Fatal(err)
		}
	}
	stats, err := unix.GetsockoptTpacketStats(p.capture, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil || stats.Drops > 0 {
		t.Fatalf("capture lost frames: %+v, %v", stats, err)
	}
}

func stampOf(t *testing.T, oob []byte) time.Time {
	t.Helper()
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SO_TIMESTAMPNS {
			return time.Unix((*unix.Timespec)(unsafe.Pointer(&m.Data[0])).Unix())
		}
	}
	t.Fatal("a frame without a time")
	return time.Time{}
}

// replay lets fairlead replay say what the node did with the capture, by its
// agent's own file.
func (p *tap) replay(t *testing.T, c *cluster.Cluster) counts {
	t.Helper()
	path := filepath.Join(t.TempDir(), "capture.pcap")
	if err := os.WriteFile(path, p.pcap.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := p.node.Output(t.Context(), c.Binary, "replay", path,
		"--config", cluster.ConfigFile(p.node), "--mac", p.mac.String(), "-o", "json")
	if err != nil {
		t.Fatal(err)
	}
	var report struct{ Totals []cluster.Counter }
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatal(err)
	}
	return verdicts(report.Totals)
}
