// SPDX-License-Identifier: Apache-2.0

package bfd

import (
	"fmt"
	"time"
)

// Tuning that RFC 5880 fixes.
const (
	// slowTx is the least interval of a session that is not up (section 6.8.3).
	slowTx = time.Second
	// firstRequiredRx is what the peer is taken to want before it says so (section 6.8.1).
	firstRequiredRx = time.Microsecond
)

// Limits of a Profile.
const (
	minInterval = 10 * time.Millisecond
	maxInterval = 60 * time.Second
)

// Profile says how a session is run. The zero value of a field stands for its default.
type Profile struct {
	Transmit   time.Duration // least time between packets sent, 10ms to 60s; 300ms
	Receive    time.Duration // least time between packets received, 10ms to 60s; 300ms
	Multiplier uint8         // of missing packets that end the session; 3
	Passive    bool          // nothing is sent before the peer does
	MinimumTTL uint8         // of packets from a peer several hops away, 1 to 254; 254
}

// withDefaults fills in what is not given.
func (p Profile) withDefaults() Profile {
	if p.Transmit == 0 {
		p.Transmit = 300 * time.Millisecond
	}
	if p.Receive == 0 {
		p.Receive = 300 * time.Millisecond
	}
	if p.Multiplier == 0 {
		p.Multiplier = 3
	}
	if p.MinimumTTL == 0 {
		p.MinimumTTL = 254
	}
	return p
}

// check wants a Profile with defaults filled in.
func (p Profile) check() error {
	for _, f := range []struct {
		name  string
		value time.Duration
	}{{"transmit", p.Transmit}, {"receive", p.Receive}} {
		if f.value < minInterval || f.value > maxInterval || f.value%time.Microsecond != 0 {
			return fmt.Errorf("%s: %s: want whole microseconds from %s to %s", f.name, f.value, minInterval, maxInterval)
		}
	}
	if p.MinimumTTL > 254 {
		return fmt.Errorf("minimumTTL: %d: want 1 to 254", p.MinimumTTL)
	}
	return nil
}

// Step is what is to be done after something happened to a Session.
type Step struct {
	Packet Packet // to be sent at once, where Send says so
	Send   bool
	Next   time.Time // when Tick is to be called; zero: not before something else happens
}

// remote is what the peer said last.
type remote struct {
	state         State
	diag          Diag
	discriminator uint32        // 0: unknown, or not heard for a detection time
	desiredTx     time.Duration // its DesiredMinTxInterval
	requiredRx    time.Duration // its RequiredMinRxInterval; 0: it wants nothing
	multiplier    uint8
	demand        bool
}

// stranger is a peer that has said nothing.
var stranger = remote{state: Down, requiredRx: firstRequiredRx}

// Session is one end of a BFD session (RFC 5880 section 6.8) in asynchronous
// mode. Time is an argument that never goes back. Packets are to be of this
// session: whoever has it looked at addresses, discriminators and TTL.
type Session struct {
	profile       Profile
	discriminator uint32
	random        func() float64

	state  State
	diag   Diag
	remote remote

	// What is in packets, and what is in force: until the peer has confirmed
	// by a poll sequence, the slower of old and new (section 6.8.3).
	desiredTx, requiredRx time.Duration
	tx, rx                time.Duration
	polling               bool
	pollAgain             bool // values changed after the poll was sent

	sent  time.Time // when the last packet was; zero: never
	gap   float64   // share of the interval until the next one
	heard time.Time // when the peer was
}

// NewSession begins a session in the state Down. The discriminator is unique
// among those of the node and not 0. random returns numbers from 0 up to 1.
// Tick at once to have the first packet sent.
func NewSession(p Profile, discriminator uint32, random func() float64) (*Session, error) {
	p = p.withDefaults()
	if err := p.check(); err != nil {
		return nil, err
	}
	if discriminator == 0 {
		return nil, fmt.Errorf("discriminator: 0: want another number")
	}
	s := &Session{profile: p, discriminator: discriminator, random: random, state: Down, remote: stranger}
	s.advertise()
	return s, nil
}

// State is the session's.
func (s *Session) State() State { return s.state }

// Diag says why the session is not up, or was not before.
func (s *Session) Diag() Diag { return s.diag }

// Configure goes on with another profile, without an end of the session.
func (s *Session) Configure(now time.Time, p Profile) (Step, error) {
	p = p.withDefaults()
	if err := p.check(); err != nil {
		return s.step(now, false), err
	}
	if p == s.profile {
		return s.step(now, false), nil
	}
	s.profile = p
	s.advertise()
	return s.step(now, s.mayTransmit()), nil
}

// Stop gives the session up, with a word to the peer that this is no failure.
// By section 6.8.16 it is repeated for a detection time; since packets of a
// session that is not up are a second apart, that is this one.
func (s *Session) Stop(now time.Time) Step {
	s.enter(AdminDown, DiagAdminDown)
	return s.step(now, s.mayTransmit())
}

