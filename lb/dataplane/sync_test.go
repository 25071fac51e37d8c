// SPDX-License-Identifier: Apache-2.0

package dataplane_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/dataplane"
	"github.com/fairlead/fairlead/lb/dataplane/dataplanetest"
)

func TestWriteOrder(t *testing.T) {
	w := newWorld(t, roomy)
	ranged := with(service(80, a1, b1), func(s *lb.Service) { s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} })
	other := with(service(80, a1, c1), func(s *lb.Service) { s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("11.0.0.0/8")} })
	steps := []struct {
		name  string
		table *lb.Table
		want  []string
	}{
		{"create", table(t, threeNodes, ranged),
			[]string{"put node", "put backend", "put endpoint", "put range", "write table", "put service", "put VIP"}},
		{"change", table(t, threeNodes, other),
			[]string{"put backend", "put endpoint", "put range", "write table", "put service", "delete endpoint", "delete range", "delete backend"}},
		{"drain", table(t, threeNodes, with(other, func(s *lb.Service) { s.Backends[1].Draining = true })),
			[]string{"put endpoint", "write table", "put service"}},
		{"delete", table(t, nodes()),
			[]string{"delete service", "delete endpoint", "delete range", "delete VIP", "delete backend", "delete node"}},
	}
	for _, s := range steps {
		if diff := cmp.Diff(s.want, verbs(w.sync(s.table))); diff != "" {
			t.Fatalf("%s (-want +got):\n%s", s.name, diff)
		}
		if ops := w.sync(s.table); len(ops) > 0 {
			t.Fatalf("%s: the same again writes %q", s.name, ops)
		}
	}
	if dump := w.maps.Dump(); dump != "" {
		t.Errorf("left behind:\n%s", dump)
	}
}

func TestServiceFlags(t *testing.T) {
	tests := []struct {
		name string
		s    lb.Service
		want dataplane.ServiceEntry
		home []string
	}{
		{"no backends", service(80), dataplane.ServiceEntry{}, nil},
		{"all draining", service(80, a1+"!"), dataplane.ServiceEntry{Closed: true}, []string{p1}},
		{"cluster", service(80, a1, b1), dataplane.ServiceEntry{}, []string{p1, p3}},
		{"draining has no slots", service(80, a1, b1+"!"), dataplane.ServiceEntry{}, []string{p1}},
		{"local", with(service(80, a1, b1), local), dataplane.ServiceEntry{Local: true}, []string{p1}},
		{"local, all of this node draining", with(service(80, a1+"!", b1), local), dataplane.ServiceEntry{Local: true, Closed: true, Elsewhere: true}, []string{p1}},
		{"local, all draining", with(service(80, a1+"!", b1+"!"), local), dataplane.ServiceEntry{Local: true, Closed: true}, []string{p1}},
		{"local, elsewhere", with(service(80, b1), local), dataplane.ServiceEntry{Local: true, Elsewhere: true}, nil},
		{"local, elsewhere draining", with(service(80, b1+"!"), local), dataplane.ServiceEntry{Local: true}, nil},
		{"local, nowhere", with(service(80), local), dataplane.ServiceEntry{Local: true}, nil},
		{"affinity is rounded up", with(service(80, a1), func(s *lb.Service) { s.Affinity = dataplane.Tick + 1 }),
			dataplane.ServiceEntry{AffinityTicks: 2}, []string{p1}},
		{"affinity is bounded", with(service(80, a1), func(s *lb.Service) { s.Affinity = 1<<63 - 1 - dataplane.Tick }),
			dataplane.ServiceEntry{AffinityTicks: 1<<32 - 1}, []string{p1}},
		{"ranges", with(service(80, a1), func(s *lb.Service) { s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("::/0")} }),
			dataplane.ServiceEntry{HasRanges: true}, []string{p1}},
		{"left to kube-proxy", with(service(80), func(s *lb.Service) { s.Left, s.TableSize, s.Policy, s.Affinity = true, 0, lb.Local, 1 }),
			dataplane.ServiceEntry{Left: true}, nil},
		{"no client at all", with(service(80, a1), func(s *lb.Service) { s.SourceRanges = []netip.Prefix{} }),
			dataplane.ServiceEntry{HasRanges: true}, []string{p1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, roomy)
			w.sync(table(t, threeNodes, tt.s, service(81)))
			got := w.load(key(80))
			if homes := set(got.homes); !slices.Equal(homes, tt.home) {
				t.Errorf("homes %v, want %v", homes, tt.home)
			}
			tt.want.Key, tt.want.Table = key(80), got.Table
			if (got.Table == dataplane.TableRef{}) != (tt.home == nil) {
				t.Errorf("table %+v", got.Table)
			}
			if got.ServiceEntry != tt.want {
				t.Errorf("got  %+v\nwant %+v", got.ServiceEntry, tt.want)
			}
		})
	}
}

