// SPDX-License-Identifier: Apache-2.0

package l2

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/announce/l2/ether"
)

// Answer is a VIP that this node answers for.
type Answer struct {
	VIP netip.Addr
	// Interfaces are names, or patterns with * and ?, of those to answer on;
	// without any, those that have the VIP's network.
	Interfaces []string
	// Yield: another node is to take the VIP. It is not announced any more, and
	// answered for only until the other one announces it, HandOverTime at most.
	Yield bool
}

// Config says how a Responder works. The zero value is usable.
type Config struct {
	Logger  *slog.Logger  // nil: none
	Refresh time.Duration // between announcements of a VIP; 0: DefaultRefresh
	// Lease is how long a set counts: whoever does not Sync again within it,
	// for instance because the process was stopped, stops answering. 0: no end.
	Lease time.Duration
	// Changed is called when the report has changed otherwise than by Sync: an
	// interface, a conflict, a VIP that was taken. It must not block or call
	// the responder. nil: nobody wants to know.
	Changed func()
}

// Responder answers for VIPs on the interfaces of one network namespace. Its
// methods may be called from any goroutine; its owner closes it.
type Responder struct {
	config  Config
	links   *netlink.Handle
	changes *nl.NetlinkSocket
	arp     *socket
	ndp     *socket

	wake chan struct{} // the book has changed
	look chan struct{} // interfaces have changed
	done chan struct{}
	stop sync.Once
	wait sync.WaitGroup

	mu      sync.Mutex // guards what follows
	book    *book
	told    uint64 // book.changes that Changed was called for
	waiters map[chan struct{}]bool
	trouble string // of subscribe
}

// Open opens the sockets in the network namespace of the calling thread, where
// the responder stays. It answers for nothing yet.
func Open(config Config) (*Responder, error) {
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	r := &Responder{
		config: config, book: newBook(config.Refresh, config.Lease),
		wake: make(chan struct{}, 1), look: make(chan struct{}, 1), done: make(chan struct{}),
		waiters: map[chan struct{}]bool{},
	}
	if err := r.open(); err != nil {
		r.closeSockets()
		if r.links != nil {
			r.links.Close()
		}
		return nil, fmt.Errorf("open responder: %w", err)
	}
	for _, run := range []func(){r.watch, r.run, func() { r.read(r.arp, true) }, func() { r.read(r.ndp, false) }} {
		r.wait.Go(run)
	}
	return r, nil
}

func (r *Responder) open() (err error) {
	if r.links, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	r.changes, err = nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR)
	if err != nil {
		return fmt.Errorf("subscribe to changes of interfaces: %w", err)
	}
	if r.arp, err = openSocket(unix.ETH_P_ARP, arpFilter); err != nil {
		return err
	}
	if r.ndp, err = openSocket(unix.ETH_P_IPV6, ndpFilter); err != nil {
		return err
	}
	return r.list() // after the subscription, so that no change is missed
}

// Close stops answering and gives everything back. A second call does nothing.
func (r *Responder) Close() error {
	r.stop.Do(func() {
		close(r.done)
		r.mu.Lock()
		r.closeSockets()
		r.mu.Unlock()
		r.wait.Wait()
		r.links.Close()
	})
	return nil
}

// closeSockets ends the goroutines that wait for something on one.
func (r *Responder) closeSockets() {
	if r.changes != nil {
		r.changes.Close()
	}
	r.arp.close()
	r.ndp.close()
}

// Sync makes the set of VIPs that are answered for this one. What is new is
// announced. Of what is wrong the rest is done, and the error joins all.
func (r *Responder) Sync(ctx context.Context, answers []Answer) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	valid, err := normal(answers)
	r.change(func(now time.Time) { r.book.sync(now, valid) })
	return err
}

// normal returns the valid answers in order, each VIP once.
func normal(answers []Answer) ([]Answer, error) {
	var valid []Answer
	var errs []error
	for _, a := range answers {
		if err := a.validate(); err != nil {
			errs = append(errs, err)
			continue
		}
		a.Interfaces = slices.Clone(a.Interfaces)
		valid = append(valid, a)
	}
	slices.SortStableFunc(valid, func(a, b Answer) int { return a.VIP.Compare(b.VIP) })
	return slices.CompactFunc(valid, func(a, b Answer) bool {
		if a.VIP == b.VIP {
			errs = append(errs, fmt.Errorf("vip %s: given twice", a.VIP))
		}
		return a.VIP == b.VIP
	}), errors.Join(errs...)
}

