// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"math"
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// TestEdits makes a world, edits it, and wants the answers after the edit.
func TestEdits(t *testing.T) {
	for _, test := range []struct {
		name       string
		make, edit func(*world)
		want       map[string]string
	}{
		{"pool grows below", func(w *world) { w.pool("a", "192.0.2.128/25"); w.service("s") },
			func(w *world) { w.pool("a", "192.0.2.0/24"); w.service("t") },
			map[string]string{"s": "192.0.2.128 from pool a", "t": "192.0.2.0 from pool a"}},
		{"pool shrinks", func(w *world) { w.pool("a", "192.0.2.0/24"); w.service("s") },
			func(w *world) { w.pool("a", "192.0.2.128/25") },
			map[string]string{"s": "192.0.2.128 from pool a"}},
		{"pool deleted", func(w *world) { w.pool("a", "192.0.2.0/24"); w.pool("b", "192.0.3.0/24", manual); w.service("s") },
			func(w *world) { delete(w.pools, "a") },
			map[string]string{"s": "NoPool: all pools have autoAssign: false: ask for one with annotation fairlead.io/address-pool"}},
		{"pool renamed", func(w *world) { w.pool("a", "192.0.2.0/24"); w.service("r"); w.service("s") },
			func(w *world) { delete(w.pools, "a"); w.pool("b", "192.0.2.0/24") },
			map[string]string{"r": "192.0.2.0 from pool b", "s": "192.0.2.1 from pool b"}},
		{"pool drained", func(w *world) { w.pool("a", "192.0.2.0/24"); w.service("s") },
			func(w *world) { w.pool("a", "192.0.2.0/24", drain); w.pool("b", "192.0.3.0/24"); w.service("t") },
			map[string]string{"s": "192.0.2.0 from pool a", "t": "192.0.3.0 from pool b"}},
		{"pool restricted, ranked lower, avoiding", func(w *world) { w.pool("a", "192.0.2.0/24"); w.pool("b", "192.0.3.0/24"); w.service("s") },
			func(w *world) {
				w.pool("a", "192.0.2.0/24", manual, avoiding, allocate(v1beta1.ServiceAllocation{Namespaces: []string{"other"}, Priority: 9}))
			}, map[string]string{"s": "192.0.2.0 from pool a"}},
		{"an older pool is edited to overlap", func(w *world) { w.pool("a", "192.0.3.0/24", manual); w.pool("b", "192.0.2.0/24"); w.service("s") },
			func(w *world) { w.pool("a", "192.0.3.0/24 192.0.2.0/25", manual); w.service("t") },
			map[string]string{"s": "192.0.2.0 from pool a", "t": "192.0.2.128 from pool b"}},
		{"pool with a mistake", func(w *world) {
			w.pool("a", "192.0.2.0/31 192.0.3.0/24")
			w.service("s")
			w.service("t")
			w.service("u")
		},
			func(w *world) { w.pool("a", "192.0.2.0/33 192.0.3.0/24") },
			map[string]string{"u": "192.0.3.0 from pool a"}},

		{"asks for another address", func(w *world) { w.pool("a", "192.0.2.0/24"); w.service("s"); w.service("t") },
			func(w *world) { w.service("s", ips("192.0.2.9")); w.service("t", ips("192.0.2.9")) },
			map[string]string{
				"s": "192.0.2.9 from pool a",
				"t": "AddressInUse: 192.0.2.9 belongs to Service default/s: ask for another address; to share it, give both Services the same annotation fairlead.io/allow-shared-ip; until then the Service keeps 192.0.2.1 from pool a",
			}},
		{"asks for another pool", func(w *world) {
			w.pool("a", "192.0.2.0/24")
			w.pool("b", "192.0.3.0/24")
			w.service("s")
			w.service("t")
		},
			func(w *world) { w.service("s", fromPool("b")); w.service("t", fromPool("c")) },
			map[string]string{
				"s": "192.0.3.0 from pool b",
				"t": `PoolNotFound: pool "c" does not exist: create it, or name another one in annotation fairlead.io/address-pool; until then the Service keeps 192.0.2.1 from pool a`,
			}},
		{"gets a second family", func(w *world) { w.pool("a", "192.0.2.0/24 2001:db8::/120"); w.service("s") },
			func(w *world) { w.service("s", dual(require, v4, v6)) },
			map[string]string{"s": "192.0.2.0 and 2001:db8:: from pool a"}},
		{"gets a second family that the pool does not have", func(w *world) { w.pool("a", "192.0.2.0/24"); w.service("s") },
			func(w *world) { w.pool("b", "192.0.3.0/24 2001:db8::/120"); w.service("s", dual(require, v4, v6)) },
			map[string]string{"s": "FamilyMissing: pool a has no IPv6 addresses: add some; until then the Service keeps 192.0.2.0 from pool a"}},
		{"loses its second family", func(w *world) {
			w.pool("a", "192.0.2.0/24 2001:db8::/120")
			w.service("s", dual(prefer, v4, v6))
		}, func(w *world) { w.service("s", dual(corev1.IPFamilyPolicySingleStack, v4)) },
			map[string]string{"s": "192.0.2.0 from pool a"}},
		{"the second family comes later", func(w *world) { w.pool("a", "192.0.2.0/24"); w.service("s", dual(prefer, v6, v4)) },
			func(w *world) { w.pool("a", "192.0.2.0/24 2001:db8::/120") },
			map[string]string{"s": "2001:db8:: and 192.0.2.0 from pool a"}},
		{"one family of two goes", func(w *world) {
			w.pool("a", "192.0.2.0/24 2001:db8::/120")
			w.service("s", dual(prefer, v4, v6))
			w.service("t", dual(require, v4, v6))
		}, func(w *world) { w.pool("a", "192.0.2.0/24") },
			map[string]string{
				"s": "192.0.2.0 from pool a; one family only: pool a has no IPv6 addresses: add some",
				"t": "FamilyMissing: pool a has no IPv6 addresses: add some; until then the Service keeps 192.0.2.1 from pool a",
			}},

		{"who changes its ports loses", func(w *world) {
			w.pool("a", "192.0.2.0/24")
			w.service("s", key("k"))
			w.service("t", key("k"), ports(443))
		}, func(w *world) { w.service("s", ports(80, 443)) },
			map[string]string{"s": "192.0.2.1 from pool a", "t": "192.0.2.0 from pool a"}},
		{"who takes its key off loses", func(w *world) {
			w.pool("a", "192.0.2.0/24")
			w.service("s", key("k"))
			w.service("t", key("k"), ports(443))
		}, func(w *world) { w.service("s", key("")) },
			map[string]string{"s": "192.0.2.1 from pool a", "t": "192.0.2.0 from pool a"}},
		{"who is alone may change", func(w *world) { w.pool("a", "192.0.2.0/24"); w.service("s", key("k")) },
			func(w *world) { w.service("s", key("l"), ports(1), local("x")) },
			map[string]string{"s": "192.0.2.0 from pool a"}},
		{"a key given later moves nobody", func(w *world) {
			w.pool("a", "192.0.2.0/24")
			w.service("s")
			w.service("t", ports(443))
		}, func(w *world) { w.service("s", key("k")); w.service("t", key("k")); w.service("u", key("k"), ports(1)) },
			map[string]string{"s": "192.0.2.0 from pool a", "t": "192.0.2.1 from pool a", "u": "192.0.2.0 from pool a"}},
		{"deleted: its address rests", func(w *world) { w.pool("a", "192.0.2.0/24"); w.service("s") },
			func(w *world) { w.remove("s"); w.step(); w.service("t") },
			map[string]string{"t": "192.0.2.1 from pool a"}},
		{"deleted and made again", func(w *world) { w.pool("a", "192.0.2.0/24"); w.service("r"); w.service("s") },
			func(w *world) { w.remove("s"); w.step(); w.service("s"); w.service("t", ips("192.0.2.1")) },
			map[string]string{
				"s": "192.0.2.1 from pool a",
				"t": "AddressResting: 192.0.2.1 belonged to Service default/s and rests until 2026-01-02T03:04:35Z: wait, or ask for another address",
			}},
		{"deleted, and its address has rested", func(w *world) { w.pool("a", "192.0.2.0/24"); w.service("s") },
			func(w *world) { w.remove("s"); w.step(); w.now = w.now.Add(w.delay); w.service("t") },
			map[string]string{"t": "192.0.2.0 from pool a"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld()
			test.make(w)
			w.step()
			test.edit(w)
			w.want(t, w.step(), test.want)
		})
	}
}

