// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"container/heap"
	"errors"
	"slices"

	"github.com/fairlead/fairlead/lb"
)

// pasts are the services whose record says that their slots have a past, a heap
// by the tick at which it is over. Every service knows its place in it.
type pasts []*service

// Len is heap.Interface.
func (p pasts) Len() int { return len(p) }

// Less is heap.Interface.
func (p pasts) Less(i, j int) bool { return !reached(p[i].pastUntil, p[j].pastUntil) }

// Swap is heap.Interface.
func (p pasts) Swap(i, j int) {
	p[i], p[j] = p[j], p[i]
	p[i].pastPlace, p[j].pastPlace = i, j
}

// Push is heap.Interface.
func (p *pasts) Push(s any) {
	one := s.(*service)
	one.pastPlace = len(*p)
	*p = append(*p, one)
}

// Pop is heap.Interface.
func (p *pasts) Pop() any {
	old := *p
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*p = old[:len(old)-1]
	return last
}

// set notes until when a service has a past; 0: it has none.
func (p *pasts) set(s *service, until uint32) {
	had := s.pastUntil != 0
	switch {
	case until == s.pastUntil:
	case until == 0:
		heap.Remove(p, s.pastPlace)
		s.pastUntil = 0
	case had:
		s.pastUntil = until
		heap.Fix(p, s.pastPlace)
	default:
		s.pastUntil = until
		heap.Push(p, s)
	}
}

// due appends the services whose past is over at now. It looks at no others but
// their neighbours in the heap.
func (p pasts) due(now uint32, place int, list []*service) []*service {
	if place >= len(p) || !reached(now, p[place].pastUntil) {
		return list
	}
	return p.due(now, 2*place+2, p.due(now, 2*place+1, append(list, p[place])))
}

// Expire forgets the past of the services whose time is over at now: their
// tables are rewritten without. It does nothing before the first Sync. What
// fails is retried by the next Sync.
func (d *Dataplane) Expire(now uint32) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.table == nil {
		return nil
	}
	var due []lb.ServiceKey
	for _, s := range d.pasts.due(now, 0, nil) {
		if !d.dirty[s.key] {
			due = append(due, s.key)
		}
	}
	slices.SortFunc(due, lb.ServiceKey.Compare)
	var errs []error
	for _, key := range due {
		if err := d.applyService(d.table.Service(key), now); err != nil {
			d.dirty[key] = true
			errs = append(errs, &lb.ServiceError{Key: key, Err: err})
		}
	}
	return errors.Join(errs...)
}

// NextExpiry is the tick at which Expire has something to do next; ok is false
// when nothing has a past. Services that wait for a Sync to retry them do not count.
func (d *Dataplane) NextExpiry() (tick uint32, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.table == nil || len(d.pasts) == 0 {
		return 0, false
	}
	if first := d.pasts[0]; !d.dirty[first.key] {
		return first.pastUntil, true
	}
	for _, s := range d.pasts {
		if !d.dirty[s.key] && (!ok || reached(tick, s.pastUntil)) {
			tick, ok = s.pastUntil, true
		}
	}
	return tick, ok
}
