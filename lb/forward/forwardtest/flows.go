// SPDX-License-Identifier: Apache-2.0

package forwardtest

import (
	"fmt"
	"net/netip"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/dataplane"
	"github.com/fairlead/fairlead/lb/forward"
	"github.com/fairlead/fairlead/lb/packet/packettest"
)

const podISN = 0xfffffff0 // wraps within a handshake

// mine is a packet of a known flow that goes to pod a1.
func mine(f packettest.Frame) Step { return in(f, forward.Mine, delivered(f, a1)) }

// fresh begins a flow on pod a1.
func fresh(f packettest.Frame) Step { return in(f, forward.New, delivered(f, a1)) }

// judge gives a packet to pod a1 that no flow is known for.
func judge(f packettest.Frame) Step { return in(f, forward.Judge, delivered(f, a1)) }

// reply is pod a1's reply to a client, which sees it from the service.
func reply(proto lb.Proto, service, client string, edit func(*packettest.Frame)) Step {
	f := packettest.UDP(a1, client, "answer")
	if proto == lb.TCP {
		f = packettest.TCP(a1, client, ack)
	}
	if edit != nil {
		edit(&f)
	}
	want := f
	want.Src = netip.MustParseAddrPort(service)
	return out(f, forward.Translated, want.Bytes())
}

func webReply(flags uint8, seq, ackno uint32) Step {
	return reply(lb.TCP, webV4, clientV4, func(f *packettest.Frame) { f.Flags, f.Seq, f.Ack = flags, seq, ackno })
}

func tcpV4(flags uint8, seq, ackno uint32) packettest.Frame {
	f := ackV4(seq, ackno)
	f.Flags = flags
	return f
}

// handshake are the steps that establish the web flow.
func handshake() []Step {
	return []Step{fresh(synV4()), webReply(syn|ack, podISN, 1001), mine(ackV4(1001, podISN+1))}
}

// Flows from their beginning to their end.
func flowVectors() []Vector {
	web, dns := svc(lb.TCP, webV4, a1), svc(lb.UDP, dnsV4, a1)
	options, last := synV4(), synV4()
	options.IPOptions = []byte{1, 1, 1, 0}
	last.TTL = 1
	noSum := queryV4()
	noSum.NoChecksum = true
	v6 := queryV6()
	answer6 := packettest.UDP(a1v6, clientV6, "answer")
	want6 := packettest.UDP(dnsV6, clientV6, "answer")
	return []Vector{
		vector("flow/tcp", tables(web), append(handshake(),
			mine(tcpV4(ack|fin, 1001, podISN+1)).after(10),
			webReply(ack|fin, 1, 1002).after(11),
			mine(tcpV4(ack, 1002, 2)).after(12))...),
		vector("flow/udp", tables(dns),
			fresh(queryV4()), mine(queryV4()).after(1), reply(lb.UDP, dnsV4, clientV4, nil).after(2), mine(queryV4()).after(2000)),
		vector("flow/udp v6", tables(svc(lb.UDP, dnsV6, a1v6)),
			in(v6, forward.New, delivered(v6, a1v6)), out(answer6, forward.Translated, want6.Bytes())),
		vector("flow/udp without checksum", tables(dns), fresh(noSum),
			reply(lb.UDP, dnsV4, clientV4, func(f *packettest.Frame) { f.NoChecksum = true })),
		vector("flow/ip options", tables(web), fresh(options)),
		vector("flow/ttl 1 is the stack's matter", tables(web), fresh(last)),
		vector("flow/udp is forgotten", tables(dns),
			fresh(queryV4()), mine(queryV4()).after(894), fresh(queryV4()).after(2*894+1)),
		vector("flow/syn again", tables(web), fresh(synV4()), mine(synV4()).after(15)),
		vector("flow/syn on established", tables(web), append(handshake(),
			mine(synV4()).after(1), mine(ackV4(1001, podISN+1)).after(2))...),
		vector("flow/closed, then syn", tables(web), append(handshake(),
			mine(tcpV4(ack|fin, 1001, podISN+1)), webReply(ack|fin, podISN+1, 1002),
			mine(ackV4(1002, podISN+2)), fresh(synV4()).after(1))...),
		vector("flow/refused by the pod, then syn", tables(web),
			fresh(synV4()), webReply(rst|ack, 0, 1001), fresh(synV4()).after(1)),
		vector("flow/client's rst does not free it for a syn", tables(web), append(handshake(),
			mine(tcpV4(rst, 1001, 0)), mine(synV4()).after(1))...),
		vector("flow/client's rst, forged", tables(web), append(handshake(),
			mine(tcpV4(rst, 1001, 0)), webReply(ack, podISN+1, 1001).after(200), mine(ackV4(1001, podISN+1)).after(6000))...),
		vector("flow/client's rst, true", tables(web), append(handshake(),
			mine(tcpV4(rst, 1001, 0)), judge(ackV4(1001, podISN+1)).after(225))...),
	}
}

