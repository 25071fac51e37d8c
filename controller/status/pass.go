// SPDX-License-Identifier: Apache-2.0

package status

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
	"github.com/fairlead/fairlead/controller/desired/kube"
	"github.com/fairlead/fairlead/controller/ipam"
	"github.com/fairlead/fairlead/controller/watch/cluster"
)

// pass is the writing part of one Pass.
type pass struct {
	*Writer
	snapshot *cluster.Snapshot

	more bool // there is more to do than one pass does
	mu   sync.Mutex
	errs []error
	// now are the Services as this pass has written them.
	now map[types.NamespacedName]*corev1.Service
}

func newPass(w *Writer, s *cluster.Snapshot) *pass {
	return &pass{Writer: w, snapshot: s, now: map[types.NamespacedName]*corev1.Service{}}
}

// run does the steps of the package comment, each for all Services of the pass
// before the next.
func (p *pass) run(ctx context.Context) {
	serve, release := p.choose()
	p.each(ctx, release, p.release)
	p.each(ctx, serve, p.mark)
	p.claim(ctx, serve)
	p.each(ctx, serve, p.show)
	p.withdraw(ctx)
}

// choose takes what a pass does out of what is to be done: Services that are to
// be served, oldest first, and those that something is to be taken back from.
func (p *pass) choose() (serve, release []*cluster.Service) {
	for name := range p.todo {
		switch one := p.snapshot.Services[name]; {
		case one == nil:
			delete(p.todo, name)
		case one.Ours:
			serve = append(serve, one)
		default:
			release = append(release, one)
		}
	}
	order := func(a, b *cluster.Service) int {
		if c := a.Object.CreationTimestamp.Compare(b.Object.CreationTimestamp.Time); c != 0 {
			return c
		}
		return compareNames(a.Name, b.Name)
	}
	slices.SortFunc(serve, order)
	slices.SortFunc(release, order)
	p.more = len(serve) > batch || len(release) > batch
	return serve[:min(len(serve), batch)], release[:min(len(release), batch)]
}

// each does one step for all Services, several at a time. A Service that fails
// stays in todo.
func (p *pass) each(ctx context.Context, services []*cluster.Service, do func(context.Context, *cluster.Service) error) {
	group := &errgroup.Group{}
	group.SetLimit(writers)
	for _, one := range services {
		group.Go(func() error {
			p.fail(one, do(ctx, one))
			return nil
		})
	}
	_ = group.Wait() // errors are in errs
}

// fail notes what went wrong with a Service. That somebody else changed it
// meanwhile is no error: the informer will say so.
func (p *pass) fail(one *cluster.Service, err error) {
	if err == nil {
		return
	}
	p.watcher.Unwritten(one.Name)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now[one.Name] = nil
	if !refused(err) {
		p.errs = append(p.errs, fmt.Errorf("service %s: %w", one.Name, err))
		return
	}
	p.Metrics.refused("service")
	p.Log.Debug("service changed meanwhile", "service", one.Name, "err", err)
}

// object is a Service as it is now, nil where a step failed.
func (p *pass) object(one *cluster.Service) *corev1.Service {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now, ok := p.now[one.Name]; ok {
		return now
	}
	return one.Object
}

// write patches a Service to changed, nil for no change.
func (p *pass) write(ctx context.Context, one *cluster.Service, changed *corev1.Service, subresource string) error {
	old := p.object(one)
	if changed == nil {
		return nil
	}
	written, err := p.patch(ctx, old, changed, subresource)
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.now[one.Name] = written
	p.mu.Unlock()
	if subresource == "status" {
		p.tell(old, written)
	}
	return nil
}

// finished takes a Service off the list.
func (p *pass) finished(one *cluster.Service) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.todo, one.Name)
}

