// SPDX-License-Identifier: Apache-2.0

package dataplane

// pool gives out numbers below limit. All of them stand in one queue, fresh ones
// first and freed ones behind them in the order in which they were freed, so
// that a reader of an old number has as much time as can be.
type pool struct {
	next, limit uint32
	taken       map[uint32]bool // given out at next or above: taken over at start
	freed       []uint32
}

// newPool gives out from first on, without those that are taken already.
func newPool(first uint32, limit int, taken map[uint32]bool) pool {
	return pool{next: first, limit: uint32(max(limit, 0)), taken: taken}
}

func (p *pool) take() (uint32, bool) {
	for p.next < p.limit {
		id := p.next
		p.next++
		if !p.taken[id] {
			return id, true
		}
		delete(p.taken, id)
	}
	if len(p.freed) == 0 {
		return 0, false
	}
	id := p.freed[0]
	p.freed = p.freed[1:]
	return id, true
}

func (p *pool) give(id uint32) { p.freed = append(p.freed, id) }