func TestTick(t *testing.T) {
	if dataplane.Tick != 67108864*time.Nanosecond {
		t.Errorf("Tick = %v, want 2^26 ns", dataplane.Tick)
	}
}

// Service ports with the same endpoint set have one table.
func TestEqualTablesAreShared(t *testing.T) {
	w := newWorld(t, roomy)
	ops := w.sync(table(t, threeNodes, service(80, a1, b1), service(81, a1, b1), service(82, a1, b1)))
	if n := count(ops, "write table"); n != 1 {
		t.Errorf("%d tables for three equal sets", n)
	}
	first := w.load(key(80)).Table
	w.sync(table(t, threeNodes, service(80, a1, c1), service(81, a1, b1), service(82, a1, b1)))
	if w.load(key(81)).Table != first || w.load(key(80)).Table == first {
		t.Error("a change of one must leave the others alone")
	}
	// Back to the shared set: its past differs from theirs until it is over.
	w.sync(table(t, threeNodes, service(80, a1, b1), service(81, a1, b1), service(82, a1, b1)))
	w.now += pastTicks
	w.expire(w.now)
	if got := w.load(key(80)).Table; got != first {
		t.Errorf("at rest %+v, want to share %+v", got, first)
	}
}

func count(ops []string, prefix string) int {
	n := 0
	for _, op := range ops {
		if strings.HasPrefix(op, prefix) {
			n++
		}
	}
	return n
}

// Weights and sizes are part of a table's identity on the wire, whatever the slots.
func TestHashOnTheWireFollowsTheSet(t *testing.T) {
	w := newWorld(t, roomy)
	w.sync(table(t, threeNodes, service(80, a1)))
	before := w.load(key(80)).Table
	w.sync(table(t, threeNodes, with(service(80, a1), func(s *lb.Service) { s.Backends[0].Weight = 2 })))
	if after := w.load(key(80)); after.Table.Hash == before.Hash || after.PastUntil != 0 {
		t.Errorf("%+v, then %+v until %d: want another hash and no past", before, after.Table, after.PastUntil)
	}
}

func TestFreedIDsComeBackOldestFirst(t *testing.T) {
	w := newWorld(t, dataplane.Limits{Nodes: 8, Backends: 5, Services: 3, Lines: 1000})
	ids := func() string {
		st, _ := w.maps.Load()
		var out []string
		for id, e := range st.Services {
			out = append(out, fmt.Sprintf("s%d=%d", id, e.Key.Port))
		}
		for id, e := range st.Backends {
			out = append(out, fmt.Sprintf("b%d=%s", id, e.Addr.Addr()))
		}
		slices.Sort(out)
		return strings.Join(out, " ")
	}
	for _, s := range []struct {
		services []lb.Service
		want     string
	}{
		{[]lb.Service{service(1, "10.0.0.1@a"), service(2, "10.0.0.2@a")}, "b1=10.0.0.1 b2=10.0.0.2 s0=1 s1=2"},
		{[]lb.Service{service(1, "10.0.0.1@a")}, "b1=10.0.0.1 s0=1"},
		{[]lb.Service{service(1, "10.0.0.3@a")}, "b3=10.0.0.3 s0=1"},
		{[]lb.Service{service(1, "10.0.0.3@a", "10.0.0.4@a", "10.0.0.5@a"), service(3), service(4)},
			"b2=10.0.0.5 b3=10.0.0.3 b4=10.0.0.4 s0=1 s1=4 s2=3"},
	} {
		w.sync(table(t, threeNodes, s.services...))
		if got := ids(); got != s.want {
			t.Fatalf("ids %s, want %s", got, s.want)
		}
	}
}

