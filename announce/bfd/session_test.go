// SPDX-License-Identifier: Apache-2.0

package bfd

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

const ms = time.Millisecond

var start = time.Unix(1_000_000, 0)

// fast is 50 ms x 3.
var fast = Profile{Transmit: 50 * ms, Receive: 50 * ms}

// longest leaves all jitter out: the gap is the interval.
func longest() float64 { return 1 }

func newSession(t testing.TB, p Profile) *Session {
	t.Helper()
	s, err := NewSession(p, 7, longest)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// from is a packet of the peer, number 9, at 50 ms x 3.
func from(state State) Packet {
	return Packet{State: state, Multiplier: 3, Mine: 9, Yours: 7, DesiredTx: 50 * ms, RequiredRx: 50 * ms}
}

func receive1(t testing.TB, s *Session, now time.Time, p Packet) Step {
	t.Helper()
	step, err := s.Receive(now, p)
	if err != nil {
		t.Fatal(err)
	}
	return step
}

// in brings a session into a state; up, with its poll confirmed.
func in(t testing.TB, p Profile, state State) *Session {
	t.Helper()
	s := newSession(t, p)
	if state >= Init {
		receive1(t, s, start, from(Down))
	}
	if state == Up {
		receive1(t, s, start, from(Up))
		final := from(Up)
		final.Final = true
		receive1(t, s, start, final)
	}
	if state == AdminDown {
		s.Stop(start)
	}
	if s.State() != state {
		t.Fatalf("%s, want %s", s.State(), state)
	}
	return s
}

// RFC 5880 section 6.8.6: every state with every state that the peer says. What
// changes is told at once.
func TestStates(t *testing.T) {
	for _, tt := range []struct {
		have, peer, want State
		diag             Diag
	}{
		{Down, AdminDown, Down, DiagNone},
		{Down, Down, Init, DiagNone},
		{Down, Init, Up, DiagNone},
		{Down, Up, Down, DiagNone},
		{Init, AdminDown, Down, DiagSignaled},
		{Init, Down, Init, DiagNone},
		{Init, Init, Up, DiagNone},
		{Init, Up, Up, DiagNone},
		{Up, AdminDown, Down, DiagSignaled},
		{Up, Down, Down, DiagSignaled},
		{Up, Init, Up, DiagNone},
		{Up, Up, Up, DiagNone},
	} {
		t.Run(tt.have.String()+" hears "+tt.peer.String(), func(t *testing.T) {
			s := in(t, fast, tt.have)
			step := receive1(t, s, start, from(tt.peer))
			if s.State() != tt.want || s.Diag() != tt.diag {
				t.Errorf("%s, %s; want %s, %s", s.State(), s.Diag(), tt.want, tt.diag)
			}
			if step.Send != (tt.have != tt.want) {
				t.Errorf("sends: %t", step.Send)
			}
			if step.Send && (step.Packet.State != tt.want || step.Packet.Yours != 9 || step.Packet.Mine != 7) {
				t.Errorf("sends %+v", step.Packet)
			}
		})
	}
}

// Section 6.8.6: a session that is given up takes nothing in.
func TestAdminDown(t *testing.T) {
	s := in(t, fast, Up)
	step := s.Stop(start)
	if !step.Send || step.Packet.State != AdminDown || step.Packet.Diag != DiagAdminDown || !step.Next.IsZero() {
		t.Errorf("stop: %+v", step)
	}
	if step, err := s.Receive(start, from(Down)); err != DropAdminDown || step.Send || s.State() != AdminDown {
		t.Errorf("%+v, %v, %s", step, err, s.State())
	}
}

// Sections 6.8.1 and 6.8.4: after a detection time the session is down and the
// peer forgotten; the peer's multiplier and the slower of both intervals count.
func TestDetection(t *testing.T) {
	s := in(t, fast, Up)
	slow := from(Up)
	slow.DesiredTx, slow.Multiplier = 200*ms, 4
	receive1(t, s, start, slow)
	if got := s.Detection(); got != 800*ms {
		t.Fatalf("detection time %s, want 800ms", got)
	}
	quick := slow
	quick.DesiredTx = 20 * ms
	receive1(t, s, start, quick)
	if got := s.Detection(); got != 200*ms {
		t.Fatalf("detection time %s, want 200ms: four times what we want to receive", got)
	}
	receive1(t, s, start, slow)
	s.Tick(start.Add(799 * ms))
	if s.State() != Up {
		t.Fatal("down before its time")
	}
	step := s.Tick(start.Add(800 * ms))
	if s.State() != Down || s.Diag() != DiagExpired || !step.Send || step.Packet.Yours != 0 || step.Packet.Diag != DiagExpired {
		t.Errorf("%s, %s, %+v", s.State(), s.Diag(), step)
	}
	if step.Packet.Poll || step.Packet.DesiredTx != slowTx {
		t.Errorf("sends %+v", step.Packet)
	}
	if got := step.Next.Sub(start); got != 800*ms+slowTx {
		t.Errorf("next after %s", got)
	}
}

// Section 6.8.1: in the state Down too the peer is forgotten.
func TestForgets(t *testing.T) {
	s := newSession(t, fast)
	quiet := from(AdminDown)
	quiet.RequiredRx = 0
	step := receive1(t, s, start, quiet)
	if got := step.Next.Sub(start); got != 150*ms {
		t.Fatalf("next after %s: want the detection time, and no packet for a peer that wants none", got)
	}
	if step := s.Tick(start.Add(150 * ms)); !step.Send || step.Packet.Yours != 0 {
		t.Errorf("%+v", step)
	}
}

// Section 6.8.3: what is slower is in force at once, what is faster when the
// peer has answered the poll.
func TestPoll(t *testing.T) {
	s := in(t, fast, Init)
	up := receive1(t, s, start, from(Init))
	if !up.Packet.Poll || up.Packet.DesiredTx != 50*ms || s.polling != true {
		t.Fatalf("up without a poll: %+v", up)
	}
	if s.Interval() != 50*ms {
		t.Errorf("interval %s: want the shorter one at once", s.Interval())
	}
	final := from(Up)
	final.Final = true
	receive1(t, s, start, final)
	if s.polling {
		t.Fatal("polls after the answer")
	}

	step, err := s.Configure(start, Profile{Transmit: 200 * ms, Receive: 20 * ms})
	if err != nil || !step.Packet.Poll || step.Packet.DesiredTx != 200*ms || step.Packet.RequiredRx != 20*ms {
		t.Fatalf("%+v, %v", step, err)
	}
	if s.tx != 50*ms || s.rx != 50*ms {
		t.Errorf("before the answer: %s and %s in force, want what was", s.tx, s.rx)
	}
	receive1(t, s, start, from(Up))
	if s.tx != 50*ms || s.rx != 50*ms {
		t.Errorf("a packet without F confirmed")
	}
	receive1(t, s, start, final)
	if s.tx != 200*ms || s.rx != 20*ms || s.polling {
		t.Errorf("after the answer: %s, %s, polls %t", s.tx, s.rx, s.polling)
	}

	s.Configure(start, Profile{Transmit: 100 * ms, Receive: 400 * ms})
	if s.tx != 100*ms || s.rx != 400*ms {
		t.Errorf("%s and %s in force, want the new ones at once", s.tx, s.rx)
	}
	s.Configure(start, Profile{Transmit: 300 * ms, Receive: 400 * ms})
	receive1(t, s, start, final) // of the poll before
	if s.tx != 100*ms || !s.polling {
		t.Errorf("%s, polls %t: an answer to the poll before confirmed", s.tx, s.polling)
	}
	receive1(t, s, start, final)
	if s.tx != 300*ms || s.polling {
		t.Errorf("%s, polls %t", s.tx, s.polling)
	}
	if step, _ := s.Configure(start, Profile{Transmit: 300 * ms, Receive: 400 * ms}); step.Send {
		t.Error("sends for a profile that it has")
	}
}

// Section 6.5: a poll is answered at once, with F and without P, and the next
// packet leaves when it would have left.
func TestFinal(t *testing.T) {
	s := in(t, fast, Up)
	s.Tick(start.Add(50 * ms))
	s.Configure(start.Add(60*ms), Profile{Transmit: 40 * ms, Receive: 50 * ms})
	poll := from(Up)
	poll.Poll = true
	for i := range 5 {
		step := receive1(t, s, start.Add(time.Duration(60+i)*ms), poll)
		if !step.Send || !step.Packet.Final || step.Packet.Poll {
			t.Fatalf("%+v", step)
		}
		if got := step.Next.Sub(start); got != 110*ms {
			t.Errorf("next after %s, want 110ms", got)
		}
	}
	if step := s.Tick(start.Add(110 * ms)); !step.Send || !step.Packet.Poll || step.Packet.Final {
		t.Errorf("the own poll does not go on: %+v", step)
	}
}

// Section 6.8.7: the slower of what we wish and what the peer wants. The packet
// that waits is sent sooner when the peer wants them sooner, and is not put off
// by packets that arrive.
func TestInterval(t *testing.T) {
	s := in(t, fast, Up)
	slow := from(Up)
	slow.RequiredRx = time.Second
	s.Tick(start.Add(50 * ms)) // sent
	if step := receive1(t, s, start.Add(60*ms), slow); step.Next.Sub(start) != 60*ms+150*ms {
		t.Errorf("next after %s, want the detection time", step.Next.Sub(start))
	}
	if s.Interval() != time.Second {
		t.Errorf("interval %s", s.Interval())
	}
	if at, _ := s.due(); at.Sub(start) != 1050*ms {
		t.Errorf("due after %s", at.Sub(start))
	}
	for _, heard := range []time.Duration{70 * ms, 90 * ms, 99 * ms} {
		if step := receive1(t, s, start.Add(heard), from(Up)); step.Send || step.Next.Sub(start) != 100*ms {
			t.Errorf("next after %s, want 50ms after the last packet", step.Next.Sub(start))
		}
	}
	if step := receive1(t, s, start.Add(120*ms), from(Up)); step.Next.Sub(start) != 120*ms {
		t.Errorf("next after %s, want at once: it is late", step.Next.Sub(start))
	}
}

// Section 6.8.7: a peer in demand mode, or that wants nothing, is sent nothing
// but what changes and what it asks for.
func TestQuiet(t *testing.T) {
	for name, change := range map[string]func(*Packet){
		"demand":        func(p *Packet) { p.Demand = true },
		"wants nothing": func(p *Packet) { p.RequiredRx = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			s := in(t, fast, Up)
			p := from(Up)
			change(&p)
			receive1(t, s, start, p)
			if step := s.Tick(start.Add(100 * ms)); step.Send || step.Next.Sub(start) != 150*ms {
				t.Errorf("%+v", step)
			}
			p.State = Down
			if step := receive1(t, s, start.Add(100*ms), p); !step.Send {
				t.Error("does not tell that it is down")
			}
		})
	}
}

