// SPDX-License-Identifier: Apache-2.0

package forward_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/dataplane"
	"github.com/fairlead/fairlead/lb/flow"
	"github.com/fairlead/fairlead/lb/forward"
	"github.com/fairlead/fairlead/lb/forward/forwardtest"
	"github.com/fairlead/fairlead/lb/packet"
	"github.com/fairlead/fairlead/lb/packet/packettest"
)

// explained is node a, whose decisions can be asked for before they are made.
type explained struct {
	t        *testing.T
	settings forward.Settings
	twin     *forwardtest.Twin
	plane    *dataplane.Dataplane
	tick     uint32
}

func newExplained(t *testing.T) *explained {
	t.Helper()
	settings := forwardtest.SettingsOf(forwardtest.Nodes()[0])
	x := &explained{t: t, settings: settings, twin: forwardtest.NewTwin(t, settings), tick: 50_000}
	plane, err := dataplane.New(x.twin.Maps(), dataplane.Options{
		PastTicks: forwardtest.PastTicks, Now: func() uint32 { return x.tick },
	})
	if err != nil {
		t.Fatal(err)
	}
	x.plane = plane
	return x
}

func (x *explained) sync(services ...lb.Service) {
	x.t.Helper()
	if err := x.plane.Sync(forwardtest.TableOf("a", services...)); err != nil {
		x.t.Fatal(err)
	}
}

// bucket is a flow table's bucket by the definition of its hash.
func (x *explained) bucket(client netip.Addr, port uint16) (index int, records [flow.Ways]flow.Record) {
	addr := client.As16()
	hash := packet.KeyOf(x.settings.FlowKey).Hash(binary.BigEndian.AppendUint16(addr[:], port))
	index = int(hash % uint64(x.settings.FlowBuckets))
	copy(records[:], x.twin.Records()[index*flow.Ways:])
	return index, records
}

func (x *explained) ask(proto lb.Proto, client, vip string, flags uint8) forward.Explanation {
	x.t.Helper()
	state, err := x.twin.Maps().Load()
	if err != nil {
		x.t.Fatal(err)
	}
	q := forward.Question{
		Proto: proto, Client: netip.MustParseAddrPort(client), VIP: netip.MustParseAddrPort(vip), Flags: flags,
	}
	explainer, err := forward.NewExplainer(x.settings, forwardtest.Limits, state, q.VIP.Addr(), forward.Sources{
		Tables: x.twin.Maps().ReadTable, Flows: x.bucket, Paths: x.twin.Maps().(*forward.Tables).PathMTU,
	})
	if err != nil {
		x.t.Fatal(err)
	}
	before := slices.Clone(x.twin.Records())
	e, err := explainer.Explain(q, x.tick)
	if err != nil {
		x.t.Fatal(err)
	}
	if !slices.Equal(before, x.twin.Records()) {
		x.t.Fatal("an explanation changed the flow table")
	}
	return e
}

// ackOf is what a client acknowledges that has seen all of the Pod.
func (x *explained) ackOf(client, vip string) uint32 {
	from, to := netip.MustParseAddrPort(client), netip.MustParseAddrPort(vip)
	key := lb.ServiceKey{VIP: to.Addr(), Port: to.Port(), Proto: lb.TCP}
	for _, r := range x.twin.Records() {
		if r.Kind == flow.Own && r.Client == packet.AddrOf(from.Addr()) && r.Port == from.Port() && r.ServiceTag == key.Tag() {
			return r.ISN + 1
		}
	}
	return 1
}

// send lets the packet come.
func (x *explained) send(f packettest.Frame) (forward.Reason, []byte) {
	return x.twin.Forwarder.Ingress(f.Bytes(), x.tick, nil)
}

// reply lets a Pod answer with a packet of these flags.
func (x *explained) reply(pod, client string, flags uint8, seq uint32) {
	f := packettest.TCP(pod, client, flags)
	f.Seq = seq
	x.twin.Forwarder.Egress(f.Bytes(), true, x.tick, nil)
}

const (
	explainWeb    = "192.0.2.1:80"
	explainClient = "198.51.100.7:40000"
)

var byValue = cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{})