func TestLimits(t *testing.T) {
	many := service(80)
	for i := range 20 {
		many.Backends = append(many.Backends, service(0, fmt.Sprintf("10.1.0.%d@a", i)).Backends...)
	}
	tests := []struct {
		name   string
		limits dataplane.Limits
		s      lb.Service
		want   string
	}{
		{"services", dataplane.Limits{Nodes: 8, Backends: 8, Services: 1, Lines: 100}, service(80, a1), "1 services are the limit"},
		{"backends", dataplane.Limits{Nodes: 8, Backends: 3, Services: 8, Lines: 100}, service(80, a1, a2),
			"backend 10.0.0.2:8080: datapath full: 2 backends are the limit"},
		{"lines", dataplane.Limits{Nodes: 8, Backends: 64, Services: 8, Lines: 20}, many,
			"datapath full: lookup table of 11 lines: 20 lines are the limit"},
		{"table size", roomy, with(service(80, a1), func(s *lb.Service) { s.TableSize = 250 }),
			"table size 250: want one of [251 509 1021 2039 4093 8191 16381 32749 65521]"},
		{"nodes", dataplane.Limits{Nodes: 1, Backends: 8, Services: 8, Lines: 100}, service(80, b1),
			`backend 10.0.0.3:8080: node "b" is not in the datapath`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, tt.limits)
			good := service(79, "10.0.9.9@a") // comes first and uses some of it
			err := w.dp.Sync(table(t, nodes("10.9.0.2"), good, tt.s))
			if err == nil || !strings.Contains(err.Error(), "service tcp/192.0.2.1:80: ") || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v\nwant one with %q", err, tt.want)
			}
			w.verify()
			w.load(good.Key)
			// Room, and the next Sync does it.
			if tt.limits != roomy && tt.limits.Nodes > 1 {
				w.sync(table(t, nodes("10.9.0.2"), service(80, a1)))
				w.load(key(80))
			}
		})
	}
}

func TestNodesLimitAndFamily(t *testing.T) {
	w := newWorld(t, dataplane.Limits{Nodes: 2, Backends: 8, Services: 8, Lines: 100})
	err := w.dp.Sync(table(t, threeNodes, service(80, b1), service(81, c1)))
	want := "node \"c\": datapath full: 2 nodes, this one included, are the limit\n" +
		"service tcp/192.0.2.1:81: backend 10.0.0.4:8080: node \"c\" is not in the datapath"
	if err == nil || err.Error() != want || !errors.Is(err, dataplane.ErrFull) {
		t.Errorf("error %v\nwant  %s", err, want)
	}
	w.verify()

	w = newWorld(t, roomy)
	mixed := []lb.Node{{Name: "a", Addrs: []netip.Addr{netip.MustParseAddr("fd09::1")}}, nodes("10.9.0.2")[1], nodes("fd09::3")[1]}
	mixed[2].Name = "c"
	err = w.dp.Sync(table(t, mixed, service(80, b1), service(81, c1)))
	want = "node \"b\": no address of a family that this node has\n" +
		"service tcp/192.0.2.1:80: backend 10.0.0.3:8080: node \"b\" is not in the datapath"
	if err == nil || err.Error() != want {
		t.Errorf("error %v\nwant  %s", err, want)
	}
	w.load(key(81))
	mixed[0].Addrs = append(mixed[0].Addrs, netip.MustParseAddr("10.9.0.1"))
	w.sync(table(t, mixed, service(80, b1), service(81, c1)))
	w.load(key(80))
	mixed[0].Addrs = mixed[0].Addrs[:1] // what is written stays, but nothing new is built on it
	if err = w.dp.Sync(table(t, mixed, service(80, b1), service(81, c1))); err == nil || err.Error() != want {
		t.Errorf("error %v\nwant  %s", err, want)
	}
	w.load(key(80))
}

func TestMoreBackendsThanSlots(t *testing.T) {
	w := newWorld(t, roomy)
	s := service(80)
	for i := range 300 {
		s.Backends = append(s.Backends, service(0, fmt.Sprintf("10.1.%d.%d@a", i/250, i%250)).Backends...)
	}
	tab := table(t, threeNodes, s)
	w.sync(tab)
	if got := w.load(key(80)); len(got.list) != 251 || len(set(got.homes)) != 251 {
		t.Errorf("%d backends have %d slots", len(got.list), len(got.homes))
	}
	w.restart()
	if ops := w.sync(tab); len(ops) > 0 {
		t.Errorf("a restart writes %q", ops)
	}
}

// Where a place is missing that the same Sync frees, one Sync is enough.
func TestOneSyncReplacesWhatFillsTheDatapath(t *testing.T) {
	w := newWorld(t, dataplane.Limits{Nodes: 8, Backends: 3, Services: 1, Lines: 20})
	w.sync(table(t, threeNodes, service(80, "10.1.0.1@b", "10.1.0.2@b")))
	w.sync(table(t, threeNodes, service(81, "10.1.0.3@c", "10.1.0.4@c")))
	if got := set(w.load(key(81)).homes); len(got) != 2 {
		t.Errorf("homes %v", got)
	}
}