// Section 6.8.7: a poll goes on, whatever the peer's mode.
func TestPollInDemandMode(t *testing.T) {
	s := in(t, fast, Up)
	p := from(Up)
	p.Demand = true
	receive1(t, s, start, p)
	s.Configure(start, Profile{Transmit: 40 * ms, Receive: 50 * ms})
	if step := s.Tick(start.Add(50 * ms)); !step.Send || !step.Packet.Poll {
		t.Fatalf("%+v", step)
	}
	p.Final = true
	receive1(t, s, start.Add(60*ms), p)
	if step := s.Tick(start.Add(110 * ms)); step.Send {
		t.Errorf("sends after the answer: %+v", step)
	}
}

// Section 6.1: the passive side says nothing first.
func TestPassive(t *testing.T) {
	passive := fast
	passive.Passive = true
	s := newSession(t, passive)
	if step := s.Tick(start); step.Send || !step.Next.IsZero() {
		t.Fatalf("%+v", step)
	}
	p := from(Down)
	p.Yours = 0
	if step := receive1(t, s, start, p); !step.Send || step.Packet.State != Init || step.Packet.Yours != 9 {
		t.Errorf("%+v", step)
	}
	step := s.Tick(start.Add(150 * ms))
	if s.State() != Down || !step.Next.IsZero() {
		t.Errorf("%s, %+v: want silence after the peer is gone", s.State(), step)
	}
	if step := newSession(t, fast).Tick(start); !step.Send || step.Packet.State != Down || step.Packet.DesiredTx != slowTx {
		t.Errorf("active: %+v", step)
	}
}

