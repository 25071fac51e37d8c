// SPDX-License-Identifier: Apache-2.0

package controller_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
	"github.com/fairlead/fairlead/perf/lab"
)

const (
	shortChaos    = 15 * time.Second
	chaosServices = 500
	chaosRate     = 100 // changes a second
	settleTime    = 2 * time.Minute
)

func fields(s string) []string { return strings.Fields(s) }

// Report is what chaos-controller.json holds.
type Report struct {
	Seconds  float64 `json:"seconds"`
	Seed     uint64  `json:"seed"`
	Services int     `json:"services"`
	Pools    int     `json:"pools"`
	Replicas int     `json:"replicas"`
	// What was done to them.
	Created   int64 `json:"created"`
	Deleted   int64 `json:"deleted"`
	Changed   int64 `json:"changed"`
	PoolEdits int64 `json:"poolEdits"`
	Kills     int   `json:"kills"`
	Pauses    int   `json:"pauses"`
	Leaders   int   `json:"leaders"`
	// What every version of every Service showed.
	Versions   int     `json:"versions"`
	Assigned   int     `json:"assigned"`
	Released   int     `json:"released"`
	Duplicates int     `json:"duplicates"`
	Moved      int     `json:"moved"`
	Converged  float64 `json:"convergedSeconds"` // after the last change
}

// TestChaos kills and pauses two controllers at random while Services and pools
// change, and looks at every version of every Service. FAIRLEAD_CHAOS=2m is the
// long version; FAIRLEAD_CHAOS_REPORT names a file for the numbers.
func TestChaos(t *testing.T) {
	length := shortChaos
	if text := os.Getenv("FAIRLEAD_CHAOS"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatalf("FAIRLEAD_CHAOS: %v", err)
		}
	}
	w := newWorld(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := Report{Seconds: length.Seconds(), Seed: seed, Services: chaosServices, Pools: 3, Replicas: 2}
	w.pool("a", poolA)
	w.pool("b", poolB)
	w.pool("c", poolC)
	h, err := follow(t.Context(), w.namespace)
	w.ok(err)

	c := &churn{world: w, services: chaosServices}
	ctx := c.atLeast(t.Context(), length, func() bool { return c.deleted.Load() > chaosServices/10 && w.leaders.Load() > 2 })
	churned := make(chan error, 1)
	go func() { churned <- c.run(ctx, seed, chaosRate) }()
	w.killing(ctx, rand.New(rand.NewPCG(seed, 99)), &r)
	w.ok(<-churned)
	r.Created, r.Deleted, r.Changed, r.PoolEdits = c.created.Load(), c.deleted.Load(), c.changed.Load(), c.edits.Load()

	begun := time.Now()
	w.settle()
	r.Converged = time.Since(begun).Seconds()
	w.checkClaims()
	w.judge(h, &r)
	r.Leaders = int(w.countLeaders())
	t.Logf("%+v", r)
	if r.Leaders < 2 || r.Kills == 0 {
		t.Errorf("%d leaders, %d kills: the test showed nothing", r.Leaders, r.Kills)
	}
	if file := os.Getenv("FAIRLEAD_CHAOS_REPORT"); file != "" {
		text, err := json.MarshalIndent(r, "", "  ")
		w.ok(err)
		w.ok(os.MkdirAll(filepath.Dir(file), 0o755))
		w.ok(os.WriteFile(file, append(text, '\n'), 0o644))
	}
}

// killing keeps two controllers running, kills one of them every now and then,
// and pauses one for longer than its lease.
func (w *world) killing(ctx context.Context, random *rand.Rand, r *Report) {
	w.Helper()
	start := func() *program { return w.controller("--freed-address-delay=2s", "--log-level=info") }
	replicas := []*program{start(), start()}
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Duration(200+random.IntN(4000)) * time.Millisecond):
		}
		w.leaders.Store(w.countLeaders())
		i := random.IntN(len(replicas))
		if leading := slices.IndexFunc(replicas, w.leads); leading >= 0 && random.IntN(3) > 0 {
			i = leading
		}
		if random.IntN(4) == 0 {
			r.Pauses++
			p := replicas[i]
			w.ok(p.Signal(syscall.SIGSTOP))
			w.pause(ctx, 4*time.Second)
			w.ok(p.Signal(syscall.SIGCONT))
		} else {
			r.Kills++
			w.ok(replicas[i].Kill())
			replicas[i] = start()
		}
		for i, p := range replicas { // one that lost the lead ends by itself
			select {
			case <-p.Done():
				replicas[i] = start()
			default:
			}
		}
	}
}

