// SPDX-License-Identifier: Apache-2.0

package dataplane_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/dataplane/dataplanetest"
)

// step is one thing that happens in a scenario: a new table, if there is one,
// after some ticks, after a restart.
type step struct {
	table   *lb.Table
	after   uint32
	restart bool
	expire  bool
}

type scenario struct {
	name  string
	steps []step
}

func scenarios(t testing.TB) []scenario {
	tab := func(services ...lb.Service) step { return step{table: table(t, threeNodes, services...)} }
	later := func(s step) step { s.after = 40; return s }
	const a1, a2, b1, b2, c1 = "10.0.0.1@a", "10.0.0.2@a", "10.0.1.1@b", "10.0.1.2@b", "10.0.2.1@c"
	loose := func(services ...lb.Service) step { return step{table: looseTable(t, threeNodes, services...)} }
	restart := step{restart: true}
	const b1OnA, b1OnC = "10.0.1.1@a", "10.0.1.1@c"
	ranges := func(prefixes ...string) func(*lb.Service) {
		return func(s *lb.Service) {
			s.SourceRanges = []netip.Prefix{}
			for _, p := range prefixes {
				s.SourceRanges = append(s.SourceRanges, netip.MustParsePrefix(p))
			}
		}
	}
	sticky := func(s *lb.Service) { s.Affinity = time.Minute }
	grown := func(s *lb.Service) { s.TableSize = 509 }
	moved := step{table: table(t, nodes("10.9.0.20", "10.9.0.3"), service(80, a1, b1, c1))}
	fewer := step{table: table(t, nodes("10.9.0.2"), service(80, a1, b1))}
	other := with(service(80, a1, b1), func(s *lb.Service) { s.Key.VIP = netip.MustParseAddr("192.0.2.2") })
	everything := tab(with(service(80, a1, b1, c1), sticky), with(service(81, a1, b2), ranges("10.0.0.0/8")), with(service(82, b1), local), other)
	expired := step{after: 2 * pastTicks, expire: true}
	return []scenario{
		{"create", []step{everything}},
		{"scale up", []step{tab(service(80, a1)), tab(service(80, a1, b1)), later(tab(service(80, a1, b1, c1)))}},
		{"scale down", []step{tab(service(80, a1, b1, c1)), tab(service(80, a1, c1)), tab(service(80))}},
		{"drain and remove", []step{tab(service(80, a1, b1, c1)), tab(service(80, a1, b1+"!", c1)), later(tab(service(80, a1, c1)))}},
		{"rolling update", []step{tab(service(80, a1, b1)), later(tab(service(80, a1+"!", a2, b1))), later(tab(service(80, a2, b1+"!", b2))), expired}},
		{"all drain", []step{tab(service(80, a1, b1)), tab(service(80, a1+"!", b1+"!")), tab(service(80, a1, b1+"!"))}},
		{"policy", []step{tab(service(80, a1, b1)), tab(with(service(80, a1, b1), local)), tab(with(service(80, b1), local)), tab(service(80, a1, b1))}},
		{"ranges", []step{tab(service(80, a1)), tab(with(service(80, a1), ranges("10.0.0.0/8", "192.168.0.0/16"))),
			tab(with(service(80, a1), ranges("192.168.0.0/16", "172.16.0.0/12"))), tab(with(service(80, a1), ranges())), tab(service(80, a1))}},
		{"affinity and size", []step{tab(service(80, a1, b1)), tab(with(service(80, a1, b1), sticky)), tab(with(service(80, a1, b1), grown))}},
		{"delete one", []step{everything, tab(with(service(81, a1, b2), ranges("10.0.0.0/8")))}},
		{"delete all", []step{everything, tab()}},
		{"replace", []step{tab(service(80, a1, b1)), tab(service(81, a1, b1))}},
		{"shared table", []step{tab(service(80, a1, b1), service(81, a1, b1)), tab(service(80, a1, c1), service(81, a1, b1)), tab(service(80, a1, c1), service(81, a1, c1))}},
		{"node moves", []step{tab(service(80, a1, b1, c1)), moved}},
		{"node goes", []step{tab(service(80, a1, b1, c1)), fewer}},
		{"backend moves", []step{tab(service(80, a1, b1), service(81, b1)), tab(service(80, a1, b1OnC), service(81, b1OnC))}},
		{"backend moves in one service after the other", []step{tab(service(80, a1, b1), service(81, b1)),
			loose(service(80, a1, b1OnC), service(81, b1)), tab(service(80, a1, b1OnC), service(81, b1OnC))}},
		{"backend comes home in one service after the other", []step{tab(service(80, a1, b1), service(81, b1)),
			loose(service(80, a1, b1OnA), service(81, b1)), restart, loose(service(80, a1, b1OnA))}},
		{"backend leaves home in one service after the other", []step{tab(service(80, a1, b1OnA), service(81, b1OnA)),
			loose(service(80, a1, b1OnA), service(81, b1)), loose(service(80, a1, b1OnA+"!"), service(81, b1, a2)), tab(service(80, a1), service(81, b1))}},
		{"backend comes home", []step{tab(service(80, b1, c1)), fewer, tab(service(80, b1OnA))}},
		{"backend leaves a node that goes", []step{tab(service(80, a1, c1)), {table: table(t, nodes("10.9.0.2"), service(80, a1, "10.0.2.1@b"))}}},
		{"goes and returns", []step{tab(with(service(80, a1, b1), ranges("10.0.0.0/8"))), {table: table(t, nodes())}, tab(with(service(80, a1, b1), ranges("10.0.0.0/8")))}},
		{"parts go and return", []step{everything, tab(with(service(80, a1), sticky), service(81, b2), other), everything}},
		{"past and restart", []step{tab(service(80, a1, b1)), later(tab(service(80, a1, c1, b1+"!"))), restart, later(tab(service(80, c1, b1+"!", a1+"!"))), expired}},
		{"past is cleaned", []step{tab(service(80, a1, b1, c1)), tab(service(80, a1, b1+"!", c1+"!")), tab(service(80, a1, c1+"!"))}},
	}
}