// Section 6.8.7: gaps are 75 to 100 % of the interval, up to 90 % where one lost
// packet would end the session.
func TestJitter(t *testing.T) {
	for multiplier, most := range map[uint8]time.Duration{1: 90 * ms, 3: 100 * ms} {
		random := rand.New(rand.NewPCG(1, uint64(multiplier)))
		s, err := NewSession(Profile{Transmit: 100 * ms, Receive: 100 * ms, Multiplier: multiplier}, 7, random.Float64)
		if err != nil {
			t.Fatal(err)
		}
		now, shortest, longest := start, time.Hour, time.Duration(0)
		receive1(t, s, now, from(Init))
		for range 2000 {
			receive1(t, s, now, from(Up))
			at, _ := s.due()
			gap := at.Sub(now)
			shortest, longest = min(shortest, gap), max(longest, gap)
			s.Tick(at)
			now = at
		}
		if shortest < 75*ms || longest > most || longest-shortest < 12*ms {
			t.Errorf("multiplier %d: gaps from %s to %s", multiplier, shortest, longest)
		}
	}
}

func TestProfileErrors(t *testing.T) {
	for want, p := range map[string]Profile{
		"transmit: 9ms":     {Transmit: 9 * ms},
		"receive: 1m0.001s": {Receive: time.Minute + ms},
		"transmit: 20.0001": {Transmit: 20*ms + 100},
		"minimumTTL: 255":   {MinimumTTL: 255},
	} {
		if _, err := NewSession(p, 7, longest); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if _, err := NewSession(fast, 0, longest); err == nil {
		t.Error("discriminator 0 taken")
	}
	if _, err := in(t, fast, Up).Configure(start, Profile{Receive: ms}); err == nil {
		t.Error("configured with a receive interval of 1ms")
	}
}

// Two sessions with a quarter of the packets lost come up, stay up, and see when the
// other one stops; whatever the jitter.
func TestPair(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 5))
		w := newPair(t, random)
		w.lost = func() bool { return random.IntN(4) == 0 }
		w.run(20 * time.Second)
		if w.ends[0].State() != Up || w.ends[1].State() != Up {
			t.Fatalf("seed %d: %s and %s", seed, w.ends[0].State(), w.ends[1].State())
		}
		w.lost = func() bool { return true }
		w.run(10*50*ms + ms)
		if w.ends[0].State() != Down || w.ends[1].State() != Down {
			t.Fatalf("seed %d: %s and %s, cut off", seed, w.ends[0].State(), w.ends[1].State())
		}
	}
}

