// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead/fairlead/lb"
)

// vip is who is on a VIP.
type vip struct {
	forwarded int              // service ports
	left      map[*service]int // ports that are kube-proxy's
}

// Apply returns what leads from the services given out so far to what the
// objects say now. It costs in proportion to the Services that changed.
func (s *State) Apply(now time.Time) lb.Delta {
	var d lb.Delta
	if s.dirtyAll {
		s.shareNodes()
		for _, one := range s.services {
			if one.object != nil {
				s.touch(one)
			}
		}
	}
	s.dirtyAll = false
	s.expire(now)
	emit := s.evaluate(now)
	if s.adopted != nil {
		s.adopt()
		maps.Copy(emit, s.evaluate(now))
	}
	d.PutNodes, d.DeleteNodes = s.nodesDelta()
	put, gone := map[lb.ServiceKey]lb.Service{}, map[lb.ServiceKey]bool{}
	for one := range emit {
		s.emit(one, put, gone)
	}
	for _, key := range slices.SortedFunc(maps.Keys(put), lb.ServiceKey.Compare) {
		d.PutServices = append(d.PutServices, put[key])
	}
	for _, key := range slices.SortedFunc(maps.Keys(gone), lb.ServiceKey.Compare) {
		if _, again := put[key]; !again {
			d.DeleteServices = append(d.DeleteServices, key)
		}
	}
	return d
}

// expire touches services whose vanished endpoints have had their time.
func (s *State) expire(now time.Time) {
	for one := range s.vanished {
		if slices.ContainsFunc(one.kept, func(k kept) bool { return k.pod == "" && !now.Before(k.until) }) {
			s.touch(one)
		}
	}
}

// evaluate brings dirty services up to date and returns those that may look
// different now, also because of a change in another one.
func (s *State) evaluate(now time.Time) map[*service]bool {
	emit := map[*service]bool{}
	for one := range s.dirty {
		s.vanish(one, now)
		one.before = nil
		rows, problems := []lb.Service(nil), []Problem(nil)
		if one.object != nil {
			service, found := evaluate(s, one.object, one.slices, s.drains(one))
			problems = found
			for row := range service.Rows() {
				rows = append(rows, row)
			}
			slices.SortFunc(rows, func(a, b lb.Service) int { return a.Key.Compare(b.Key) })
		}
		s.claim(one, rows, emit)
		one.rows, one.own = rows, problems
		emit[one] = true
	}
	clear(s.dirty)
	return emit
}

// claim gives up what the service claimed and claims rows. Others whom that
// concerns go into emit.
func (s *State) claim(one *service, rows []lb.Service, emit map[*service]bool) {
	recreated := one.object != nil && !one.created.Equal(one.object.CreationTimestamp.Time)
	for i := range one.rows {
		if _, again := find(rows, one.rows[i].Key); !again || recreated {
			s.unclaimKey(one, one.rows[i].Key, emit)
		}
		s.leaveVIP(one, &one.rows[i], emit)
	}
	if recreated {
		one.created = one.object.CreationTimestamp.Time
	}
	for i := range rows {
		s.claimKey(one, rows[i].Key, emit)
		s.joinVIP(one, &rows[i], emit)
	}
}

func (s *State) claimKey(one *service, key lb.ServiceKey, emit map[*service]bool) {
	claims := s.keys[key]
	if slices.Contains(claims, one) {
		return
	}
	claims = append(claims, one)
	slices.SortFunc(claims, older)
	s.keys[key] = claims
	for _, other := range claims {
		emit[other] = true
	}
}

func (s *State) unclaimKey(one *service, key lb.ServiceKey, emit map[*service]bool) {
	claims := slices.DeleteFunc(s.keys[key], func(other *service) bool { return other == one })
	for _, other := range claims {
		emit[other] = true
	}
	if len(claims) == 0 {
		delete(s.keys, key)
	} else {
		s.keys[key] = claims
	}
}

func (s *State) joinVIP(one *service, row *lb.Service, emit map[*service]bool) {
	v := s.vips[row.Key.VIP]
	if v == nil {
		v = &vip{left: map[*service]int{}}
		s.vips[row.Key.VIP] = v
	}
	if row.Left {
		v.left[one]++
		return
	}
	if v.forwarded++; v.forwarded == 1 {
		v.look(emit)
	}
}

// look has the services with ports that are kube-proxy's looked at again.
func (v *vip) look(emit map[*service]bool) {
	for one := range v.left {
		emit[one] = true
	}
}

func (s *State) leaveVIP(one *service, row *lb.Service, emit map[*service]bool) {
	v := s.vips[row.Key.VIP]
	if row.Left {
		if v.left[one]--; v.left[one] == 0 {
			delete(v.left, one)
		}
	} else if v.forwarded--; v.forwarded == 0 {
		v.look(emit)
	}
	if v.forwarded == 0 && len(v.left) == 0 {
		delete(s.vips, row.Key.VIP)
	}
}

// emit brings what is given out of a service up to date, with what others leave
// to it: a service port is the oldest Service's, and one that is kube-proxy's is
// known to the datapath only on a VIP that forwards something.
func (s *State) emit(one *service, put map[lb.ServiceKey]lb.Service, gone map[lb.ServiceKey]bool) {
	problems := slices.Clone(one.own)
	var out []lb.Service
	for _, row := range one.rows {
		if first := s.keys[row.Key][0]; first != one {
			problems = append(problems, Problem{Reason: ReasonPortConflict,
				Message: fmt.Sprintf("%s is Service %s's, which is older", row.Key, first.name)})
			continue
		}
		if !row.Left || s.vips[row.Key.VIP].forwarded > 0 {
			out = append(out, row)
		}
	}
	if problems = sorted(problems); !slices.Equal(problems, one.problems) {
		one.problems = problems
		s.worsened[one.name] = true
	}
	for _, row := range one.out {
		if i, found := find(out, row.Key); !found {
			gone[row.Key] = true
		} else if same(&row, &out[i]) {
			continue
		}
	}
	for _, row := range out {
		if i, found := find(one.out, row.Key); !found || !same(&row, &one.out[i]) {
			put[row.Key] = row
		}
	}
	one.out, one.counted = out, false
	if one.object == nil && len(one.slices) == 0 {
		delete(s.services, one.name)
	}
}

// find looks for a key among sorted rows.
func find(rows []lb.Service, key lb.ServiceKey) (int, bool) {
	return slices.BinarySearchFunc(rows, key, func(row lb.Service, k lb.ServiceKey) int { return row.Key.Compare(k) })
}

// same says that nothing differs.
func same(a, b *lb.Service) bool {
	return a.Key == b.Key && a.Name == b.Name && a.Policy == b.Policy && a.Affinity == b.Affinity && a.TableSize == b.TableSize &&
		a.Left == b.Left && slices.Equal(a.Backends, b.Backends) && (a.SourceRanges == nil) == (b.SourceRanges == nil) &&
		slices.Equal(a.SourceRanges, b.SourceRanges)
}

var _ facts = (*State)(nil)

// VIPs are all addresses that Services of ours have, those included whose ports
// are all kube-proxy's; sorted.
func (s *State) VIPs() []netip.Addr { return slices.SortedFunc(maps.Keys(s.vips), netip.Addr.Compare) }
