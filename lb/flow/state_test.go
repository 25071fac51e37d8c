// SPDX-License-Identifier: Apache-2.0

package flow_test

import (
	"testing"

	"github.com/fairlead/fairlead/lb/flow"
	"github.com/fairlead/fairlead/lb/packet"
)

const (
	isn  = 0xfffffff0 // wraps within the window
	wrap = 1 << 32
)

func TestMatchClient(t *testing.T) {
	const syn, ack, rst, fin = packet.SYN, packet.ACK, packet.RST, packet.FIN
	for _, tt := range []struct {
		name   string
		record flow.Record
		p      *packet.Packet
		want   flow.Match
	}{
		{"syn again", flow.Record{}, tcpPacket(syn, 0, 0), flow.Mine},
		{"rst on half-open", flow.Record{}, tcpPacket(rst, 0, 0), flow.Mine},
		{"ack, isn unknown", flow.Record{}, tcpPacket(ack, 0, 1), flow.Unfit},
		{"ack of isn", flow.Record{Flags: flow.HasISN, ISN: isn}, tcpPacket(ack, 0, isn), flow.Unfit},
		{"ack of isn+1", flow.Record{Flags: flow.HasISN, ISN: isn}, tcpPacket(ack, 0, isn+1), flow.Mine},
		{"last ack that fits", flow.Record{Flags: flow.HasISN, ISN: isn}, tcpPacket(ack, 0, isn+1+16383-wrap), flow.Mine},
		{"first ack that does not", flow.Record{Flags: flow.HasISN, ISN: isn}, tcpPacket(ack, 0, isn+1+16384-wrap), flow.Unfit},
		{"syn-ack of the client", flow.Record{}, tcpPacket(syn|ack, 0, 5), flow.Unfit},
		{"syn on established", flow.Record{State: flow.Established}, tcpPacket(syn, 0, 0), flow.Mine},
		{"syn after one fin", flow.Record{State: flow.Established, Flags: flow.PodFIN}, tcpPacket(syn, 0, 0), flow.Mine},
		{"syn after client's rst", flow.Record{State: flow.Established, Flags: flow.ClientRST}, tcpPacket(syn, 0, 0), flow.Mine},
		{"syn after both fins", flow.Record{State: flow.Established, Flags: flow.PodFIN | flow.ClientFIN}, tcpPacket(syn, 0, 0), flow.Foreign},
		{"syn after pod's rst", flow.Record{Flags: flow.PodRST}, tcpPacket(syn, 0, 0), flow.Foreign},
		{"ack after both fins", flow.Record{State: flow.Established, Flags: flow.PodFIN | flow.ClientFIN}, tcpPacket(ack, 0, 0), flow.Mine},
		{"any ack on established", flow.Record{State: flow.Established}, tcpPacket(ack|fin, 0, 77), flow.Mine},
		{"udp", flow.Record{}, udpPacket, flow.Mine},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.record.MatchClient(tt.p); got != tt.want {
				t.Errorf("match %d, want %d", got, tt.want)
			}
		})
	}
}

func TestLifeOfATCPFlow(t *testing.T) {
	const syn, ack, rst, fin = packet.SYN, packet.ACK, packet.RST, packet.FIN
	const half, est = flow.HalfOpen, flow.Established
	type step struct {
		pod   bool
		p     *packet.Packet
		state flow.State
		flags flow.Flags
	}
	for _, tt := range []struct {
		name  string
		first flow.Flags
		steps []step
	}{
		{"client's ack establishes", 0, []step{
			{true, tcpPacket(syn|ack, isn, 1), half, flow.HasISN},
			{false, tcpPacket(ack, 1, isn+1), est, flow.HasISN},
			{false, tcpPacket(ack|fin, 1, isn+1), est, flow.HasISN | flow.ClientFIN},
			{true, tcpPacket(ack|fin, isn+1, 2), est, flow.HasISN | flow.ClientFIN | flow.PodFIN},
		}},
		{"pod's data establishes", 0, []step{
			{true, tcpPacket(ack, isn, 1), est, 0},
		}},
		{"pod confirms", flow.Unverified, []step{
			{true, tcpPacket(ack, isn, 1), est, 0},
		}},
		{"pod refuses", 0, []step{
			{true, tcpPacket(rst|ack, 0, 1), half, flow.PodRST},
		}},
		{"pod denies an unverified one", flow.Unverified, []step{
			{true, tcpPacket(rst, 0, 1), half, flow.Unverified | flow.PodRST},
		}},
		{"a forged rst is undone by the pod", 0, []step{
			{true, tcpPacket(ack, isn, 1), est, 0},
			{false, tcpPacket(rst, 1, 0), est, flow.ClientRST},
			{true, tcpPacket(ack, isn, 1), est, 0},
		}},
		{"a lone syn of the pod", 0, []step{
			{true, tcpPacket(syn, isn, 0), half, 0},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			table := newTable(t, 1, pods{2: 22})
			k := key(1, 1, packet.ProtoTCP)
			if _, result := table.Insert(&k, tt.first, 0, 0, now); result != flow.Inserted {
				t.Fatalf("result %d", result)
			}
			r := table.Find(&k, now)
			for i, s := range tt.steps {
				tick := now + uint32(i)
				if s.pod {
					table.FromPod(r, s.p, 0, tick)
				} else {
					table.FromClient(r, s.p, 0, tick)
				}
				if r.State != s.state || r.Flags != s.flags || r.Seen != tick {
					t.Errorf("after step %d: state %d flags %b seen %d, want %d %b %d",
						i, r.State, r.Flags, r.Seen, s.state, s.flags, tick)
				}
			}
		})
	}
}

