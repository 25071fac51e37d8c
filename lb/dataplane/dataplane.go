// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/fairlead/fairlead/lb"
)

// Tick is the unit of all times in a datapath: 2^26 ns.
const Tick = 1 << 26 * time.Nanosecond

// ErrFull is wrapped by the errors of Sync that say that a datapath has no place
// left for something; the error names what, and the limit.
var ErrFull = errors.New("datapath full")

// Options are what New needs besides the Maps.
type Options struct {
	// PastTicks is how long slots remember their earlier backends after a
	// change, below 1<<31; 0: they do not.
	PastTicks uint32
	// Now is the datapath's clock in ticks; it may wrap.
	Now func() uint32
	// Adopt makes every service an adopted one that is new to the datapath, or
	// was left to kube-proxy: connections that conntrack knows stay with
	// kube-proxy until EndAdoption.
	Adopt bool
	// Logger hears what was taken over and what of it was not usable; nil is
	// silent. Errors of Sync are returned, not logged.
	Logger *slog.Logger
}

// Dataplane makes a datapath follow Tables. It is the only writer of its Maps.
// Its methods may be called from several goroutines; they wait for each other.
type Dataplane struct {
	mu   sync.Mutex
	maps Maps
	opts Options

	limits Limits
	table  *lb.Table // of the last Sync; nil before the first

	nodes        map[string]*node
	strayNodes   map[netip.Addr]*node // taken over and not claimed yet
	dirtyNodes   map[string]bool
	idleNodes    map[lb.NodeID]*node // not wanted: to delete when no backend is there
	nodeIDs      pool
	backends     map[BackendEntry]*backend
	idleBackends map[lb.BackendID]*backend // claimed by no service
	backendIDs   pool
	services     map[lb.ServiceKey]*service
	orphans      map[lb.ServiceID]*service // remains of services without a key
	dirty        map[lb.ServiceKey]bool
	pasts        pasts
	serviceIDs   pool
	adopted      map[lb.ServiceKey]bool
	vips         map[netip.Addr]*vip
	idleVIPs     map[netip.Addr]*vip
	regions      regions
}

// New takes over what the maps hold, ids and history included. It writes
// nothing: what the table lacks is pruned by the first Sync.
func New(m Maps, opts Options) (*Dataplane, error) {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	state, err := m.Load()
	if err != nil {
		return nil, fmt.Errorf("load the datapath's state: %w", err)
	}
	d := &Dataplane{
		maps:         m,
		opts:         opts,
		limits:       m.Limits(),
		nodes:        map[string]*node{},
		strayNodes:   map[netip.Addr]*node{},
		dirtyNodes:   map[string]bool{},
		idleNodes:    map[lb.NodeID]*node{},
		backends:     map[BackendEntry]*backend{},
		idleBackends: map[lb.BackendID]*backend{},
		services:     map[lb.ServiceKey]*service{},
		orphans:      map[lb.ServiceID]*service{},
		dirty:        map[lb.ServiceKey]bool{},
		adopted:      map[lb.ServiceKey]bool{},
		vips:         map[netip.Addr]*vip{},
		idleVIPs:     map[netip.Addr]*vip{},
	}
	d.takeOver(state)
	return d, nil
}

// Sync makes the datapath follow the table. It is idempotent, and what fails
// does not keep the rest from being done: the errors come joined, and the next
// Sync, with this table or a later one, retries what failed and only that; what
// is about a service is a *lb.ServiceError. It costs in proportion to what changed
// since the last one, but for one comparison of pointers for each service that
// the two tables share (lb.Table.Update).
func (d *Dataplane) Sync(t *lb.Table) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mark(t)
	errs := d.syncNodes()
	errs = append(errs, d.syncServices()...)
	return errors.Join(errs...)
}

// mark makes t the wanted table and remembers what there is to do for it.
func (d *Dataplane) mark(t *lb.Table) {
	from := d.table
	if from == nil || from.Self() != t.Self() || !slices.Equal(from.SelfAddrs(), t.SelfAddrs()) {
		from = nil
		d.markAll(t)
	}
	d.table = t
	delta := from.Diff(t)
	for _, n := range delta.PutNodes {
		d.dirtyNodes[n.Name] = true
	}
	for _, name := range delta.DeleteNodes {
		d.dirtyNodes[name] = true
	}
	for _, s := range delta.PutServices {
		d.dirty[s.Key] = true
	}
	for _, key := range delta.DeleteServices {
		d.dirty[key] = true
	}
}

// markAll marks what is held: a Diff from nothing does not name what is gone.
func (d *Dataplane) markAll(t *lb.Table) {
	for name := range d.nodes {
		d.dirtyNodes[name] = true
	}
	for key := range d.services {
		d.dirty[key] = true
	}
}

// syncServices does what is dirty and then collects what nobody uses any more.
// Where a place was missing and the collection has made room, it tries again.
func (d *Dataplane) syncServices() []error {
	before := d.regions.releases
	failed := d.apply(slices.SortedFunc(maps.Keys(d.dirty), lb.ServiceKey.Compare))
	freed, errs := d.collect()
	freed = freed || d.regions.releases != before
	var again []lb.ServiceKey
	for key, err := range failed {
		if freed && errors.Is(err, ErrFull) {
			again = append(again, key)
		}
	}
	if len(again) > 0 {
		slices.SortFunc(again, lb.ServiceKey.Compare)
		for _, key := range again {
			delete(failed, key)
		}
		maps.Copy(failed, d.apply(again))
		_, errs = d.collect()
	}
	for _, key := range slices.SortedFunc(maps.Keys(failed), lb.ServiceKey.Compare) {
		errs = append(errs, &lb.ServiceError{Key: key, Err: failed[key]})
	}
	return errs
}

// apply brings services to what the table wants, those to delete first. What
// fails is dirty afterwards, what succeeds is not.
func (d *Dataplane) apply(keys []lb.ServiceKey) map[lb.ServiceKey]error {
	failed := map[lb.ServiceKey]error{}
	done := func(key lb.ServiceKey, err error) {
		if err != nil {
			failed[key], d.dirty[key] = err, true
		} else {
			delete(d.dirty, key)
		}
	}
	now := d.opts.Now()
	for _, key := range keys {
		if d.table.Service(key) == nil {
			done(key, d.removeService(key))
		}
	}
	for _, key := range keys {
		if want := d.table.Service(key); want != nil {
			done(key, d.applyService(want, now))
		}
	}
	return failed
}

// ServiceID is the id under which the datapath counts for a service port.
func (d *Dataplane) ServiceID(key lb.ServiceKey) (lb.ServiceID, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.services[key]
	if s == nil || s.entry.state == absent {
		return 0, false
	}
	return s.id, true
}
