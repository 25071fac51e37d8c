// SPDX-License-Identifier: Apache-2.0

package dataplane_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/dataplane"
)

const (
	p1, p2, p3, p4 = "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"
	a1, a2, b1, c1 = "10.0.0.1@a", "10.0.0.2@a", "10.0.0.3@b", "10.0.0.4@c"
)

// changes syncs service 80 through sets of backends, ten ticks apart, and
// returns the loaded service after each.
func changes(w *world, sets ...[]string) []loaded {
	w.Helper()
	var out []loaded
	for _, backends := range sets {
		w.now += 10
		w.sync(table(w, threeNodes, service(80, backends...)))
		out = append(out, w.load(key(80)))
	}
	return out
}

func TestPastOfANewServiceIsEmpty(t *testing.T) {
	l := changes(newWorld(t, roomy), []string{a1, a2, b1})[0]
	if l.pasts != nil || l.PastUntil != 0 || l.Table.Transition {
		t.Errorf("transition %v until %d, want a table at rest", l.Table.Transition, l.PastUntil)
	}
	if diff := cmp.Diff([]string{p1, p2, p3}, l.list); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
}

func TestPastRemembersWhoLives(t *testing.T) {
	w := newWorld(t, roomy)
	ls := changes(w, []string{a1, a2}, []string{a1 + "!", a2, b1})
	before, after := ls[0], ls[1]
	if after.PastUntil != w.now+pastTicks || !after.Table.Transition {
		t.Fatalf("transition %v until %d, want until %d", after.Table.Transition, after.PastUntil, w.now+pastTicks)
	}
	if diff := cmp.Diff([]string{p2, p3, p1}, after.list); diff != "" {
		t.Errorf("list: current ones and then the draining one (-want +got):\n%s", diff)
	}
	for i, home := range after.homes {
		var want []string
		if before.homes[i] != home {
			want = []string{before.homes[i]}
		}
		if !slices.Equal(after.pasts[i], want) {
			t.Fatalf("slot %d: home %s, before %s, past %v", i, home, before.homes[i], after.pasts[i])
		}
	}
}

func TestPastOfTwoChangesIsLatestFirst(t *testing.T) {
	w := newWorld(t, roomy)
	ls := changes(w, []string{a1}, []string{a1 + "!", a2}, []string{a1 + "!", a2 + "!", b1})
	for i, past := range ls[2].pasts {
		if !slices.Equal(past, []string{p2, p1}) {
			t.Fatalf("slot %d: past %v, want the latest first", i, past)
		}
	}
	if ls[2].PastUntil != w.now+pastTicks || ls[1].PastUntil != w.now-10+pastTicks {
		t.Errorf("until %d and %d: the second change renews", ls[1].PastUntil, ls[2].PastUntil)
	}
}

func TestPastLosesTheVanished(t *testing.T) {
	w := newWorld(t, roomy)
	ls := changes(w, []string{a1}, []string{a1 + "!", a2}, []string{a1 + "!", a2 + "!", b1}, []string{a2 + "!", b1}, []string{b1})
	for i, past := range ls[3].pasts {
		if !slices.Equal(past, []string{p2}) {
			t.Fatalf("slot %d: past %v, want only %s", i, past, p2)
		}
	}
	if ls[3].PastUntil != ls[2].PastUntil {
		t.Errorf("until %d, then %d: cleaning does not renew", ls[2].PastUntil, ls[3].PastUntil)
	}
	if ls[4].pasts != nil || ls[4].PastUntil != 0 {
		t.Errorf("nobody of the past lives: want a table at rest, got until %d", ls[4].PastUntil)
	}
}

func TestRemovalAloneLeavesNoPast(t *testing.T) {
	// The slots of the removed one have no living earlier home; a few others
	// move between living backends, and only these may have a past.
	ls := changes(newWorld(t, roomy), []string{a1, a2, b1, c1}, []string{a1, a2, b1})
	for i := range ls[1].homes {
		var want []string
		if ls[0].homes[i] != p4 && ls[0].homes[i] != ls[1].homes[i] {
			want = []string{ls[0].homes[i]}
		}
		if ls[1].pasts != nil && !slices.Equal(ls[1].pasts[i], want) {
			t.Fatalf("slot %d: past %v, want %v", i, ls[1].pasts[i], want)
		}
	}
}

