// SPDX-License-Identifier: Apache-2.0

package status

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
	"github.com/fairlead/fairlead/controller/ipam"
)

// book is the record of all addresses, as this controller last read or wrote
// it. Nobody but the leader writes blocks, so they need no informer: a write
// that is refused says that somebody else did, and all are read again.
type book struct {
	client    client.Client
	reader    client.Reader // of the API server, not of a cache
	namespace string
	log       *slog.Logger

	blocks map[netip.Prefix]*block
	// stale says that the blocks have to be read before they are used.
	stale bool
	// revision changes with the claims.
	revision uint64
}

type block struct {
	object  metav1.ObjectMeta // name, uid and resourceVersion; empty before it is created
	records map[netip.Addr]record
}

// load reads all blocks, if need be.
func (b *book) load(ctx context.Context) error {
	if !b.stale {
		return nil
	}
	var list v1beta1.AddressBlockList
	if err := b.reader.List(ctx, &list, client.InNamespace(b.namespace)); err != nil {
		return fmt.Errorf("list address blocks: %w", err)
	}
	b.blocks = make(map[netip.Prefix]*block, len(list.Items))
	for i := range list.Items {
		o := &list.Items[i]
		p, err := netip.ParsePrefix(o.Spec.Prefix)
		if err != nil || blockName(p) != o.Name || blockOf(p.Addr()) != p {
			b.log.Error("address block is not used: its name is not that of its prefix", "block", o.Name, "prefix", o.Spec.Prefix)
			continue
		}
		records, problems := readBlock(o)
		for _, err := range problems {
			b.log.Error("read address block", "err", err)
		}
		b.blocks[p] = &block{object: o.ObjectMeta, records: records}
	}
	b.stale = false
	b.revision++
	return nil
}

// claims are all claims, and freed the addresses that may rest.
func (b *book) claims() (claims []ipam.Claim, freed []ipam.Freed) {
	for _, one := range b.blocks {
		for a, r := range one.records {
			for _, h := range r.holders {
				claims = append(claims, ipam.Claim{Addr: a, UID: h.UID, Terms: h.Terms})
			}
			if len(r.holders) == 0 && !r.freedAt.IsZero() {
				freed = append(freed, ipam.Freed{Addr: a, By: r.freedBy, At: r.freedAt})
			}
		}
	}
	return claims, freed
}

// holder is the claim of a Service on an address.
func (b *book) holder(a netip.Addr, uid types.UID) (v1beta1.AddressHolder, bool) {
	if one := b.blocks[blockOf(a)]; one != nil {
		r := one.records[a]
		if i := r.holder(string(uid)); i >= 0 {
			return r.holders[i], true
		}
	}
	return v1beta1.AddressHolder{}, false
}

// write carries edits out, each block with one write, and returns those that
// are recorded now. With an error the others are not, or perhaps are: then the
// book is stale. Addresses that were freed longer than delay ago are forgotten.
func (b *book) write(ctx context.Context, edits []edit, now time.Time, delay time.Duration) (done []edit, err error) {
	byBlock := map[netip.Prefix][]edit{}
	for _, e := range edits {
		byBlock[blockOf(e.addr)] = append(byBlock[blockOf(e.addr)], e)
	}
	var mu sync.Mutex
	var errs []error
	written := map[netip.Prefix]*block{}
	group := &errgroup.Group{}
	group.SetLimit(writers)
	for p, edits := range byBlock {
		old := b.blocks[p]
		if old == nil {
			old = &block{}
		}
		group.Go(func() error {
			one, err := b.writeBlock(ctx, p, old, edits, now, delay)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, err)
				return nil
			}
			written[p] = one
			done = append(done, edits...)
			return nil
		})
	}
	_ = group.Wait() // errors are in errs
	for p, one := range written {
		if one == nil {
			delete(b.blocks, p)
		} else {
			b.blocks[p] = one
		}
	}
	b.stale = b.stale || len(errs) > 0
	if len(done) > 0 {
		b.revision++
	}
	return done, errors.Join(errs...)
}

// writeBlock writes one block and returns it, nil if it is no longer there.
func (b *book) writeBlock(ctx context.Context, p netip.Prefix, old *block, edits []edit, now time.Time, delay time.Duration) (*block, error) {
	records := make(map[netip.Addr]record, len(old.records)+len(edits))
	for a, r := range old.records {
		records[a] = r
	}
	for _, e := range edits {
		records[e.addr] = e.apply(records[e.addr], now)
	}
	for a, r := range records {
		if len(r.holders) == 0 && !now.Before(r.freedAt.Add(delay)) {
			delete(records, a)
		}
	}
	o := &v1beta1.AddressBlock{
		ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: blockName(p), UID: old.object.UID, ResourceVersion: old.object.ResourceVersion},
		Spec:       spec(p, records),
	}
	var err error
	switch exists := old.object.ResourceVersion != ""; {
	case exists && len(records) == 0:
		err = b.client.Delete(ctx, o, client.Preconditions{UID: &o.UID, ResourceVersion: &o.ResourceVersion})
		if err == nil {
			return nil, nil
		}
	case exists:
		err = b.client.Update(ctx, o)
	case len(records) > 0:
		err = b.client.Create(ctx, o)
	default:
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("record addresses of %s: %w", p, err)
	}
	return &block{object: o.ObjectMeta, records: records}, nil
}

// refused says that somebody else changed the object, which is to be read again.
func refused(err error) bool {
	return apierrors.IsConflict(err) || apierrors.IsNotFound(err) || apierrors.IsAlreadyExists(err)
}