// play runs a scenario. As soon as an error shows, it repairs: a crash by a
// restart, and then Sync with the same table.
func play(w *world, steps []step) {
	var current *lb.Table
	for i, s := range steps {
		w.now += s.after
		if s.table != nil {
			current = s.table
		}
		if s.restart {
			w.restart()
			s.table = current
		}
		var err error
		if s.table != nil {
			err = w.dp.Sync(s.table)
		}
		if s.expire {
			err = w.dp.Expire(w.now)
		}
		if err != nil {
			if w.maps.Crashed() {
				w.maps.Restart()
				w.restart()
			}
			if err := w.dp.Sync(current); err != nil {
				w.Fatalf("step %d: the repairing Sync: %v", i, err)
			}
		}
		w.verify()
	}
}

// Whatever write fails, and however far it got: after one more Sync the datapath
// is as if nothing had happened.
func TestEveryStepFails(t *testing.T) {
	for _, sc := range scenarios(t) {
		t.Run(sc.name, func(t *testing.T) {
			good := newWorld(t, roomy)
			play(good, sc.steps)
			want, total := good.maps.Dump(), len(good.maps.Ops())
			for _, how := range []dataplanetest.Failure{dataplanetest.Before, dataplanetest.After, dataplanetest.Torn} {
				for n := 1; n <= total; n++ {
					for _, crash := range []bool{false, true} {
						name := fmt.Sprintf("write %d of %d, %s, crash %v", n, total, how, crash)
						w := newWorld(t, roomy)
						if crash {
							w.maps.Crash(n, how)
						} else {
							w.maps.Fail(n, how)
						}
						play(w, sc.steps)
						if diff := cmp.Diff(want, w.maps.Dump()); diff != "" {
							t.Fatalf("%s: (-without failure +with):\n%s", name, diff)
						}
						w.maps.Ops()
						w.restart()
						if ops := w.sync(last(sc.steps)); len(ops) > 0 {
							t.Fatalf("%s: a restart afterwards writes %q", name, ops)
						}
					}
				}
			}
			t.Logf("%d writes", total)
		})
	}
}

