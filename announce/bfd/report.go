// SPDX-License-Identifier: Apache-2.0

package bfd

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Report is how the sessions do.
type Report struct {
	Sessions []SessionReport // by address, source, interface and hops
	Dropped  map[Drop]uint64 // received packets, without those of no reason
}

// SessionReport is how a session does.
type SessionReport struct {
	Path
	State, PeerState                 State
	Diag, PeerDiag                   Diag
	Since                            time.Time     // of State
	Discriminator, PeerDiscriminator uint32        // the peer's is 0 while it is not heard
	Interval                         time.Duration // between packets sent, before jitter
	Detection                        time.Duration // after which the peer is given up; 0: not heard
	Sent, Received, SendErrors       uint64
	Downs                            uint64 // how often the session was up and is not
	Err                              error  // why the last packet could not be sent; nil: it was
}

// Report returns a copy.
func (s *Server) Report() Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := Report{Dropped: maps.Clone(s.dropped)}
	for _, one := range s.sessions {
		o := one.report
		o.State, o.Diag = one.session.State(), one.session.Diag()
		o.PeerState, o.PeerDiag, o.PeerDiscriminator = one.session.remote.state, one.session.remote.diag, one.session.remote.discriminator
		o.Interval, o.Detection = one.session.Interval(), one.session.Detection()
		r.Sessions = append(r.Sessions, o)
	}
	slices.SortFunc(r.Sessions, func(a, b SessionReport) int { return a.Path.compare(b.Path) })
	return r
}

func (p Path) compare(q Path) int {
	return cmp.Or(p.Addr.Compare(q.Addr), p.Source.Compare(q.Source), cmp.Compare(p.Interface, q.Interface), cmp.Compare(port(p.Multihop), port(q.Multihop)))
}
