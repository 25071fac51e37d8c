// SPDX-License-Identifier: Apache-2.0

package dataplane_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/lb/dataplane"
	"github.com/fairlead/fairlead/lb/dataplane/dataplanetest"
)

// Two Maps hold the same after the second was copied from the first, whatever
// is written then, and when writes to either fail.
func TestBoth(t *testing.T) {
	w, tab := busy(t)
	image := dataplanetest.New(roomy)
	both, err := dataplane.Both(w.maps, image)
	if err != nil {
		t.Fatal(err)
	}
	same := func(when string) {
		t.Helper()
		if diff := cmp.Diff(w.maps.Dump(), image.Dump()); diff != "" {
			t.Errorf("%s (-source +image):\n%s", when, diff)
		}
	}
	same("after the copy")
	plane, err := dataplane.New(both, dataplane.Options{PastTicks: pastTicks, Now: func() uint32 { return w.now }})
	if err != nil {
		t.Fatal(err)
	}
	for _, maps := range []*dataplanetest.Maps{w.maps, image} {
		for _, next := range []func() error{
			func() error { return plane.Sync(table(t, threeNodes, service(80, a1), service(84, b1))) },
			func() error { return plane.Sync(table(t, nodes())) },
			func() error { return plane.Sync(tab) },
		} {
			maps.Fail(2, dataplanetest.Before)
			if err := next(); err == nil {
				t.Error("a failed write is not reported")
			}
			maps.Restart()
			if err := next(); err != nil {
				t.Error(err)
			}
			same("after a write that failed and its retry")
		}
	}
}