func last(steps []step) *lb.Table {
	var current *lb.Table
	for _, s := range steps {
		if s.table != nil {
			current = s.table
		}
	}
	return current
}

// Without the repairing Sync: the next table comes while something is undone.
// The pasts may then differ for their time, the rest may not.
func TestNextTableAfterAFailure(t *testing.T) {
	for _, sc := range scenarios(t) {
		t.Run(sc.name, func(t *testing.T) {
			good := newWorld(t, roomy)
			want, total := playOn(good, sc.steps), len(good.maps.Ops())
			for _, how := range []dataplanetest.Failure{dataplanetest.Before, dataplanetest.After, dataplanetest.Torn} {
				for n := 1; n <= total; n++ {
					w := newWorld(t, roomy)
					w.maps.Fail(n, how)
					if diff := cmp.Diff(want, playOn(w, sc.steps)); diff != "" {
						t.Fatalf("write %d of %d, %s: (-without failure +with):\n%s", n, total, how, diff)
					}
				}
			}
		})
	}
}

// playOn runs a scenario whatever fails, syncs once more and lets every past end.
// It returns how the datapath is then.
func playOn(w *world, steps []step) string {
	w.Helper()
	for _, s := range steps {
		w.now += s.after
		if s.restart {
			w.restart()
		}
		if s.table != nil {
			_ = w.dp.Sync(s.table) // its failure is the point
		}
		w.verify()
	}
	_ = w.dp.Sync(last(steps))
	w.now += 2 * pastTicks
	_ = w.dp.Expire(w.now)
	if err := w.dp.Sync(last(steps)); err != nil {
		w.Fatal(err)
	}
	w.verify()
	return w.maps.Dump()
}

// The first Sync after a restart has another table, and fails: what it has taken
// over must not be pruned while something refers to it.
func TestFailureInTheFirstSync(t *testing.T) {
	for _, sc := range scenarios(t) {
		t.Run(sc.name, func(t *testing.T) {
			start := func() *world {
				w := newWorld(t, roomy)
				play(w, sc.steps)
				w.maps.Ops()
				w.restart()
				return w
			}
			next := table(t, nodes("10.9.0.3", "10.9.0.4"), service(80, "10.0.0.9@a", "10.0.1.9@b"), service(99, "10.0.2.9@c"))
			good := start()
			total := len(good.sync(next))
			want := good.maps.Dump()
			for n := 1; n <= total; n++ {
				w := start()
				w.maps.Fail(n, dataplanetest.After)
				if err := w.dp.Sync(next); err == nil {
					t.Fatalf("write %d of %d: no error", n, total)
				}
				w.verify()
				w.sync(next)
				if diff := cmp.Diff(want, w.maps.Dump()); diff != "" {
					t.Fatalf("write %d of %d: (-without failure +with):\n%s", n, total, diff)
				}
			}
		})
	}
}

// A datapath in which every write may fail settles after enough Syncs.
func TestRandomFailures(t *testing.T) {
	for _, sc := range scenarios(t) {
		t.Run(sc.name, func(t *testing.T) {
			good := newWorld(t, roomy)
			play(good, sc.steps)
			total := len(good.maps.Ops())
			for every := 2; every < 7; every++ {
				w := newWorld(t, roomy)
				for _, s := range sc.steps {
					w.now += s.after
					if s.table == nil {
						continue
					}
					syncFailing(w, s.table, every, total*every)
				}
				w.now += 2 * pastTicks
				good.now = w.now
				if err := w.dp.Expire(w.now); err != nil {
					t.Fatal(err)
				}
				if err := good.dp.Expire(w.now); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(good.maps.Dump(), w.maps.Dump()); diff != "" {
					t.Fatalf("every write %d fails: (-want +got):\n%s", every, diff)
				}
			}
		})
	}
}

// syncFailing syncs until it succeeds; one write fails in each attempt.
func syncFailing(w *world, t *lb.Table, n, limit int) {
	w.Helper()
	for try := range limit {
		w.maps.Fail(n, dataplanetest.Failure(try%3))
		err := w.dp.Sync(t)
		w.verify()
		if err == nil {
			w.maps.Restart()
			return
		}
	}
	w.Fatalf("no success in %d tries", limit)
}
