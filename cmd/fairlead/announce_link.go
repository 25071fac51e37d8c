// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/fairlead/fairlead/announce"
	"github.com/fairlead/fairlead/announce/ability"
	"github.com/fairlead/fairlead/announce/elect"
	"github.com/fairlead/fairlead/announce/l2"
	"github.com/fairlead/fairlead/announce/l2/ether"
	"github.com/fairlead/fairlead/announce/members"
	"github.com/fairlead/fairlead/controller/watch/kube"
)

// link answers by ARP and NDP for VIPs that this node is elected for among the
// nodes that live. It opens nothing before an L2Advertisement is there. Its
// methods are the announcer's goroutine's, but for report.
type link struct {
	port    uint16
	node    string
	log     *slog.Logger
	changed func() // interfaces or members

	wanted  bool
	drained bool // leave all VIPs to the other nodes
	plan    announce.Plan
	keys    [][]byte
	bind    netip.AddrPort
	nodes   []members.Node
	since   map[netip.Addr]string
	ability ability.Ability

	responder *l2.Responder
	members   *members.Members
	bound     netip.AddrPort // of members
	known     []members.Node // to members
	saying    latest[[]byte] // what the others are told
	stop      context.CancelFunc
	said      chan struct{} // saying has ended

	electorate electorate
	elected    map[netip.Addr]election

	answers  []l2.Answer
	answered map[netip.Addr]bool
	yielding map[netip.Addr]time.Time
}

func newLink(port uint16, node string, log *slog.Logger, changed func()) *link {
	return &link{port: port, node: node, log: log, changed: changed, yielding: map[netip.Addr]time.Time{}}
}

// elections are who answers for which VIP.
type elections struct {
	err       error // of opening and answering
	winners   map[netip.Addr]election
	responder *l2.Responder    // nil: not open
	members   *members.Members // likewise
}

// election is one of a VIP.
type election struct {
	Winner string // "": none
	Why    string // why there is none

	of    *announce.L2
	since string
}

// electorate is what all elections go by: while it is the same, only those are
// held anew whose VIP changed, for with many nodes they take their time.
type electorate struct {
	live []string
	meta map[string]string // that nodes told
}

func (e electorate) equal(o electorate) bool {
	return slices.Equal(e.live, o.live) && maps.Equal(e.meta, o.meta)
}

// set takes over what is to be answered for. Nothing happens before elect.
func (k *link) set(plan announce.Plan, t tables, facts kube.Announcing, held map[netip.Addr]bool, since map[netip.Addr]string, wanted bool) {
	k.wanted = k.wanted || wanted
	k.plan, k.keys, k.since = plan, memberKeys(t.keys), since
	k.bind, k.nodes = netip.AddrPort{}, nil
	if len(t.addrs) > 0 {
		k.bind = netip.AddrPortFrom(t.addrs[0], k.port)
		k.nodes = memberNodes(facts.Nodes, k.node, k.bind)
	}
	k.ability = ability.Ability{Version: t.version}
	for _, v := range plan.VIPs {
		if !held[v.Addr] {
			k.ability.Unable = append(k.ability.Unable, v.Addr)
		}
	}
}

// memberKeys are derived from those for the wire (RFC 5869): the first one is
// sent, all are accepted, as nodes agreed for these (kube.Rotation).
func memberKeys(wire [][16]byte) [][]byte {
	var keys [][]byte
	for _, key := range wire {
		derived, err := hkdf.Key(sha256.New, key[:], nil, "fairlead members", 32)
		if err != nil {
			panic(err) // a length that is too large: a mistake of this program
		}
		keys = append(keys, derived)
	}
	return keys
}

// memberNodes are those that have an agent, whether it lives or not, by name.
func memberNodes(all []kube.Node, self string, bind netip.AddrPort) []members.Node {
	nodes := []members.Node{{Name: self, Addr: bind}}
	for _, n := range all {
		if !n.Known || n.Object.Name == self {
			continue
		}
		for _, a := range n.Object.Status.Addresses {
			addr := addressIn(a.Address)
			if a.Type == "InternalIP" && addr.IsValid() && addr.Is4() == bind.Addr().Is4() {
				nodes = append(nodes, members.Node{Name: n.Object.Name, Addr: netip.AddrPortFrom(addr, bind.Port())})
				break
			}
		}
	}
	slices.SortFunc(nodes, func(a, b members.Node) int { return strings.Compare(a.Name, b.Name) })
	return nodes
}

