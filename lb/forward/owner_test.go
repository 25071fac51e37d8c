// SPDX-License-Identifier: Apache-2.0

package forward_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/dataplane"
	"github.com/fairlead/fairlead/lb/forward"
	"github.com/fairlead/fairlead/lb/forward/forwardtest"
	"github.com/fairlead/fairlead/lb/packet"
	"github.com/fairlead/fairlead/lb/packet/packettest"
)

// judge is an Owner that says what it is told to.
type judge struct {
	asked  *forward.Query
	reason forward.Reason
	answer func(*forward.Query)
}

func (j *judge) Own(q *forward.Query) forward.Reason {
	asked := *q
	j.asked = &asked
	if j.answer != nil {
		j.answer(q)
	}
	return j.reason
}

const (
	podA, podB = "10.1.1.1:8080", "10.1.2.1:8080"
	host       = "198.51.100.7:40000"
)

// withOwner is node a with web on a Pod of its own, and j as owner.
func withOwner(t *testing.T, j *judge) (*forward.Forwarder, *dataplane.Dataplane, *forward.Tables) {
	t.Helper()
	tables := forward.NewTables(forwardtest.Limits)
	plane, err := dataplane.New(tables, dataplane.Options{PastTicks: 100, Now: func() uint32 { return 1000 }})
	if err != nil {
		t.Fatal(err)
	}
	if err := plane.Sync(forwardtest.TableOf("a", forwardtest.Service(lb.TCP, vip, podA), forwardtest.Service(lb.UDP, vip, podA))); err != nil {
		t.Fatal(err)
	}
	settings := forwardtest.SettingsOf(forwardtest.Nodes()[0])
	settings.FlowBuckets = 0 // not its matter
	f, err := forward.NewForwarderWith(settings, tables, j)
	if err != nil {
		t.Fatal(err)
	}
	return f, plane, tables
}

func fromNodeB(f packettest.Frame) []byte {
	t := packettest.Encap("10.0.0.2", "10.0.0.1", 7471, forwardtest.SettingsOf(forwardtest.Nodes()[0]).Keys[0], f)
	t.Position, t.TableHash, t.Tags = 2, 0xabcd, [4]uint32{1, 2, 3, 4}
	return t.Bytes()
}

func TestOwnerIsAsked(t *testing.T) {
	j := &judge{reason: forward.FlowsFull}
	f, plane, _ := withOwner(t, j)
	id, ok := plane.ServiceID(forwardtest.Service(lb.TCP, vip).Key)
	udp, ok2 := plane.ServiceID(forwardtest.Service(lb.UDP, vip).Key)
	if !ok || !ok2 {
		t.Fatal("no service")
	}
	client, dst := netip.MustParseAddrPort(host), netip.MustParseAddrPort(vip)
	hash := func(proto uint8) uint64 {
		return forward.FlowHash(client.Addr().As16(), forward.PortsWord(client.Port(), dst.Port(), proto))
	}
	query := func(service lb.ServiceID, proto uint8) forward.Query {
		return forward.Query{
			Now: 1000, Service: service, ServiceTag: forwardtest.Service(lb.Proto(proto), vip).Key.Tag(), Hash: hash(proto), Client: client.Addr().As16(), VIP: dst.Addr().As16(),
			Port: client.Port(), ServicePort: dst.Port(), Proto: proto, Version: 4,
			Tunnelled: true, TableHash: 0xabcd, Tags: packet.Tags{1, 2, 3, 4}, Position: 2,
		}
	}
	segment := packettest.TCP(host, vip, packet.ACK|packet.PSH)
	segment.Seq, segment.Ack = 77, 88
	wantTCP := query(id, packet.ProtoTCP)
	wantTCP.Flags, wantTCP.Seq, wantTCP.Ack = packet.ACK|packet.PSH, 77, 88
	wantRelated := query(id, packet.ProtoTCP)
	wantRelated.Related = true
	pieces := packettest.UDP(host, vip, "a datagram in two pieces").Fragments(9, 16)
	wantLater := query(udp, packet.ProtoUDP)
	wantLater.Later = true
	local := packettest.TCP(host, vip, packet.SYN)
	for _, tt := range []struct {
		name  string
		frame []byte
		want  forward.Query
	}{
		{"tcp", fromNodeB(segment), wantTCP},
		{"an error", fromNodeB(packettest.ICMPError("192.0.2.9", packettest.TCP(vip, host, packet.ACK), 3, 1, 8)), wantRelated},
		{"first fragment", fromNodeB(pieces[0]), query(udp, packet.ProtoUDP)},
		{"later fragment", fromNodeB(pieces[1]), wantLater},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if reason, out := f.Ingress(tt.frame, 1000, nil); reason != forward.FlowsFull || out != nil {
				t.Fatalf("%s with %d bytes", reason, len(out))
			}
			if diff := cmp.Diff(&tt.want, j.asked); diff != "" {
				t.Errorf("query (-want +got):\n%s", diff)
			}
		})
	}
	f.Ingress(local.Bytes(), 1000, nil)
	if q := j.asked; q.Tunnelled || q.Position != packet.PositionIngress || q.Flags != packet.SYN ||
		q.Tags[0] != uint32(lb.WireIDOf(netip.MustParseAddrPort(podA))) {
		t.Errorf("asked %+v about a packet from outside", q)
	}
}

