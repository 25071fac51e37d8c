// SPDX-License-Identifier: Apache-2.0

package bfd

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Path is what a session watches. It is the session's name.
type Path struct {
	Addr      netip.Addr // of the peer
	Source    netip.Addr // own one; the zero value: what routes give
	Interface string     // that packets leave and arrive by; "": any
	Multihop  bool       // RFC 5883
}

// Peer is one that is wanted.
type Peer struct {
	Path
	Profile Profile
}

// Change says that a session is in another state.
type Change struct {
	Path
	State, Before State
	Diag          Diag // why, where the session is not up
	Time          time.Time
}

// Options are what a Server is for.
type Options struct {
	Log *slog.Logger
	// Changed is told of every change, one at a time and in order, by a
	// goroutine of the Server. It may call the Server, but not Close it. A change
	// may still come when its peer has just left the set.
	Changed func(Change)
	// Within runs what opens sockets, for a Server in another network
	// namespace than the process; nil: as it is.
	Within func(func() error) error
}

// Server runs the sessions of a node.
type Server struct {
	options Options
	readers sync.WaitGroup
	told    sync.WaitGroup
	wake    chan struct{}
	quit    chan struct{}

	mu        sync.Mutex
	sessions  map[Path]*running
	byNumber  map[uint32]*running // by own discriminator
	receivers map[where]*receiver
	changes   []Change
	dropped   map[Drop]uint64
	closed    bool
}

// running is a session with its socket and clock.
type running struct {
	path    Path // normal
	profile Profile
	session *Session
	number  uint32
	sender  *sender // nil: could not be opened
	port    uint16  // that it had last; 0: none
	timer   *time.Timer
	gone    bool
	report  SessionReport
}

// NewServer returns a Server without sessions, that has no sockets before Sync
// gives it any. Close it.
func NewServer(o Options) *Server {
	if o.Within == nil {
		o.Within = func(open func() error) error { return open() }
	}
	s := &Server{
		options: o, wake: make(chan struct{}, 1), quit: make(chan struct{}),
		sessions: map[Path]*running{}, byNumber: map[uint32]*running{}, receivers: map[where]*receiver{}, dropped: map[Drop]uint64{},
	}
	s.told.Go(s.tell)
	return s
}

// Sync makes the sessions those of the peers. Sessions that stay are not
// disturbed, nor by another Profile. A peer that is wrong, or whose socket
// cannot be opened to receive, is named in the error, by its place in the list;
// the others run. What goes wrong in sending is in Report, and tried again.
func (s *Server) Sync(peers []Peer) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errors.New("sync: server is closed")
	}
	var errs []error
	wanted := map[Path]bool{}
	sockets := map[where]bool{}
	for i, p := range peers {
		path, err := p.Path.normal()
		profile := p.Profile.withDefaults()
		if err == nil && wanted[path] {
			err = fmt.Errorf("addr: %s: is there twice", p.Addr)
		}
		if err == nil {
			if err = profile.check(); err != nil {
				err = fmt.Errorf("profile.%w", err)
			}
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("peers[%d].%w", i, err))
			continue
		}
		wanted[path] = true
		sockets[path.where()] = true
		s.put(path, profile)
	}
	for path, one := range s.sessions {
		if !wanted[path] {
			s.remove(one)
		}
	}
	errs = append(errs, s.syncReceivers(sockets))
	return errors.Join(errs...)
}

func (p Path) where() where { return where{p.Addr.Is6(), p.Multihop} }

