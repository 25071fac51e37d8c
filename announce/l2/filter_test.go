// SPDX-License-Identifier: Apache-2.0

package l2

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/bpf"

	"github.com/fairlead/fairlead/announce/l2/arp"
	"github.com/fairlead/fairlead/announce/l2/ether"
	"github.com/fairlead/fairlead/announce/l2/ndp"
)

func TestSpans(t *testing.T) {
	for _, tt := range []struct {
		name  string
		keys  []uint32
		limit int
		want  []span
	}{
		{"none", nil, 2, nil},
		{"one", []uint32{7}, 2, []span{{7, 7}}},
		{"neighbours and twins", []uint32{9, 7, 8, 8}, 1, []span{{7, 9}}},
		{"apart", []uint32{1, 2, 4}, 2, []span{{1, 2}, {4, 4}}},
		{"widest gap stays", []uint32{1, 3, 100, 200}, 2, []span{{1, 100}, {200, 200}}},
		{"all in one", []uint32{1, 3, 100}, 1, []span{{1, 100}}},
		{"ends", []uint32{0, 1<<32 - 1}, 2, []span{{0, 0}, {1<<32 - 1, 1<<32 - 1}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, spansOf(tt.keys, tt.limit), cmp.AllowUnexported(span{})); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// run says whether a filter passes the frame.
func run(t *testing.T, filter []bpf.Instruction, frame []byte) bool {
	t.Helper()
	vm, err := bpf.NewVM(filter)
	must(t, err)
	n, err := vm.Run(frame)
	must(t, err)
	return n > 0
}

// Whatever the number of VIPs, filters are short and pass what is for one.
func TestFilters(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for _, count := range []int{0, 1, 2, rangesMax, rangesMax + 1, 1000} {
		var vips4, vips6 []netip.Addr
		for range count {
			low := random.Uint32()
			b := [16]byte{0x20, 1, 0xd, 0xb8, 12: byte(low >> 24), byte(low >> 16), byte(low >> 8), byte(low)}
			vips4, vips6 = append(vips4, netip.AddrFrom4([4]byte(b[12:]))), append(vips6, netip.AddrFrom16(b))
		}
		filter4, filter6 := arpFilter(vips4), ndpFilter(vips6)
		for name, f := range map[string][]bpf.Instruction{"arp": filter4, "ndp": filter6} {
			if raw, err := bpf.Assemble(f); err != nil || len(raw) > 256 {
				t.Errorf("%s for %d VIPs: %d instructions, %v", name, count, len(raw), err)
			}
		}
		for i := range count {
			for _, frame := range append(arp.Announce(client, vips4[i]), arp.Ask(client, vips4[i])) {
				if !run(t, filter4, frame) {
					t.Errorf("%d VIPs: dropped ARP for %s", count, vips4[i])
				}
			}
			for _, frame := range append(ndp.Announce(client, vips6[i]), ndp.Ask(client, host6, vips6[i]), ndp.Ask(client, vips6[i], host6)) {
				if !run(t, filter6, frame) {
					t.Errorf("%d VIPs: dropped NDP for %s", count, vips6[i])
				}
			}
		}
	}
}

// Few VIPs are told exactly from what is not theirs.
func TestFilterDrops(t *testing.T) {
	filter4, filter6 := arpFilter([]netip.Addr{vip4}), ndpFilter([]netip.Addr{vip6})
	tcp := ndp.Ask(client, host6, vip6)
	tcp[ndp.NextHeaderOffset] = 6
	echo := ndp.Ask(client, host6, vip6)
	echo[ndp.TypeOffset] = 128
	for _, tt := range []struct {
		name   string
		filter []bpf.Instruction
		frame  []byte
		pass   bool
	}{
		{"arp of others", filter4, arp.Ask(client, host4), false},
		{"arp cut", filter4, arp.Ask(client, host4)[:arp.Len-1], true},
		{"arp without vips", arpFilter(nil), arp.Ask(client, vip4), false},
		{"ndp of others", filter6, ndp.Ask(client, host6, netip.MustParseAddr("2001:db8::2")), false},
		{"ndp cut", filter6, ndp.Ask(client, host6, host6)[:ndp.Len-1], true},
		{"ndp without vips", ndpFilter(nil), ndp.Ask(client, host6, vip6), false},
		{"tcp", filter6, tcp, false},
		{"echo", filter6, echo, false},
		{"nothing", filter6, nil, false},
	} {
		if got := run(t, tt.filter, tt.frame); got != tt.pass {
			t.Errorf("%s: passed is %t, want %t", tt.name, got, tt.pass)
		}
	}
}

// No filter drops what would be answered or taken for a claim.
func FuzzFilter(f *testing.F) {
	f.Add(true, arp.Ask(client, vip4))
	f.Add(false, ndp.Ask(client, host6, vip6))
	f.Add(false, ndp.Announce(client, vip6)[0])
	vips := []netip.Addr{vip4, vip6}
	ours := func(a netip.Addr) bool { return slices.Contains(vips, a) }
	f.Fuzz(func(t *testing.T, isARP bool, frame []byte) {
		decide, filter := ndp.Decide, ndpFilter([]netip.Addr{vip6})
		if isARP {
			decide, filter = arp.Decide, arpFilter([]netip.Addr{vip4})
		}
		if v := decide(frame, self, ours); v.VIP.IsValid() && v.Kind != ether.Malformed && !run(t, filter, frame) {
			t.Errorf("dropped a %s for %s", v.Kind, v.VIP)
		}
	})
}