// Each fact by itself.
func TestExplain(t *testing.T) {
	web := forwardtest.Service(lb.TCP, explainWeb, "10.1.1.1:8080")
	remote := forwardtest.Service(lb.TCP, explainWeb, "10.1.2.1:8080")
	ranged := web
	ranged.SourceRanges = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
	sticky := web
	sticky.Affinity = time.Hour
	home := netip.MustParseAddrPort("10.1.1.1:8080")

	t.Run("unknown port", func(t *testing.T) {
		x := newExplained(t)
		x.sync(web)
		e := x.ask(lb.TCP, explainClient, "192.0.2.1:81", packet.SYN)
		if e.Reason != forward.UnknownPort || !e.VIP || e.Service != nil || len(e.Ports) != 1 || e.Ports[0] != web.Key {
			t.Errorf("%+v", e)
		}
	})
	t.Run("source range", func(t *testing.T) {
		x := newExplained(t)
		x.sync(ranged)
		e := x.ask(lb.TCP, explainClient, explainWeb, packet.SYN)
		if diff := cmp.Diff(ranged.SourceRanges, e.Ranges, byValue); diff != "" || e.Reason != forward.SourceRange || e.Slot != nil {
			t.Errorf("%+v, ranges -want +got:\n%s", e, diff)
		}
	})
	t.Run("new", func(t *testing.T) {
		x := newExplained(t)
		x.sync(web)
		e := x.ask(lb.TCP, explainClient, explainWeb, packet.SYN)
		if e.Reason != forward.New || e.Pod != home || e.PodPort != 40000 || e.Made == nil || e.Flow != nil {
			t.Errorf("%+v", e)
		}
		want := forward.SlotChoice{Slot: e.Slot.Slot, Slots: 251, Backends: 1, Hash: e.Slot.Hash, Home: forward.Target{Addr: home, Endpoint: true}}
		if diff := cmp.Diff(want, *e.Slot, byValue); diff != "" {
			t.Errorf("slot -want +got:\n%s", diff)
		}
	})
	t.Run("the record of an established connection", func(t *testing.T) {
		x := newExplained(t)
		x.sync(web)
		x.send(packettest.TCP(explainClient, explainWeb, packet.SYN))
		x.reply("10.1.1.1:8080", explainClient, packet.SYN|packet.ACK, 77)
		if e := x.ask(lb.TCP, explainClient, explainWeb, packet.ACK); e.Reason != forward.Mine || e.Match != flow.Mine ||
			e.Flow == nil || e.Flow.State != flow.HalfOpen || e.Flow.ISN != 77 || e.Made != nil {
			t.Errorf("half-open: %+v, record %+v", e, e.Flow)
		}
		x.reply("10.1.1.1:8080", explainClient, packet.ACK, 78)
		if e := x.ask(lb.TCP, explainClient, explainWeb, packet.ACK); e.Reason != forward.Mine || e.Flow.State != flow.Established {
			t.Errorf("established: %+v, record %+v", e, e.Flow)
		}
	})
	t.Run("encapsulation", func(t *testing.T) {
		x := newExplained(t)
		x.sync(remote)
		e := x.ask(lb.TCP, explainClient, explainWeb, packet.SYN)
		if e.Reason != forward.EncapHome || e.Tunnel == nil || e.MTU != 1500 {
			t.Fatalf("%+v", e)
		}
		if e.Tunnel.Overhead != packet.EncapLenV4 || e.Tunnel.Src.Addr() != netip.MustParseAddr("10.0.0.1") ||
			e.Tunnel.Dst != netip.MustParseAddrPort("10.0.0.2:7471") || e.Tunnel.Position != packet.PositionIngress {
			t.Errorf("%+v", e.Tunnel)
		}
	})
	t.Run("path MTU", func(t *testing.T) {
		x := newExplained(t)
		x.sync(remote)
		sent := packettest.UDP("10.0.0.1:49152", "10.0.0.2:7471", "")
		tooBig := packettest.ICMPError("10.0.0.254", sent, packet.ICMPUnreachable, packet.ICMPCodeTooBig, 8)
		x.send(tooBig.WithMTU(1400))
		until := x.tick + forward.PathMTUTicks
		x.tick = until
		e := x.ask(lb.TCP, explainClient, explainWeb, packet.SYN)
		if e.MTU != 1400 || e.Learned != (forward.PathMTU{MTU: 1400, Until: until}) {
			t.Errorf("learned: MTU %d, %+v", e.MTU, e.Learned)
		}
		x.tick++
		if e := x.ask(lb.TCP, explainClient, explainWeb, packet.SYN); e.MTU != 1500 || e.Learned != (forward.PathMTU{}) {
			t.Errorf("afterwards: MTU %d, %+v", e.MTU, e.Learned)
		}
	})
	t.Run("past", func(t *testing.T) {
		x := newExplained(t)
		x.sync(forwardtest.Service(lb.TCP, explainWeb, "10.1.2.1:8080"))
		x.sync(forwardtest.Service(lb.TCP, explainWeb, "10.1.1.1:8080", "-10.1.2.1:8080"))
		e := x.ask(lb.TCP, explainClient, explainWeb, packet.ACK)
		if e.Reason != forward.EncapPast || e.Tunnel.Position != packet.PositionPast1 || len(e.Slot.Past) != 1 {
			t.Fatalf("%+v", e)
		}
		want := forward.Target{Addr: netip.MustParseAddrPort("10.1.2.1:8080"), Node: e.Node, Endpoint: true, Draining: true}
		if diff := cmp.Diff(want, e.Slot.Past[0], byValue); diff != "" {
			t.Errorf("past -want +got:\n%s", diff)
		}
	})
	t.Run("affinity", func(t *testing.T) {
		x := newExplained(t)
		x.sync(sticky)
		x.send(packettest.TCP(explainClient, explainWeb, packet.SYN))
		x.reply("10.1.1.1:8080", explainClient, packet.SYN|packet.ACK, 1)
		x.reply("10.1.1.1:8080", explainClient, packet.ACK, 2)
		e := x.ask(lb.TCP, "198.51.100.7:40001", explainWeb, packet.SYN)
		if e.Reason != forward.Affinity || e.Remembered == nil || e.Flow != nil {
			t.Errorf("%+v", e)
		}
	})
	t.Run("refused", func(t *testing.T) {
		x := newExplained(t)
		x.sync(forwardtest.Service(lb.TCP, explainWeb))
		if e := x.ask(lb.TCP, explainClient, explainWeb, packet.SYN); e.Reason != forward.Refused || e.Slot != nil {
			t.Errorf("%+v", e)
		}
	})
	t.Run("ipv6 datagram", func(t *testing.T) {
		x := newExplained(t)
		x.sync(forwardtest.Service(lb.UDP, "[2001:db8::1]:53", "[fd00:1:2::1]:8080"))
		e := x.ask(lb.UDP, "[2001:db8:1::7]:40000", "[2001:db8::1]:53", 0)
		if e.Reason != forward.EncapHome || e.Slot.Home.Addr != netip.MustParseAddrPort("[fd00:1:2::1]:8080") {
			t.Errorf("%+v", e)
		}
	})
}

