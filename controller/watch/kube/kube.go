// SPDX-License-Identifier: Apache-2.0

// Package kube is the edge at which a cluster enters roads A and B in an agent:
// informers tell a kube.State of Services, EndpointSlices, Nodes and the rest, and
// what comes out of it becomes an immutable Snapshot and a signal to look again.
//
// Nothing is loaded before everything has been heard once. When the API server is
// gone, what it said last stays; when it is back, informers find what differs.
package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
	"github.com/fairlead/fairlead/controller/config"
	"github.com/fairlead/fairlead/controller/desired"
	"github.com/fairlead/fairlead/controller/desired/kube"
	"github.com/fairlead/fairlead/lb"
)

// ErrNotReady is wrapped by the errors of Load that time mends.
var ErrNotReady = errors.New("not ready")

// maxReceived bounds how many times of receipt wait for the next Load.
const maxReceived = 1 << 12

// Options are what a Watcher needs.
type Options struct {
	Config    *rest.Config
	Node      string // this node's name
	Namespace string // Fairlead's own, with NodeStates and the Secret of the keys
	Class     kube.Class
	Versions  kube.Versions
	// Announce has the objects followed, too, that say what is announced.
	Announce bool
	Logger   *slog.Logger
}

// Watcher follows a cluster.
type Watcher struct {
	options Options
	changed chan struct{}

	mu         sync.Mutex // of what follows
	state      *kube.State
	synced     bool
	cluster    map[string]*corev1.Node
	own        *v1beta1.NodeState // of this node
	newest     string             // resourceVersion of a Service
	config     announced
	keys       kube.Keys
	rotation   kube.Rotation
	rotate     bool         // something that rotation goes by changed
	accepted   [][16]byte   // what it said last
	addrs      []netip.Addr // this node's, as last known
	table      *lb.Table
	nodes      []lb.Node // of table
	revision   uint64
	received   []time.Time
	problems   map[string]string // by what they are about
	connection connection
}

// New returns a Watcher that has heard nothing yet.
func New(o Options) *Watcher {
	return &Watcher{
		options:  o,
		changed:  make(chan struct{}, 1),
		state:    kube.New(kube.Options{Self: o.Node, Class: o.Class, Versions: o.Versions}),
		problems: map[string]string{},
		cluster:  map[string]*corev1.Node{},
		config:   announced{objects: config.Store{}, changed: make(chan struct{}, 1)},
	}
}

// Changed gets a value when there is something to load that was not loaded yet.
// Several changes may be one value.
func (w *Watcher) Changed() <-chan struct{} { return w.changed }

func (w *Watcher) signal() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// Load returns the cluster as it is now, with settings completed by what it says
// of this node. The error wraps ErrNotReady until all is known that an agent
// needs; after that it is nil.
func (w *Watcher) Load(settings desired.Settings) (*desired.Snapshot, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.missing(); err != nil {
		return nil, err
	}
	now := time.Now()
	delta := w.state.Apply(now)
	if addrs := w.state.SelfAddrs(); len(addrs) > 0 {
		w.addrs = addrs
	}
	if w.table == nil {
		table, err := lb.NewTable(w.options.Node, []lb.Node{{Name: w.options.Node, Addrs: w.addrs}}, nil)
		if err != nil {
			return nil, err
		}
		w.table = table
	}
	next, err := w.table.Update(delta)
	if err != nil {
		// State gives out nothing that a table refuses: the rest is in it all the same.
		w.options.Logger.Error("parts of the desired state are not possible", "err", err)
	}
	settings.Node, settings.Addrs = w.options.Node, w.addrs
	if w.rotate {
		w.accepted, w.rotate = w.rotation.Next(w.keys, w.state.Keys()), false
	}
	settings.Keys = w.accepted
	w.table, w.revision = next, w.revision+1
	w.config.version = w.newest
	if len(delta.PutNodes)+len(delta.DeleteNodes) > 0 {
		w.nodes = listNodes(next)
	}
	snapshot := &desired.Snapshot{
		Revision: strconv.FormatUint(w.revision, 10), Settings: settings, Nodes: w.nodes, Received: w.received, Built: next,
	}
	w.received = nil
	return snapshot, nil
}

func listNodes(t *lb.Table) []lb.Node {
	nodes := []lb.Node{{Name: t.Self(), Addrs: t.SelfAddrs()}}
	for _, n := range t.Nodes() {
		nodes = append(nodes, *n)
	}
	return nodes
}

// missing says what an agent cannot do without, nil once it is there.
func (w *Watcher) missing() error {
	none := kube.Keys{}
	switch {
	case !w.synced && w.connection.last != "":
		return fmt.Errorf("%w: the API has not been read yet: %s", ErrNotReady, w.connection.last)
	case !w.synced:
		return fmt.Errorf("%w: the API has not been read yet", ErrNotReady)
	case len(w.addrs) == 0 && len(w.state.SelfAddrs()) == 0:
		return fmt.Errorf("%w: no Node %q with an InternalIP", ErrNotReady, w.options.Node)
	case w.keys == none:
		return fmt.Errorf("%w: %s", ErrNotReady, w.problems[kube.KeySecret])
	}
	return nil
}

// Adopt tells of a backend on this node that its tables held before the agent
// started: if its Pod still runs, it drains.
func (w *Watcher) Adopt(key lb.ServiceKey, addr netip.AddrPort) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.state.Adopt(key, addr)
}

// Draining are the endpoints for this node's NodeState.
func (w *Watcher) Draining() []v1beta1.DrainingEndpoint {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state.Draining()
}

// Node is this node's UID; ok is false while there is no Node.
func (w *Watcher) Node() (uid types.UID, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if node := w.cluster[w.options.Node]; node != nil {
		return node.UID, true
	}
	return "", false
}

// NodeState is this node's as the API has it, nil if it has none. It is not to be changed.
func (w *Watcher) NodeState() *v1beta1.NodeState {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.own
}

// Report is how a Watcher does.
type Report struct {
	Synced   bool // everything was heard once
	Counts   kube.Counts
	Problems []string
	// Errors counts requests to the API server that failed; Error is why the last
	// one did, at ErrorAt, "" when it succeeded.
	Errors  uint64
	Error   string
	ErrorAt time.Time
}

// Report returns how the Watcher does.
func (w *Watcher) Report() Report {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := Report{
		Synced: w.synced, Counts: w.state.Counts(), Errors: w.connection.errors, Error: w.connection.last, ErrorAt: w.connection.at,
	}
	for _, about := range []string{kube.KeySecret} {
		if p := w.problems[about]; p != "" {
			r.Problems = append(r.Problems, p)
		}
	}
	return r
}

// Run follows the cluster until ctx ends.
func (w *Watcher) Run(ctx context.Context) error {
	running, stop := context.WithCancel(ctx)
	defer stop()
	var group sync.WaitGroup
	group.Go(func() { w.expire(running) })
	if w.options.Announce {
		group.Go(func() { w.followConfig(running) })
	}
	err := w.follow(ctx)
	stop()
	group.Wait()
	return err
}

// expireInterval is how exact the end of a vanished endpoint's draining is.
const expireInterval = time.Second

// expire signals when something changes by time alone.
func (w *Watcher) expire(ctx context.Context) {
	ticker := time.NewTicker(expireInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			w.mu.Lock()
			at, ok := w.state.NextExpiry()
			w.mu.Unlock()
			if ok && !now.Before(at) {
				w.signal()
			}
		}
	}
}