// Receive takes in a packet that Parse let through. Its error is a Drop.
func (s *Session) Receive(now time.Time, p Packet) (Step, error) {
	if s.state == AdminDown {
		return s.step(now, false), DropAdminDown
	}
	s.remote = remote{p.State, p.Diag, p.Mine, p.DesiredTx, p.RequiredRx, p.Multiplier, p.Demand}
	s.heard = now
	if p.Final {
		s.confirmed()
	}
	before := s.state
	s.follow(p.State)
	step := s.step(now, s.state != before)
	if p.Poll {
		// An answer is out of turn, and not a poll itself (section 6.5).
		step.Send, step.Packet = true, s.packet()
		step.Packet.Poll, step.Packet.Final = false, true
	}
	return step, nil
}

// follow is the state machine of section 6.8.6.
func (s *Session) follow(peer State) {
	switch {
	case peer == AdminDown:
		if s.state != Down {
			s.enter(Down, DiagSignaled)
		}
	case s.state == Down && peer == Down:
		s.enter(Init, s.diag)
	case s.state == Down && peer == Init, s.state == Init && (peer == Init || peer == Up):
		s.enter(Up, DiagNone)
	case s.state == Up && peer == Down:
		s.enter(Down, DiagSignaled)
	}
}

func (s *Session) enter(state State, diag Diag) {
	s.state, s.diag = state, diag
	if state != Up {
		s.polling, s.pollAgain = false, false
	}
	s.advertise()
}

// advertise brings what is in packets up to date. A session that is not up has
// nothing to confirm: the peer takes each packet as it is.
func (s *Session) advertise() {
	desired := s.profile.Transmit
	if s.state != Up {
		desired = max(desired, slowTx)
	}
	required := s.profile.Receive
	if s.state == Up && (desired != s.desiredTx || required != s.requiredRx) {
		s.pollAgain = s.polling
		s.polling = true
	}
	s.desiredTx, s.requiredRx = desired, required
	if s.state != Up || desired < s.tx {
		s.tx = desired
	}
	if s.state != Up || required > s.rx {
		s.rx = required
	}
}

// confirmed ends a poll sequence, or begins the next one.
func (s *Session) confirmed() {
	switch {
	case !s.polling:
	case s.pollAgain:
		s.pollAgain = false
	default:
		s.polling = false
		s.tx, s.rx = s.desiredTx, s.requiredRx
	}
}

// Tick is due at Step.Next: the peer is given up, or the next packet is sent.
func (s *Session) Tick(now time.Time) Step {
	send := false
	if at, ok := s.expiry(); ok && !now.Before(at) {
		s.remote = stranger
		if s.state == Init || s.state == Up {
			s.enter(Down, DiagExpired)
			send = true
		}
	}
	if at, ok := s.due(); ok && !now.Before(at) {
		send = true
	}
	return s.step(now, send)
}

// Detection is how long the session lives on without a packet (section 6.8.4);
// 0: the peer has not been heard.
func (s *Session) Detection() time.Duration {
	return time.Duration(s.remote.multiplier) * max(s.rx, s.remote.desiredTx)
}

func (s *Session) expiry() (time.Time, bool) {
	if s.remote.discriminator == 0 || s.state == AdminDown {
		return time.Time{}, false
	}
	return s.heard.Add(s.Detection()), true
}

// mayTransmit says whether packets go out of their own accord (section 6.8.7).
func (s *Session) mayTransmit() bool {
	quiet := s.remote.demand && s.state == Up && s.remote.state == Up && !s.polling
	waiting := s.profile.Passive && s.remote.discriminator == 0
	return s.remote.requiredRx != 0 && !quiet && !waiting
}

// Interval is the time between packets sent, before jitter (section 6.8.7).
func (s *Session) Interval() time.Duration { return max(s.tx, s.remote.requiredRx) }

// due is when the next packet is. It moves as soon as the peer wants another
// interval, and with nothing else that it says: packets that arrive must not
// put off those that leave.
func (s *Session) due() (time.Time, bool) {
	if !s.mayTransmit() || s.state == AdminDown {
		return time.Time{}, false
	}
	if s.sent.IsZero() {
		return s.sent, true
	}
	return s.sent.Add(time.Duration(s.gap * float64(s.Interval()))), true
}

// jittered is the share of the interval that a gap between packets takes.
func (s *Session) jittered() float64 {
	if s.profile.Multiplier == 1 {
		return 0.75 + 0.15*s.random()
	}
	return 0.75 + 0.25*s.random()
}

// step makes the packet, if one is to be sent in its turn, and sets the clock.
func (s *Session) step(now time.Time, send bool) Step {
	step := Step{Send: send}
	if send {
		step.Packet = s.packet()
		s.sent, s.gap = now, s.jittered()
	}
	for _, next := range []func() (time.Time, bool){s.expiry, s.due} {
		at, ok := next()
		if at.Before(now) {
			at = now
		}
		if ok && (step.Next.IsZero() || at.Before(step.Next)) {
			step.Next = at
		}
	}
	return step
}

// packet has the flag C clear: the session ends with its program, while the node
// forwards on (RFC 5882 section 4.3.2).
func (s *Session) packet() Packet {
	return Packet{
		Diag: s.diag, State: s.state, Poll: s.polling, Multiplier: s.profile.Multiplier,
		Mine: s.discriminator, Yours: s.remote.discriminator, DesiredTx: s.desiredTx, RequiredRx: s.requiredRx,
	}
}
