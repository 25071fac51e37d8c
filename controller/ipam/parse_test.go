// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
)

func TestParseRange(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"192.0.2.0/24", "192.0.2.0/24"},
		{"192.0.2.5/24", "192.0.2.0/24"},
		{"192.0.2.5/32", "192.0.2.5/32"},
		{"0.0.0.0/0", "0.0.0.0/0"},
		{"2001:db8::/120", "2001:db8::/120"},
		{"::/0", "::/0"},
		{"192.0.2.0-192.0.2.255", "192.0.2.0/24"},
		{"192.0.2.10 - 192.0.2.20", "192.0.2.10-192.0.2.20"},
		{"2001:db8::1-2001:db8::1", "2001:db8::1/128"},
		{"", "error: want a prefix such as 192.0.2.0/24, or a range such as 192.0.2.10-192.0.2.20"},
		{"192.0.2.5", "error: want a prefix such as 192.0.2.0/24, or a range such as 192.0.2.10-192.0.2.20"},
		{"192.0.2.0 /24", "error: want a prefix such as 192.0.2.0/24, or a range such as 192.0.2.10-192.0.2.20"},
		{"::ffff:10.0.0.0/120", "error: is IPv4 inside of IPv6: write it as IPv4"},
		{"::ffff:10.0.0.0-::ffff:10.0.0.9", `error: "::ffff:10.0.0.0" is IPv4 inside of IPv6: write it as IPv4`},
		{"192.0.2.1-", `error: "" is no IP address`},
		{"192.0.2.1-x-y", `error: "x-y" is no IP address`},
		{"fe80::1%eth0-fe80::2", `error: "fe80::1%eth0": want an address without a zone`},
		{"192.0.2.1-2001:db8::1", "error: the ends of the range are of different families: want both IPv4 or both IPv6"},
		{"192.0.2.9-192.0.2.1", "error: the range ends before it starts: write the lower address first"},
	} {
		r, err := ParseRange(test.in)
		got := ""
		if err != nil {
			got = "error: " + err.Error()
		} else {
			got = r.String()
		}
		if got != test.want {
			t.Errorf("%q: %s, want %s", test.in, got, test.want)
		}
	}
}

// TestSubtract compares with address by address, and the count of avoided ones too.
func TestSubtract(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, base := range []string{"192.0.1.250", "2001:db8::ffff:ffff:ffff:fffa", "2001:db8::", "0.0.0.0"} {
		all := []netip.Addr{addr(base)}
		for range 20 {
			all = append(all, all[len(all)-1].Next())
		}
		for range 2000 {
			pick := func() (Range, int, int) {
				i, j := random.IntN(len(all)), random.IntN(len(all))
				i, j = min(i, j), max(i, j)
				return Range{all[i], all[j]}, i, j
			}
			r, i, j := pick()
			var taken []Range
			for range random.IntN(4) {
				t, _, _ := pick()
				taken = append(taken, subtract(t, taken)...)
				sortRanges(taken)
			}
			left := subtract(r, taken)
			pool := &Pool{AvoidBuggy: true}
			wantFree := int64(0)
			for k := i; k <= j; k++ {
				if want := !inRanges(taken, all[k]); inRanges(left, all[k]) != want {
					t.Fatalf("%s without %v: %v: %s is wrong", r, taken, left, all[k])
				}
				if !pool.avoids(all[k]) {
					wantFree++
				}
			}
			if got := pool.available(r).Int64(); got != wantFree {
				t.Fatalf("%s: %d available, want %d", r, got, wantFree)
			}
		}
	}
}