// A later service frees the lines that an earlier one lacks.
func TestOneSyncUsesTheLinesThatItFrees(t *testing.T) {
	w := newWorld(t, dataplane.Limits{Nodes: 8, Backends: 8, Services: 8, Lines: 20})
	w.sync(table(t, threeNodes, service(80, a1), service(81, b1)))
	w.sync(table(t, threeNodes, service(80, a2), service(81)))
	if got := set(w.load(key(80)).homes); !slices.Equal(got, []string{p2}) {
		t.Errorf("homes %v, want %s", got, p2)
	}
}

// As long as it is not known which table the record names, the places of both
// are kept.
func TestPlaceIsKeptWhileItMayBeInUse(t *testing.T) {
	w := newWorld(t, dataplane.Limits{Nodes: 8, Backends: 8, Services: 8, Lines: 20})
	w.sync(table(t, threeNodes, service(80, a1)))
	w.maps.Fail(4, dataplanetest.Before) // backend, endpoint, table, service
	next := table(t, threeNodes, service(80, a2))
	if err := w.dp.Sync(next); err == nil || !strings.Contains(err.Error(), "put service: injected failure") {
		t.Fatalf("error %v", err)
	}
	if err := w.dp.Sync(table(t, threeNodes, service(80, b1))); !errors.Is(err, dataplane.ErrFull) {
		t.Fatalf("error %v, want ErrFull", err)
	}
	w.verify()
	w.sync(next)
	w.sync(table(t, threeNodes, service(80, b1)))
}

func TestNodeAddressChanges(t *testing.T) {
	w := newWorld(t, roomy)
	w.sync(table(t, nodes("10.9.0.2", "10.9.0.3"), service(80, b1, c1)))
	ops := w.sync(table(t, nodes("10.9.0.20", "10.9.0.3"), service(80, b1, c1)))
	if diff := cmp.Diff([]string{"put node 1 10.9.0.20"}, ops); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// The two change places; and this node loses IPv4.
	ops = w.sync(table(t, nodes("10.9.0.3", "10.9.0.20"), service(80, b1, c1)))
	if diff := cmp.Diff([]string{"put node 1 10.9.0.3", "put node 2 10.9.0.20"}, ops); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	both := nodes("10.9.0.3", "10.9.0.20")
	both[1].Addrs = append(both[1].Addrs, netip.MustParseAddr("fd09::2"))
	both[2].Addrs = append(both[2].Addrs, netip.MustParseAddr("fd09::3"))
	if ops = w.sync(table(t, both, service(80, b1, c1))); len(ops) > 0 {
		t.Errorf("IPv4 goes before IPv6, but: %q", ops)
	}
	both[0].Addrs = both[0].Addrs[1:]
	ops = w.sync(table(t, both, service(80, b1, c1)))
	if diff := cmp.Diff([]string{"put node 1 fd09::2", "put node 2 fd09::3"}, ops); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// One write fails: the same table again writes that and what came behind it,
// and nothing of the other services.
func TestRetryIsOnlyWhatFailed(t *testing.T) {
	w := newWorld(t, roomy)
	tab := table(t, threeNodes, service(80, a1), service(81, b1), service(82, c1))
	w.maps.Fail(10, dataplanetest.Before) // the lookup table of service 81
	err := w.dp.Sync(tab)
	want := "service tcp/192.0.2.1:81: write lookup table: injected failure"
	if !errors.Is(err, dataplanetest.ErrInjected) || err.Error() != want {
		t.Fatalf("error %v, want %s", err, want)
	}
	var about *lb.ServiceError
	if !errors.As(err, &about) || about.Key != key(81) {
		t.Errorf("%v does not say which service it is about", err)
	}
	w.verify()
	w.load(key(80))
	w.load(key(82))
	w.maps.Ops()
	if diff := cmp.Diff([]string{"write table", "put service"}, verbs(w.sync(tab))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestServiceID(t *testing.T) {
	w := newWorld(t, roomy)
	if _, ok := w.dp.ServiceID(key(80)); ok {
		t.Error("an id before the service is there")
	}
	w.sync(table(t, threeNodes, service(79), service(80)))
	if id, ok := w.dp.ServiceID(key(80)); !ok || id != 1 {
		t.Errorf("ServiceID = %d, %v", id, ok)
	}
	w.sync(table(t, threeNodes))
	if _, ok := w.dp.ServiceID(key(80)); ok {
		t.Error("an id after the service is gone")
	}
}