// Half-open flows and packets that begin none.
func handshakeVectors() []Vector {
	web := svc(lb.TCP, webV4, a1)
	opened := func(steps ...Step) []Step {
		return append([]Step{fresh(synV4()), webReply(syn|ack, podISN, 1001)}, steps...)
	}
	return []Vector{
		vector("handshake/ack before the syn-ack", tables(web), fresh(synV4()), judge(ackV4(1001, 1)).after(3)),
		vector("handshake/ack fits", tables(web), opened(mine(ackV4(1001, podISN+1)).after(3))...),
		vector("handshake/last ack that fits", tables(web), opened(mine(ackV4(1001, (podISN+16384)&0xffffffff)).after(3))...),
		vector("handshake/first ack that does not fit", tables(web), opened(judge(ackV4(1001, (podISN+16385)&0xffffffff)).after(3))...),
		vector("handshake/ack of the isn does not fit", tables(web), opened(judge(ackV4(1001, podISN)).after(3))...),
		vector("handshake/rst", tables(web), opened(mine(tcpV4(rst, 1001, 0)).after(3))...),
		vector("handshake/rst with an ack that does not fit", tables(web), opened(judge(tcpV4(rst|ack, 1001, 0x70000000)).after(3))...),
		vector("handshake/times out", tables(web), fresh(synV4()), fresh(synV4()).after(1119)),
		vector("handshake/pod speaks first", tables(web), fresh(synV4()), webReply(ack, 7, 1001), mine(ackV4(1001, 99))),
		vector("judge/ack, and the pod knows it", tables(web),
			judge(ackV4(5, 5)), judge(ackV4(6, 6)).after(1), webReply(ack, 6, 6).after(2), mine(ackV4(7, 7)).after(3)),
		vector("judge/ack, and the pod does not", tables(web),
			judge(ackV4(5, 5)), webReply(rst, 5, 0), fresh(synV4()).after(1)),
		vector("judge/rst", tables(web), judge(tcpV4(rst, 5, 0))),
		vector("judge/syn-ack", tables(web), judge(tcpV4(syn|ack, 5, 5))),
		vector("judge/fin", tables(web), judge(tcpV4(fin|ack, 5, 5))),
		vector("judge/then syn", tables(web), judge(ackV4(5, 5)), mine(synV4()).after(1)),
	}
}

// A table of one bucket.
func fullVectors() []Vector {
	web, dns := svc(lb.TCP, webV4, a1), svc(lb.UDP, dnsV4, a1)
	small := func(v Vector) Vector {
		v.Settings.FlowBuckets = 1
		return v
	}
	client := func(i int) string { return fmt.Sprintf("198.51.100.%d:%d", 10+i, 1000+i) }
	query := func(i int) packettest.Frame { return packettest.UDP(client(i), dnsV4, "query") }
	full := small(vector("full/established flows stay", tables(dns)))
	flood := small(vector("full/half-open flows make way", tables(web, dns)))
	for i := range 8 {
		full.Steps = append(full.Steps, fresh(query(i)), reply(lb.UDP, dnsV4, client(i), nil))
	}
	full.Steps = append(full.Steps, in(query(8), forward.FlowsFull).after(1), mine(query(0)).after(2),
		fresh(query(8)).after(2683)) // but for the first all are dead
	for i := range 3 {
		flood.Steps = append(flood.Steps, fresh(query(i)), reply(lb.UDP, dnsV4, client(i), nil))
	}
	for i := range 40 {
		f := packettest.TCP(fmt.Sprintf("203.0.113.%d:%d", i, 2000+i), webV4, syn)
		flood.Steps = append(flood.Steps, fresh(f).after(uint32(i)))
	}
	for i := range 3 {
		flood.Steps = append(flood.Steps, mine(query(i)).after(50))
	}
	return []Vector{full, flood}
}