func TestNewPool(t *testing.T) {
	w := newWorld()
	for _, test := range []struct {
		addresses string
		edit      func(*v1beta1.IPAddressPool)
		want      []string
	}{
		{"192.0.2.0/24 192.0.3.0/24", nil, nil},
		{"192.0.2.0/24 192.0.2.128-192.0.3.5 bad", nil, []string{
			`spec.addresses[1]: "192.0.2.128-192.0.3.5": overlaps another entry`,
			`spec.addresses[2]: "bad": want a prefix such as 192.0.2.0/24, or a range such as 192.0.2.10-192.0.2.20`,
		}},
		{"192.0.2.0/24", allocate(v1beta1.ServiceAllocation{
			NamespaceSelectors: byLabel("team", "x"), ServiceSelectors: byLabel("a b", "x"),
		}), []string{
			`spec.serviceAllocation.serviceSelectors[0]: key: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')`,
		}},
	} {
		w.pools = map[string]*v1beta1.IPAddressPool{}
		edit := test.edit
		if edit == nil {
			edit = func(*v1beta1.IPAddressPool) {}
		}
		w.pool("a", test.addresses, edit)
		_, err := NewPool(w.pools["a"])
		var got []string
		if err != nil {
			got = strings.Split(err.Error(), "\n")
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: -want +got:\n%s", test.addresses, diff)
		}
	}
}

func TestRequest(t *testing.T) {
	both := dual(prefer, v4, v6)
	for _, test := range []struct {
		name  string
		edits []func(*corev1.Service)
		want  Request
		wrong string
	}{
		{"nothing", nil, Request{}, ""},
		{"spec", []func(*corev1.Service){specIP("192.0.2.1")}, Request{Addrs: []netip.Addr{addr("192.0.2.1")}}, ""},
		{"both and equal", []func(*corev1.Service){specIP("192.0.2.1"), ips(" 192.0.2.1 ")}, Request{Addrs: []netip.Addr{addr("192.0.2.1")}}, ""},
		{"IPv4 inside of IPv6", []func(*corev1.Service){ips("::ffff:192.0.2.1")}, Request{Addrs: []netip.Addr{addr("192.0.2.1")}}, ""},
		{"both and different", []func(*corev1.Service){specIP("192.0.2.1"), ips("192.0.2.2")}, Request{},
			`spec.loadBalancerIP is "192.0.2.1" and annotation loadBalancerIPs "192.0.2.2": remove one of them, or make them equal`},
		{"one of each family", []func(*corev1.Service){both, ips("2001:db8::1,192.0.2.1")},
			Request{Addrs: []netip.Addr{addr("192.0.2.1"), addr("2001:db8::1")}}, ""},
		{"two of a family", []func(*corev1.Service){both, ips("192.0.2.2, 192.0.2.1")}, Request{},
			"annotation loadBalancerIPs: 192.0.2.2 and 192.0.2.1 are both IPv4: want one of each family at most"},
		{"no address", []func(*corev1.Service){specIP("here")}, Request{},
			`spec.loadBalancerIP: "here" is no IP address: want one, or one of each family with a comma between`},
		{"trailing comma", []func(*corev1.Service){ips("192.0.2.2,")}, Request{},
			`annotation loadBalancerIPs: "" is no IP address: want one, or one of each family with a comma between`},
		{"zone", []func(*corev1.Service){ips("fe80::1%eth0")}, Request{},
			`annotation loadBalancerIPs: "fe80::1%eth0": want an address without a zone`},
		{"a family that it does not have", []func(*corev1.Service){ips("2001:db8::1")}, Request{},
			"2001:db8::1: asks for IPv6, but the Service has IPv4 only: add IPv6 to spec.ipFamilies, or ask for another address"},
		{"own annotation before aliases", []func(*corev1.Service){fromPool("a"), annotate("metallb.io/address-pool", "b"), annotate("metallb.universe.tf/address-pool", "c")},
			Request{Pool: "a"}, ""},
		{"newer alias first", []func(*corev1.Service){annotate("metallb.io/allow-shared-ip", "b"), annotate("metallb.universe.tf/allow-shared-ip", "c")},
			Request{Key: "b"}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld()
			w.service("s", test.edits...)
			s := NewService(w.services["default/s"])
			got := ""
			if s.Problem != nil {
				got = s.Problem.Error()
			}
			if got != test.wrong {
				t.Errorf("problem %s, want %s", got, test.wrong)
			}
			if diff := cmp.Diff(test.want, s.Request, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