// pair is two sessions with 1 ms between them.
type pair struct {
	t     testing.TB
	now   time.Time
	ends  [2]*Session
	next  [2]time.Time
	lost  func() bool
	lines [2][]flying // towards an end
}

type flying struct {
	at     time.Time
	packet Packet
}

func newPair(t testing.TB, random *rand.Rand) *pair {
	w := &pair{t: t, now: start}
	for i := range w.ends {
		p := fast
		p.Multiplier = 10 // not down by chance with a quarter lost
		var err error
		if w.ends[i], err = NewSession(p, uint32(i+1), random.Float64); err != nil {
			t.Fatal(err)
		}
		w.next[i] = start
	}
	return w
}

func (w *pair) run(d time.Duration) {
	for end := w.now.Add(d); w.now.Before(end); w.now = w.now.Add(ms) {
		for i, s := range w.ends {
			for len(w.lines[i]) > 0 && !w.lines[i][0].at.After(w.now) {
				p := w.lines[i][0].packet
				w.lines[i] = w.lines[i][1:]
				w.do(i, receive1(w.t, s, w.now, p))
			}
			if !w.next[i].After(w.now) {
				w.do(i, s.Tick(w.now))
			}
		}
	}
}

func (w *pair) do(i int, step Step) {
	if step.Send && !w.lost() {
		w.lines[1-i] = append(w.lines[1-i], flying{w.now.Add(ms), step.Packet})
	}
	w.next[i] = step.Next
}

