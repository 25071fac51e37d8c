// SPDX-License-Identifier: Apache-2.0

// Package members knows which nodes are alive, within less than a second, by
// gossip among the agents (hashicorp/memberlist, after the SWIM paper). It also
// knows when this node is the one that is cut off. It stands at the end of road
// A.
package members

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// DefaultPort is that of gossip, for UDP and TCP. MetalLB has 7946.
const DefaultPort = 7949

// MetaMax bounds what a node tells of itself, in bytes.
const MetaMax = memberlist.MetaMaxSize

// Tuning. A node that dies is missed at the next probe of it, suspected after
// probeTimeout and an attempt by way of others, and dead two probes later. In a
// lab of three nodes on two cores, a client's cache followed a kill after 511 ms
// in the median of 20, 673 at most, and four busy loops beside it made no false
// alarm in 20 s (2026-11-21). With probes of 200 ms two of 20 took over a second.
const (
	probeInterval  = 150 * time.Millisecond
	probeTimeout   = 75 * time.Millisecond
	suspicion      = 2 // times probeInterval, times the logarithm of the number of nodes
	gossipInterval = 75 * time.Millisecond

	// isolated is how long no member has to answer until this node takes itself
	// for the one that is cut off. It need not wait until it has probed half of
	// a large cluster. Some probes in a row go to nodes that just died.
	isolated = 4 * probeInterval

	joinInterval = time.Second // between attempts to join nodes that are missing
	joinWidth    = 3           // nodes that are tried at once
	tcpTimeout   = time.Second
	reclaimTime  = 5 * time.Second // until a dead node's name may have another address
	checkPause   = 50 * time.Millisecond
	leaveTimeout = 500 * time.Millisecond // where the context has no deadline
)

// label keeps out other users of memberlist, even with the same key.
const label = "fairlead"

// Config says who this node is. All but Meta, Logger and Changed is needed.
type Config struct {
	Name string
	// Bind is the address that the others reach this node at, and the port of
	// UDP and TCP.
	Bind netip.AddrPort
	// Keys are AES keys of 16, 24 or 32 bytes. The first one encrypts, all of
	// them decrypt.
	Keys [][]byte
	// Meta is what the others see in Member.Meta.
	Meta   []byte
	Logger *slog.Logger // nil: none
	// Changed is called when Set or the members' Meta have changed. It must not
	// block. nil: nobody wants to know.
	Changed func()
}

// Node is a node that exists, whether it lives or not.
type Node struct {
	Name string
	Addr netip.AddrPort
}

// Members is this node's part in the membership. Its methods may be called from
// any goroutine; its owner closes it.
type Members struct {
	config Config
	ring   *memberlist.Keyring
	list   *memberlist.Memberlist

	look chan struct{} // somebody came, went or changed
	more chan struct{} // there may be more nodes to join
	done chan struct{}
	stop sync.Once
	wait sync.WaitGroup

	mu      sync.Mutex // guards what follows
	meta    []byte
	nodes   []Node
	members map[string]Member
	gone    map[string]Member // that were members, as they were last
	lastAck time.Time
	left    bool
	news    bool // a member's Meta is another
	counts  Report
}

// Open takes part, alone at first: SetNodes says whom to join. Sockets are made
// in the network namespace of the calling thread.
func Open(config Config) (*Members, error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	var keys [][]byte
	for _, key := range config.Keys {
		keys = append(keys, bytes.Clone(key))
	}
	ring, err := memberlist.NewKeyring(keys, keys[0])
	if err != nil {
		return nil, fmt.Errorf("open membership: %w", err)
	}
	m := &Members{
		config: config, ring: ring, meta: bytes.Clone(config.Meta),
		look: make(chan struct{}, 1), more: make(chan struct{}, 1), done: make(chan struct{}), members: map[string]Member{}, gone: map[string]Member{},
	}
	if m.list, err = memberlist.Create(m.settings()); err != nil {
		return nil, fmt.Errorf("open membership at %s: %w", config.Bind, err)
	}
	m.wait.Go(m.watch)
	m.wait.Go(m.join)
	return m, nil
}

