// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// TestFarPathMTU sends what does not fit the link between the routers: a router
// says so to the sender, whose kernel learns it.
func TestFarPathMTU(t *testing.T) {
	l := ForTest(t, Options{Nodes: 2, FarMTU: 1400})
	near, far := l.Nodes[0], l.Nodes[1]
	for i := range near.Addrs {
		for _, way := range [][2]*Node{{near, far}, {far, near}} {
			from, to := way[0], way[1]
			conn, err := from.Dial(t.Context(), "udp", netip.AddrPort{}, netip.AddrPortFrom(to.Addrs[i], testPort))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := conn.Write(make([]byte, 1400)); err != nil {
				t.Fatal(err)
			}
			conn.SetDeadline(time.Now().Add(5 * time.Second))
			if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, unix.EMSGSIZE) {
				t.Errorf("%s to %s: %v, want %v", from.Host, to.Addrs[i], err, unix.EMSGSIZE)
			}
			if mtu, err := from.PathMTU(to.Addrs[i]); err != nil || mtu != 1400 {
				t.Errorf("path MTU from %s to %s: %d, %v, want 1400", from.Host, to.Addrs[i], mtu, err)
			}
		}
	}
}

func TestFarVIPRoute(t *testing.T) {
	l := ForTest(t, Options{Nodes: 3, FarMTU: 1400})
	far := l.Nodes[2]
	for _, vip := range []netip.Addr{netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("2001:db8:0:1::10")} {
		if err := l.SetVIPRoute(vip, l.Nodes...); err != nil {
			t.Fatal(err)
		}
		want := []string{l.Nodes[0].Addr(vip).String(), l.Nodes[1].Addr(vip).String(), hopAddr(vip).String()}
		if diff := cmp.Diff(want, gateways(t, l.Router, vip)); diff != "" {
			t.Errorf("gateways of %s (-want +got):\n%s", vip, diff)
		}
		if diff := cmp.Diff([]string{far.Addr(vip).String()}, gateways(t, l.hop, vip)); diff != "" {
			t.Errorf("gateways of %s at the far router (-want +got):\n%s", vip, diff)
		}
	}
}

// TestForgetFlows forgets the one flow of a Pod that its node masquerades.
func TestForgetFlows(t *testing.T) {
	l := ForTest(t, Options{Nodes: 1, PodsPerNode: 1})
	pod, node := l.Pods()[0], l.Nodes[0]
	for family, client := range []netip.Addr{ClientAddr4, ClientAddr6} {
		to := netip.AddrPortFrom(client, 9000)
		pc, err := l.Client.ListenPacket(t.Context(), "udp", to.String())
		if err != nil {
			t.Fatal(err)
		}
		defer pc.Close()
		conn, err := pod.Dial(t.Context(), "udp", netip.AddrPort{}, to)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprint(conn, "x")
		pc.SetDeadline(time.Now().Add(5 * time.Second))
		if _, _, err := pc.ReadFrom(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		for i, want := range []int{1, 0} {
			if n, err := node.ForgetFlows(client); n != want || err != nil {
				t.Errorf("family %d, time %d: %d flows forgotten, %v, want %d", family, i, n, err, want)
			}
		}
		if n, err := node.ForgetFlows(netip.MustParseAddr("192.0.2.99")); n != 0 || err != nil {
			t.Errorf("%d flows of a stranger forgotten, %v", n, err)
		}
	}
}

func TestWire(t *testing.T) {
	l := ForTest(t, Options{Nodes: 2, FarMTU: 1400})
	for _, n := range l.Nodes {
		pc, err := n.ListenPacket(t.Context(), "udp4", netip.AddrPortFrom(n.Addrs[0], testPort).String())
		if err != nil {
			t.Fatal(err)
		}
		defer pc.Close()
		w, err := l.OpenWire(n)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		frame := append(append([]byte{}, w.Node...), w.Router...)
		frame = append(frame, 8, 0, 0x45, 0, 0, 29, 0, 0, 0, 0, 64, 17, 0, 0)
		frame = append(frame, ClientAddr4.AsSlice()...)
		frame = append(frame, n.Addrs[0].AsSlice()...)
		sum := uint32(0)
		for i := 14; i < len(frame); i += 2 {
			sum += uint32(frame[i])<<8 | uint32(frame[i+1])
		}
		sum = ^(sum&0xffff + sum>>16)
		frame[24], frame[25] = byte(sum>>8), byte(sum)
		frame = append(frame, 0x12, 0x34, testPort>>8, testPort&0xff, 0, 9, 0, 0, '!')
		if err := w.Send(frame); err != nil {
			t.Fatal(err)
		}
		pc.SetDeadline(time.Now().Add(5 * time.Second))
		b := make([]byte, 9)
		if got, from, err := pc.ReadFrom(b); err != nil || string(b[:got]) != "!" || from.(*net.UDPAddr).Port != 0x1234 {
			t.Errorf("%s received %q from %v, %v", n.Host, b[:got], from, err)
		}
	}
}