// Whatever comes, and whenever: what RFC 5880 says of every packet holds, the
// clock goes on, and silence ends a session.
func FuzzSession(f *testing.F) {
	f.Add([]byte{0, 1, 0, 3, 1, 9, 0, 2, 50, 3, 1, 9, 2, 0, 50, 0, 0, 0}, false)
	f.Add([]byte{1, 1, 0, 3, 1, 9, 3, 4, 5, 6, 7, 8}, true)
	f.Fuzz(func(t *testing.T, script []byte, passive bool) {
		p := fast
		p.Passive = passive
		s := newSession(t, p)
		now := start
		for ; len(script) >= 6; script = script[6:] {
			now = now.Add(time.Duration(script[1]) * ms)
			before := s.State()
			var step Step
			switch script[0] % 4 {
			case 0, 1:
				packet := Packet{
					State: State(script[2] & 3), Poll: script[2]&4 != 0, Final: script[2]&8 != 0, Demand: script[2]&16 != 0,
					Multiplier: max(script[3], 1), Mine: uint32(script[4]) + 1, Yours: 7,
					DesiredTx: time.Duration(script[5]) * ms, RequiredRx: time.Duration(script[4]) * ms,
				}
				step = receive1(t, s, now, packet)
				if packet.Poll && !(step.Send && step.Packet.Final) {
					t.Fatal("a poll is not answered")
				}
			case 2:
				step = s.Tick(now)
			case 3:
				var err error
				p.Transmit, p.Receive, p.Multiplier = time.Duration(script[2])*ms+minInterval, time.Duration(script[3])*ms+minInterval, max(script[4], 1)
				if step, err = s.Configure(now, p); err != nil {
					t.Fatal(err)
				}
			}
			checkStep(t, s, now, before, step)
		}
		now = now.Add(max(s.Detection(), slowTx))
		s.Tick(now)
		if s.State() != Down {
			t.Fatalf("%s after a detection time without a packet", s.State())
		}
	})
}

func checkStep(t *testing.T, s *Session, now time.Time, before State, step Step) {
	t.Helper()
	p := step.Packet
	switch {
	case before != s.State() && !step.Send:
		t.Fatalf("%s after %s, and nothing sent", s.State(), before)
	case step.Send && (p.Poll && p.Final || p.Demand || p.Mine != 7 || p.State != s.State() || p.Multiplier == 0):
		t.Fatalf("sends %+v", p)
	case step.Send && p.State != Up && (p.Poll || p.DesiredTx < slowTx):
		t.Fatalf("not up, sends %+v", p)
	case step.Next.Before(now) && !step.Next.IsZero():
		t.Fatalf("next %s ago", now.Sub(step.Next))
	case step.Next.IsZero() && s.remote.discriminator != 0:
		t.Fatal("nothing ends the session")
	case s.State() == Up && s.Interval() < s.profile.Transmit && !s.polling:
		t.Fatalf("interval %s, want %s or more", s.Interval(), s.profile.Transmit)
	}
}
