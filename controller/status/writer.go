// SPDX-License-Identifier: Apache-2.0

package status

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
	"github.com/fairlead/fairlead/controller/config"
	"github.com/fairlead/fairlead/controller/ipam"
	"github.com/fairlead/fairlead/controller/watch/cluster"
)

const (
	// writers is how many requests are under way at once. The API server takes
	// about as many of one client before it queues them.
	writers = 16
	// batch is how many Services are written in one pass: what comes in
	// meanwhile waits for the pass, not for all that there is to do.
	batch = 256
	// oldView is after how long a Service is looked at again whose writes were
	// refused because it had changed.
	oldView = time.Second
)

// Options are what a Writer needs.
type Options struct {
	Client    client.Client
	Reader    client.Reader // of the API server itself, not of a cache
	Recorder  events.EventRecorder
	Namespace string // Fairlead's own
	Log       *slog.Logger
	// Delay is how long a freed address rests.
	Delay time.Duration
	// TwoPools lets dual-stack Services have addresses of two pools.
	TwoPools bool
	Metrics  *Metrics // nil: none
}

// Writer carries decisions out. It is for one goroutine at a time.
type Writer struct {
	Options
	watcher *cluster.Watcher
	book    *book

	pools  []*ipam.Pool
	result ipam.Result
	from   revisions // what result was made from
	// counted is what the metrics were made from.
	counted revisions
	// validity is what checked says of the objects of our own kinds.
	validity config.Result
	checked  uint64
	todo     map[types.NamespacedName]bool
	// idle are claims that no Service is to have any more.
	idle []idle
	// at is the time of the pass.
	at time.Time
}

// revisions name the input of an allocation.
type revisions struct{ objects, configured, book uint64 }

// idle is a claim to be withdrawn.
type idle struct {
	addr   netip.Addr
	holder v1beta1.AddressHolder
}

// NewWriter returns a Writer that has read nothing yet.
func NewWriter(w *cluster.Watcher, o Options) *Writer {
	return &Writer{
		Options: o, watcher: w, todo: map[types.NamespacedName]bool{},
		book: &book{client: o.Client, reader: o.Reader, namespace: o.Namespace, log: o.Log, stale: true},
	}
}

// Pass looks at everything once: snapshot, allocation, writes. It returns when
// to look again although nothing changes, zero for never. With an error, which
// joins all that went wrong, the rest was done nevertheless, and what failed is
// to be tried again soon.
func (w *Writer) Pass(ctx context.Context, now time.Time) (again time.Time, err error) {
	w.at = now
	s := w.watcher.Snapshot(now)
	for _, name := range s.Touched {
		w.todo[name] = true
	}
	if err := w.book.load(ctx); err != nil {
		return time.Time{}, err
	}
	w.allocate(s)
	p := newPass(w, s)
	p.run(ctx)
	errs := append(p.errs, w.writeObjects(ctx, s))
	again = earliest(w.result.Again, s.Again)
	switch {
	case p.more && len(p.errs) == 0:
		again = now
	case len(w.todo) > 0:
		// Informers bring what is awaited, and this is for the case that they do not.
		again = earliest(again, now.Add(oldView))
	}
	return again, errors.Join(errs...)
}

func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// allocate asks for a new Result, if anything that it depends on changed, and
// notes whom it concerns.
func (w *Writer) allocate(s *cluster.Snapshot) {
	from := revisions{s.Revision, s.Configured, w.book.revision}
	if from == w.from && (w.result.Again.IsZero() || w.at.Before(w.result.Again)) {
		return
	}
	if from.configured != w.from.configured {
		w.pools = w.pools[:0]
		for _, o := range s.Config.Pools {
			pool, _ := ipam.NewPool(o) // what is wrong is in the pool's condition
			w.pools = append(w.pools, pool)
		}
	}
	st := &ipam.State{Pools: w.pools, Namespaces: s.Namespaces, Now: w.at, Delay: w.Delay, TwoPools: w.TwoPools}
	st.Claims, st.Freed = w.book.claims()
	for _, one := range s.Services {
		if one.Ours {
			st.Services = append(st.Services, one.IPAM)
		}
	}
	before := w.result.Assignments
	w.result, w.from = ipam.Allocate(st), from
	for _, one := range s.Services {
		if !one.Ours {
			continue
		}
		old, known := before[string(one.Object.UID)]
		if now := w.result.Assignments[string(one.Object.UID)]; !known || !same(&old, &now) {
			w.todo[one.Name] = true
		}
	}
	w.findIdle()
}

func same(a, b *ipam.Assignment) bool {
	return slices.Equal(a.Addrs, b.Addrs) && a.Complete == b.Complete && a.Reason == b.Reason && a.Message == b.Message
}

// findIdle lists the claims that are to be withdrawn.
func (w *Writer) findIdle() {
	w.idle = w.idle[:0]
	for _, one := range w.book.blocks {
		for a, r := range one.records {
			for _, h := range r.holders {
				if !slices.Contains(w.result.Assignments[h.UID].Addrs, a) {
					w.idle = append(w.idle, idle{a, h})
				}
			}
		}
	}
}

// patch writes a Service as changed from old, based on old's version and uid.
// subresource is "" or "status". It returns what the API server has now.
func (w *Writer) patch(ctx context.Context, old, changed *corev1.Service, subresource string) (*corev1.Service, error) {
	changed = changed.DeepCopy() // the client writes into it
	patch := client.MergeFromWithOptions(old, client.MergeFromWithOptimisticLock{})
	var err error
	if subresource == "" {
		err = w.Client.Patch(ctx, changed, patch)
	} else {
		err = w.Client.SubResource(subresource).Patch(ctx, changed, patch)
	}
	if err != nil {
		return nil, err
	}
	w.watcher.Written(changed)
	return changed, nil
}
