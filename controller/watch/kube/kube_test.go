// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	toolscache "k8s.io/client-go/tools/cache"

	settings "github.com/fairlead/fairlead/controller/desired"
	desired "github.com/fairlead/fairlead/controller/desired/kube"
)

func secret(key string) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: richMeta("fairlead-system", desired.KeySecret), Data: map[string][]byte{desired.KeyData: []byte(key)}}
}

const aKey, anotherKey = "000102030405060708090a0b0c0d0e0f", "0f0e0d0c0b0a09080706050403020100"

// newTest is a Watcher that nobody tells anything but the test.
func newTest() *Watcher {
	return New(Options{
		Node: "node1", Namespace: "fairlead-system", Class: desired.Class{Name: desired.DefaultClass},
		Versions: desired.Versions{Wire: 1, Hash: 1}, Logger: slog.New(slog.DiscardHandler),
	})
}

// synced has heard of two nodes, a key and a Service.
func synced(t *testing.T) *Watcher {
	t.Helper()
	w := newTest()
	for i := range 2 {
		w.event(nil, richNode(i+1))
		w.event(nil, richState(i+1))
	}
	w.event(nil, secret(aKey))
	w.event(nil, richService())
	w.event(nil, richSlice())
	w.hearAll()
	if !w.pending() {
		t.Fatal("no signal when all is heard")
	}
	return w
}

// pending takes a signal.
func (w *Watcher) pending() bool {
	select {
	case <-w.changed:
		return true
	default:
		return false
	}
}

func TestNotReady(t *testing.T) {
	w := newTest()
	expect := func(reason string) {
		t.Helper()
		_, err := w.Load(settings.Settings{})
		if !errors.Is(err, ErrNotReady) || err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%v, want %q", err, reason)
		}
	}
	expect("not been read")
	w.note(errors.New("connection refused"))
	expect("connection refused")
	w.hearAll()
	expect(`no Node "node1"`)
	w.event(nil, richNode(1))
	expect("no Secret fairlead-system/fairlead-wire-key")
	w.event(nil, secret("x"))
	expect("want 32 hex digits")
	w.event(secret("x"), edit(secret(aKey), "8"))
	if _, err := w.Load(settings.Settings{}); err != nil {
		t.Error(err)
	}
}

// edit gives an object another version.
func edit[T interface{ SetResourceVersion(string) }](o T, version string) T {
	o.SetResourceVersion(version)
	return o
}

func TestLoad(t *testing.T) {
	w := synced(t)
	s, err := w.Load(settings.Settings{PinPath: "/p"})
	if err != nil {
		t.Fatal(err)
	}
	if s.Settings.Node != "node1" || s.Settings.PinPath != "/p" || len(s.Settings.Keys) != 1 || !slices.Equal(s.Settings.Addrs, []netip.Addr{netip.MustParseAddr("10.1.0.1")}) {
		t.Errorf("settings: %+v", s.Settings)
	}
	table, err := s.Table()
	if err != nil || len(table.Services()) != 1 || len(table.Nodes()) != 1 || len(s.Nodes) != 2 || len(s.Received) != 0 {
		t.Fatalf("%v: table %+v, nodes %v, received %v", err, table, s.Nodes, s.Received)
	}

	// A change is timed and changes nothing else.
	fewer := edit(richSlice(), "8")
	fewer.Endpoints = fewer.Endpoints[:4]
	w.event(richSlice(), fewer)
	if !w.pending() {
		t.Error("no signal")
	}
	next, err := w.Load(settings.Settings{})
	if err != nil || len(next.Received) != 1 || next.Revision == s.Revision {
		t.Fatalf("%v: received %v, revision %s", err, next.Received, next.Revision)
	}
	if before, after := table.Services()[0], next.Built.Services()[0]; len(before.Backends) == len(after.Backends) {
		t.Errorf("backends %v and %v", before.Backends, after.Backends)
	}

	// What concerns nobody here is not told.
	other := richSlice()
	other.Labels[discoveryv1.LabelServiceName] = "nobodys"
	w.event(nil, other)
	w.event(fewer, fewer)
	if w.pending() {
		t.Error("a signal for nothing")
	}
}

// What is gone or spoiled of what an agent needs stays as it was.
func TestLoadKeeps(t *testing.T) {
	w := synced(t)
	first, err := w.Load(settings.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	w.event(secret(aKey), edit(secret("spoiled"), "8"))
	w.event(toolscache.DeletedFinalStateUnknown{Obj: secret("spoiled")}, nil)
	w.event(richNode(1), nil)
	second, err := w.Load(settings.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(first.Settings.Keys, second.Settings.Keys) || !slices.Equal(first.Settings.Addrs, second.Settings.Addrs) {
		t.Errorf("settings: %+v", second.Settings)
	}
	if problems := w.Report().Problems; len(problems) != 1 || !strings.Contains(problems[0], "is gone: its last key stays") {
		t.Errorf("problems: %v", problems)
	}
	if _, ok := w.Node(); ok {
		t.Error("there is a Node")
	}
}

// A new key is accepted first and sent when the other node accepts it.
func TestLoadRotates(t *testing.T) {
	w := synced(t)
	keys := func() [][16]byte {
		t.Helper()
		s, err := w.Load(settings.Settings{})
		if err != nil {
			t.Fatal(err)
		}
		return s.Settings.Keys
	}
	old := keys()[0]
	w.event(secret(aKey), edit(secret(anotherKey), "8"))
	if !w.pending() {
		t.Error("no signal")
	}
	accepted := keys()
	if len(accepted) != 2 || accepted[0] != old {
		t.Fatalf("%v", accepted)
	}
	state := edit(richState(2), "8")
	state.Status.Keys = desired.Fingerprints(accepted)
	w.event(richState(2), state)
	if !w.pending() {
		t.Error("no signal")
	}
	if got := keys(); len(got) != 2 || got[1] != old {
		t.Errorf("%v", got)
	}
}

// A slice that comes to be another Service's leaves the one that it was of.
func TestSliceMoves(t *testing.T) {
	w := synced(t)
	moved := edit(richSlice(), "8")
	moved.Labels[discoveryv1.LabelServiceName] = "other"
	w.event(richSlice(), moved)
	s, err := w.Load(settings.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range s.Built.Services()[0].Backends {
		if b.Addr.Port() == 8080 && !b.Draining {
			t.Errorf("%s stays", b.Addr)
		}
	}
	if n := w.Report().Counts.Endpoints; n != len(moved.Endpoints) {
		t.Errorf("%d endpoints", n)
	}
}