// SetFellows tells the MAC addresses of the other nodes, also of those that are
// not alive, which may only look so: a VIP that one of them
// claims is no conflict, only a moment in which two nodes know different things.
func (r *Responder) SetFellows(fellows []ether.MAC) {
	r.change(func(time.Time) { r.book.setFellows(fellows) })
}

// HandOver yields all VIPs, calls leave, which tells the other nodes so, and
// returns when they have taken them, after HandOverTime, or with the context's
// error. Then nothing is answered for until the next Sync.
func (r *Responder) HandOver(ctx context.Context, leave func(context.Context) error) error {
	r.change(func(now time.Time) {
		answers := slices.Clone(r.book.answers)
		for i := range answers {
			answers[i].Yield = true
		}
		r.book.sync(now, answers)
		r.book.synced = now.Add(HandOverTime) // they end by themselves
	})
	err := leave(ctx)
	err = errors.Join(err, r.await(ctx, func() bool { return r.book.live() == 0 }))
	r.change(func(now time.Time) { r.book.sync(now, nil) })
	return err
}

// await waits until a condition of the book holds.
func (r *Responder) await(ctx context.Context, done func() bool) error {
	changed := make(chan struct{}, 1)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiters[changed] = true
	defer delete(r.waiters, changed)
	for !done() {
		r.mu.Unlock()
		var err error
		select {
		case <-ctx.Done():
			err = ctx.Err()
		case <-r.done:
			err = os.ErrClosed
		case <-changed:
		}
		r.mu.Lock()
		if err != nil {
			return err
		}
	}
	return nil
}

// Report returns the present state.
func (r *Responder) Report() Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	report := r.book.report()
	report.Trouble = r.trouble
	return report
}

// change changes the book, lets the kernel know what to pass up, and sends what
// is due.
func (r *Responder) change(change func(now time.Time)) {
	r.mu.Lock()
	change(time.Now())
	if r.book.moved && !r.closed() {
		r.subscribe()
	}
	for _, o := range r.book.due(time.Now()) {
		r.send(o)
	}
	r.book.sooner = true
	r.unlock()
}

// unlock tells who wants to know what has changed.
func (r *Responder) unlock() {
	if r.book.sooner {
		r.book.sooner = false
		signal(r.wake)
	}
	news := r.told != r.book.changes
	r.told = r.book.changes
	for w := range r.waiters {
		signal(w)
	}
	r.mu.Unlock()
	if news && r.config.Changed != nil {
		r.config.Changed()
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// subscribe sets filters and multicast groups. What fails is tried again at the
// next change, and logged once.
func (r *Responder) subscribe() {
	vips4, vips6 := r.book.vips(true), r.book.vips(false)
	err := errors.Join(r.arp.setFilter(vips4), r.ndp.setFilter(vips6), r.ndp.setGroups(r.book.groups()))
	r.book.moved = err != nil
	trouble := ""
	if err != nil {
		trouble = err.Error()
	}
	if trouble != r.trouble && err != nil {
		r.config.Logger.Warn("cannot hear all questions for VIPs", "err", err)
	}
	r.trouble = trouble
}

// send sends one frame. An interface that is gone meanwhile is no news.
func (r *Responder) send(o out) {
	s, counters := r.ndp, &r.book.ndp
	if isARP(o.frame) {
		s, counters = r.arp, &r.book.arp
	}
	if err := s.send(o); err != nil {
		counters.SendErrors++
		r.config.Logger.Debug("send", "interface", r.book.interfaces[o.index].Name, "err", err)
	}
}

// run does what the book has to do at its time, and looks at interfaces when
// they change.
func (r *Responder) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-r.done:
			return
		case <-timer.C:
			r.change(func(time.Time) {})
		case <-r.wake:
		case <-r.look:
			if err := r.list(); err != nil && !r.closed() {
				r.config.Logger.Warn("cannot list interfaces", "err", err)
				time.AfterFunc(time.Second, func() { signal(r.look) })
			}
		}
		r.mu.Lock()
		at, ok := r.book.next()
		r.mu.Unlock()
		timer.Stop()
		if ok {
			timer.Reset(time.Until(at))
		}
	}
}

func (r *Responder) closed() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// read answers what comes in on a socket until it is closed.
func (r *Responder) read(s *socket, arp bool) {
	buffer := make([]byte, 2048) // of a longer frame the rest is missing, and it is malformed
	for {
		index, frame, err := s.receive(buffer)
		switch {
		case err != nil && r.closed():
			return
		case err != nil:
			r.config.Logger.Warn("cannot receive", "err", err)
			continue
		case frame == nil:
			continue
		}
		r.mu.Lock()
		for _, o := range r.book.frame(time.Now(), index, arp, frame) {
			r.send(o)
		}
		r.unlock()
	}
}
