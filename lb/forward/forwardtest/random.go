// SPDX-License-Identifier: Apache-2.0

package forwardtest

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/dataplane"
	"github.com/fairlead/fairlead/lb/flow"
	"github.com/fairlead/fairlead/lb/packet"
	"github.com/fairlead/fairlead/lb/packet/packettest"
)

// Random is a story of so many steps that was made up with rnd. What it wants
// is what lb/forward does: it is for comparing another datapath with that.
func Random(t testing.TB, rnd *rand.Rand, steps int) Vector {
	t.Helper()
	v := vector(fmt.Sprintf("random/%x", rnd.Uint64()), nil)
	v.Settings.FlowBuckets = []int{1, 16}[rnd.IntN(2)]
	s := storyteller{Rand: rnd, twin: NewTwin(t, v.Settings), tick: start}
	first := s.table()
	v.Tables = []*lb.Table{first}
	plane := syncAll(t, s.twin.Maps(), v.Tables, &s.tick)
	for range steps {
		step := s.step()
		if step.Table != nil {
			if err := plane.Sync(step.Table); err != nil {
				t.Fatal(err)
			}
		}
		step.Reason, step.Want, _ = s.twin.Forward(step.Egress, step.Packet, step.Tick)
		v.Steps = append(v.Steps, step)
	}
	dump := Dump(s.twin.Records(), v.names(), s.tick)
	v.dump = &dump
	return v
}

// storyteller makes up steps from few clients, services and Pods, so that they
// meet often.
type storyteller struct {
	*rand.Rand
	twin *Twin
	tick uint32
}

func pick[T any](s *storyteller, choices ...T) T { return choices[s.IntN(len(choices))] }

func (s *storyteller) table() *lb.Table {
	services := []lb.Service{
		svc(lb.TCP, webV4, s.pods()...), svc(lb.TCP, "192.0.2.1:81", s.pods()...), svc(lb.UDP, dnsV4, s.pods()...),
	}
	services[0] = withAffinity(services[0], pick(s, 0, 1000*dataplane.Tick))
	services[2] = withAffinity(services[2], pick(s, 0, 1000*dataplane.Tick))
	if s.IntN(4) == 0 {
		services[1] = local(services[1])
	}
	return table(services...)
}

func (s *storyteller) pods() []string {
	var pods []string
	for i, p := range []string{a1, a2, b1, c1, d1} {
		switch s.IntN(5) {
		case 0, 1:
			pods = append(pods, p)
		case 2:
			pods = append(pods, "-"+p)
		default:
			if i < 2 {
				pods = append(pods, p)
			}
		}
	}
	return pods
}

func (s *storyteller) step() Step {
	s.tick += pick[uint32](s, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 10, 50, 200, 1000)
	step := Step{Tick: s.tick, Egress: s.IntN(3) == 0}
	if s.IntN(30) == 0 {
		step.Table = s.table()
	}
	switch {
	case step.Egress:
		step.Packet = s.reply().Bytes()
	case s.IntN(2) == 0:
		step.Packet = s.request().Bytes()
	default:
		step.Packet = s.arrival()
	}
	if s.IntN(12) == 0 {
		step.Packet[s.IntN(len(step.Packet))] ^= 1 << s.IntN(8)
	}
	if s.IntN(25) == 0 {
		step.Packet = step.Packet[:packet.EthernetLen+1+s.IntN(len(step.Packet)-packet.EthernetLen)]
	}
	return step
}

func (s *storyteller) request() packettest.Frame {
	client := fmt.Sprintf("198.51.100.%d:%d", s.IntN(2), 40000+s.IntN(3))
	if s.IntN(3) == 0 {
		return packettest.UDP(client, dnsV4, "query")
	}
	flags := pick[uint8](s, syn, syn, syn, ack, ack, ack, ack|fin, rst, rst|ack, syn|ack)
	f := packettest.TCP(client, pick(s, webV4, "192.0.2.1:81"), flags)
	f.Seq, f.Ack, f.TTL = s.Uint32(), podISN+pick[uint32](s, 0, 1, 2, 0x4000, 0x8000_0000), pick[uint8](s, 64, 64, 64, 64, 64, 64, 2, 1)
	f.TOS = pick[uint8](s, 0, 0xb9)
	f.Payload = make([]byte, pick(s, 0, 1, 2, 3, 100, 1392, 1393))
	return f
}

// arrival is a packet from another node, with tables that need not agree with ours.
func (s *storyteller) arrival() []byte {
	f := s.request()
	t := packettest.Encap(nodeB, selfV4, geneve, pick(s, key1, key1, key1, key2, key2, key3), f)
	if s.IntN(4) == 0 {
		t.Src, t.Dst = netip.MustParseAddr("fd00::2"), netip.MustParseAddr(selfV6)
	}
	t.Position, t.TableHash = uint8(s.IntN(6)), uint16(s.Uint32())
	for i := range t.Tags {
		if i > 0 && s.IntN(3) == 0 {
			break
		}
		t.Tags[i] = tag(pick(s, a1, a1, a2, b1, c1, d1, e1))
	}
	return t.Bytes()
}

// reply is mostly one of a flow that there is.
func (s *storyteller) reply() packettest.Frame {
	pod, client, proto := pick(s, a1, a2, b1), "198.51.100.0:40000", uint8(packet.ProtoTCP)
	records := s.twin.Records()
	for at, end := s.IntN(len(records)), len(records); end > 0; at, end = at+1, end-1 {
		if r := records[at%len(records)]; r.Kind == flow.Own {
			client = netip.AddrPortFrom(netip.AddrFrom16(r.Client).Unmap(), r.PodPort).String()
			proto = r.Proto
			if r.BackendTag == tag(a2) {
				pod = a2
			} else {
				pod = a1
			}
			break
		}
	}
	if proto == packet.ProtoUDP {
		return packettest.UDP(pod, client, "answer")
	}
	f := packettest.TCP(pod, client, pick[uint8](s, syn|ack, syn|ack, ack, ack|fin, rst|ack))
	f.Seq = podISN
	if f.Flags&syn != 0 {
		f.TCPOptions = pick(s, nil, packettest.MSS(1460), append([]byte{1}, append(packettest.MSS(9000), 1, 1, 1)...))
	}
	return f
}
