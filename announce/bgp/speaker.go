// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/fairlead/fairlead/announce/bgp/guard"
)

// DialFunc connects with a dialer, in the network namespace where the speaker is.
type DialFunc func(ctx context.Context, d *net.Dialer, network, address string) (net.Conn, error)

// ListenFunc listens, in the network namespace where the speaker is.
type ListenFunc func(ctx context.Context, c *net.ListenConfig, network, address string) (net.Listener, error)

// Options say how a Speaker is. The zero value connects to routers and listens
// to none.
type Options struct {
	// ListenPort is the TCP port where peers may connect, too. 0: none.
	ListenPort uint16
	// Changed, if not nil, is called when a Report would say something new about
	// a session. It must not block.
	Changed func()
	// Dial and Listen make sockets. Nil: in the namespace of this process.
	Dial   DialFunc
	Listen ListenFunc
}

// Speaker has the sessions of one node. Methods are for any goroutine.
type Speaker struct {
	log     *slog.Logger
	options Options
	ctx     context.Context
	cancel  context.CancelFunc

	listeners *listeners

	syncing sync.Mutex // one Sync or Close at a time
	free    []*engine  // of peers that are gone
	closed  bool

	mu    sync.Mutex // held for moments alone
	peers map[netip.AddrPort]*peer
}

// New makes a Speaker without peers. Its owner closes it.
func New(log *slog.Logger, o Options) (*Speaker, error) {
	if o.Dial == nil {
		o.Dial = func(ctx context.Context, d *net.Dialer, network, address string) (net.Conn, error) {
			return d.DialContext(ctx, network, address)
		}
	}
	if o.Listen == nil {
		o.Listen = func(ctx context.Context, c *net.ListenConfig, network, address string) (net.Listener, error) {
			return c.Listen(ctx, network, address)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Speaker{log: log, options: o, ctx: ctx, cancel: cancel, peers: map[netip.AddrPort]*peer{}}
	if o.ListenPort != 0 {
		var err error
		if s.listeners, err = s.listen(); err != nil {
			cancel()
			return nil, err
		}
	}
	return s, nil
}

// ErrClosed is what Sync returns after Close.
var ErrClosed = errors.New("bgp speaker is closed")

// Sync announces this and nothing else. Only a peer whose session would be
// another one gets a new session. What is invalid is left out with an error,
// and of a peer that is there already the last valid settings go on. The
// Speaker keeps the slices of routes: they must not change afterwards.
func (s *Speaker) Sync(ctx context.Context, d Desired) error {
	s.syncing.Lock()
	defer s.syncing.Unlock()
	if s.closed {
		return ErrClosed
	}
	var errs []error
	routes, err := routesByPeer(d)
	errs = append(errs, err)
	gone := slices.DeleteFunc(s.all(), func(p *peer) bool { return routes[p.name] != nil })
	for _, p := range gone {
		p.cancel(errDeconfigured) // all at once; remove waits for each
	}
	for _, p := range gone {
		errs = append(errs, s.remove(p))
	}
	seen := map[netip.AddrPort]bool{}
	for _, config := range d.Peers {
		name := config.Name()
		switch {
		case ctx.Err() != nil:
			return errors.Join(append(errs, ctx.Err())...)
		case seen[name]:
			errs = append(errs, fmt.Errorf("peer %s: is there twice", name))
			continue
		}
		seen[name] = true
		errs = append(errs, s.syncPeer(config, routes[name], d.Shutdown))
	}
	return errors.Join(errs...)
}

// all are the peers, by name.
func (s *Speaker) all() []*peer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.SortedFunc(maps.Values(s.peers), func(a, b *peer) int { return a.name.Compare(b.name) })
}

func (s *Speaker) peer(name netip.AddrPort) *peer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.peers[name]
}

// put makes p the peer of that name; nil: none.
func (s *Speaker) put(name netip.AddrPort, p *peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p == nil {
		delete(s.peers, name)
		return
	}
	s.peers[name] = p
}

// routesByPeer checks the routes and sorts them by peer.
func routesByPeer(d Desired) (map[netip.AddrPort]map[netip.Prefix]Route, error) {
	var errs []error
	routes := map[netip.AddrPort]map[netip.Prefix]Route{}
	for _, p := range d.Peers {
		routes[p.Name()] = map[netip.Prefix]Route{}
	}
	for _, r := range d.Routes {
		if err := r.check(); err != nil {
			errs = append(errs, err)
			continue
		}
		for name, of := range routes {
			if !r.isFor(name) {
				continue
			}
			if other, taken := of[r.Prefix]; taken && !other.equal(r) {
				errs = append(errs, fmt.Errorf("route %s: is there twice for peer %s, with different attributes", r.Prefix, name))
				continue
			}
			of[r.Prefix] = r
		}
	}
	return routes, errors.Join(errs...)
}

