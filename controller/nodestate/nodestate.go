// SPDX-License-Identifier: Apache-2.0

// Package nodestate is the edge at which a node tells the cluster how its
// datapath does: the only writer of the node's NodeState. Others read there
// whether endpoints on this node count.
package nodestate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
)

// How soon something is written after something else, and again after it failed;
// the latter doubles each time.
const (
	interval   = 200 * time.Millisecond
	firstRetry = time.Second
	lastRetry  = 30 * time.Second
)

// Publisher writes what Set was told last, as long as it runs.
type Publisher struct {
	client    client.Client
	name      types.NamespacedName
	log       *slog.Logger
	have      *v1beta1.NodeState // as the API had it after the last write; of Run alone
	something chan struct{}

	mu      sync.Mutex
	want    *v1beta1.NodeStateStatus // nil: nothing to say yet
	node    types.UID                // owner; "": none known
	lost    bool                     // what Run has may not be what the API has
	err     error
	written uint64
}

// New is for the NodeState of a node, in Fairlead's namespace.
func New(c client.Client, namespace, node string, log *slog.Logger) *Publisher {
	return &Publisher{
		client: c, name: types.NamespacedName{Namespace: namespace, Name: node}, log: log, something: make(chan struct{}, 1),
	}
}

// Set has the status written if it differs. The NodeState goes when its Node,
// named by its UID, does. Nobody changes status any more.
func (p *Publisher) Set(status *v1beta1.NodeStateStatus, node types.UID) {
	p.mu.Lock()
	p.want, p.node = status, node
	p.mu.Unlock()
	p.wake()
}

// Check has the NodeState compared with what the API has: nil says that it has none.
func (p *Publisher) Check(api *v1beta1.NodeState) {
	p.mu.Lock()
	lost := p.want != nil && (api == nil || !equality.Semantic.DeepEqual(&api.Status, p.want))
	p.lost = p.lost || lost
	p.mu.Unlock()
	if lost {
		p.wake()
	}
}

func (p *Publisher) wake() {
	select {
	case p.something <- struct{}{}:
	default:
	}
}

// State tells how often it wrote, and why it cannot at the moment.
func (p *Publisher) State() (written uint64, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.written, p.err
}

// Run writes until ctx ends.
func (p *Publisher) Run(ctx context.Context) {
	retry := time.Duration(0)
	for {
		var again <-chan time.Time
		if retry > 0 {
			again = time.After(retry)
		}
		select {
		case <-ctx.Done():
			return
		case <-again:
		case <-p.something:
		}
		err := p.write(ctx)
		if err == nil || ctx.Err() != nil {
			retry = 0
		} else {
			retry = min(max(2*retry, firstRetry), lastRetry)
			p.log.Error("publish NodeState", "err", err, "retry", retry)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(interval):
		}
	}
}

// write does nothing when the API has what is wanted.
func (p *Publisher) write(ctx context.Context) error {
	p.mu.Lock()
	want, node, lost := p.want, p.node, p.lost
	p.lost = false
	p.mu.Unlock()
	if want == nil || !lost && p.have != nil && equality.Semantic.DeepEqual(&p.have.Status, want) {
		return nil
	}
	if lost {
		p.have = nil
	}
	have, err := put(ctx, p.client, p.name, p.have, node, want)
	p.have = have
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = err
	if err == nil {
		p.written++
	} else {
		p.lost = true
	}
	return err
}

// put makes the status what is wanted, in the NodeState that have is believed to
// be; nil: unknown.
func put(ctx context.Context, c client.Client, name types.NamespacedName, have *v1beta1.NodeState, node types.UID, want *v1beta1.NodeStateStatus) (*v1beta1.NodeState, error) {
	if have == nil {
		var err error
		if have, err = getOrCreate(ctx, c, name, node); err != nil {
			return nil, err
		}
		if equality.Semantic.DeepEqual(&have.Status, want) {
			return have, nil
		}
	}
	next := have.DeepCopy()
	want.DeepCopyInto(&next.Status)
	if err := c.Status().Update(ctx, next); err != nil {
		return nil, fmt.Errorf("update status: %w", err)
	}
	return next, nil
}

func getOrCreate(ctx context.Context, c client.Client, name types.NamespacedName, node types.UID) (*v1beta1.NodeState, error) {
	o := &v1beta1.NodeState{}
	err := c.Get(ctx, name, o)
	switch {
	case err == nil:
		return o, nil
	case !apierrors.IsNotFound(err):
		return nil, fmt.Errorf("get: %w", err)
	case node == "":
		return nil, fmt.Errorf("create: no Node %q", name.Name)
	}
	o = &v1beta1.NodeState{ObjectMeta: metav1.ObjectMeta{
		Namespace: name.Namespace, Name: name.Name,
		OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: name.Name, UID: node}},
	}}
	if err := c.Create(ctx, o); err != nil {
		return nil, fmt.Errorf("create: %w", err)
	}
	return o, nil
}

// Detach says that a node's programs do not forward any more, for good. A node
// without a NodeState has said nothing else.
func Detach(ctx context.Context, c client.Client, namespace, node string) error {
	for {
		o := &v1beta1.NodeState{}
		err := c.Get(ctx, types.NamespacedName{Namespace: namespace, Name: node}, o)
		switch {
		case apierrors.IsNotFound(err):
			return nil
		case err != nil:
			return fmt.Errorf("get NodeState %s/%s: %w", namespace, node, err)
		}
		o.Status.Attached, o.Status.Draining, o.Status.Problems = false, nil, nil
		o.Status.Announcements, o.Status.NotAnnounced = nil, nil
		if err = c.Status().Update(ctx, o); err == nil || apierrors.IsNotFound(err) {
			return nil
		}
		if !apierrors.IsConflict(err) {
			return fmt.Errorf("update NodeState %s/%s: %w", namespace, node, err)
		}
		if ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
	}
}