// open opens what is not open, and brings the membership up to date.
func (k *link) open() error {
	if !k.wanted || !k.bind.IsValid() || len(k.keys) == 0 {
		return nil
	}
	if k.responder == nil {
		r, err := l2.Open(l2.Config{Logger: k.log, Lease: lease, Changed: k.changed})
		if err != nil {
			return err
		}
		k.responder = r
	}
	if k.members != nil && k.bound != k.bind {
		if err := k.closeMembers(); err != nil {
			return err
		}
	}
	if k.members == nil {
		m, err := members.Open(members.Config{Name: k.node, Bind: k.bind, Keys: k.keys, Logger: k.log, Changed: k.changed})
		if err != nil {
			return err
		}
		ctx, stop := context.WithCancel(context.Background())
		k.members, k.bound, k.stop, k.said = m, k.bind, stop, make(chan struct{})
		k.saying = newLatest[[]byte](renewInterval)
		saying, said := &k.saying, k.said
		go func() {
			defer close(said)
			saying.run(ctx, func(_ context.Context, meta []byte) error { return m.SetMeta(meta) })
		}()
	}
	if !slices.Equal(k.known, k.nodes) { // each time it joins those that are missing
		k.members.SetNodes(k.nodes)
		k.known = k.nodes
	}
	return k.members.SetKeys(k.keys)
}

func (k *link) closeMembers() error {
	k.stop()
	<-k.said
	err := k.members.Close()
	k.members, k.known = nil, nil
	return err
}

// elect decides who answers for each VIP, and answers for those of this node.
func (k *link) elect(ctx context.Context) elections {
	e := elections{err: k.open(), winners: map[netip.Addr]election{}, responder: k.responder, members: k.members}
	if k.responder == nil || k.members == nil {
		return e
	}
	interfaces := k.responder.Report().Interfaces
	own := k.own(interfaces)
	ownMeta, err := own.Append(nil, k.node)
	if err != nil {
		e.err = errors.Join(e.err, err)
		return e
	}
	k.saying.set(ownMeta)

	live, quorum := k.members.Set()
	told, meta := map[string]ability.Told{}, map[string]string{}
	var fellows []ether.MAC
	report := k.members.Report()
	for _, m := range report.Members {
		if m.Name == k.node {
			m.Meta = ownMeta // the newest
		}
		t, err := ability.Parse(m.Name, m.Meta)
		if err != nil {
			e.err = errors.Join(e.err, fmt.Errorf("node %q: %w", m.Name, err))
		}
		meta[m.Name] = string(m.Meta)
		if told[m.Name] = t; m.Name != k.node {
			fellows = append(fellows, t.MACs...)
		}
	}
	for _, m := range report.Gone { // or called so for a moment, by stale gossip
		t, _ := ability.Parse(m.Name, m.Meta) // told above, when it was a member
		fellows = append(fellows, t.MACs...)
	}
	k.responder.SetFellows(fellows)
	if now := (electorate{live, meta}); !now.equal(k.electorate) {
		k.electorate, k.elected = now, nil
	}
	k.elected = electAll(k.plan, live, told, k.since, k.elected)
	e.winners = k.elected
	if !quorum {
		e.winners = map[netip.Addr]election{}
		for vip := range k.elected {
			e.winners[vip] = election{Why: fmt.Sprintf("this node sees %d of %d nodes, and must leave it to the others", len(live), len(k.nodes))}
		}
	}
	k.answer(e.winners, quorum, time.Now())
	e.err = errors.Join(e.err, k.responder.Sync(ctx, k.answers))
	return e
}

// own is what this node is able to, with the interfaces as they are.
func (k *link) own(interfaces []l2.Interface) ability.Ability {
	own := k.ability
	if k.drained {
		own = ability.Ability{}
	}
	own.Unable = slices.Clip(own.Unable)
	for _, v := range k.plan.VIPs {
		if v.L2 == nil {
			continue
		}
		answer := l2.Answer{VIP: v.Addr, Interfaces: v.L2.Interfaces}
		if !answer.Able(interfaces) {
			own.Unable = append(own.Unable, v.Addr)
		}
	}
	for _, i := range interfaces {
		if slices.ContainsFunc(i.Addrs, func(p netip.Prefix) bool { return !p.Addr().IsLinkLocalUnicast() }) {
			own.MACs = append(own.MACs, i.MAC)
		}
	}
	return own
}