// What changes under living flows.
func changeVectors() []Vector {
	web := svc(lb.TCP, webV4, a1)
	replaced := svc(lb.TCP, webV4, a2, "-"+a1)
	other := packettest.TCP("198.51.100.8:40000", webV4, syn)
	toA2 := func(f packettest.Frame, reason forward.Reason) Step { return in(f, reason, delivered(f, a2)) }
	moved := svc(lb.TCP, webV4, b1, "-"+a1)
	gone := svc(lb.TCP, webV4, a2)
	emptied := local(svc(lb.TCP, webV4, b1))
	dns, dnsOnB := svc(lb.UDP, dnsV4, a1), svc(lb.UDP, dnsV4, b1)
	port := netip.MustParseAddrPort
	stolen := packettest.TCP(a1, clientV4, ack)
	stolen.Src = port(a2)
	return []Vector{
		vector("change/draining keeps its flows", tables(web), append(handshake(),
			mine(ackV4(1001, podISN+1)).syncing(replaced), toA2(other, forward.New), mine(synV4()))...),
		vector("change/all draining keep their flows", tables(web), append(handshake(),
			mine(ackV4(1001, podISN+1)).syncing(svc(lb.TCP, webV4, "-"+a1)), reset(other, rst|ack, 0, 1001), webReply(ack, podISN+1, 1001),
			in(tunnel(ackV4(1001, podISN+1), 0, tags(a1)), forward.Mine, fromTunnel(ackV4(1001, podISN+1), a1)),
			toA2(other, forward.New).syncing(replaced))...),
		vector("change/what nobody knows is judged though all drain", tables(svc(lb.TCP, webV4, "-"+a1)),
			in(ackV4(1001, podISN+1), forward.Judge, delivered(ackV4(1001, podISN+1), a1))),
		vector("change/datagrams stay though all drain", tables(dns),
			fresh(queryV4()), reply(lb.UDP, dnsV4, clientV4, nil),
			mine(queryV4()).syncing(svc(lb.UDP, dnsV4, "-"+a1)).after(1),
			unreachable(packettest.UDP("198.51.100.8:40000", dnsV4, "query")).after(1)),
		vector("change/a dead pod's flows are judged", tables(web), append(handshake(),
			toA2(ackV4(1001, podISN+1), forward.Judge).syncing(gone),
			out(packettest.TCP(a1, clientV4, ack), forward.NotReply))...),
		vector("change/a gone pod's datagrams get another at once", tables(dns),
			fresh(queryV4()), reply(lb.UDP, dnsV4, clientV4, nil),
			toA2(queryV4(), forward.New).syncing(svc(lb.UDP, dnsV4, a2)).after(1),
			out(packettest.UDP(a1, clientV4, "answer"), forward.NotReply).after(1), toA2(queryV4(), forward.Mine).after(2)),
		vector("change/a gone pod's datagrams go to another node at once", tables(dns),
			fresh(queryV4()), reply(lb.UDP, dnsV4, clientV4, nil),
			in(queryV4(), forward.EncapHome, encapped(queryV4(), nodeB, 0, tableHash(dnsOnB), tags(b1)).Bytes()).syncing(dnsOnB).after(1),
			in(tunnel(queryV4(), 0, tags(a1)), forward.NotLocal).after(1)), // from a node that does not know yet
		vector("change/datagrams stay with a draining pod", tables(dns),
			fresh(queryV4()), reply(lb.UDP, dnsV4, clientV4, nil),
			mine(queryV4()).syncing(svc(lb.UDP, dnsV4, a2, "-"+a1)).after(1),
			toA2(packettest.UDP("198.51.100.8:40000", dnsV4, "query"), forward.New).after(1),
			toA2(queryV4(), forward.New).syncing(svc(lb.UDP, dnsV4, a2)).after(2)),
		vector("change/slot moved away, flow stays at the ingress", tables(web), append(handshake(),
			in(ackV4(1001, podISN+1), forward.EncapHome,
				encapped(ackV4(1001, podISN+1), nodeB, 0, tableHash(moved), tags(b1, a1)).Bytes()).syncing(moved),
			// and comes back by way of the past.
			in(tunnel(ackV4(1001, podISN+1), 1, tags(b1, a1)), forward.Mine, fromTunnel(ackV4(1001, podISN+1), a1)),
			in(tunnel(synV4(), 1, tags(b1, a1)), forward.Mine, fromTunnel(synV4(), a1)),
			webReply(ack, podISN+1, 1001))...),
		vector("change/the last local one left", tables(local(web)), append(handshake(),
			in(ackV4(1001, podISN+1), forward.NoLocalBackends).syncing(emptied))...),
		vector("change/another pod may not answer", tables(svc(lb.TCP, webV4, a1), svc(lb.TCP, "192.0.2.1:81", a2)),
			append(handshake(), out(stolen, forward.NoFlow))...),
		vector("change/past is forgotten", append(tables(svc(lb.TCP, webV4, b1)), table(svc(lb.TCP, webV4, a1, "-"+b1))),
			in(synV4(), forward.EncapPast,
				encapped(synV4(), nodeB, 1, tableHash(web), tags(a1, b1)).Bytes()),
			fresh(synV4()).syncing(svc(lb.TCP, webV4, a1))),
	}
}