func TestAffinity(t *testing.T) {
	table := newTable(t, 1, pods{2: 22, 3: 33})
	first := key(1, 1, packet.ProtoUDP)
	r := insert(t, table, first, now)
	table.FromClient(r, udpPacket, 100, now)
	if table.FindAffinity(&first, now) != nil {
		t.Fatal("remembered before the Pod replied")
	}
	table.FromPod(r, udpPacket, 100, now)
	a := table.FindAffinity(&first, now+100)
	if a == nil {
		t.Fatal("not remembered")
	}
	want := flow.Record{
		Seq: 2, Client: first.Client, Kind: flow.Affinity, Service: 1, ServiceTag: 11, Backend: 2, BackendTag: 22,
		Seen: now, State: flow.Established, Slot: flow.SlotUnknown, Until: now + 100,
	}
	if *a != want {
		t.Errorf("record %+v\nwant   %+v", *a, want)
	}
	if table.FindAffinity(&first, now+101) != nil {
		t.Error("remembered for too long")
	}
	second := key(1, 2, packet.ProtoUDP)
	second.Backend, second.BackendTag = 3, 33
	table.FromPod(insert(t, table, second, now+50), udpPacket, 100, now+50)
	if a := table.FindAffinity(&first, now+60); a == nil || a.Backend != 3 || a.Until != now+150 || a.Seq != 4 {
		t.Errorf("the later flow did not overwrite: %+v", a)
	}
	table.FromPod(table.Find(&second, now+70), udpPacket, 100, now+70)
	if a := table.FindAffinity(&first, now+70); a.Until != now+150 {
		t.Errorf("an old flow prolonged the memory to %d", a.Until)
	}
}

func TestSubstitutePort(t *testing.T) {
	table := newTable(t, 16, pods{2: 22})
	one, two, three := key(1, 40000, 17), key(1, 40000, 17), key(1, 40000, 17)
	two.Service, two.ServiceTag = 5, 55
	three.Service, three.ServiceTag = 6, 66
	insert(t, table, one, now)
	const seed = 64512*3 + 100 // tries 1124, 5223, …
	ports := []uint16{}
	for _, k := range []flow.Key{two, three} {
		port, result := table.Insert(&k, 0, 0, seed, now)
		if result != flow.Inserted {
			t.Fatalf("result %d", result)
		}
		ports = append(ports, port)
	}
	if ports[0] != 1124 || ports[1] != 1124+4099 {
		t.Fatalf("substitutes %d, want 1124 and 5223", ports)
	}
	for port, want := range map[uint16]uint32{40000: 11, 1124: 55, 5223: 66} {
		r := table.FindReply(&flow.Key{Client: one.Client, Port: port, Proto: 17, Backend: 2}, now)
		if r == nil || r.ServiceTag != want || r.Port != 40000 {
			t.Errorf("reply to port %d finds %+v, want the flow of service tag %d", port, r, want)
		}
	}
	// They live and die together.
	r := table.Find(&two, now)
	table.FromPod(r, udpPacket, 0, now+500)
	if table.FindReply(&flow.Key{Client: one.Client, Port: 1124, Proto: 17, Backend: 2}, now+500+2682) == nil {
		t.Error("the alias died before its flow")
	}
	// A flow that comes from the substitute port itself makes way.
	four := key(1, 1124, 17)
	if port, result := table.Insert(&four, 0, 0, 0, now+500); result != flow.Inserted || port == 1124 {
		t.Errorf("port %d result %d, want a substitute", port, result)
	}
}

func TestSubstitutePortsRunOut(t *testing.T) {
	table := newTable(t, 16, pods{2: 22})
	for service := range uint32(flow.PortTries + 2) {
		k := key(1, 40000, 17)
		k.ServiceTag = service + 1
		_, result := table.Insert(&k, 0, 0, 100, now)
		want := flow.Inserted
		if service == flow.PortTries+1 { // the first needed none
			want = flow.NoPort
		}
		if result != want {
			t.Errorf("service %d: result %d, want %d", service, result, want)
		}
	}
}

// The Pod's view decides: the Own record whose Pod sees another port is not it.
func TestReplyFindsTheRightFlow(t *testing.T) {
	table := newTable(t, 1, pods{2: 22, 3: 33})
	early, one, two := key(1, 40000, 6), key(1, 40000, 6), key(1, 40000, 6)
	early.ServiceTag, early.Backend, early.BackendTag = 77, 3, 33
	two.ServiceTag = 55
	insert(t, table, early, now) // takes the first way, and dies
	insert(t, table, one, now).State = flow.Established
	if port, _ := table.Insert(&two, 0, 0, 100, now+2000); port == 40000 {
		t.Fatal("no substitute")
	}
	r := table.FindReply(&flow.Key{Client: one.Client, Port: 40000, Proto: 6, Backend: 2}, now+2000)
	if r == nil || r.ServiceTag != one.ServiceTag {
		t.Errorf("found %+v, want the flow without a substitute", r)
	}
}

func TestNothingAllocates(t *testing.T) {
	table := newTable(t, 1024, pods{2: 22})
	k := key(1, 1, packet.ProtoTCP)
	ack := tcpPacket(packet.ACK, isn, 1)
	if n := testing.AllocsPerRun(100, func() {
		k.Port++
		table.Insert(&k, 0, 0, 0, now)
		r := table.Find(&k, now)
		table.FromPod(r, ack, 100, now)
		table.FromClient(r, ack, 100, now)
		table.FindReply(&k, now)
	}); n != 0 {
		t.Errorf("%v allocations a flow", n)
	}
}
