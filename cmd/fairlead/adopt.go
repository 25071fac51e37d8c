// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/xdp"
)

// When conntrack is asked about services that were taken over from kube-proxy:
// at first when packets that were on their way to kube-proxy have come there.
const (
	adoptionFirst = time.Second
	adoptionEvery = time.Minute
)

// clients are the far ends of connections.
type clients map[netip.AddrPort]struct{}

// adoption follows services that were taken over from kube-proxy until it has
// none of their connections any more. Connections that begin later are those of
// clients inside the cluster, which stay kube-proxy's: only those count that
// were there when conntrack was asked for the first time.
type adoption struct {
	next time.Time // when conntrack is to be asked; zero: no service is adopted
	left map[lb.ServiceKey]clients
}

// begin notices services that are adopted since it was called last, and forgets
// those that are not adopted any more.
func (a *adoption) begin(adopted []lb.ServiceKey, now time.Time) {
	left := make(map[lb.ServiceKey]clients, len(a.left))
	for _, key := range adopted {
		if c, known := a.left[key]; known {
			left[key] = c
		} else if first := now.Add(adoptionFirst); a.next.IsZero() || first.Before(a.next) {
			a.next = first
		}
	}
	a.left = left
}

// look asks conntrack, and returns the services that kube-proxy has no
// connection of any more.
func (a *adoption) look(adopted []lb.ServiceKey, connections func(func(xdp.Connection)) error) (done []lb.ServiceKey, err error) {
	left := make(map[lb.ServiceKey]clients, len(adopted))
	for _, key := range adopted {
		left[key] = clients{}
	}
	err = connections(func(c xdp.Connection) {
		now, ok := left[c.Service]
		if !ok {
			return
		}
		before, known := a.left[c.Service]
		if _, was := before[c.Client]; was || !known {
			now[c.Client] = struct{}{}
		}
	})
	switch {
	case errors.Is(err, xdp.ErrNoConntrack): // nor can kube-proxy have any
		left = map[lb.ServiceKey]clients{}
		done = adopted
	case err != nil:
		return nil, err
	}
	for key, c := range left {
		if len(c) == 0 {
			done = append(done, key)
			delete(left, key)
		}
	}
	a.left = left
	slices.SortFunc(done, lb.ServiceKey.Compare)
	return done, nil
}

// followAdoption asks conntrack if it is time to.
func (a *agent) followAdoption(now time.Time) {
	if a.adoption.next.IsZero() || now.Before(a.adoption.next) {
		return
	}
	adopted := a.plane.Adopted()
	done, err := a.adoption.look(adopted, a.datapath.Connections)
	if err != nil {
		a.log.Warn("ask conntrack about services taken over from kube-proxy", "err", err, "retry", adoptionEvery)
	}
	if err := a.plane.EndAdoption(done); err != nil {
		a.failed("end adoption", err)
	}
	a.adoption.next = time.Time{}
	if len(done) < len(adopted) {
		a.adoption.next = now.Add(adoptionEvery)
	}
	a.reportAdoption(a.plane.Adopted())
}

// reportAdoption publishes how many connections kube-proxy has of each service.
func (a *agent) reportAdoption(adopted []lb.ServiceKey) {
	counts := make(map[lb.ServiceKey]int, len(adopted))
	for _, key := range adopted {
		counts[key] = len(a.adoption.left[key])
	}
	a.change(func(s *state) { s.adopted = counts })
}