// electAll elects a node for each VIP that this one may answer for. before are
// elections of the same electorate.
func electAll(plan announce.Plan, live []string, told map[string]ability.Told, since map[netip.Addr]string, before map[netip.Addr]election) map[netip.Addr]election {
	winners, lives := map[netip.Addr]election{}, map[string]bool{}
	for _, name := range live {
		lives[name] = true
	}
	for _, v := range plan.VIPs {
		if v.L2 == nil {
			continue
		}
		if old, held := before[v.Addr]; held && old.since == since[v.Addr] && old.of.Key == v.L2.Key && slices.Equal(old.of.Candidates, v.L2.Candidates) {
			winners[v.Addr] = old
			continue
		}
		var nodes []elect.Node
		for _, c := range v.L2.Candidates {
			nodes = append(nodes, elect.Node{
				Name: c.Node, Live: lives[c.Node], Serving: true,
				Able: told[c.Node].Able(v.Addr, since[v.Addr]), Weight: int64(c.Weight),
			})
		}
		result := election{of: v.L2, since: since[v.Addr]}
		standings := elect.Elect(v.L2.Key, nodes)
		var ok bool
		if result.Winner, ok = elect.Winner(standings); !ok {
			var why []string
			for _, s := range standings {
				why = append(why, fmt.Sprintf("node %q %s", s.Node, s.Reason))
			}
			result.Why = strings.Join(why, "; ")
		}
		winners[v.Addr] = result
	}
	return winners
}

// answer makes the set of answers: those of VIPs that this node is elected for,
// and those that it answered for until now and leaves to another one that lives.
func (k *link) answer(winners map[netip.Addr]election, quorum bool, now time.Time) {
	answered := map[netip.Addr]bool{}
	k.answers = nil
	for _, v := range k.plan.VIPs {
		w := winners[v.Addr]
		if v.L2 == nil || w.Winner == "" || !quorum {
			delete(k.yielding, v.Addr)
			continue
		}
		yield := w.Winner != k.node
		if !yield {
			answered[v.Addr] = true
			delete(k.yielding, v.Addr)
		} else if k.answered[v.Addr] {
			k.yielding[v.Addr] = now
		}
		if at, ok := k.yielding[v.Addr]; yield && (!ok || now.Sub(at) >= l2.HandOverTime) {
			delete(k.yielding, v.Addr)
			continue
		}
		k.answers = append(k.answers, l2.Answer{VIP: v.Addr, Interfaces: v.L2.Interfaces, Yield: yield})
	}
	for vip := range k.yielding {
		if _, known := winners[vip]; !known {
			delete(k.yielding, vip)
		}
	}
	k.answered = answered
}

// renew has the answers go on for another lease; false says that there is an
// election to be held instead.
func (k *link) renew(ctx context.Context) bool {
	if k.responder == nil || k.members == nil {
		return !k.wanted
	}
	if _, quorum := k.members.Set(); !quorum || len(k.yielding) > 0 {
		return false
	}
	return k.responder.Sync(ctx, k.answers) == nil
}

// leave hands over to the other nodes and gives everything back.
func (k *link) leave(ctx context.Context) error {
	var errs []error
	if k.responder != nil && k.members != nil {
		errs = append(errs, k.responder.HandOver(ctx, k.members.Leave))
	}
	if k.responder != nil {
		errs = append(errs, k.responder.Close())
	}
	if k.members != nil {
		errs = append(errs, k.closeMembers())
	}
	return errors.Join(errs...)
}

// onLink says whether addresses are in a network of this node's interfaces.
func onLink() func(netip.Addr) bool {
	var networks []netip.Prefix
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		addrs = nil // then none is
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			networks = append(networks, p.Masked())
		}
	}
	return func(addr netip.Addr) bool {
		return addr.IsLinkLocalUnicast() || slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(addr) })
	}
}