// release takes everything back from a Service that is not ours, or not for
// long: status first, and with the finalizer the last trace of us.
func (p *pass) release(ctx context.Context, one *cluster.Service) error {
	uid := one.Object.UID
	changed := hide(one.Object, func(a netip.Addr) bool {
		_, claimed := p.book.holder(a, uid)
		return claimed
	})
	if err := p.write(ctx, one, changed, "status"); err != nil {
		return fmt.Errorf("clear status: %w", err)
	}
	if err := p.write(ctx, one, unmark(p.object(one)), ""); err != nil {
		return fmt.Errorf("remove finalizer: %w", err)
	}
	p.finished(one)
	return nil
}

func (p *pass) mark(ctx context.Context, one *cluster.Service) error {
	if err := p.write(ctx, one, mark(one.Object, p.watcher.Endpoints(one.Name)), ""); err != nil {
		return fmt.Errorf("set finalizer: %w", err)
	}
	return nil
}

// claim records the addresses of the Services of this pass, and of all others
// that show one without a record.
func (p *pass) claim(ctx context.Context, serve []*cluster.Service) {
	var edits []edit
	chosen := make(map[*cluster.Service]bool, len(serve))
	for _, one := range serve {
		chosen[one] = true
		if o := p.object(one); o != nil {
			edits = append(edits, p.claimsOf(one, o)...)
		}
	}
	for name := range p.todo {
		one := p.snapshot.Services[name]
		if one != nil && one.Ours && !chosen[one] {
			edits = append(edits, slices.DeleteFunc(p.claimsOf(one, one.Object), func(e edit) bool { return !shows(one.Object, e.addr) })...)
		}
	}
	_, err := p.book.write(ctx, edits, p.at, p.Delay)
	if err != nil {
		p.errs = append(p.errs, err)
	}
}

// claimsOf are the edits that let a Service show what it is to show.
func (p *pass) claimsOf(one *cluster.Service, o *corev1.Service) []edit {
	var edits []edit
	for _, a := range p.result.Assignments[one.IPAM.UID].Addrs {
		want := v1beta1.AddressHolder{Service: one.Name.String(), UID: string(o.UID), ResourceVersion: o.ResourceVersion, Terms: one.IPAM.Terms}
		have, ok := p.book.holder(a, o.UID)
		switch {
		case ok && later(have.ResourceVersion, o.ResourceVersion):
			continue // another controller has seen more of the Service than we
		case ok && have.Terms == want.Terms && (have.ResourceVersion == want.ResourceVersion || shows(o, a)):
			continue
		}
		edits = append(edits, edit{addr: a, holder: want})
	}
	return edits
}

// mayShow says whether the claim of an address allows to add it to the status.
func (p *pass) mayShow(o *corev1.Service, a netip.Addr) bool {
	have, ok := p.book.holder(a, o.UID)
	return ok && (shows(o, a) || have.ResourceVersion == o.ResourceVersion)
}

func (p *pass) show(ctx context.Context, one *cluster.Service) error {
	o := p.object(one)
	if o == nil {
		return nil // a step before failed
	}
	a := p.result.Assignments[one.IPAM.UID]
	if slices.ContainsFunc(a.Addrs, func(addr netip.Addr) bool { return !p.mayShow(o, addr) }) {
		return nil // our view of the Service is old
	}
	problems := func(o *corev1.Service) []kube.Problem { return p.watcher.Problems(o, p.at) }
	if err := p.write(ctx, one, show(o, a, problems, p.watcher.Announced(a.Addrs), p.at), "status"); err != nil {
		return fmt.Errorf("write status: %w", err)
	}
	p.finished(one)
	return nil
}

// withdraw takes claims out of blocks that no write can use any more.
func (p *pass) withdraw(ctx context.Context) {
	var mu sync.Mutex
	var edits []edit
	group := &errgroup.Group{}
	group.SetLimit(writers)
	for _, i := range p.idle {
		group.Go(func() error {
			unusable, err := p.unusable(ctx, i)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				p.errs = append(p.errs, fmt.Errorf("withdraw %s from service %s: %w", i.addr, i.holder.Service, err))
			case unusable:
				edits = append(edits, edit{addr: i.addr, holder: i.holder, withdraw: true})
			}
			return nil
		})
	}
	_ = group.Wait() // errors are in errs
	done, err := p.book.write(ctx, edits, p.at, p.Delay)
	if err != nil {
		p.errs = append(p.errs, err)
	}
	for _, e := range done {
		p.Log.Info("address freed", "vip", e.addr, "service", e.holder.Service)
	}
}

