// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/fairlead/fairlead/announce"
	"github.com/fairlead/fairlead/announce/bfd"
	"github.com/fairlead/fairlead/announce/bgp"
	announcekube "github.com/fairlead/fairlead/announce/kube"
	"github.com/fairlead/fairlead/announce/members"
	configs "github.com/fairlead/fairlead/controller/config"
	"github.com/fairlead/fairlead/controller/watch/kube"
	"github.com/fairlead/fairlead/lb"
)

// announceFlags are the flags of an agent that announces.
type announceFlags struct {
	on          bool
	membersPort uint16
	bgpPort     uint16 // 0: none
}

func (f *announceFlags) register(flags *flag.FlagSet) {
	f.membersPort = members.DefaultPort
	flags.BoolVar(&f.on, "announce", true, "with --kubernetes: tell the network of VIPs, by BGP, ARP and NDP")
	flags.Func("members-port", fmt.Sprintf("UDP and TCP `PORT` by which agents see who is alive (default %d)", f.membersPort), portFlag(&f.membersPort, 1))
	flags.Func("bgp-listen", "TCP `PORT` where BGP peers may connect, too; 0: none (default 0)", portFlag(&f.bgpPort, 0))
}

func portFlag(port *uint16, least uint64) func(string) error {
	return func(s string) error {
		n, err := strconv.ParseUint(s, 10, 16)
		if err != nil || n < least {
			return fmt.Errorf("want %d to 65535", least)
		}
		*port = uint16(n)
		return nil
	}
}

// Tuning.
const (
	// lease is how long answers go on without this process: less than others need
	// to find out that it does not run.
	lease = 1500 * time.Millisecond
	// renewInterval is how often they are renewed, and what could not be opened is
	// tried again.
	renewInterval = 500 * time.Millisecond
	// resyncWait is until BGP sessions that could not be made are tried again.
	resyncWait = 5 * time.Second
	// restPerLook times as long as a look at everything took, the next one waits:
	// with many addresses the processor has other things to do, too.
	restPerLook = 9
	// leaveTimeout bounds how long the agent's end waits for others to take over.
	leaveTimeout = 4 * time.Second
	// endTimeout bounds how long it waits for routers to turn to other nodes.
	endTimeout = 10 * time.Second
)

// tables are what the datapath has to do with announcing.
type tables struct {
	table    *lb.Table
	err      error // what of it could not be applied
	version  string
	keys     [][16]byte
	addrs    []netip.Addr
	attached bool // programs forward
}

// announcer tells the network what announce.Select says, in a goroutine of its
// own: it never keeps packets from being forwarded. Until everything was heard
// once, and the tables have it, nothing is announced and nothing withdrawn.
type announcer struct {
	flags           announceFlags
	node, namespace string
	cluster         *kube.Watcher
	paths           *bfd.Server
	packets         func() uint64 // that came from the network and went on to other nodes
	log             *slog.Logger

	news     chan struct{} // to the agent: something else is announced
	replan   chan struct{} // something that Select goes by changed
	reelect  chan struct{} // members or interfaces changed
	sessions chan struct{} // of BGP changed
	speaking latest[sessions]

	// Of run alone.
	last     sessions // that speaking was given
	revision uint64
	read     bool // revision was read
	config   announce.State
	peers    map[string]peering
	held     map[netip.Addr]bool
	since    map[netip.Addr]string // resourceVersion that a VIP was first seen with
	link     *link

	mu      sync.Mutex // of what follows
	tables  tables
	speaker *bgp.Speaker // nil before the first peer
	drain   *drain       // nil: the node announces
	view    announced
	summary summary
}

// announced is what is announced, as questions are answered from it. What its
// fields point to never changes.
type announced struct {
	waiting   string // "": there is a plan
	plan      announce.Plan
	names     map[netip.AddrPort]string // of BGPPeers
	refused   map[string]error          // BGPPeers without a session, and why
	routed    map[netip.Addr]time.Time  // since when there are routes for a VIP
	bgpErr    error
	bfdErr    error
	elections elections
}

func newAnnouncer(f announceFlags, node, namespace string, cluster *kube.Watcher, packets func() uint64, log *slog.Logger) *announcer {
	n := &announcer{
		flags: f, node: node, cluster: cluster, packets: packets, log: log,
		news: make(chan struct{}, 1), replan: make(chan struct{}, 1), reelect: make(chan struct{}, 1), sessions: make(chan struct{}, 1),
		since: map[netip.Addr]string{}, namespace: namespace,
		view: announced{waiting: "nothing was read yet"},
	}
	n.speaking = newLatest[sessions](resyncWait)
	n.link = newLink(f.membersPort, node, log, func() { notify(n.reelect) })
	n.paths = bfd.NewServer(bfd.Options{Log: log, Changed: n.pathChanged})
	return n
}

