// SPDX-License-Identifier: Apache-2.0

package dataplane_test

import (
	"slices"
	"testing"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/dataplane/dataplanetest"
)

// adoptingWorld is one whose dataplane adopts.
func adoptingWorld(t *testing.T) *world {
	w := newWorld(t, roomy)
	w.adopts = true
	w.restart()
	return w
}

// adopted expects these ports to be adopted, by the dataplane and in the records.
func (w *world) adopted(want ...uint16) {
	w.Helper()
	var got []uint16
	for _, key := range w.dp.Adopted() {
		got = append(got, key.Port)
	}
	if !slices.Equal(got, want) {
		w.Errorf("adopted %d, want %d", got, want)
	}
	state, err := w.maps.Load()
	if err != nil {
		w.Fatal(err)
	}
	for _, s := range state.Services {
		if s.Adopted != slices.Contains(want, s.Key.Port) {
			w.Errorf("%s: adopted %t in its record", s.Key, s.Adopted)
		}
	}
}

func leftTo(port uint16) lb.Service {
	return with(service(port), func(s *lb.Service) { s.Left = true })
}

func TestAdopt(t *testing.T) {
	w := adoptingWorld(t)
	w.sync(table(t, threeNodes, service(80, a1), service(81, a1)))
	w.adopted(80, 81)
	if err := w.dp.EndAdoption([]lb.ServiceKey{key(81), key(99)}); err != nil {
		t.Fatal(err)
	}
	w.adopted(80)
	w.sync(table(t, threeNodes, service(80, a1, b1), service(81, a1, b1), service(82, a1)))
	w.adopted(80, 82)
	w.restart() // what is in the maps counts
	w.adopted(80, 82)
	w.sync(table(t, threeNodes, service(80, a1), service(81, a1), service(82, a1)))
	w.adopted(80, 82)
	w.sync(table(t, threeNodes, service(80, a1), leftTo(82)))
	w.adopted(80)
	w.sync(table(t, threeNodes, service(80, a1), service(81, a1), service(82, a1)))
	w.adopted(80, 81, 82)
	w.sync(table(t, threeNodes))
	w.adopted()
}

func TestAdoptNot(t *testing.T) {
	w := newWorld(t, roomy)
	w.sync(table(t, threeNodes, service(80, a1), leftTo(81)))
	w.sync(table(t, threeNodes, service(80, a1), service(81, a1)))
	w.adopted()
}

// Whichever write fails, a service is adopted, and not for ever.
func TestAdoptFaults(t *testing.T) {
	for _, how := range []dataplanetest.Failure{dataplanetest.Before, dataplanetest.After, dataplanetest.Torn} {
		for n := 1; ; n++ {
			w := adoptingWorld(t)
			w.sync(table(t, threeNodes, service(80, a1), leftTo(81)))
			w.maps.Fail(n, how)
			err := w.dp.Sync(table(t, threeNodes, service(80, a1), service(81, b1)))
			if err == nil {
				break
			}
			w.sync(table(t, threeNodes, service(80, a1), service(81, b1)))
			w.adopted(80, 81)
			w.maps.Fail(1, how)
			if err := w.dp.EndAdoption(w.dp.Adopted()); err == nil {
				t.Fatal("a write failed, but not the end of adoption")
			}
			w.sync(table(t, threeNodes, service(80, a1), service(81, b1)))
			w.adopted()
			w.verify()
		}
	}
}