// unusable says whether a claim can be used by no write any more, however late.
func (p *pass) unusable(ctx context.Context, i idle) (bool, error) {
	o, err := p.current(ctx, i.holder)
	switch {
	case err != nil:
		return false, err
	case o == nil:
		return true, nil
	case shows(o, i.addr) || later(i.holder.ResourceVersion, o.ResourceVersion):
		return false, nil // not hidden yet, or our view is old
	case later(o.ResourceVersion, i.holder.ResourceVersion):
		return true, nil
	}
	// It is the claim's version: a write that shows the address may be on its way.
	if _, err = p.patch(ctx, o, touched(o, p.at), "status"); err != nil && !refused(err) {
		return false, err
	}
	return err == nil, nil
}

// current is the Service that has a claim; nil when it is surely gone, which
// only the API server knows: an informer may not have heard of it yet.
func (p *pass) current(ctx context.Context, h v1beta1.AddressHolder) (*corev1.Service, error) {
	name := parseName(h.Service)
	p.mu.Lock()
	o := p.now[name]
	p.mu.Unlock()
	if one := p.snapshot.Services[name]; o == nil && one != nil {
		o = one.Object
	}
	if o != nil && string(o.UID) == h.UID {
		return o, nil
	}
	o = &corev1.Service{}
	switch err := p.Reader.Get(ctx, client.ObjectKey(name), o); {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, err
	case string(o.UID) != h.UID:
		return nil, nil
	}
	return o, nil
}

// tell makes events of what changed in a status.
func (p *pass) tell(old, o *corev1.Service) {
	event := func(kind, reason, action, note string) {
		if len(note) > 1000 { // the API allows 1024
			note = note[:1000]
		}
		p.Recorder.Eventf(o, nil, kind, reason, action, "%s", note)
	}
	const allocate, forward = "Allocate", "Forward"
	had, has := describe(old), describe(o)
	was, is := condition(old, v1beta1.ConditionAllocated), condition(o, v1beta1.ConditionAllocated)
	switch {
	case has != had && has != "":
		event(corev1.EventTypeNormal, ipam.ReasonAllocated, allocate, is.Message)
		p.Log.Info("address assigned", "service", parseName(o.Namespace+"/"+o.Name), "vip", has, "before", had)
	case has != had:
		event(corev1.EventTypeNormal, "Released", allocate, "no longer has "+had)
		p.Log.Info("address taken back", "service", parseName(o.Namespace+"/"+o.Name), "before", had)
	}
	if is.Status == "False" && (is.Reason != was.Reason || is.Message != was.Message) {
		event(corev1.EventTypeWarning, is.Reason, allocate, is.Message)
	}
	before, now := condition(old, v1beta1.ConditionDatapathReady), condition(o, v1beta1.ConditionDatapathReady)
	switch {
	case has == "" || now.Status == before.Status && now.Reason == before.Reason:
	case now.Status == "True":
		event(corev1.EventTypeNormal, "DatapathReady", forward, now.Message)
	case now.Status == "False":
		event(corev1.EventTypeWarning, now.Reason, forward, now.Message)
	}
	before, now = condition(old, v1beta1.ConditionAnnounced), condition(o, v1beta1.ConditionAnnounced)
	switch {
	case has == "" || now.Status == before.Status && now.Reason == before.Reason:
	case now.Status == "True":
		event(corev1.EventTypeNormal, reasonAnnounced, "Announce", now.Message)
	case now.Status == "False":
		event(corev1.EventTypeWarning, now.Reason, "Announce", now.Message)
	}
}
