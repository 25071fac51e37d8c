// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"bufio"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/fairlead/fairlead/announce/bgp/guard"
)

// Tuning.
const (
	// lastWords bounds how long the end of a session waits for the router to
	// take the NOTIFICATION and to close.
	lastWords = time.Second
	// establishing bounds how long a router that took the connection may take to
	// establish the session. gobgp would wait 240 s for the OPEN.
	establishing = 30 * time.Second
)

// openHoldTime is where an OPEN has its hold time (RFC 4271 section 4.2).
const openHoldTime = guard.HeaderLen + 3

// ending is why a session ends.
type ending struct {
	err error
	// notify tells the router, unless its code is 0.
	notify guard.Notification
}

func (e ending) Error() string { return e.err.Error() }
func (e ending) Unwrap() error { return e.err }

// session relays between a router and an engine: all that the engine says, and
// of what the router says that which the guard lets through.
type session struct {
	settings
	hold          time.Duration
	router, inner net.Conn
	fromInner     *bufio.Reader
	// heard is told of every message of the router. Established is the guard's.
	heard func(r guard.Reason, g *guard.Guard)

	guard guard.Guard
	// writing is held for a whole message to the router; broken says that one
	// was cut off.
	writing sync.Mutex
	broken  bool
	// deadline is held while one is set; ending says that the last one is.
	deadline sync.Mutex
	ending   bool
}

// readMessage reads the next message into b.
func readMessage(r *bufio.Reader, b []byte) ([]byte, error) {
	b = slices.Grow(b[:0], guard.MaxLen)[:guard.HeaderLen]
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, err
	}
	length, _, err := guard.ParseHeader(b)
	if err != nil {
		return nil, err
	}
	b = b[:length]
	_, err = io.ReadFull(r, b[guard.HeaderLen:])
	return b, err
}

// run relays until the session ends and says why. open is the engine's OPEN.
// Both connections are closed then.
func (s *session) run(ctx context.Context, open []byte) error {
	ended := make(chan ending, 2)
	var relays sync.WaitGroup
	relays.Go(func() { ended <- s.relayIn() })
	relays.Go(func() { ended <- s.relayOut(open) })
	var why ending
	select {
	case why = <-ended:
	case <-ctx.Done():
		if !errors.As(context.Cause(ctx), &why) {
			why = ending{err: context.Cause(ctx)}
		}
	}
	s.end(why.notify)
	relays.Wait()
	return why.err
}

// end closes both connections, the router's in order where there is something
// to say: what was not read would make the kernel's last word a reset, which may
// overtake the NOTIFICATION.
func (s *session) end(n guard.Notification) {
	if n.Code != 0 {
		s.deadline.Lock()
		s.ending = true
		s.router.SetDeadline(time.Now().Add(lastWords))
		s.deadline.Unlock()
		s.writing.Lock()
		if !s.broken {
			s.router.Write(n.Append(nil))
		}
		s.writing.Unlock()
		if c, ok := s.router.(interface{ CloseWrite() error }); ok && c.CloseWrite() == nil {
			io.Copy(io.Discard, s.router)
		}
	}
	s.router.Close()
	s.inner.Close()
}

// relayIn relays from the router, until an error.
func (s *session) relayIn() ending {
	r := bufio.NewReaderSize(s.router, 64<<10)
	s.until(s.router.SetReadDeadline, time.Now().Add(establishing))
	var in, out []byte
	for waiting := true; ; {
		var err error
		if in, err = readMessage(r, in); err != nil {
			return readEnding(err)
		}
		var reason guard.Reason
		out, reason, err = s.guard.Judge(out[:0], in, time.Now())
		s.heard(reason, &s.guard)
		if err != nil {
			return judgedEnding(err, reason, in)
		}
		if waiting && s.guard.Established() {
			waiting = false
			s.until(s.router.SetReadDeadline, time.Time{})
		}
		if reason == guard.ReasonOpen {
			if e := s.checkOpen(); e.err != nil {
				return e
			}
			s.endless(out)
		}
		if len(out) == 0 {
			continue
		}
		if _, err := s.inner.Write(out); err != nil {
			return ending{err: fmt.Errorf("gobgp closed the session: %w", err)}
		}
	}
}

// readEnding is that of a router that sends no more, or nonsense.
func readEnding(err error) ending {
	switch {
	case errors.Is(err, guard.ErrMalformed):
		return ending{err, guard.Notification{Code: guard.CodeHeader}}
	case errors.Is(err, io.EOF):
		return ending{err: errors.New("router closed the connection")}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return ending{err: fmt.Errorf("router took the connection and no session for %v", establishing)}
	}
	return ending{err: fmt.Errorf("read from router: %w", err)}
}

// judgedEnding is that of a message that the guard ends the session for.
func judgedEnding(err error, r guard.Reason, message []byte) ending {
	code := uint8(guard.CodeHeader)
	switch {
	case !errors.Is(err, guard.ErrMalformed):
		return ending{err: err} // a NOTIFICATION
	case r == guard.ReasonOutOfOrder:
		code = guard.CodeFSM
	case guard.Type(message[guard.HeaderLen-1]) == guard.TypeOpen:
		code = guard.CodeOpen
	}
	return ending{err, guard.Notification{Code: code}}
}

// checkOpen says what makes a session with this router useless. gobgp would
// take any AS number where none is given, and IPv4 where no family is common.
func (s *session) checkOpen() ending {
	open := s.guard.Open()
	if err := s.accepts(open.ASN); err != nil {
		return ending{err, guard.Notification{Code: guard.CodeOpen, Subcode: guard.OpenBadPeerAS}}
	}
	if !slices.ContainsFunc(s.families(), open.Has) {
		return ending{
			fmt.Errorf("router speaks none of %v", s.families()),
			guard.Notification{Code: guard.CodeOpen, Subcode: guard.OpenUnsupported},
		}
	}
	return ending{}
}

// endless writes a hold time of 0 into an OPEN where that is wanted: gobgp has
// none, but goes along if both sides say so.
func (s *session) endless(open []byte) {
	if s.hold == 0 {
		binary.BigEndian.PutUint16(open[openHoldTime:], 0)
	}
}

// relayOut relays from the engine, until an error.
func (s *session) relayOut(open []byte) ending {
	s.endless(open)
	said := errors.New("gobgp closed the session")
	for out := open; ; {
		if err := s.say(out); err != nil {
			return ending{err: fmt.Errorf("write to router: %w", err)}
		}
		if guard.Type(out[guard.HeaderLen-1]) == guard.TypeNotification {
			if n, err := guard.ParseNotification(out); err == nil {
				said = errors.New("sent NOTIFICATION " + n.String())
			}
		}
		var err error
		if out, err = readMessage(s.fromInner, out); err != nil {
			return ending{err: said}
		}
	}
}

// until sets a deadline, unless the session ends.
func (s *session) until(set func(time.Time) error, t time.Time) {
	s.deadline.Lock()
	defer s.deadline.Unlock()
	if !s.ending {
		set(t)
	}
}

// say writes one message to the router. One that takes nothing for the hold
// time is as good as gone (RFC 9687), and gobgp cannot see it.
func (s *session) say(message []byte) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.until(s.router.SetWriteDeadline, time.Now().Add(cmp.Or(s.hold, defaultHoldTime)))
	n, err := s.router.Write(message)
	s.broken = n != len(message)
	return err
}