func (s *Speaker) syncPeer(config Peer, routes map[netip.Prefix]Route, shutdown bool) error {
	want, t, invalid := config.check()
	p := s.peer(config.Name())
	if invalid != nil {
		if p == nil {
			return invalid
		}
		// The routes are for it, whatever is wrong with the rest.
		p.mu.Lock()
		defer p.mu.Unlock()
		p.routes, p.shutdown = routes, shutdown
		return errors.Join(invalid, p.apply())
	}
	if p != nil && p.settings != want {
		if err := s.remove(p); err != nil {
			return err
		}
		p = nil
	}
	if p != nil {
		return p.want(config, t, routes, shutdown)
	}
	return s.add(config, want, t, routes, shutdown)
}

// add makes a peer and starts it with all of its routes.
func (s *Speaker) add(config Peer, want settings, t timers, routes map[netip.Prefix]Route, shutdown bool) error {
	var e *engine
	if n := len(s.free); n > 0 {
		e, s.free = s.free[n-1], s.free[:n-1]
	} else {
		e = newEngine(s.log)
	}
	fail := func(err error) error {
		s.free = append(s.free, e)
		return fmt.Errorf("peer %s: %w", want.name, err)
	}
	if err := e.start(want.localASN, want.routerID); err != nil {
		return fail(err)
	}
	p := newPeer(want, e, s.log, s.options)
	if err := errors.Join(p.want(config, t, routes, shutdown), s.listeners.allow(want)); err != nil {
		return fail(errors.Join(err, e.stop()))
	}
	var ctx context.Context
	ctx, p.cancel = context.WithCancelCause(s.ctx)
	s.put(want.name, p)
	go p.run(ctx)
	return nil
}

var errDeconfigured = ending{
	errors.New("peer was removed"), guard.Notification{Code: guard.CodeCease, Subcode: guard.CeaseDeconfigured},
}

// remove ends the peer.
func (s *Speaker) remove(p *peer) error {
	s.put(p.name, nil)
	err := errors.Join(s.listeners.deny(p.settings), p.stop(errDeconfigured))
	s.free = append(s.free, p.engine)
	if err != nil {
		return fmt.Errorf("remove peer %s: %w", p.name, err)
	}
	return nil
}

// Fail takes down the sessions with a router's address, because something else
// knows that the path is gone, such as BFD (RFC 9384). Each comes back as soon
// as it can.
func (s *Speaker) Fail(router netip.Addr, reason string) {
	for _, p := range s.all() {
		if p.name.Addr() == router {
			p.takeDown(ending{errors.New(reason), guard.Notification{Code: guard.CodeCease, Subcode: guard.CeaseBFDDown}})
		}
	}
}

// Report is what is known of each peer, by name.
func (s *Speaker) Report() []PeerReport {
	var out []PeerReport
	for _, p := range s.all() {
		out = append(out, p.facts())
	}
	return out
}

// Announced are the peers that have the prefix from this node at this moment,
// by name.
func (s *Speaker) Announced(prefix netip.Prefix) []netip.AddrPort {
	var out []netip.AddrPort
	for _, p := range s.all() {
		if p.announces(prefix) {
			out = append(out, p.name)
		}
	}
	return out
}

// Close ends all sessions and waits. A node that restarts its agent says
// nothing to the routers: those that restart gracefully keep its routes. One
// that leaves tells them, and they drop them at once. A second call does nothing.
func (s *Speaker) Close(restarts bool) error {
	s.syncing.Lock()
	defer s.syncing.Unlock()
	s.closed = true
	why := ending{errors.New("node leaves"), guard.Notification{Code: guard.CodeCease, Subcode: guard.CeaseShutdown}}
	if restarts {
		why = ending{err: errors.New("agent restarts")}
	}
	peers := s.all()
	for _, p := range peers {
		p.cancel(why) // all at once; stop waits for each
	}
	var errs []error
	for _, p := range peers {
		errs = append(errs, p.stop(why))
		s.put(p.name, nil)
	}
	s.cancel()
	return errors.Join(append(errs, s.listeners.close())...)
}