// leads says whether a program said so.
func (w *world) leads(p *program) bool {
	text, err := os.ReadFile(p.log)
	w.ok(err)
	return strings.Contains(string(text), "controller leads")
}

// countLeaders is how many programs led so far.
func (w *world) countLeaders() (n int32) {
	for _, p := range w.running {
		if w.leads(p) {
			n++
		}
	}
	return n
}

// pause waits, or until ctx ends.
func (w *world) pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// settle opens the pools again, and waits until every Service has what it asks
// for and nothing is left of those that are gone.
func (w *world) settle() {
	w.Helper()
	w.pool("a", poolA)
	w.pool("b", poolB, func(p *v1beta1.IPAddressPool) { p.Spec.Drain = false })
	w.pool("c", poolC)
	for range 2 { // those that lost the lead in the end
		w.controller("--freed-address-delay=2s", "--log-level=info")
	}
	var unsettled []string
	err := lab.Poll(w.Context(), settleTime, func() bool {
		unsettled = unsettled[:0]
		var list corev1.ServiceList
		w.ok(w.List(w.Context(), &list, client.InNamespace(w.namespace)))
		for i := range list.Items {
			o := &list.Items[i]
			ours := o.Spec.Type == corev1.ServiceTypeLoadBalancer
			switch {
			case o.DeletionTimestamp != nil, !ours && (len(o.Finalizers) > 0 || len(o.Status.Conditions) > 0),
				ours && (w.condition(o, v1beta1.ConditionAllocated).Status != "True" || addresses(o) == ""):
				unsettled = append(unsettled, fmt.Sprintf("%s: %q %+v", o.Name, addresses(o), o.Status.Conditions))
			}
		}
		return len(unsettled) == 0
	})
	if err != nil {
		w.Fatalf("%d Services did not settle: %s", len(unsettled), strings.Join(unsettled[:min(len(unsettled), 5)], "\n"))
	}
}

// checkClaims wants the records to be what Services show.
func (w *world) checkClaims() {
	w.Helper()
	var wrong string
	err := lab.Poll(w.Context(), settleTime, func() bool {
		var list corev1.ServiceList
		w.ok(w.List(w.Context(), &list, client.InNamespace(w.namespace)))
		shown := map[string][]string{}
		for i := range list.Items {
			for _, a := range fields(addresses(&list.Items[i])) {
				shown[a] = append(shown[a], list.Items[i].Name)
			}
		}
		claims := w.claims()
		wrong = ""
		for a, names := range claims {
			slices.Sort(names)
			slices.Sort(shown[a])
			if !slices.Equal(names, shown[a]) {
				wrong = fmt.Sprintf("%s is recorded of %v, and %v show it", a, names, shown[a])
			}
		}
		if len(claims) != len(shown) {
			wrong = fmt.Sprintf("%d addresses are recorded, %d shown; %s", len(claims), len(shown), wrong)
		}
		return wrong == ""
	})
	if err != nil {
		w.Error(wrong)
	}
}

// judge fills in what the history shows.
func (w *world) judge(h *history, r *Report) {
	w.Helper()
	var list corev1.ServiceList
	w.ok(w.List(w.Context(), &list, client.InNamespace(w.namespace)))
	w.until("history complete", func() bool {
		w.ok(h.fault())
		return !slices.ContainsFunc(list.Items, func(o corev1.Service) bool { return !h.knows(&o) })
	})
	v, err := h.judge(keeps)
	w.ok(err)
	r.Versions, r.Assigned, r.Released = v.Versions, v.Assigned, v.Released
	r.Duplicates, r.Moved = len(v.Duplicates), len(v.Moved)
	for _, what := range slices.Concat(v.Duplicates[:min(len(v.Duplicates), 10)], v.Moved[:min(len(v.Moved), 10)]) {
		w.Error(what)
	}
}
