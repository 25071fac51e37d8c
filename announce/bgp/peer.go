// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/fairlead/fairlead/announce/bgp/guard"
)

// Tuning.
const (
	// connectTimeout is above the first two SYN retransmits, and short: a router
	// that comes back is seen by the next attempt's first SYN.
	connectTimeout = 3500 * time.Millisecond
	// firstWait is between the end of a session and the next attempt. It doubles
	// with every attempt, up to eagerWait as long as the loss is fresh, then up to
	// ConnectTime: FRR refuses connections for a second or two after a start.
	firstWait = 100 * time.Millisecond
	eagerWait = 500 * time.Millisecond
	fresh     = 30 * time.Second
	// steady is how long a session has to live for the next loss to be a first one.
	steady = 10 * time.Second
)

// errReplaced is the cause of an attempt's end when the router connected.
var errReplaced = errors.New("router connected")

// peer has a session with a router whenever that is possible. Its Speaker owns
// it and its engine.
type peer struct {
	settings
	log     *slog.Logger
	options Options
	engine  *engine
	cancel  context.CancelCauseFunc
	done    chan struct{}
	offered chan net.Conn // connections that the router made

	mu       sync.Mutex
	timers   timers
	nextHops map[guard.Family]netip.Addr
	routes   map[netip.Prefix]Route // wanted
	shutdown bool
	own      netip.Addr            // the session's own address, of the last session
	books    map[netip.Prefix]path // what the engine announces
	fail     context.CancelCauseFunc
	report   PeerReport
	open     *guard.Open // of the session
}

func newPeer(s settings, e *engine, log *slog.Logger, o Options) *peer {
	return &peer{
		settings: s, engine: e, options: o, log: log.With("peer", s.name),
		done: make(chan struct{}), offered: make(chan net.Conn),
		books:  map[netip.Prefix]path{},
		report: PeerReport{Peer: s.name, State: StateIdle, Since: time.Now()},
	}
}

// want makes this the peer's routes. A session goes on.
func (p *peer) want(config Peer, t timers, routes map[netip.Prefix]Route, shutdown bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timers, p.routes, p.shutdown = t, routes, shutdown
	p.nextHops = map[guard.Family]netip.Addr{guard.IPv4: config.NextHop4, guard.IPv6: config.NextHop6}
	return p.apply()
}

// apply brings the engine from what it announces to what is wanted, by the
// difference. Failures go on with the next route.
func (p *peer) apply() error {
	var errs []error
	for prefix, old := range p.books {
		if _, ok := p.path(p.routes[prefix]); !ok {
			if err := p.engine.withdraw(old); err != nil {
				errs = append(errs, err)
				continue
			}
			delete(p.books, prefix)
		}
	}
	for prefix, route := range p.routes {
		want, ok := p.path(route)
		if old, have := p.books[prefix]; !ok || have && want.equal(old) {
			continue
		}
		if err := p.engine.set(want); err != nil {
			errs = append(errs, err)
			continue
		}
		p.books[prefix] = want
	}
	return errors.Join(errs...)
}

// path is the route as this peer is told it; false where there is no route, no
// family or no next hop.
func (p *peer) path(r Route) (path, bool) {
	if !r.Prefix.IsValid() || !slices.Contains(p.families(), family(r.Prefix)) {
		return path{}, false
	}
	out := path{Route: r, nextHop: p.nextHops[family(r.Prefix)]}
	if !out.nextHop.IsValid() {
		out.nextHop = p.own.WithZone("")
	}
	if !p.canReach(family(r.Prefix), out.nextHop) {
		return path{}, false
	}
	if p.internal() {
		out.localPref, out.hasLocalPref = r.LocalPref, r.LocalPref != 0
	} else {
		out.asPath = slices.Repeat([]uint32{p.localASN}, r.Prepend)
	}
	if p.shutdown {
		if !slices.Contains(out.Communities, gracefulShutdown) {
			// Not into what the caller's slice has room for.
			out.Communities = append(slices.Clip(out.Communities), gracefulShutdown)
		}
		out.localPref, out.hasLocalPref = 0, p.internal()
	}
	return out, true
}

// canReach says whether the router takes routes of the family with that next hop.
func (p *peer) canReach(f guard.Family, nextHop netip.Addr) bool {
	switch {
	case !nextHop.IsValid():
		return false
	case nextHop.Is4() == (f == guard.IPv4):
		return true
	}
	return f == guard.IPv4 && p.open != nil && p.open.ExtendedNextHop
}

func (p path) equal(o path) bool {
	return p.Route.equal(o.Route) && p.nextHop == o.nextHop && slices.Equal(p.asPath, o.asPath) &&
		p.localPref == o.localPref && p.hasLocalPref == o.hasLocalPref
}

// run has sessions until the context ends.
func (p *peer) run(ctx context.Context) {
	defer close(p.done)
	var wait time.Duration
	lost := time.Now()
	for ctx.Err() == nil {
		began, lived, err := p.session(ctx, wait)
		if ctx.Err() != nil {
			return
		}
		p.mu.Lock()
		level := slog.LevelDebug // of attempts, only what is new
		if began || p.report.Error != err.Error() {
			level = slog.LevelInfo
		}
		p.report.Error, p.report.ErrorAt = err.Error(), time.Now()
		limit := p.timers.connect
		p.mu.Unlock()
		p.log.Log(ctx, level, "no bgp session", "err", err)
		p.setState(StateIdle)
		wait *= 2
		if wait == 0 || lived >= steady {
			wait, lost = firstWait, time.Now()
		}
		if time.Since(lost) < fresh {
			limit = min(limit, eagerWait)
		}
		wait = min(wait, limit)
	}
}