func TestPastOfAnOldChangeIsForgotten(t *testing.T) {
	w := newWorld(t, roomy)
	changes(w, []string{a1}, []string{a1 + "!", a2})
	w.now += pastTicks
	l := changes(w, []string{a1 + "!", a2 + "!", b1})[0]
	for i, past := range l.pasts {
		if !slices.Equal(past, []string{p2}) {
			t.Fatalf("slot %d: past %v, want what was before this change only", i, past)
		}
	}
}

func TestAnUnchangedSetKeepsThePast(t *testing.T) {
	w := newWorld(t, roomy)
	before := changes(w, []string{a1}, []string{a1 + "!", a2})[1]
	w.now += 10
	w.sync(table(t, threeNodes, with(service(80, a1+"!", a2), func(s *lb.Service) { s.Affinity = 1 })))
	after := w.load(key(80))
	if after.PastUntil != before.PastUntil || after.Table != before.Table || after.AffinityTicks != 1 {
		t.Errorf("%+v, then %+v", before.ServiceEntry, after.ServiceEntry)
	}
}

func TestLocalHasNoPastButLeavesOne(t *testing.T) {
	w := newWorld(t, roomy)
	w.sync(table(t, threeNodes, service(80, a1, b1)))
	w.sync(table(t, threeNodes, with(service(80, a1, b1), local)))
	l := w.load(key(80))
	if l.pasts != nil || !l.Local || !slices.Equal(set(l.homes), []string{p1}) {
		t.Fatalf("under Local: homes %v, transition %v", set(l.homes), l.Table.Transition)
	}
	w.sync(table(t, threeNodes, service(80, a1, b1)))
	l = w.load(key(80))
	for i, home := range l.homes {
		if remote := home == p3; remote != slices.Equal(l.pasts[i], []string{p1}) {
			t.Fatalf("slot %d: home %s, past %v", i, home, l.pasts[i])
		}
	}
}

func TestGrownTableRemembersBothOldSlots(t *testing.T) {
	w := newWorld(t, roomy)
	before := changes(w, []string{a1, a2, b1, c1})[0]
	w.sync(table(t, threeNodes, with(service(80, a1, a2, b1, c1), func(s *lb.Service) { s.TableSize = 509 })))
	after := w.load(key(80))
	for i, home := range after.homes {
		low, high := i*251/509, ((i+1)*251-1)/509
		for _, old := range []string{before.homes[low], before.homes[high]} {
			if old != home && !slices.Contains(after.pasts[i], old) {
				t.Fatalf("slot %d: home %s, past %v lacks %s", i, home, after.pasts[i], old)
			}
		}
	}
}

// Whatever a flow's hash is: when its service's table grows, be it while the set
// changes, its slot still leads to where the flow is; and at last it rests.
func TestGrownTableFindsEveryFlow(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for _, sizes := range [][]int{{251, 509}, {251, 4093}, {251, 509, 2039}, {509, 509, 1021}} {
		w := newWorld(t, roomy)
		var before []loaded
		for i, size := range sizes {
			backends := [][]string{{a1, a2, b1, c1}, {a1 + "!", a2, b1, c1}, {a1 + "!", a2, b1, c1}}[i]
			w.now += 10
			w.sync(table(t, threeNodes, with(service(80, backends...), func(s *lb.Service) { s.TableSize = size })))
			now := w.load(key(80))
			for range 10000 {
				hash := rng.Uint32()
				slot := func(l loaded) int { return int(uint64(hash) * uint64(len(l.homes)) >> 32) }
				reach := []string{now.homes[slot(now)]}
				if now.pasts != nil {
					reach = append(reach, now.pasts[slot(now)]...)
				}
				for _, earlier := range before {
					if home := earlier.homes[slot(earlier)]; !slices.Contains(reach, home) {
						t.Fatalf("sizes %v: hash %#x was on %s at size %d, reaches only %v at size %d", sizes[:i+1], hash, home, len(earlier.homes), reach, size)
					}
				}
			}
			before = append(before, now)
		}
		w.now += pastTicks
		w.expire(w.now)
		if rest := w.load(key(80)); rest.pasts != nil || !slices.Equal(rest.homes, before[len(before)-1].homes) {
			t.Errorf("sizes %v: no rest with the same homes after the past", sizes)
		}
	}
}

