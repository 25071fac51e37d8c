// SPDX-License-Identifier: Apache-2.0

package pktgen

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/lb/packet"
	"github.com/fairlead/fairlead/lb/packet/packettest"
	"github.com/fairlead/fairlead/perf/lab"
)

// frames are templates of every kind, by name.
func frames() map[string]packettest.Frame {
	syn4 := packettest.TCP("198.18.0.0:1", "192.0.2.10:80", packet.SYN)
	syn4.TCPOptions = packettest.MSS(1460)
	return map[string]packettest.Frame{
		"tcp4": syn4,
		"tcp6": packettest.TCP("[2001:db8::]:1", "[2001:db8:0:1::10]:80", packet.SYN),
		"udp4": packettest.UDP("198.18.0.0:1", "192.0.2.10:80", "odd"),
		"udp6": packettest.UDP("[2001:db8::]:1", "[2001:db8:0:1::10]:80", "hello"),
	}
}

// made runs the program once, without sending.
func made(t *testing.T, g *Generator) []byte {
	t.Helper()
	if err := g.coll.Variables["limit"].Set(^uint64(0)); err != nil {
		t.Fatal(err)
	}
	o := ebpf.RunOptions{Data: make([]byte, len(g.cfg.Frame)), DataOut: make([]byte, MaxFrame)}
	verdict, err := g.coll.Programs["pktgen"].Run(&o)
	if err != nil || verdict != 4 /* XDP_REDIRECT */ {
		t.Fatalf("verdict %d, %v", verdict, err)
	}
	return o.DataOut
}

func TestFrames(t *testing.T) {
	l := lab.ForTest(t, lab.Options{Nodes: 1})
	for name, f := range frames() {
		t.Run(name, func(t *testing.T) {
			const bits = 10
			cfg := Config{Namespace: l.Client, Link: lab.Uplink, Frame: f.Bytes(), SourceBits: bits, VaryPort: true, Seed: 7}
			g, err := New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer g.Close()
			sources, ports := map[netip.Addr]bool{}, map[uint16]bool{}
			for range 1 << bits {
				got := made(t, g)
				want := f
				want.Src = source(t, got)
				packettest.Equal(t, got, want.Bytes())
				if t.Failed() {
					t.FailNow()
				}
				sources[want.Src.Addr()] = true
				ports[want.Src.Port()] = true
			}
			if len(sources) != 1<<bits || len(ports) < 900 {
				t.Errorf("%d sources and %d ports in %d frames", len(sources), len(ports), 1<<bits)
			}
		})
	}
}

// source is where a frame says that it comes from.
func source(t *testing.T, frame []byte) netip.AddrPort {
	t.Helper()
	var p packet.Packet
	if !p.Parse(frame) || !p.HasPorts() {
		t.Fatalf("frame %x", frame)
	}
	return netip.AddrPortFrom(netip.AddrFrom16(p.Src).Unmap(), p.SrcPort)
}

// toRouter is a template that the router takes for its own.
func toRouter(t *testing.T, l *lab.Lab, f packettest.Frame) []byte {
	t.Helper()
	from, err := l.Client.Netlink().LinkByName(lab.Uplink)
	if err != nil {
		t.Fatal(err)
	}
	to, err := l.Router.Netlink().LinkByName(lab.ClientPort)
	if err != nil {
		t.Fatal(err)
	}
	f.SrcMAC, f.DstMAC = [6]byte(from.Attrs().HardwareAddr), [6]byte(to.Attrs().HardwareAddr)
	return f.Bytes()
}