func TestCounts(t *testing.T) {
	w := newWorld()
	w.pool("a", "192.0.2.0/24 2001:db8::/120", avoiding)
	w.pool("huge", "10.0.0.0/8 2001:db8:1::/48", manual)
	w.pool("nearly", "2001:db8:2::-2001:db8:2::7fff:ffff:ffff:fffe", manual)
	w.service("s", key("k"))
	w.service("t", key("k"), ports(443))
	w.service("u", dual(require, v4, v6))
	w.service("v", fromPool("huge"), dual(require, v4, v6))
	w.service("x")
	w.step()
	w.remove("x")
	w.step()
	r := w.step()
	want := map[string]Counts{
		"a":      {AssignedIPv4: 2, AvailableIPv4: 254 - 3, AssignedIPv6: 1, AvailableIPv6: 254},
		"huge":   {AssignedIPv4: 1, AvailableIPv4: 1<<24 - 1, AssignedIPv6: 1, AvailableIPv6: math.MaxInt64},
		"nearly": {AvailableIPv6: math.MaxInt64},
	}
	for name, want := range want {
		if r.Counts[name] != want {
			t.Errorf("%s: %+v, want %+v", name, r.Counts[name], want)
		}
	}
	if want := epoch.Add(30 * time.Second); !r.Again.Equal(want) {
		t.Errorf("again at %s, want %s", r.Again, want)
	}
}
