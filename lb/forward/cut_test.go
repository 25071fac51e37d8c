// SPDX-License-Identifier: Apache-2.0

package forward_test

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/dataplane"
	"github.com/fairlead/fairlead/lb/forward"
	"github.com/fairlead/fairlead/lb/forward/forwardtest"
	"github.com/fairlead/fairlead/lb/packet"
	"github.com/fairlead/fairlead/lb/packet/packettest"
)

// twoNodes are node a, which has to send all to node b's Pod, and node b.
func twoNodes(t *testing.T) (a, b *forwardtest.Twin) {
	t.Helper()
	var twins []*forwardtest.Twin
	for _, n := range forwardtest.Nodes()[:2] {
		twin := forwardtest.NewTwin(t, forwardtest.SettingsOf(n))
		plane, err := dataplane.New(twin.Maps(), dataplane.Options{PastTicks: 100, Now: func() uint32 { return 1000 }})
		if err != nil {
			t.Fatal(err)
		}
		if err := plane.Sync(forwardtest.TableOf(n.Name, forwardtest.Service(lb.UDP, vip, podB))); err != nil {
			t.Fatal(err)
		}
		twins = append(twins, twin)
	}
	return twins[0], twins[1]
}

// A datagram of nearly 64 KiB is cut by one node, and all of it comes out of
// the other one as the same datagram to the Pod.
func TestCutAndDelivered(t *testing.T) {
	a, b := twoNodes(t)
	f := packettest.UDP(host, vip, "")
	f.Payload, f.ID = make([]byte, 65507), 9
	for i := range f.Payload {
		f.Payload[i] = byte(i * 7)
	}
	reason, frames, _ := a.Forward(forwardtest.In, f.Bytes(), 1000)
	if reason != forward.EncapHome || len(frames) < 45 {
		t.Fatalf("%s with %d frames", reason, len(frames))
	}
	if n := a.Forwarder.Counters()[forward.EncapHome]; n != 1 {
		t.Errorf("counted %d times", n)
	}
	var whole []byte
	for i, frame := range frames {
		if len(frame) > packet.EthernetLen+1500 {
			t.Fatalf("frame %d has %d bytes", i, len(frame))
		}
		reason, out, _ := b.Forward(forwardtest.In, frame, 1000)
		if reason.Verdict() != forward.Deliver {
			t.Fatalf("fragment %d: %s", i, reason)
		}
		p := new(packet.Packet)
		if !p.Parse(out[0]) || p.Dst != packet.AddrOf(netip.MustParseAddrPort(podB).Addr()) {
			t.Fatalf("fragment %d: %x", i, out[0])
		}
		whole = append(whole, out[0][p.L4:p.End]...)
	}
	f.Dst = netip.MustParseAddrPort(podB)
	if want := f.IP()[packet.IPv4Len:]; !bytes.Equal(whole, want) {
		t.Errorf("%d bytes that are not the datagram's %d", len(whole), len(want))
	}
}

// What a sender on this machine left to its device is done before the packet is
// cut, where the settings say so.
func TestPartialChecksumIsCompleted(t *testing.T) {
	s := forwardtest.SettingsOf(forwardtest.Nodes()[0])
	s.CompleteChecksums = true
	a, _ := twoNodes(t)
	completing, err := forward.NewForwarder(s, a.Maps().(*forward.Tables))
	if err != nil {
		t.Fatal(err)
	}
	f := packettest.UDP(host, vip, "")
	f.Payload = make([]byte, 2000)
	partial := f.Bytes()
	sum := packet.Fold(packet.PseudoSum(partial[26:30], partial[30:34], packet.ProtoUDP, 2008))
	partial[40], partial[41] = byte(sum>>8), byte(sum)
	_, want := a.Forwarder.Ingress(f.Bytes(), 1000, nil)
	reason, got := completing.Ingress(partial, 1000, nil)
	if reason != forward.EncapHome || !bytes.Equal(got, want) {
		t.Errorf("%s:\n got %x\nwant %x", reason, got, want)
	}
}

// More belongs to the last packet.
func TestMoreEnds(t *testing.T) {
	a, _ := twoNodes(t)
	long, short := packettest.UDP(host, vip, ""), packettest.UDP(host, vip, "x")
	long.Payload = make([]byte, 4000)
	f := a.Forwarder
	if out, more := f.More(nil); more || out != nil {
		t.Error("more of nothing")
	}
	f.Ingress(long.Bytes(), 1000, nil)
	prefix := []byte("kept")
	if out, more := f.More(prefix); !more || !bytes.HasPrefix(out, prefix) {
		t.Errorf("more %t", more)
	}
	f.Ingress(short.Bytes(), 1000, nil)
	if _, more := f.More(nil); more {
		t.Error("more of an earlier packet")
	}
	f.Ingress(long.Bytes(), 1000, nil)
	f.Egress(short.Bytes(), false, 1000, nil)
	if _, more := f.More(nil); more {
		t.Error("more of a packet before one that left")
	}
}

// Forwarders of one node share what is learned of a path; it stays until the
// node's address changes.
func TestPathMTUIsShared(t *testing.T) {
	a, _ := twoNodes(t)
	tables := a.Maps().(*forward.Tables)
	other, err := forward.NewForwarder(forwardtest.SettingsOf(forwardtest.Nodes()[0]), tables)
	if err != nil {
		t.Fatal(err)
	}
	f := packettest.UDP(host, vip, "")
	f.Payload, f.Fragment = make([]byte, 1380), 0x4000
	_, out := a.Forwarder.Ingress(f.Bytes(), 1000, nil)
	var p packet.Packet
	if !p.Parse(out) {
		t.Fatal("no tunnel")
	}
	port := netip.AddrPortFrom(netip.MustParseAddr("10.0.0.1"), p.SrcPort).String()
	tooBig := packettest.ICMPError("203.0.113.9", packettest.UDP(port, "10.0.0.2:7471", "geneve"), 3, 4, 8).WithMTU(1400)
	check := func(what string, want forward.Reason) {
		t.Helper()
		for _, forwarder := range []*forward.Forwarder{a.Forwarder, other} {
			if reason, _ := forwarder.Ingress(f.Bytes(), 1000, nil); reason != want {
				t.Errorf("%s: %s, want %s", what, reason, want)
			}
		}
	}
	check("at first", forward.EncapHome)
	if reason, _ := other.Ingress(tooBig.Bytes(), 1000, nil); reason != forward.TunnelError {
		t.Fatal(reason)
	}
	check("learned", forward.PacketTooBig)
	id, err := forwardtest.NodeID(tables, "b")
	if err != nil {
		t.Fatal(err)
	}
	put := func(addr string) {
		t.Helper()
		if err := tables.PutNode(id, dataplane.NodeEntry{Name: "b", Addr: netip.MustParseAddr(addr)}); err != nil {
			t.Fatal(err)
		}
	}
	put("10.0.0.2")
	check("the same address again", forward.PacketTooBig)
	put("10.0.0.22")
	check("another address", forward.EncapHome)
	put("10.0.0.2")
	check("and back", forward.EncapHome)
}