// applied tells of tables that the datapath has.
func (n *announcer) applied(t tables) {
	n.mu.Lock()
	n.tables = t
	n.mu.Unlock()
	notify(n.replan)
}

// forwards tells whether the datapath's programs are still attached.
func (n *announcer) forwards(attached bool) {
	n.mu.Lock()
	changed := n.tables.attached != attached
	n.tables.attached = attached
	n.mu.Unlock()
	if changed {
		notify(n.replan)
	}
}

// run announces until ctx ends, and hands over then. Routes stay for a router
// that keeps them (RFC 4724): forwarding goes on without the agent.
func (n *announcer) run(ctx context.Context) {
	var group sync.WaitGroup
	group.Go(func() { n.speaking.run(ctx, n.speak) })
	renew := time.NewTicker(renewInterval)
	defer renew.Stop()
	cluster, replan := n.cluster.Announced(), n.replan
	var rested <-chan time.Time
	look := func() {
		begun := time.Now()
		n.look(ctx)
		cluster, replan, rested = nil, nil, time.After(restPerLook*time.Since(begun))
	}
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-cluster:
			look()
		case <-replan:
			look()
		case <-rested:
			cluster, replan = n.cluster.Announced(), n.replan
		case <-n.reelect:
			n.elect(ctx)
		case <-n.sessions:
			n.summarize()
		case <-renew.C:
			n.renew(ctx)
		}
	}
	group.Wait()
	if err := n.leave(context.WithoutCancel(ctx)); err != nil {
		n.log.Error("hand over", "err", err)
	}
}

// leave hands over what the agent's end would take from the network. Routers
// that keep routes meanwhile hear nothing, for forwarding goes on; from others
// routes go as in a drain, and come back with the next agent.
func (n *announcer) leave(ctx context.Context) error {
	patience, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	var group sync.WaitGroup
	var linkErr, bgpErr error
	group.Go(func() { linkErr = n.link.leave(patience) })
	if speaker := n.currentSpeaker(); speaker != nil {
		restarts := n.last.restarts()
		if !restarts {
			bgpErr = n.turnAway(ctx, speaker)
		}
		n.paths.Close()
		bgpErr = errors.Join(bgpErr, speaker.Close(restarts))
	}
	n.paths.Close()
	group.Wait()
	return errors.Join(linkErr, bgpErr)
}

func (n *announcer) change(f func(*announced)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f(&n.view)
}

// look plans anew and has the plan carried out.
func (n *announcer) look(ctx context.Context) {
	n.mu.Lock()
	t := n.tables
	n.mu.Unlock()
	if t.table == nil {
		n.change(func(v *announced) { v.waiting = "the tables do not have the configuration yet" })
		return
	}
	facts, ok := n.cluster.Announcing()
	if !ok {
		n.change(func(v *announced) { v.waiting = "the objects that say what is announced have not been read yet" })
		return
	}
	state := n.state(facts, t)
	plan := announce.Select(state, n.node)
	self := announce.Node{Name: n.node}
	for _, node := range state.Nodes {
		if node.Name == n.node {
			self = node
		}
	}
	s := newSessions(plan, n.peers, self, onLink())
	n.follow(plan, s)
	if d := n.draining(); d != nil {
		s = d.of(s)
	}
	n.link.drained = n.draining() != nil
	n.last = s
	n.speaking.set(s)
	n.link.set(plan, t, facts, n.held, n.since, len(state.L2) > 0)
	n.elect(ctx)
}

// state is what Select goes by. The parts that objects of our own kinds say are
// read when one of these changed; what cannot be used of them stays as it was.
func (n *announcer) state(facts kube.Announcing, t tables) announce.State {
	if !n.read || n.revision != facts.Revision {
		result := configs.Check(facts.Config, n.namespace)
		n.config = announcekube.Config(facts.Config, result, n.namespace, n.config)
		n.peers = peerings(facts.Config, result, n.namespace, n.peers)
		n.revision, n.read = facts.Revision, true
	}
	state := n.config
	for _, node := range facts.Nodes {
		state.Nodes = append(state.Nodes, announcekube.Node(node.Object, node.Attached))
	}
	since := map[netip.Addr]string{}
	for _, s := range facts.Services {
		service := announcekube.Service(s.Object, s.Nodes)
		state.Services = append(state.Services, service)
		for _, vip := range service.VIPs {
			if since[vip] = n.since[vip]; since[vip] == "" {
				since[vip] = s.Object.ResourceVersion
			}
		}
	}
	n.since = since
	n.held = heldVIPs(t, n.held)
	state.Held = n.held
	return state
}