func (c *Config) validate() error {
	var errs []error
	if c.Name == "" {
		errs = append(errs, errors.New("name is empty: want that of the node"))
	}
	if !c.Bind.IsValid() || c.Bind.Addr().IsUnspecified() || c.Bind.Port() == 0 {
		errs = append(errs, fmt.Errorf("bind %q: want an address of this node with a port", c.Bind))
	}
	if len(c.Meta) > MetaMax {
		errs = append(errs, fmt.Errorf("meta of %d bytes: want at most %d", len(c.Meta), MetaMax))
	}
	return errors.Join(append(errs, checkKeys(c.Keys))...)
}

// checkKeys does not tell the keys.
func checkKeys(keys [][]byte) error {
	if len(keys) == 0 {
		return errors.New("keys: none, want one or more")
	}
	var errs []error
	for i, key := range keys {
		if memberlist.ValidateKey(key) != nil {
			errs = append(errs, fmt.Errorf("keys[%d] of %d bytes: want 16, 24 or 32", i, len(key)))
		}
	}
	return errors.Join(errs...)
}

func (m *Members) settings() *memberlist.Config {
	s := memberlist.DefaultLANConfig()
	s.Name, s.Label = m.config.Name, label
	s.BindAddr, s.BindPort = m.config.Bind.Addr().String(), int(m.config.Bind.Port())
	s.AdvertiseAddr, s.AdvertisePort = s.BindAddr, s.BindPort
	s.ProbeInterval, s.ProbeTimeout, s.SuspicionMult = probeInterval, probeTimeout, suspicion
	s.GossipInterval, s.TCPTimeout, s.DeadNodeReclaimTime = gossipInterval, tcpTimeout, reclaimTime
	// A node whose probes fail would probe more slowly, and be the last to know.
	s.AwarenessMaxMultiplier = 1
	s.Keyring = m.ring
	s.Logger = slog.NewLogLogger(m.config.Logger.Handler(), slog.LevelDebug)
	d := (*delegate)(m)
	s.Delegate, s.Events, s.Ping, s.Conflict = d, d, d, d
	return s
}

// SetNodes says which nodes exist, this one included: a majority is one of
// them. Those that are missing are joined, again and again, because a node that
// was cut off does not come back by itself.
func (m *Members) SetNodes(nodes []Node) {
	m.mu.Lock()
	m.nodes = slices.Clone(nodes)
	maps.DeleteFunc(m.gone, func(name string, _ Member) bool {
		return !slices.ContainsFunc(nodes, func(n Node) bool { return n.Name == name })
	})
	m.mu.Unlock()
	signal(m.look)
	signal(m.more)
}

// SetKeys makes these the keys; see Config.Keys. To go over to another key
// without a gap, all nodes first get the new one second, then first, and at last
// alone.
func (m *Members) SetKeys(keys [][]byte) error {
	if err := checkKeys(keys); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, key := range keys {
		if err := m.ring.AddKey(bytes.Clone(key)); err != nil {
			return fmt.Errorf("add key: %w", err)
		}
	}
	if err := m.ring.UseKey(keys[0]); err != nil {
		return fmt.Errorf("use first key: %w", err)
	}
	for _, old := range slices.Clone(m.ring.GetKeys()) {
		if !slices.ContainsFunc(keys, func(key []byte) bool { return bytes.Equal(key, old) }) {
			if err := m.ring.RemoveKey(old); err != nil {
				return fmt.Errorf("remove key: %w", err)
			}
		}
	}
	return nil
}

// SetMeta changes what the others see in Member.Meta. It waits until one of
// them was told, for a moment at most.
func (m *Members) SetMeta(meta []byte) error {
	if len(meta) > MetaMax {
		return fmt.Errorf("meta of %d bytes: want at most %d", len(meta), MetaMax)
	}
	m.mu.Lock()
	same := bytes.Equal(m.meta, meta)
	m.meta = bytes.Clone(meta)
	m.mu.Unlock()
	if same {
		return nil
	}
	if err := m.list.UpdateNode(leaveTimeout); err != nil {
		return fmt.Errorf("tell members: %w", err) // they will hear it later
	}
	return nil
}