// session waits, connects and has one session. It returns whether and how long
// that was established, and why it ended.
func (p *peer) session(ctx context.Context, wait time.Duration) (began bool, lived time.Duration, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	p.mu.Lock()
	p.fail = cancel
	p.mu.Unlock()
	router, err := p.connect(ctx, wait)
	if err != nil {
		return false, 0, err
	}
	defer router.Close()
	if err := p.begin(router); err != nil {
		return false, 0, err
	}
	p.setState(StateOpening)
	p.mu.Lock()
	t := p.timers
	p.mu.Unlock()
	inner, r, open, err := p.engine.open(ctx, p.settings, t)
	if err != nil {
		return false, 0, err
	}
	s := &session{settings: p.settings, hold: t.hold, router: router, inner: inner, fromInner: r}
	s.heard = func(r guard.Reason, g *guard.Guard) { p.hear(r, g, t.hold) }
	err = s.run(ctx, open)
	p.mu.Lock()
	if began = p.report.State == StateEstablished; began {
		lived = time.Since(p.report.Since)
	}
	p.mu.Unlock()
	return began, lived, errors.Join(err, p.engine.close())
}

// connect waits and dials, unless the router is faster.
func (p *peer) connect(ctx context.Context, wait time.Duration) (net.Conn, error) {
	// A fleet of nodes that lost one router does not come back as one.
	timer := time.NewTimer(wait/2 + rand.N(wait/2+1))
	defer timer.Stop()
	select {
	case conn := <-p.offered:
		return conn, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-timer.C:
	}
	p.setState(StateConnecting)
	dialling, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	type result struct {
		conn net.Conn
		err  error
	}
	dialled := make(chan result, 1)
	go func() {
		conn, err := p.dial(dialling, p.options.Dial)
		dialled <- result{conn, err}
	}()
	select {
	case r := <-dialled:
		return r.conn, r.err
	case conn := <-p.offered:
		cancel(errReplaced)
		if r := <-dialled; r.conn != nil {
			r.conn.Close()
		}
		return conn, nil
	}
}

// offer gives the peer a connection that the router made. One that it has no
// use for is closed: there is one session.
func (p *peer) offer(ctx context.Context, conn net.Conn) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	p.mu.Lock()
	busy := p.report.State == StateOpening || p.report.State == StateEstablished
	p.mu.Unlock()
	if !busy {
		select {
		case p.offered <- conn:
			return
		case <-ctx.Done():
		}
	}
	conn.Close()
}

// begin makes the routes those of a session with this connection.
func (p *peer) begin(router net.Conn) error {
	local, ok := router.LocalAddr().(*net.TCPAddr)
	if !ok {
		return fmt.Errorf("connection from %v: want TCP", router.LocalAddr())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.own, p.open = local.AddrPort().Addr().Unmap(), nil
	return p.apply()
}

// hear keeps the books about what the router said.
func (p *peer) hear(r guard.Reason, g *guard.Guard, hold time.Duration) {
	p.mu.Lock()
	p.report.Received[r]++
	news := g.Established() && p.report.State == StateOpening
	if open := g.Open(); open != nil && p.open == nil {
		p.open = open
		// gobgp has not heard of it yet: its first routes are right.
		if err := p.apply(); err != nil {
			p.log.Error("announce what the router takes", "err", err)
		}
		p.report.HoldTime = min(hold, time.Duration(open.HoldTime)*time.Second)
	}
	if news {
		p.report.Sessions++
	}
	p.mu.Unlock()
	if news {
		p.log.Info("bgp session established", "asn", g.Open().ASN, "router_id", g.Open().RouterID)
		p.setState(StateEstablished)
	}
}

func (p *peer) setState(s State) {
	p.mu.Lock()
	changed := p.report.State != s
	if changed {
		p.report.State, p.report.Since = s, time.Now()
	}
	p.mu.Unlock()
	if changed && p.options.Changed != nil {
		p.options.Changed()
	}
}

// facts is the peer's report.
func (p *peer) facts() PeerReport {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.report
	if r.State != StateOpening && r.State != StateEstablished {
		r.HoldTime = 0
		return r
	}
	r.Source = p.own
	if p.open != nil {
		r.RouterID, r.ASN = p.open.RouterID, p.open.ASN
	}
	if r.State == StateEstablished {
		for prefix := range p.books {
			if p.open.Has(family(prefix)) {
				r.Prefixes++
			}
		}
		r.Unannounced = len(p.routes) - r.Prefixes
	}
	return r
}

// announces says whether the router has the prefix from this session.
func (p *peer) announces(prefix netip.Prefix) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.books[prefix]
	return ok && p.report.State == StateEstablished && p.open.Has(family(prefix))
}

// stop ends the peer for that reason and waits.
func (p *peer) stop(why ending) error {
	p.cancel(why)
	<-p.done
	return p.engine.stop()
}

// takeDown ends the session, if there is one; the next attempt comes soon.
func (p *peer) takeDown(why ending) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fail != nil {
		p.fail(why)
	}
}