// heldVIPs are those of which the tables have a port at least. A port that could
// not be brought up to date counts where the VIP was held before: it forwards as
// it did.
func heldVIPs(t tables, before map[netip.Addr]bool) map[netip.Addr]bool {
	held := map[netip.Addr]bool{}
	if !t.attached {
		return held
	}
	failed := map[lb.ServiceKey]bool{}
	for _, err := range leaves(t.err) {
		var about *lb.ServiceError
		if errors.As(err, &about) {
			failed[about.Key] = true
		}
	}
	for _, s := range t.table.Services() {
		if !s.Left && (!failed[s.Key] || before[s.Key.VIP]) {
			held[s.Key.VIP] = true
		}
	}
	return held
}

// follow keeps what is reported of a plan.
func (n *announcer) follow(plan announce.Plan, s sessions) {
	now := time.Now()
	n.change(func(v *announced) {
		routed := map[netip.Addr]time.Time{}
		for i := range plan.VIPs {
			vip := &plan.VIPs[i]
			if len(vip.Peers) == 0 {
				continue
			}
			if routed[vip.Addr] = v.routed[vip.Addr]; routed[vip.Addr].IsZero() {
				routed[vip.Addr] = now
			}
		}
		v.waiting, v.plan, v.names, v.refused, v.routed = "", plan, s.names, s.refused, routed
	})
}

// speak is the goroutine of BGP and BFD: taking a session down may take a while.
func (n *announcer) speak(ctx context.Context, s sessions) error {
	speaker := n.currentSpeaker()
	var bgpErr error
	if speaker == nil && len(s.bgp.Peers) > 0 {
		if speaker, bgpErr = bgp.New(n.log, bgp.Options{ListenPort: n.flags.bgpPort, Changed: func() { notify(n.sessions) }}); bgpErr == nil {
			n.mu.Lock()
			n.speaker = speaker
			n.mu.Unlock()
		}
	}
	if speaker != nil {
		bgpErr = speaker.Sync(ctx, s.bgp)
	}
	bfdErr := n.paths.Sync(s.bfd)
	n.change(func(v *announced) {
		n.tell("bgp", v.bgpErr, bgpErr)
		n.tell("bfd", v.bfdErr, bfdErr)
		v.bgpErr, v.bfdErr = bgpErr, bfdErr
	})
	return errors.Join(bgpErr, bfdErr)
}

// tell logs what is wrong once.
func (n *announcer) tell(what string, before, err error) {
	if err != nil && !told(err, before) {
		for _, problem := range problemsOf(err) {
			n.log.Error("announce by "+what, "problem", problem)
		}
	}
}

func (n *announcer) currentSpeaker() *bgp.Speaker {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.speaker
}

// pathChanged takes sessions down whose path is gone. A router that only ends
// BFD there says so, and is left alone (RFC 5882 section 3.2).
func (n *announcer) pathChanged(c bfd.Change) {
	n.log.Info("bfd session changed", "peer", c.Addr, "state", c.State, "before", c.Before, "reason", c.Diag)
	if c.Before != bfd.Up {
		return
	}
	for _, s := range n.paths.Report().Sessions {
		if s.Path == c.Path && s.PeerState == bfd.AdminDown {
			return
		}
	}
	if speaker := n.currentSpeaker(); speaker != nil {
		speaker.Fail(c.Addr, fmt.Sprintf("bfd: %s", c.Diag))
	}
}

// elect decides who answers for which VIP, and answers.
func (n *announcer) elect(ctx context.Context) {
	e := n.link.elect(ctx)
	n.change(func(v *announced) {
		n.tell("arp and ndp", v.elections.err, e.err)
		v.elections = e
	})
	n.summarize()
}

// renew lets answers go on, and tries again what could not be opened.
func (n *announcer) renew(ctx context.Context) {
	if d := n.draining(); d != nil && !d.withdrawn && d.done(time.Now(), n.packets()) {
		n.log.Info("drained", "after", time.Since(d.began).Round(time.Second))
		n.setDrain(d.end())
	}
	if !n.link.renew(ctx) {
		n.elect(ctx)
	}
}