// Set returns the nodes that exist and are alive to this one, in order, and
// whether they are a quorum: more than half of those that exist, or the half
// with the first name. Who has none is in the minority, and must answer for
// nothing. When no member has answered for a while, or this process was stopped
// for one, it sees nobody but itself.
func (m *Members) Set() (live []string, hasQuorum bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.set(time.Now())
}

// set is Set under the lock.
func (m *Members) set(now time.Time) ([]string, bool) {
	if m.left {
		return nil, false
	}
	names := make([]string, len(m.nodes))
	for i, n := range m.nodes {
		names[i] = n.Name
	}
	heard := now.Sub(m.lastAck) < isolated
	return quorum(m.config.Name, names, func(name string) bool {
		_, found := m.members[name]
		return found && heard
	})
}

// Leave tells the others that this node goes, so that they need not find out.
// It has no quorum any more, but takes part until Close.
func (m *Members) Leave(ctx context.Context) error {
	timeout := leaveTimeout
	if deadline, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(deadline))
	}
	m.mu.Lock()
	m.left = true
	m.mu.Unlock()
	if err := m.list.Leave(timeout); err != nil {
		return fmt.Errorf("leave members: %w", err)
	}
	return nil
}

// Close ends taking part. Without Leave the others see a death. A second call
// does nothing.
func (m *Members) Close() error {
	var err error
	m.stop.Do(func() {
		close(m.done)
		err = m.list.Shutdown()
		m.wait.Wait()
	})
	return err
}

// Report returns the present state.
func (m *Members) Report() Report {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.counts
	r.LastAck = m.lastAck
	r.Members, r.Gone = byName(m.members), byName(m.gone)
	r.Seen, r.Quorum = m.set(time.Now())
	return r
}

func byName(members map[string]Member) (sorted []Member) {
	for _, member := range members {
		member.Meta = bytes.Clone(member.Meta)
		sorted = append(sorted, member)
	}
	slices.SortFunc(sorted, func(a, b Member) int { return cmp.Compare(a.Name, b.Name) })
	return sorted
}

// watch tells who wants to know when the set changes: by a member, or because
// nobody answers any more.
func (m *Members) watch() {
	tick := time.NewTicker(checkPause)
	defer tick.Stop()
	var seen []string
	var had bool
	for {
		m.mu.Lock()
		now, has := m.set(time.Now())
		changed := m.news || has != had || !slices.Equal(now, seen)
		m.news, seen, had = false, now, has
		m.mu.Unlock()
		if changed {
			m.config.Logger.Debug("members changed", "live", seen, "quorum", had)
			if m.config.Changed != nil {
				m.config.Changed()
			}
		}
		select {
		case <-m.done:
			return
		case <-tick.C:
		case <-m.look:
		}
	}
}

// join tries some of the nodes that are missing, again and again.
func (m *Members) join() {
	tick := time.NewTicker(joinInterval)
	defer tick.Stop()
	for {
		missing := m.missing()
		rand.Shuffle(len(missing), func(i, j int) { missing[i], missing[j] = missing[j], missing[i] })
		var tries sync.WaitGroup
		for _, n := range missing[:min(len(missing), joinWidth)] {
			tries.Go(func() { m.joinNode(n) })
		}
		tries.Wait()
		select {
		case <-m.done:
			return
		case <-m.more:
		case <-tick.C:
		}
	}
}

// missing are the nodes that exist and are no members; none once this node has left.
func (m *Members) missing() (missing []Node) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, n := range m.nodes {
		if _, found := m.members[n.Name]; !found && !m.left && n.Name != m.config.Name {
			missing = append(missing, n)
		}
	}
	return missing
}

func (m *Members) joinNode(n Node) {
	_, err := m.list.Join([]string{n.Addr.String()})
	m.mu.Lock()
	defer m.mu.Unlock()
	m.counts.Joins++
	if err != nil {
		m.counts.JoinErrors++
		m.config.Logger.Debug("join", "node", n.Name, "err", strings.TrimSpace(err.Error()))
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
