// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
)

const (
	v4      = corev1.IPv4Protocol
	v6      = corev1.IPv6Protocol
	prefer  = corev1.IPFamilyPolicyPreferDualStack
	require = corev1.IPFamilyPolicyRequireDualStack
)

// TestOne makes a world in one step and wants the answers exactly.
func TestOne(t *testing.T) {
	for _, test := range []struct {
		name string
		make func(*world)
		want map[string]string
	}{
		{"no Services", func(w *world) { w.pool("a", "192.0.2.0/24") }, nil},
		{"no pools", func(w *world) { w.service("s") },
			map[string]string{"s": "NoPool: there is no IPAddressPool: create one"}},
		{"the lowest address, the oldest Service first", func(w *world) {
			w.pool("a", "192.0.2.8/31")
			w.service("z")
			w.service("b")
			w.service("a")
		}, map[string]string{
			"z": "192.0.2.8 from pool a", "b": "192.0.2.9 from pool a",
			"a": "PoolExhausted: pool a has no free IPv4 address: add some, or delete Services",
		}},
		{"a range", func(w *world) { w.pool("a", "192.0.2.250-192.0.3.2"); w.service("s") },
			map[string]string{"s": "192.0.2.250 from pool a"}},
		{"buggy addresses avoided", func(w *world) {
			w.pool("a", "192.0.2.0/32 192.0.2.255/32 192.0.3.0-192.0.3.1 2001:db8::/126", avoiding)
			w.service("s", dual(require, v4, v6))
		}, map[string]string{"s": "192.0.3.1 and 2001:db8::1 from pool a"}},
		{"buggy addresses may be asked for", func(w *world) {
			w.pool("a", "192.0.2.0/24", avoiding)
			w.service("s", ips("192.0.2.255"))
		}, map[string]string{"s": "192.0.2.255 from pool a"}},
		{"no address of the family", func(w *world) {
			w.pool("a", "192.0.2.0/24")
			w.pool("b", "192.0.3.0/24")
			w.service("s", dual(corev1.IPFamilyPolicySingleStack, v6))
		}, map[string]string{"s": "FamilyMissing: pools a, b have no IPv6 addresses: add some"}},

		// Which pool.
		{"autoAssign: false", func(w *world) { w.pool("a", "192.0.2.0/24", manual); w.service("s"); w.service("t", fromPool("a")) },
			map[string]string{
				"s": "NoPool: all pools have autoAssign: false: ask for one with annotation fairlead.io/address-pool",
				"t": "192.0.2.0 from pool a",
			}},
		{"drained", func(w *world) { w.pool("a", "192.0.2.0/24", drain); w.service("s"); w.service("t", fromPool("a")) },
			map[string]string{
				"s": "PoolDraining: all pools are being drained: create another one",
				"t": `PoolDraining: pool "a" is being drained and gives out no addresses: ask for another pool`,
			}},
		{"priority: lower first, 0 last, then by name", func(w *world) {
			w.pool("a", "192.0.2.0/32", allocate(v1beta1.ServiceAllocation{}))
			w.pool("b", "192.0.2.1/32", allocate(v1beta1.ServiceAllocation{Priority: 20}))
			w.pool("d", "192.0.2.2/32", allocate(v1beta1.ServiceAllocation{Priority: 10}))
			w.pool("c", "192.0.2.3/32", allocate(v1beta1.ServiceAllocation{Priority: 10}))
			w.service("s1")
			w.service("s2")
			w.service("s3")
			w.service("s4")
		}, map[string]string{
			"s1": "192.0.2.3 from pool c", "s2": "192.0.2.2 from pool d", "s3": "192.0.2.1 from pool b", "s4": "192.0.2.0 from pool a",
		}},
		{"a pool for some before one for all", func(w *world) {
			w.pool("a", "192.0.2.0/32")
			w.pool("b", "192.0.2.1/32", allocate(v1beta1.ServiceAllocation{Namespaces: []string{"default"}}))
			w.service("s")
		}, map[string]string{"s": "192.0.2.1 from pool b"}},
		{"namespaces and Service selectors both", func(w *world) {
			w.pool("a", "192.0.2.0/24", allocate(v1beta1.ServiceAllocation{Namespaces: []string{"default"}, ServiceSelectors: byLabel("app", "x")}))
			w.service("s", labelled("app", "x"))
			w.service("t", labelled("app", "y"))
			w.service("other/u", labelled("app", "x"))
		}, map[string]string{
			"s": "192.0.2.0 from pool a", "t": "NoPool: all pools are for other namespaces or Services: see serviceAllocation of the pools",
		}},
		{"namespaces by name or by label", func(w *world) {
			w.namespaces["default"] = labels.Set{"team": "x"}
			w.pool("a", "192.0.2.0/24", allocate(v1beta1.ServiceAllocation{Namespaces: []string{"other"}, NamespaceSelectors: byLabel("team", "x")}))
			w.service("s")
		}, map[string]string{"s": "192.0.2.0 from pool a"}},
		{"a selector that matches no namespace matches nothing", func(w *world) {
			w.pool("a", "192.0.2.0/24", allocate(v1beta1.ServiceAllocation{NamespaceSelectors: byLabel("team", "none")}))
			w.service("s")
			w.service("t", fromPool("a"))
			w.service("u", ips("192.0.2.9"))
		}, map[string]string{
			"s": "NoPool: all pools are for other namespaces or Services: see serviceAllocation of the pools",
			"t": `PoolNotAllowed: pool "a" is for other namespaces or Services: see its serviceAllocation, or ask for another pool`,
			"u": `PoolNotAllowed: 192.0.2.9: pool "a" is for other namespaces or Services: see its serviceAllocation, or ask for another pool`,
		}},
		{"nothing to choose from", func(w *world) {
			w.pool("a", "192.0.2.0/24", drain)
			w.pool("b", "192.0.3.0/24", manual)
			w.service("s")
		}, map[string]string{"s": "NoPool: no pool is there to choose from: 0 for other namespaces or Services, 1 being drained, 1 with autoAssign: false"}},
		{"the older pool has what is in both", func(w *world) {
			w.pool("z", "192.0.2.0/31")
			w.pool("a", "192.0.2.0/30")
			w.service("s", fromPool("a"))
			w.service("t", fromPool("z"))
			w.service("u", fromPool("a"), ips("192.0.2.1"))
		}, map[string]string{
			"s": "192.0.2.2 from pool a", "t": "192.0.2.0 from pool z",
			"u": `InvalidRequest: 192.0.2.1 is in pool "z", but annotation fairlead.io/address-pool asks for pool "a": remove one of them`,
		}},

		// Requests.
		{"address asked for before any", func(w *world) {
			w.pool("a", "192.0.2.0/31")
			w.service("s")
			w.service("t", specIP("192.0.2.0"))
		}, map[string]string{"s": "192.0.2.1 from pool a", "t": "192.0.2.0 from pool a"}},
		{"address of no pool", func(w *world) { w.pool("a", "192.0.2.0/31"); w.service("s", ips("198.51.100.1")) },
			map[string]string{"s": "AddressNotInPool: no pool has 198.51.100.1: add it to a pool, or ask for another address"}},
		{"address of another", func(w *world) {
			w.pool("a", "192.0.2.0/31")
			w.service("s", ips("192.0.2.1"))
			w.service("t", ips("192.0.2.1"))
		}, map[string]string{
			"s": "192.0.2.1 from pool a",
			"t": "AddressInUse: 192.0.2.1 belongs to Service default/s: ask for another address; to share it, give both Services the same annotation fairlead.io/allow-shared-ip",
		}},
		{"unknown pool", func(w *world) { w.pool("a", "192.0.2.0/31"); w.service("s", fromPool("b")) },
			map[string]string{"s": `PoolNotFound: pool "b" does not exist: create it, or name another one in annotation fairlead.io/address-pool`}},
		{"aliases", func(w *world) {
			w.pool("a", "192.0.2.0/24")
			w.pool("b", "192.0.3.0/24")
			w.service("s", annotate("metallb.universe.tf/loadBalancerIPs", "192.0.2.7"))
			w.service("t", annotate("metallb.io/address-pool", "b"), annotate("metallb.universe.tf/address-pool", "a"))
		}, map[string]string{"s": "192.0.2.7 from pool a", "t": "192.0.3.0 from pool b"}},

		// Dual stack.
		{"dual stack from one pool", func(w *world) {
			w.pool("a", "192.0.2.0/24")
			w.pool("b", "2001:db8::/120")
			w.pool("c", "192.0.3.0/24 2001:db8:1::/120")
			w.service("s", dual(require, v6, v4))
			w.service("t", dual(prefer, v4, v6))
		}, map[string]string{"s": "2001:db8:1:: and 192.0.3.0 from pool c", "t": "192.0.3.1 and 2001:db8:1::1 from pool c"}},
		{"dual stack without one pool", func(w *world) {
			w.pool("a", "192.0.2.0/24")
			w.pool("b", "2001:db8::/120")
			w.service("s", dual(require, v4, v6))
			w.service("t", dual(prefer, v6, v4))
		}, map[string]string{
			"s": "PoolExhausted: no single one of the pools a, b has a free address of both families: add some, or run the controller with --dual-stack-from-two-pools",
			"t": "2001:db8:: from pool b; one family only: no single one of the pools a, b has a free address of both families: add some, or run the controller with --dual-stack-from-two-pools",
		}},
		{"dual stack from two pools", func(w *world) {
			w.twoPools = true
			w.pool("a", "192.0.2.0/24")
			w.pool("b", "2001:db8::/120")
			w.pool("c", "192.0.3.0/24 2001:db8:1::/128")
			w.service("s", dual(require, v4, v6))
			w.service("t", dual(prefer, v4, v6))
		}, map[string]string{"s": "192.0.3.0 and 2001:db8:1:: from pool c", "t": "192.0.2.0 and 2001:db8:: from pool a and b"}},
		{"prefer dual stack with one family only", func(w *world) {
			w.pool("a", "192.0.2.0/24")
			w.service("s", dual(prefer, v6, v4))
		}, map[string]string{"s": "192.0.2.0 from pool a; one family only: pool a has no IPv6 addresses: add some"}},
		{"prefer dual stack in a cluster of one family", func(w *world) {
			w.pool("a", "192.0.2.0/24 2001:db8::/120")
			w.service("s", dual(prefer, v4))
		}, map[string]string{"s": "192.0.2.0 from pool a"}},
		{"one address asked for, the other from its pool", func(w *world) {
			w.pool("a", "192.0.2.0/24 2001:db8::/120")
			w.pool("b", "192.0.3.0/24 2001:db8:1::/120", manual)
			w.service("s", dual(require, v4, v6), ips("192.0.3.9"))
			w.service("t", dual(require, v4, v6), ips("2001:db8::9, 192.0.3.8"))
		}, map[string]string{"s": "192.0.3.9 and 2001:db8:1:: from pool b", "t": "192.0.3.8 and 2001:db8::9 from pool b and a"}},
		{"family that the Service does not have", func(w *world) { w.pool("a", "2001:db8::/120"); w.service("s", ips("2001:db8::1")) },
			map[string]string{"s": "InvalidRequest: 2001:db8::1: asks for IPv6, but the Service has IPv4 only: add IPv6 to spec.ipFamilies, or ask for another address"}},

		// Sharing.
		{"a key prefers its address", func(w *world) {
			w.pool("a", "192.0.2.0/24", allocate(v1beta1.ServiceAllocation{Priority: 1}))
			w.pool("b", "192.0.3.0/24")
			w.service("s", key("k"), fromPool("b"))
			w.service("t", key("k"), ports(443))
			w.service("u", key("k"), ports(80), udp)
			w.service("v", key("k"), ports(443))
			w.service("w", key("other"), ports(1))
		}, map[string]string{
			"s": "192.0.3.0 from pool b", "t": "192.0.3.0 from pool b", "u": "192.0.3.0 from pool b",
			"v": "192.0.2.0 from pool a", "w": "192.0.2.1 from pool a",
		}},
		{"sharing refused", func(w *world) {
			w.pool("a", "192.0.2.0/24")
			w.service("s", key("k"), ips("192.0.2.1"))
			w.service("t", key("k"), ips("192.0.2.1"))
			w.service("u", key("l"), ips("192.0.2.1"), ports(1))
			w.service("v", key("k"), ips("192.0.2.1"), ports(1), local("x"))
		}, map[string]string{
			"t": "AddressInUse: 192.0.2.1 belongs to Service default/s: ask for another address; both have port TCP/80: Services that share an address need different ports",
			"u": `AddressInUse: 192.0.2.1 belongs to Service default/s: ask for another address; to share it, give both Services the same annotation fairlead.io/allow-shared-ip: here it is "l", there "k"`,
			"v": "AddressInUse: 192.0.2.1 belongs to Service default/s: ask for another address; with externalTrafficPolicy Local, Services that share an address all need Local and equal selectors",
		}},
		{"sharing with policy Local", func(w *world) {
			w.pool("a", "192.0.2.0/24")
			w.service("s", key("k"), local("x"), ports(1))
			w.service("t", key("k"), local("y"), ports(2))
			w.service("u", key("k"), local("x"), ports(3))
		}, map[string]string{"s": "192.0.2.0 from pool a", "t": "192.0.2.1 from pool a", "u": "192.0.2.0 from pool a"}},

		// What is there already.
		{"taken over before any new one", func(w *world) {
			w.pool("a", "192.0.2.0/24")
			w.service("s")
			w.service("t", shows("192.0.2.0"))
		}, map[string]string{"s": "192.0.2.1 from pool a", "t": "192.0.2.0 from pool a"}},
		{"the oldest wins", func(w *world) {
			w.pool("a", "192.0.2.0/24")
			w.service("z", shows("192.0.2.5"))
			w.service("a", shows("192.0.2.5"))
		}, map[string]string{"z": "192.0.2.5 from pool a", "a": "192.0.2.0 from pool a"}},
		{"a claim goes before a status", func(w *world) {
			w.pool("a", "192.0.2.0/24")
			w.service("z", shows("192.0.2.5"))
			w.service("a")
			w.claims = []Claim{{Addr: addr("192.0.2.5"), UID: string(w.services["default/a"].UID)}}
		}, map[string]string{"a": "192.0.2.5 from pool a", "z": "192.0.2.0 from pool a"}},
		{"a claim of who is gone", func(w *world) {
			w.pool("a", "192.0.2.0/31")
			w.claims = []Claim{{Addr: addr("192.0.2.0"), UID: "gone"}}
			w.service("s")
			w.service("t", ips("192.0.2.0"))
		}, map[string]string{
			"s": "192.0.2.1 from pool a",
			"t": "AddressResting: 192.0.2.0 is being taken from another Service: wait, or ask for another address",
		}},
		{"two addresses of a family", func(w *world) {
			w.pool("a", "192.0.2.0/24")
			w.service("s", shows("192.0.2.7", "192.0.2.5", "2001:db8::1"))
		}, map[string]string{"s": "192.0.2.7 from pool a"}},
		{"resting", func(w *world) {
			w.pool("a", "192.0.2.0/32")
			w.freed[addr("192.0.2.0")] = Freed{Addr: addr("192.0.2.0"), By: "default/x", At: epoch.Add(-time.Second)}
			w.service("s")
			w.service("t", ips("192.0.2.0"))
		}, map[string]string{
			"s": "PoolExhausted: pool a has no free IPv4 address: add some, or wait until freed ones have rested (30s)",
			"t": "AddressResting: 192.0.2.0 belonged to Service default/x and rests until 2026-01-02T03:04:34Z: wait, or ask for another address",
		}},
		{"back to who had it", func(w *world) {
			w.pool("a", "192.0.2.0/24")
			w.freed[addr("192.0.2.7")] = Freed{Addr: addr("192.0.2.7"), By: "default/s", At: epoch.Add(-time.Second)}
			w.service("s")
		}, map[string]string{"s": "192.0.2.7 from pool a"}},
		{"invalid request keeps what is there", func(w *world) {
			w.pool("a", "192.0.2.0/24")
			w.service("s", ips("192.0.2"), shows("192.0.2.7"))
			w.service("t", ips("192.0.2"))
		}, map[string]string{
			"s": `InvalidRequest: annotation loadBalancerIPs: "192.0.2" is no IP address: want one, or one of each family with a comma between; until then the Service keeps 192.0.2.7 from pool a`,
			"t": `InvalidRequest: annotation loadBalancerIPs: "192.0.2" is no IP address: want one, or one of each family with a comma between`,
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld()
			test.make(w)
			w.want(t, w.step(), test.want)
		})
	}
}