// normal writes addresses without zone, which an interface stands for.
func (p Path) normal() (Path, error) {
	zone := p.Addr.Zone()
	p.Addr, p.Source = p.Addr.Unmap().WithZone(""), p.Source.Unmap().WithZone("")
	switch {
	case !p.Addr.IsValid() || p.Addr.IsUnspecified() || p.Addr.IsMulticast():
		return p, fmt.Errorf("addr: %s: want the address of a machine", p.Addr)
	case p.Source.IsValid() && p.Source.Is4() != p.Addr.Is4():
		return p, fmt.Errorf("source: %s: is of another family than addr %s", p.Source, p.Addr)
	case zone != "" && p.Interface != "" && zone != p.Interface:
		return p, fmt.Errorf("addr: %s%%%s: is on another link than interface %q", p.Addr, zone, p.Interface)
	}
	p.Interface = cmp.Or(p.Interface, zone)
	if p.Addr.IsLinkLocalUnicast() && p.Addr.Is6() && p.Interface == "" {
		return p, fmt.Errorf("addr: %s: is link-local: want an interface", p.Addr)
	}
	return p, nil
}

// put begins a session, or gives one that there is another profile.
func (s *Server) put(path Path, profile Profile) {
	now := time.Now()
	if one := s.sessions[path]; one != nil {
		if one.profile != profile {
			one.profile = profile
			step, _ := one.session.Configure(now, profile) // which Sync has checked
			s.follow(one, one.session.State(), step, now)
		}
		return
	}
	one := &running{path: path, profile: profile, number: s.freeNumber()}
	one.session, _ = NewSession(profile, one.number, rand.Float64)
	one.report = SessionReport{Path: path, Discriminator: one.number, Since: now}
	s.sessions[path], s.byNumber[one.number] = one, one
	one.timer = time.AfterFunc(0, func() { s.tick(one) })
}

func (s *Server) freeNumber() uint32 {
	for {
		if n := rand.Uint32(); n != 0 && s.byNumber[n] == nil {
			return n
		}
	}
}

// remove ends a session with a word to the peer.
func (s *Server) remove(one *running) {
	if step := one.session.Stop(time.Now()); step.Send {
		s.send(one, step.Packet)
	}
	one.gone = true
	one.timer.Stop()
	if one.sender != nil {
		one.sender.conn.Close()
	}
	delete(s.sessions, one.path)
	delete(s.byNumber, one.number)
}

// syncReceivers opens and closes the sockets that all sessions of a kind share.
func (s *Server) syncReceivers(wanted map[where]bool) error {
	var errs []error
	for w, r := range s.receivers {
		if !wanted[w] {
			r.conn.Close()
			delete(s.receivers, w)
		}
	}
	for w := range wanted {
		if s.receivers[w] != nil {
			continue
		}
		var r *receiver
		err := s.options.Within(func() (err error) {
			r, err = openReceiver(w)
			return err
		})
		if err != nil {
			errs = append(errs, fmt.Errorf("open BFD socket: %w", err))
			continue
		}
		s.receivers[w] = r
		s.readers.Go(func() { s.read(r) })
	}
	return errors.Join(errs...)
}

// maxPacket is more than any packet has: the length field is one byte.
const maxPacket = 256

// read takes in packets until the socket is closed.
func (s *Server) read(r *receiver) {
	var buffer [maxPacket]byte
	for {
		var a arrival
		var err error
		closed := r.raw.Read(func(fd uintptr) bool {
			a, err = receive(fd, buffer[:])
			return !errors.Is(err, unix.EAGAIN)
		})
		if closed != nil {
			return
		}
		if err == nil {
			s.mu.Lock()
			s.arrived(r, a)
			s.mu.Unlock()
		}
	}
}

// drain takes in what waits. A node that is short of time must not blame the
// peer for packets that it did not come to read.
func (s *Server) drain(r *receiver) {
	var buffer [maxPacket]byte
	r.raw.Control(func(fd uintptr) {
		for {
			a, err := receive(fd, buffer[:])
			if err != nil {
				return
			}
			s.arrived(r, a)
		}
	})
}

// arrived takes one packet in.
func (s *Server) arrived(r *receiver, a arrival) {
	if err := s.accept(r, a); err != nil {
		var drop Drop
		errors.As(err, &drop)
		s.dropped[drop]++
	}
}

