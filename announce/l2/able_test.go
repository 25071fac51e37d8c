// SPDX-License-Identifier: Apache-2.0

package l2

import (
	"net/netip"
	"testing"
)

func TestAnswerAble(t *testing.T) {
	eth0 := Interface{Name: "eth0", Running: true, Addrs: []netip.Prefix{netip.MustParsePrefix("192.0.2.5/24")}}
	down := eth0
	down.Running = false
	vip := netip.MustParseAddr("192.0.2.1")
	for _, test := range []struct {
		name   string
		answer Answer
		of     []Interface
		want   bool
	}{
		{"none", Answer{VIP: vip}, nil, false},
		{"its network", Answer{VIP: vip}, []Interface{eth0}, true},
		{"without its link", Answer{VIP: vip}, []Interface{down}, false},
		{"one of two", Answer{VIP: vip}, []Interface{down, eth0}, true},
		{"by pattern", Answer{VIP: netip.MustParseAddr("198.51.100.1"), Interfaces: []string{"eth*"}}, []Interface{eth0}, true},
		{"another network", Answer{VIP: netip.MustParseAddr("198.51.100.1")}, []Interface{eth0}, false},
	} {
		if got := test.answer.Able(test.of); got != test.want {
			t.Errorf("%s: %t", test.name, got)
		}
	}
}