func TestOwnerAnswers(t *testing.T) {
	j := &judge{}
	f, plane, tables := withOwner(t, j)
	if err := plane.Sync(forwardtest.TableOf("a", forwardtest.Service(lb.TCP, vip, podA, "-"+podB))); err != nil {
		t.Fatal(err)
	}
	state, err := tables.Load()
	if err != nil {
		t.Fatal(err)
	}
	var pod lb.BackendID
	for id, b := range state.Backends {
		if b.Addr.String() == podA {
			pod = id
		}
	}
	node, err := forwardtest.NodeID(tables, "b")
	if err != nil {
		t.Fatal(err)
	}
	frame := packettest.TCP(host, vip, packet.SYN)
	deliver := func(q *forward.Query) { q.Backend, q.PodPort = pod, 1234 }
	send := func(q *forward.Query) { q.Node, q.Position = node, packet.PositionRedirected }
	delivered := packettest.TCP("198.51.100.7:1234", podA, packet.SYN)
	for _, tt := range []struct {
		name   string
		reason forward.Reason
		answer func(*forward.Query)
		frame  []byte
		want   forward.Reason
	}{
		{"deliver", forward.New, deliver, frame.Bytes(), forward.New},
		{"encap", forward.EncapOwner, send, frame.Bytes(), forward.EncapOwner},
		{"steer", forward.SteerOwner, send, fromNodeB(frame), forward.SteerOwner},
		{"drop", forward.Ports, nil, frame.Bytes(), forward.Ports},
		{"steer what did not come by tunnel", forward.SteerOwner, send, frame.Bytes(), forward.Error},
		{"encap what came by tunnel", forward.EncapOwner, send, fromNodeB(frame), forward.Error},
		{"undecided", forward.None, nil, frame.Bytes(), forward.Error},
		{"pass", forward.NotVIP, nil, frame.Bytes(), forward.Error},
		{"answer", forward.Echo, nil, frame.Bytes(), forward.Error},
		{"reply", forward.Translated, nil, frame.Bytes(), forward.Error},
		{"a node that is not there", forward.EncapOwner, func(q *forward.Query) { q.Node = 999 }, frame.Bytes(), forward.NoNode},
	} {
		t.Run(tt.name, func(t *testing.T) {
			j.reason, j.answer = tt.reason, tt.answer
			reason, out := f.Ingress(tt.frame, 1000, nil)
			if reason != tt.want {
				t.Fatalf("%s, want %s", reason, tt.want)
			}
			switch reason.Verdict() {
			case forward.Deliver:
				packettest.Equal(t, out, delivered.Bytes())
			case forward.Encap, forward.Steer:
				if position := out[packettest.GeneveOffsetV4+packettest.BodyOffset+1]; f.Node() != node || position != 5 {
					t.Errorf("to node %d as %d, want %d as 5", f.Node(), position, node)
				}
			default:
				if out != nil {
					t.Errorf("a frame of %d bytes", len(out))
				}
			}
		})
	}
	if f.Flows() != nil {
		t.Error("there is a flow table")
	}
	reply := packettest.TCP(podA, host, packet.ACK)
	if reason, _ := f.Egress(reply.Bytes(), false, 1000, nil); reason != forward.NoFlow {
		t.Errorf("reply: %s", reason)
	}
	reply.Src = netip.MustParseAddrPort("10.0.0.1:8080")
	if reason, _ := f.Egress(reply.Bytes(), true, 1000, nil); reason != forward.NotReply {
		t.Errorf("masqueraded reply: %s", reason)
	}
}

// fixed answers without keeping anything.
type fixed struct{ backend lb.BackendID }

func (o *fixed) Own(q *forward.Query) forward.Reason {
	q.Backend, q.PodPort = o.backend, q.Port
	return forward.Mine
}

func TestOwnerAllocatesNothing(t *testing.T) {
	_, _, tables := withOwner(t, &judge{})
	f, err := forward.NewForwarderWith(forwardtest.SettingsOf(forwardtest.Nodes()[0]), tables, &fixed{1})
	if err != nil {
		t.Fatal(err)
	}
	frame, out := packettest.TCP(host, vip, packet.ACK).Bytes(), make([]byte, 0, 2048)
	if n := testing.AllocsPerRun(100, func() {
		if reason, _ := f.Ingress(frame, 1000, out); reason != forward.Mine {
			t.Fatal(reason)
		}
	}); n != 0 {
		t.Errorf("%v allocations a packet", n)
	}
}
