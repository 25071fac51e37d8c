// SPDX-License-Identifier: Apache-2.0

package forwardtest

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/dataplane"
	"github.com/fairlead/fairlead/lb/flow"
	"github.com/fairlead/fairlead/lb/forward"
	"github.com/fairlead/fairlead/lb/maglev"
	"github.com/fairlead/fairlead/lb/packet"
	"github.com/fairlead/fairlead/lb/packet/packettest"
)

// Random is a story of so many steps that was made up with rnd. What it wants
// is what lb/forward does: it is for comparing another datapath with that.
func Random(t testing.TB, rnd *rand.Rand, steps int) Vector {
	t.Helper()
	v := vector(fmt.Sprintf("random/%x", rnd.Uint64()), nil)
	s := storyteller{Rand: rnd, tick: start, keys: map[uint32]lb.ServiceKey{}}
	v.Settings = pick(&s, // few, for programs have to be loaded for each
		settingsWith(16, selfV4, selfV6), settingsWith(16, selfV4, selfV6), settingsWith(1, selfV4, selfV6),
		settingsWith(1, selfV4), settingsWith(16, selfV6))
	s.twin, s.self = NewTwin(t, v.Settings), v.Settings.InternalIPs
	first := s.table()
	v.Tables, v.Adopt = []*lb.Table{first}, s.oneIn(2)
	plane := v.syncAll(t, s.twin.Maps(), &s.tick)
	for range s.IntN(6) {
		r := s.redirect()
		v.Redirects = append(v.Redirects, r)
		v.register(t, s.twin.Forwarder.Flows(), plane, s.twin.Maps(), r, start)
	}
	for i := range steps {
		if i > 0 { // all was set up at the first one's tick
			s.advance()
		}
		step := s.step()
		if err := step.prepare(plane, s.twin); err != nil {
			t.Fatal(err)
		}
		step.want(s.twin)
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
	self []netip.Addr // the node's
	tick uint32
	keys map[uint32]lb.ServiceKey // of all services by their tags
	// rest are packets that belong to an earlier one: they come later, in any
	// order, or never.
	rest []Step
}

func pick[T any](s *storyteller, choices ...T) T { return choices[s.IntN(len(choices))] }

// oneIn is true once in n times.
func (s *storyteller) oneIn(n int) bool { return s.IntN(n) == 0 }

// More ways to the same Pods, by other ports and another VIP.
const (
	web81        = "192.0.2.1:81"
	web2V4       = "192.0.2.2:80"
	dns2V4       = "192.0.2.2:53"
	web2V6       = "[2001:db8::2]:80"
	dns2V6       = "[2001:db8::2]:53"
	vip2V4       = "192.0.2.2"
	vip2V6       = "2001:db8::2"
	affinityTime = 1000 * dataplane.Tick
)

// table is a new state. The services that redirects are for are always there,
// the others mostly.
func (s *storyteller) table() *lb.Table {
	v4, v6 := []string{a1, a2, b1, c1, d1}, []string{a1v6, b1v6}
	services := []lb.Service{svc(lb.TCP, webV4, s.pods(v4)...), svc(lb.UDP, dnsV6, s.pods(v6)...)}
	for _, other := range []lb.Service{
		svc(lb.TCP, web81, s.pods(v4)...), svc(lb.UDP, dnsV4, s.pods(v4)...), svc(lb.TCP, webV6, s.pods(v6)...),
		svc(lb.TCP, web2V4, s.pods(v4)...), svc(lb.UDP, dns2V4, s.pods(v4)...),
		svc(lb.TCP, web2V6, s.pods(v6)...), svc(lb.UDP, dns2V6, s.pods(v6)...),
	} {
		if !s.oneIn(12) {
			services = append(services, other)
		}
	}
	for i := range services {
		services[i] = s.varied(services[i])
		if i > 1 && s.oneIn(10) {
			services[i] = lb.Service{Key: services[i].Key, Left: true}
		}
		s.keys[services[i].Key.Tag()] = services[i].Key
	}
	return table(services...)
}

// varied is a service that may be unlike most others.
func (s *storyteller) varied(service lb.Service) lb.Service {
	if s.oneIn(4) {
		service = withAffinity(service, affinityTime)
	}
	if s.oneIn(8) {
		service = local(service)
		if s.oneIn(2) { // none of its Pods is here
			service.Backends = slices.DeleteFunc(service.Backends, func(b lb.Backend) bool { return b.Node == "a" })
		}
	}
	if s.oneIn(8) {
		for i := range service.Backends {
			service.Backends[i].Draining = true
		}
	}
	if s.oneIn(10) {
		service = withRanges(service, "198.51.100.0/32", "2001:db8:1::/126") // some of the clients
	}
	if s.oneIn(8) {
		service = sized(service, maglev.Sizes[1])
	}
	if s.oneIn(4) {
		for i := range service.Backends {
			service.Backends[i].Weight = pick[uint16](s, 1, 2, 5)
		}
	}
	return service
}

// redirect is a stray that was registered before the story begins.
func (s *storyteller) redirect() Redirect {
	r := Redirect{Client: s.client(false), Service: serviceKey(lb.TCP, webV4), Node: pick(s, "b", "c", "d"), Until: start + s.Uint32N(10_000)}
	if s.oneIn(3) {
		r.Client, r.Service = s.client(true), serviceKey(lb.UDP, dnsV6)
	}
	return r
}

// pods are some of those given, the first two more often than the others.
func (s *storyteller) pods(all []string) []string {
	if s.oneIn(8) {
		return nil
	}
	var pods []string
	for i, p := range all {
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

// advance lets time go by: mostly none, and now and then as much as somebody
// waits for, or a tick more.
func (s *storyteller) advance() {
	s.tick += pick[uint32](s, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 10, 50, 200)
	if s.oneIn(40) {
		s.tick += pick[uint32](s, flow.TimeoutTCPClosed, flow.FragmentTicks, 1000,
			flow.TimeoutTCPHalfOpen, flow.TimeoutTCPFin, flow.TimeoutUDPHalfOpen, flow.TimeoutUDPEstablished, forward.PathMTUTicks)
		s.tick += s.Uint32N(2)
	}
}

func (s *storyteller) step() Step {
	step := s.packet()
	step.Tick = s.tick
	if s.oneIn(30) {
		step.Table = s.table()
	}
	step.EndAdoption = s.oneIn(200)
	if s.oneIn(20) {
		step.Conntrack = s.conntrack()
	}
	if s.oneIn(12) {
		step.Packet[s.IntN(len(step.Packet))] ^= 1 << s.IntN(8)
	}
	if s.oneIn(25) {
		step.Packet = step.Packet[:packet.EthernetLen+1+s.IntN(len(step.Packet)-packet.EthernetLen)]
	}
	return step
}

// packet is the next one, perhaps one that was left.
func (s *storyteller) packet() Step {
	if len(s.rest) > 0 && !s.oneIn(3) {
		i := s.IntN(len(s.rest))
		step := s.rest[i]
		s.rest[i] = s.rest[len(s.rest)-1]
		s.rest = s.rest[:len(s.rest)-1]
		return step
	}
	all := s.packets()
	s.rest = append(s.rest, all[1:]...)
	return all[0]
}

// packets are one packet, or the fragments of one.
func (s *storyteller) packets() []Step {
	switch s.IntN(12) {
	case 0, 1, 2:
		return s.sent(In, s.fragmented(s.odd(s.request())), nil)
	case 3, 4, 5:
		return s.arrivals(s.fragmented(s.untagged(s.odd(s.request()))))
	case 6:
		return s.sent(In, s.fragmented(s.odd(s.ping())), nil)
	case 7:
		if s.oneIn(2) {
			return s.arrivals([]packettest.Frame{s.untagged(s.odd(s.errorIn()))})
		}
		return s.sent(In, []packettest.Frame{s.odd(s.errorIn())}, nil)
	case 8:
		if s.oneIn(3) {
			return s.sent(In, []packettest.Frame{s.tunnelError()}, nil)
		}
		return s.replied([]packettest.Frame{s.odd(s.errorOut())})
	default:
		return s.replied(s.fragmented(s.odd(s.reply())))
	}
}

// sent are frames that come or leave, each packed by wrap unless that is nil.
func (s *storyteller) sent(way Way, frames []packettest.Frame, wrap func(packettest.Frame) framer) []Step {
	var steps []Step
	for _, f := range frames {
		step := Step{Way: way, Packet: f.Bytes()}
		if wrap != nil {
			step.Packet = wrap(f).Bytes()
		}
		steps = append(steps, step)
	}
	return steps
}