func TestExpire(t *testing.T) {
	w := newWorld(t, roomy)
	if _, ok := w.dp.NextExpiry(); ok {
		t.Error("NextExpiry before the first Sync")
	}
	l := changes(w, []string{a1}, []string{a1 + "!", a2})[1]
	if tick, ok := w.dp.NextExpiry(); !ok || tick != l.PastUntil {
		t.Fatalf("NextExpiry = %d, %v; want %d", tick, ok, l.PastUntil)
	}
	w.maps.Ops()
	w.expire(l.PastUntil - 1)
	if ops := w.maps.Ops(); len(ops) > 0 {
		t.Errorf("too early, and writes %q", ops)
	}
	w.expire(l.PastUntil)
	want := []string{"write table", "put service"}
	if diff := cmp.Diff(want, verbs(w.maps.Ops())); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	rest := w.load(key(80))
	if rest.pasts != nil || rest.PastUntil != 0 || !slices.Equal(rest.homes, l.homes) || rest.Table.Hash != l.Table.Hash {
		t.Errorf("after: until %d, want a table at rest with the same homes", rest.PastUntil)
	}
	if tick, ok := w.dp.NextExpiry(); ok {
		t.Errorf("NextExpiry = %d, but nothing has a past", tick)
	}
}

func (w *world) expire(now uint32) {
	w.Helper()
	if err := w.dp.Expire(now); err != nil {
		w.Fatal(err)
	}
	w.verify()
}

func TestExpiryTakesTheClocksWrap(t *testing.T) {
	w := newWorld(t, roomy)
	w.now = ^uint32(0) - pastTicks // the past would be over at tick 0 and means "none" there
	w.now -= 20 - 1
	l := changes(w, []string{a1}, []string{a1 + "!", a2})[1]
	if l.PastUntil != 1 {
		t.Fatalf("until %d, want 1 instead of 0", l.PastUntil)
	}
	w.expire(^uint32(0))
	if w.load(key(80)).pasts == nil {
		t.Error("expired before the wrap")
	}
	w.expire(1)
	if w.load(key(80)).pasts != nil {
		t.Error("not expired after the wrap")
	}
}

func TestNextExpiryIsTheEarliest(t *testing.T) {
	w := newWorld(t, roomy)
	w.sync(table(t, threeNodes, service(80, a1), service(81, a1), service(82, a1)))
	w.sync(table(t, threeNodes, service(80, a1), service(81, a1+"!", a2), service(82, a1)))
	first := w.load(key(81)).PastUntil
	w.now += 10
	w.sync(table(t, threeNodes, service(80, a1+"!", a2), service(81, a1+"!", a2), service(82, a1)))
	if tick, ok := w.dp.NextExpiry(); !ok || tick != first {
		t.Errorf("NextExpiry = %d, %v; want %d", tick, ok, first)
	}
	w.expire(first)
	if tick, ok := w.dp.NextExpiry(); !ok || tick != first+10 {
		t.Errorf("NextExpiry = %d, %v; want %d", tick, ok, first+10)
	}
}

func TestNoPastTicksNoPast(t *testing.T) {
	w := newWorld(t, roomy)
	dp, err := dataplane.New(w.maps, dataplane.Options{Now: func() uint32 { return 5 }})
	if err != nil {
		t.Fatal(err)
	}
	w.dp = dp
	if l := changes(w, []string{a1}, []string{a1 + "!", a2})[1]; l.pasts != nil || l.PastUntil != 0 {
		t.Errorf("until %d", l.PastUntil)
	}
}

// A failed Expire is left to Sync: NextExpiry must not make its caller spin.
func TestFailedExpireIsRetriedBySync(t *testing.T) {
	w := newWorld(t, roomy)
	l := changes(w, []string{a1}, []string{a1 + "!", a2})[1]
	w.maps.Fail(1, 0)
	w.now = l.PastUntil
	if err := w.dp.Expire(w.now); err == nil {
		t.Fatal("Expire: want the injected failure")
	}
	if tick, ok := w.dp.NextExpiry(); ok {
		t.Errorf("NextExpiry = %d, want none until Sync", tick)
	}
	w.sync(table(t, threeNodes, service(80, a1+"!", a2)))
	if w.load(key(80)).pasts != nil {
		t.Error("still with a past")
	}
}
