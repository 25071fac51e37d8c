// SPDX-License-Identifier: Apache-2.0

package forwardtest

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/forward"
	"github.com/fairlead/fairlead/lb/packet"
	"github.com/fairlead/fairlead/lb/packet/packettest"
)

// Connection is one that the kernel's connection tracking knows.
type Connection struct {
	Client  netip.AddrPort
	Service lb.ServiceKey
	Kind    ConnectionKind
}

// ConnectionKind says what a Connection is.
type ConnectionKind uint8

// The kinds. Of these, a datapath leaves the first to kube-proxy.
const (
	Translated ConnectionKind = iota // its packets go on to a Pod
	Direct                           // nobody changes its packets
	Ended                            // as Translated, but TCP, and both ends closed it
	Backwards                        // it began at the VIP, and what it was sent to becomes the client
)

// String is the identifier.
func (k ConnectionKind) String() string {
	return [...]string{"Translated", "Direct", "Ended", "Backwards"}[k]
}

// SetConntrack implements Datapath.
func (w *Twin) SetConntrack(connections []Connection) error {
	w.connections = map[forward.Connection]bool{}
	for _, c := range connections {
		w.connections[forward.Connection{
			Client: packet.AddrOf(c.Client.Addr()), VIP: packet.AddrOf(c.Service.VIP),
			ClientPort: c.Client.Port(), ServicePort: c.Service.Port, Proto: uint8(c.Service.Proto),
		}] = c.Kind == Translated
	}
	return nil
}

// connection is one of the vectors' world.
func connection(kind ConnectionKind, client string, proto lb.Proto, addr string) Connection {
	return Connection{Client: netip.MustParseAddrPort(client), Service: serviceKey(proto, addr), Kind: kind}
}

func connectionsSource(all []Connection) string {
	var list []string
	for _, c := range all {
		list = append(list, fmt.Sprintf("connection(%s, %q, %s)", c.Kind, c.Client, keySource(c.Service)))
	}
	return "Conntrack: []Connection{" + strings.Join(list, ", ") + "}"
}

// conntrack are some connections of the clients that there are.
func (s *storyteller) conntrack() []Connection {
	list := []Connection{}
	taken := map[Connection]bool{}
	for range s.IntN(12) {
		v6, proto := s.oneIn(3), pick(s, lb.TCP, lb.UDP)
		client, addr := fmt.Sprintf("198.51.100.%d:%d", s.IntN(2), 40000+s.IntN(3)), s.vip(v6)
		if v6 {
			client = fmt.Sprintf("[2001:db8:1::%d]:%d", 2+3*s.IntN(2), 40000+s.IntN(3))
		}
		if proto == lb.UDP {
			addr = s.dns(v6)
		}
		c := connection(Translated, client, proto, addr)
		if taken[c] {
			continue
		}
		taken[c] = true
		c.Kind = pick(s, Translated, Translated, Translated, Direct, Backwards)
		if proto == lb.TCP && s.oneIn(5) {
			c.Kind = Ended
		}
		list = append(list, c)
	}
	return list
}

// knowing changes what conntrack knows before the step.
func (s Step) knowing(connections ...Connection) Step {
	s.Conntrack = append([]Connection{}, connections...)
	return s
}

// adopting makes the vector's services ones that were taken over.
func (v Vector) adopting() Vector {
	v.Adopt = true
	return v
}

// Connections that kube-proxy has when its services are taken over.
func adoptVectors() []Vector { return append(inBoth(adoptFamily), inBoth(adoptChanges)...) }