// The kernel that receives checks the sums; a rate is kept and a context ends
// the run.
func TestRun(t *testing.T) {
	l := lab.ForTest(t, lab.Options{Nodes: 1})
	if err := l.Router.AcceptRedirects(lab.ClientPort); err != nil {
		t.Fatal(err)
	}
	pc, err := l.Router.ListenPacket(t.Context(), "udp4", "10.2.0.1:9")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	enlarge(t, pc)
	const n, rate = 2000, 10_000
	frame := toRouter(t, l, packettest.UDP("10.2.0.0:1", "10.2.0.1:9", "x"))
	g, err := New(Config{Namespace: l.Client, Link: lab.Uplink, Frame: frame, SourceBits: 0, VaryPort: true, Rate: rate})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	received := make(chan int)
	go func() { received <- drain(pc, n) }()
	r, err := g.Run(t.Context(), n)
	if err != nil || r.Sent != n || r.Elapsed < 150*time.Millisecond {
		t.Errorf("run: %+v, %v; want %d frames in 200 ms", r, err, n)
	}
	if got := <-received; got != n {
		t.Errorf("received %d frames, want %d", got, n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r, err := g.Run(ctx, n); err != nil || r.Sent != 0 {
		t.Errorf("run with a cancelled context: %+v, %v", r, err)
	}
}

// enlarge makes room for a burst: a generated frame takes a page.
func enlarge(t *testing.T, pc net.PacketConn) {
	t.Helper()
	raw, err := pc.(*net.UDPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var serr error
	err = raw.Control(func(fd uintptr) {
		serr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20)
	})
	if err := errors.Join(err, serr); err != nil {
		t.Fatal(err)
	}
}

// drain reads datagrams until n have come or none comes any more.
func drain(pc net.PacketConn, n int) int {
	b := make([]byte, 64)
	for i := range n {
		pc.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, _, err := pc.ReadFrom(b); err != nil {
			return i
		}
	}
	return n
}

// Not a goal but a fact to know: how fast it goes.
func TestUnlimitedRate(t *testing.T) {
	l := lab.ForTest(t, lab.Options{Nodes: 1})
	if err := l.Router.AcceptRedirects(lab.ClientPort); err != nil {
		t.Fatal(err)
	}
	g, err := New(Config{Namespace: l.Client, Link: lab.Uplink, Frame: toRouter(t, l, frames()["tcp4"]), SourceBits: 17})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	const n = 1_000_000
	r, err := g.Run(t.Context(), n)
	if err != nil || r.Sent != n {
		t.Errorf("run: %+v, %v; want %d frames", r, err, n)
	}
	t.Logf("%.0f frames a second", r.Rate())
}

func TestRefuses(t *testing.T) {
	l := lab.ForTest(t, lab.Options{Nodes: 1})
	good := Config{Namespace: l.Client, Link: lab.Uplink, Frame: frames()["udp4"].Bytes()}
	options := packettest.TCP("198.18.0.0:1", "192.0.2.10:80", packet.SYN)
	options.IPOptions = make([]byte, 4)
	for _, row := range []struct {
		name   string
		change func(*Config)
		notLab bool
	}{
		{"no namespace", func(c *Config) { c.Namespace = nil }, true},
		{"a namespace that no lab made", func(c *Config) { c.Namespace = &lab.Namespace{Name: "other"} }, true},
		{"loopback", func(c *Config) { c.Link = "lo" }, true},
		{"a bridge", func(c *Config) { c.Namespace, c.Link = l.Router, "br0" }, true},
		{"no such link", func(c *Config) { c.Link = "eth9" }, false},
		{"no frame", func(c *Config) { c.Frame = nil }, false},
		{"ping", func(c *Config) { c.Frame = packettest.Ping("198.18.0.0", "192.0.2.10").Bytes() }, false},
		{"IP options", func(c *Config) { c.Frame = options.Bytes() }, false},
		{"too long", func(c *Config) { c.Frame = make([]byte, MaxFrame+1) }, false},
		{"source bits", func(c *Config) { c.SourceBits = 33 }, false},
		{"rate", func(c *Config) { c.Rate = -1 }, false},
	} {
		cfg := good
		row.change(&cfg)
		g, err := New(cfg)
		if err == nil {
			g.Close()
		}
		if err == nil || errors.Is(err, ErrNotLab) != row.notLab {
			t.Errorf("%s: %v", row.name, err)
		}
	}
	err := onOwn(func(n *lab.Namespace) error {
		_, err := labVeth(n, "lo")
		return err
	}, l)
	if !errors.Is(err, ErrNotLab) {
		t.Errorf("own namespace: %v", err)
	}
}

// onOwn calls f where the client's namespace is the caller's own.
func onOwn(f func(*lab.Namespace) error, l *lab.Lab) error {
	return l.Client.Do(func() error { return f(l.Client) })
}