// ClientIP affinity.
func affinityVectors() []Vector {
	const ticks = 100
	affine := func(s lb.Service) lb.Service { return withAffinity(s, ticks*dataplane.Tick) }
	web, dns := affine(svc(lb.TCP, webV4, a1, a2, b1)), affine(svc(lb.UDP, dnsV4, a1, a2))
	draining := affine(svc(lb.TCP, webV4, "-"+a1, a2, b1))
	onlyA1 := affine(svc(lb.TCP, webV4, a1))
	second := packettest.TCP("198.51.100.7:40001", webV4, syn)
	came := func(f packettest.Frame, reason forward.Reason, pod string) Step {
		return in(tunnel(f, 0, tags(a2)), reason, fromTunnel(f, pod))
	}
	late := second
	late.Flags, late.Ack = ack, 5
	opened := []Step{
		in(tunnel(synV4(), 0, tags(a1)), forward.New, fromTunnel(synV4(), a1)),
		webReply(syn|ack, podISN, 1001),
		in(tunnel(ackV4(1001, podISN+1), 0, tags(a1)), forward.Mine, fromTunnel(ackV4(1001, podISN+1), a1)),
	}
	with := func(steps ...Step) []Step { return append(opened[:len(opened):len(opened)], steps...) }
	query := packettest.UDP("198.51.100.7:40001", dnsV4, "query")
	return []Vector{
		vector("affinity/remembered", tables(web), with(came(second, forward.Affinity, a1))...),
		vector("affinity/last tick", tables(web), with(came(second, forward.Affinity, a1).after(ticks))...),
		vector("affinity/over", tables(web), with(came(second, forward.New, a2).after(ticks+1))...),
		vector("affinity/not established yet", tables(web), opened[0], opened[1], came(second, forward.New, a2)),
		vector("affinity/not for what begins no flow", tables(web), with(came(late, forward.Judge, a2))...),
		vector("affinity/not for another client", tables(web), with(
			came(packettest.TCP("198.51.100.8:40000", webV4, syn), forward.New, a2))...),
		vector("affinity/not to a draining one", tables(web), with(came(second, forward.New, a2).syncing(draining))...),
		vector("affinity/not to a gone one", tables(web), with(came(second, forward.New, a2).syncing(affine(svc(lb.TCP, webV4, a2, b1))))...),
		vector("affinity/off", tables(svc(lb.TCP, webV4, a1, a2, b1)), with(came(second, forward.New, a2))...),
		vector("affinity/not terminal either", tables(web), with(
			in(tunnel(second, 4, tags(a2)), forward.Affinity, fromTunnel(second, a1)))...),
		vector("affinity/udp", tables(dns),
			in(tunnel(queryV4(), 0, tags(a1)), forward.New, fromTunnel(queryV4(), a1)),
			reply(lb.UDP, dnsV4, clientV4, nil),
			in(tunnel(query, 0, tags(a2)), forward.Affinity, fromTunnel(query, a1))),
		vector("affinity/established by the pod", tables(onlyA1), fresh(synV4()), webReply(ack, 1, 1001),
			in(second, forward.Affinity, delivered(second, a1)).after(1)),
	}
}