func adoptFamily(w family) []Vector {
	both := tables(svc(lb.TCP, w.web, w.local), svc(lb.UDP, w.dns, w.local))
	tcp, udp := connection(Translated, w.client, lb.TCP, w.web), connection(Translated, w.client, lb.UDP, w.dns)
	f, opens := w.query(100), in(w.tcp(syn), forward.New, delivered(w.tcp(syn), w.local))
	first := in(f, forward.New, delivered(f, w.local))
	other := connection(Translated, withPort(f, 7).Src.String(), lb.UDP, w.dns)
	e, dying, nobody := w.kinds()[0], f, from(f, w.loopback)
	dying.TTL = 1
	kind := func(k ConnectionKind) Step {
		c := tcp
		c.Kind = k
		return opens.knowing(c, other)
	}
	judged := in(w.tcp(ack), forward.Judge, delivered(w.tcp(ack), w.local))
	fromNode := in(tunnelFrom(w.tcp(syn), 0, w.local), forward.New, fromTunnel(w.tcp(syn), w.local))
	ranged := withRanges(svc(lb.TCP, w.web, w.local), "203.0.113.0/24")
	if w.noFragment {
		ranged = withRanges(svc(lb.TCP, w.web, w.local), "2001:db8:9::/48")
	}
	return []Vector{
		w.vector("adopt/tcp", both, in(w.tcp(ack), forward.Conntracked).knowing(tcp), in(w.tcp(syn), forward.Conntracked),
			in(w.tcp(rst), forward.Conntracked), in(withPort(w.tcp(syn), 7), forward.New, delivered(withPort(w.tcp(syn), 7), w.local)),
			first, judged.knowing()).adopting(),
		w.vector("adopt/udp", both, in(f, forward.Conntracked).knowing(udp), in(dying, forward.Conntracked), opens, first.knowing(tcp)).adopting(),
		w.vector("adopt/fragments", both, append(append([]Step{in(three(f)[1], forward.Fragment).knowing(udp)},
			dropped(forward.Conntracked, three(f)...)...), pieces(withPort(f, 7), w.local, forward.New, forward.Mine)...)...).adopting(),
		w.vector("adopt/errors", both, in(e(w.reply(false)), forward.Conntracked).knowing(tcp), in(e(w.reply(true)), forward.ICMPOrphan)).adopting(),
		w.vector("adopt/nobody's client", both, in(nobody, forward.Martian).knowing(udp),
			in(nobody, forward.Conntracked).knowing(connection(Translated, w.loopback, lb.UDP, w.dns))).adopting(),
		w.vector("adopt/source ranges", tables(ranged), in(w.tcp(ack), forward.Conntracked).knowing(tcp),
			in(w.tcp(ack), forward.SourceRange).knowing()).adopting(),
		w.vector("adopt/not translated", both, kind(Direct)).adopting(),
		w.vector("adopt/ended", both, kind(Ended)).adopting(),
		w.vector("adopt/of the VIP itself", both, kind(Backwards)).adopting(),
		w.vector("adopt/of another protocol", tables(svc(lb.UDP, w.web, w.local)),
			in(packettest.UDP(w.client, w.web, "x"), forward.New, delivered(packettest.UDP(w.client, w.web, "x"), w.local)).knowing(tcp)).adopting(),
		w.vector("adopt/by tunnel", both, fromNode.knowing(tcp)).adopting(),
	}
}

// adoptChanges are services that come and go, and adoptions that end.
func adoptChanges(w family) []Vector {
	web, dns := svc(lb.TCP, w.web, w.local), svc(lb.UDP, w.dns, w.local)
	udp := connection(Translated, w.client, lb.UDP, w.dns)
	f := w.query(5)
	ours := in(f, forward.New, delivered(f, w.local))
	known := in(f, forward.Conntracked)
	ended := ours
	ended.EndAdoption = true
	return []Vector{
		w.vector("adopt/not at all", tables(web, dns), ours.knowing(udp)),
		w.vector("adopt/ends", tables(web, dns), known.knowing(udp), ended, in(f, forward.UnknownPort).syncing(web), known.syncing(web, dns)).adopting(),
		w.vector("adopt/stays over changes", tables(web, dns), known.knowing(udp), known.syncing(web, svc(lb.UDP, w.dns, w.remote)),
			known.syncing(svc(lb.UDP, w.dns))).adopting(),
		w.vector("adopt/after it was left", tables(web, left(lb.UDP, w.dns)), in(f, forward.Left).knowing(udp),
			known.syncing(web, dns), in(f, forward.Left).syncing(web, left(lb.UDP, w.dns)), ours.syncing(web, dns).knowing()).adopting(),
	}
}
