// SPDX-License-Identifier: Apache-2.0

package ability

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/announce/l2/ether"
	"github.com/fairlead/fairlead/announce/members"
)

func vip(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)}) }

func vips(from, to int) (list []netip.Addr) {
	for i := from; i < to; i++ {
		list = append(list, vip(i))
	}
	return list
}

// told is what others read of what the node "a" tells.
func told(t *testing.T, a Ability) Told {
	t.Helper()
	b, err := a.Append([]byte("x"), "a")
	if err != nil {
		t.Fatal(err)
	}
	got, err := Parse("a", b[1:])
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestAble(t *testing.T) {
	for _, test := range []struct {
		name  string
		a     Ability
		vip   netip.Addr
		since string
		want  bool
	}{
		{"nothing told", Ability{}, vip(1), "7", false},
		{"heard of", Ability{Version: "7"}, vip(1), "7", true},
		{"heard of long ago", Ability{Version: "12"}, vip(1), "7", true},
		{"not heard of", Ability{Version: "7"}, vip(1), "12", false},
		{"not held", Ability{Version: "7", Unable: vips(1, 3)}, vip(1), "7", false},
		{"another one is not held", Ability{Version: "7", Unable: vips(1, 3)}, vip(3), "7", true},
		{"IPv6", Ability{Version: "7", Unable: []netip.Addr{netip.MustParseAddr("2001:db8::1")}}, netip.MustParseAddr("2001:db8::1"), "7", false},
		{"versions without order", Ability{Version: "a"}, vip(1), "b", true},
	} {
		if got := told(t, test.a).Able(test.vip, test.since); got != test.want {
			t.Errorf("%s: %t", test.name, got)
		}
	}
	if (Told{}).Able(vip(1), "") {
		t.Error("the zero value is able")
	}
}

// Whatever is told fits, every VIP in the filter is found there, and few others.
func TestFilter(t *testing.T) {
	macs := make([]ether.MAC, 2*MaxMACs)
	for i := range macs {
		macs[i][5] = byte(i)
	}
	for _, test := range []struct{ unable, wrong int }{{1, 0}, {100, 5}, {1000, 300}} {
		a := Ability{Version: strings.Repeat("9", maxVersion), Unable: vips(0, test.unable), MACs: macs}
		b, err := a.Append(nil, "a")
		if err != nil || len(b) > MaxSize || MaxSize > members.MetaMax {
			t.Fatalf("%v: %d bytes of %d, and of %d", err, len(b), MaxSize, members.MetaMax)
		}
		got := told(t, a)
		if diff := cmp.Diff(macs[:MaxMACs], got.MACs); diff != "" {
			t.Errorf("addresses: -want +got:\n%s", diff)
		}
		for _, v := range a.Unable {
			if got.Able(v, "1") {
				t.Errorf("%d unable, and able for %s", test.unable, v)
			}
		}
		wrong := 0
		for _, v := range vips(1000, 2000) {
			if !got.Able(v, "1") {
				wrong++
			}
		}
		if wrong > test.wrong {
			t.Errorf("%d unable: %d of 1000 others, too; want %d at most", test.unable, wrong, test.wrong)
		}
	}
	// The same VIP is in other places for another node.
	if bits("a", vip(1)) == bits("b", vip(1)) {
		t.Error("one filter for all nodes")
	}
}

func TestAppendRefuses(t *testing.T) {
	if _, err := (Ability{Version: strings.Repeat("1", maxVersion+1)}).Append(nil, "a"); err == nil || !strings.Contains(err.Error(), "want at most 40 digits") {
		t.Errorf("%v", err)
	}
}

func FuzzParse(f *testing.F) {
	whole, err := Ability{Version: "7", Unable: vips(0, 1), MACs: []ether.MAC{{1}}}.Append(nil, "a")
	if err != nil {
		f.Fatal(err)
	}
	for _, b := range [][]byte{nil, {2}, {1}, {1, 1}, {1, 0, 1, 1}, {1, 0, 0, 1}, {1, 41}, whole, whole[:len(whole)-1]} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		got, err := Parse("a", b)
		if err != nil && (!errors.Is(err, ErrMalformed) || got.Able(vip(1), "0") || got.MACs != nil) {
			t.Errorf("%v, and %+v", err, got)
		}
		got.Able(vip(1), "7")
		if !bytes.Equal(before, b) {
			t.Error("changed its input")
		}
	})
}