func (s *Server) accept(r *receiver, a arrival) error {
	if !r.multihop && a.ttl != sentTTL {
		return DropTTL
	}
	packet, err := Parse(a.payload)
	if err != nil {
		return err
	}
	one := s.sessionOf(r, a, packet.Yours)
	if one == nil {
		return DropSession
	}
	if r.multihop && a.ttl < int(one.profile.MinimumTTL) {
		return DropTTL
	}
	now := time.Now()
	before := one.session.State()
	step, err := one.session.Receive(now, packet)
	if err != nil {
		return err
	}
	one.report.Received++
	s.follow(one, before, step, now)
	return nil
}

// sessionOf finds a packet's session: by our discriminator where the peer knows
// it, else by addresses; from the peer it has to be in any case.
func (s *Server) sessionOf(r *receiver, a arrival, number uint32) *running {
	if number != 0 {
		if one := s.byNumber[number]; one != nil && r.isFrom(one.path, a) {
			return one
		}
		return nil
	}
	for _, one := range s.sessions {
		if r.isFrom(one.path, a) {
			return one
		}
	}
	return nil
}

// isFrom says whether a packet is from the peer of a path.
func (r *receiver) isFrom(p Path, a arrival) bool {
	return p.where() == r.where && p.Addr == a.from && (!p.Source.IsValid() || p.Source == a.to) &&
		(p.Interface == "" || r.linkIndex(p.Interface) == a.link)
}

// tick is the session's clock.
func (s *Server) tick(one *running) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !one.gone {
		s.ticked(one)
	}
}

func (s *Server) ticked(one *running) {
	if at, ok := one.session.expiry(); ok && !time.Now().Before(at) {
		if r := s.receivers[one.path.where()]; r != nil {
			s.drain(r)
		}
	}
	now := time.Now()
	before := one.session.State()
	s.follow(one, before, one.session.Tick(now), now)
}

// follow does what a session says.
func (s *Server) follow(one *running, before State, step Step, now time.Time) {
	if step.Send {
		s.send(one, step.Packet)
	}
	if state := one.session.State(); state != before {
		one.report.Since = now
		if before == Up {
			one.report.Downs++
		}
		s.changes = append(s.changes, Change{one.path, state, before, one.session.Diag(), now})
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
	if step.Next.IsZero() {
		one.timer.Stop()
	} else {
		one.timer.Reset(step.Next.Sub(now))
	}
}

// send opens the socket where there is none, and again after an error: an
// interface may have come, or be another one of the same name.
func (s *Server) send(one *running, p Packet) {
	err := s.open(one)
	if err == nil {
		err = one.sender.send(p.Append(nil))
	}
	if err == nil {
		one.report.Sent++
	} else {
		one.report.SendErrors++
		if one.sender != nil {
			one.sender.conn.Close()
			one.sender = nil
		}
	}
	switch before := one.report.Err; {
	case err != nil && before == nil:
		s.options.Log.Error("send bfd packet", "peer", one.path.Addr, "interface", one.path.Interface, "err", err)
	case err == nil && before != nil:
		s.options.Log.Info("bfd packets leave again", "peer", one.path.Addr, "interface", one.path.Interface)
	}
	one.report.Err = err
}

func (s *Server) open(one *running) error {
	if one.sender != nil {
		return nil
	}
	return s.options.Within(func() (err error) {
		if one.sender, err = openSender(one.path, one.port); err == nil {
			one.port = one.sender.port
		}
		return err
	})
}

// tell hands changes out.
func (s *Server) tell() {
	for {
		select {
		case <-s.quit:
			return
		case <-s.wake:
		}
		s.mu.Lock()
		changes := s.changes
		s.changes = nil
		s.mu.Unlock()
		for _, c := range changes {
			s.options.Changed(c)
		}
	}
}

// Close ends all sessions with a word to the peers, and returns when nothing of
// the Server runs any more.
func (s *Server) Close() {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.closed = true
	for _, one := range s.sessions {
		s.remove(one)
	}
	s.syncReceivers(nil)
	s.mu.Unlock()
	close(s.quit)
	s.readers.Wait()
	s.told.Wait()
}