// Two services on one Pod port: the second connection of a client's port gets a
// substitute, and the explanation finds the same one though its bucket is
// another, and though others are taken.
func TestExplainSubstitute(t *testing.T) {
	const other = "192.0.2.1:81"
	x := newExplained(t)
	x.sync(forwardtest.Service(lb.TCP, explainWeb, "10.1.1.1:8080"), forwardtest.Service(lb.TCP, other, "10.1.1.1:8080"))
	x.send(packettest.TCP(explainClient, explainWeb, packet.SYN))
	// Whoever has the first candidates makes later ones be taken.
	for range 3 {
		e := x.ask(lb.TCP, explainClient, other, packet.SYN)
		if e.Reason != forward.New || e.PodPort == 40000 {
			t.Fatalf("%+v", e)
		}
		taken := fmt.Sprintf("198.51.100.7:%d", e.PodPort)
		if reason, _ := x.send(packettest.TCP(taken, explainWeb, packet.SYN)); reason != forward.New {
			t.Fatalf("%s: %s", taken, reason)
		}
		if again := x.ask(lb.TCP, explainClient, other, packet.SYN); again.PodPort == e.PodPort {
			t.Fatalf("port %d is taken, and chosen all the same", e.PodPort)
		}
	}
	e := x.ask(lb.TCP, explainClient, other, packet.SYN)
	_, out := x.send(packettest.TCP(explainClient, other, packet.SYN))
	var p packet.Packet
	if !p.Parse(out) || p.SrcPort != e.PodPort {
		t.Errorf("the Pod sees port %d, explained was %d", p.SrcPort, e.PodPort)
	}
	// From then on the record and its alias, in two buckets, say the same.
	if e := x.ask(lb.TCP, explainClient, other, packet.SYN); e.Reason != forward.Mine || e.PodPort != p.SrcPort {
		t.Errorf("afterwards: %+v", e)
	}
}

// Whatever is explained is what happens then.
func TestExplainForetells(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	seen := map[forward.Reason]int{}
	for range 20 {
		x := newExplained(t)
		for range 300 {
			if rnd.IntN(30) == 0 {
				s := randomService(rnd)
				s.Affinity = time.Duration(rnd.IntN(2)) * time.Hour
				x.sync(s)
			}
			x.tick += uint32(rnd.IntN(100))
			client := randomClient(rnd)
			if rnd.IntN(3) == 0 {
				pod := []string{"10.1.1.1:8080", "10.1.1.2:8080"}[rnd.IntN(2)]
				x.reply(pod, client, []uint8{packet.SYN | packet.ACK, packet.ACK, packet.FIN | packet.ACK}[rnd.IntN(3)], rnd.Uint32())
				continue
			}
			f := tcp(client, []uint8{packet.SYN, packet.ACK}[rnd.IntN(2)])
			if f.Flags == packet.ACK {
				f.Ack = x.ackOf(client, vip)
			}
			e := x.ask(lb.TCP, client, vip, f.Flags)
			reason, out := x.send(f)
			seen[reason]++
			if reason != e.Reason {
				t.Fatalf("%s, explained as %s: %+v", reason, e.Reason, e)
			}
			x.compareOut(e, out)
		}
	}
	t.Log(seen)
}

// compareOut compares what was sent with what was explained.
func (x *explained) compareOut(e forward.Explanation, out []byte) {
	x.t.Helper()
	var p packet.Packet
	if !p.Parse(out) {
		return
	}
	to := netip.AddrPortFrom(netip.AddrFrom16(p.Dst).Unmap(), p.DstPort)
	switch e.Reason.Verdict() {
	case forward.Deliver:
		if e.Pod != to || e.PodPort != p.SrcPort {
			x.t.Fatalf("to %s from port %d, explained: %s from port %d", to, p.SrcPort, e.Pod, e.PodPort)
		}
	case forward.Encap:
		if e.Tunnel.Dst != to || e.Tunnel.Src.Port() != p.SrcPort {
			x.t.Fatalf("tunnel to %s, explained: %+v", to, e.Tunnel)
		}
	}
}
