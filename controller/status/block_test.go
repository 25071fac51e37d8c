// SPDX-License-Identifier: Apache-2.0

package status

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
)

func TestBlockName(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.0":       "192.0.2.0-26",
		"192.0.2.63":      "192.0.2.0-26",
		"192.0.2.64":      "192.0.2.64-26",
		"2001:db8::":      "2001-0db8-0000-0000-0000-0000-0000-0000-122",
		"2001:db8::7f":    "2001-0db8-0000-0000-0000-0000-0000-0040-122",
		"255.255.255.255": "255.255.255.192-26",
	} {
		if got := blockName(blockOf(netip.MustParseAddr(in))); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

// TestEdits: a record with an edit after the other.
func TestEdits(t *testing.T) {
	a := netip.MustParseAddr("192.0.2.1")
	holder := func(uid, version string) v1beta1.AddressHolder {
		return v1beta1.AddressHolder{Service: "shop/" + uid, UID: uid, ResourceVersion: version}
	}
	claim := func(uid, version string) edit { return edit{addr: a, holder: holder(uid, version)} }
	withdraw := func(uid string) edit { return edit{addr: a, holder: holder(uid, ""), withdraw: true} }
	for _, test := range []struct {
		name  string
		edits []edit
		want  record
	}{
		{"nothing", nil, record{}},
		{"claim", []edit{claim("s", "1")}, record{holders: []v1beta1.AddressHolder{holder("s", "1")}}},
		{"later claim", []edit{claim("s", "1"), claim("s", "2")}, record{holders: []v1beta1.AddressHolder{holder("s", "2")}}},
		{"shared", []edit{claim("s", "1"), claim("t", "2")}, record{holders: []v1beta1.AddressHolder{holder("s", "1"), holder("t", "2")}}},
		{"one of two withdrawn", []edit{claim("s", "1"), claim("t", "2"), withdraw("s")}, record{holders: []v1beta1.AddressHolder{holder("t", "2")}}},
		{"withdrawn", []edit{claim("s", "1"), withdraw("s")}, record{holders: []v1beta1.AddressHolder{}, freedBy: "shop/s", freedAt: epoch}},
		{"claimed again", []edit{claim("s", "1"), withdraw("s"), claim("t", "3")}, record{holders: []v1beta1.AddressHolder{holder("t", "3")}}},
		{"withdrawn by who has none", []edit{claim("s", "1"), withdraw("t")}, record{holders: []v1beta1.AddressHolder{holder("s", "1")}}},
	} {
		var r record
		for _, e := range test.edits {
			r = e.apply(r, epoch)
		}
		if diff := cmp.Diff(test.want, r, cmp.AllowUnexported(record{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

// TestReadBlock: what is stored is read, and what is no record is left out.
func TestReadBlock(t *testing.T) {
	p := netip.MustParsePrefix("192.0.2.0/26")
	records := map[netip.Addr]record{
		netip.MustParseAddr("192.0.2.9"):  {holders: []v1beta1.AddressHolder{{Service: "shop/s", UID: "u", ResourceVersion: "1", Terms: "t"}}},
		netip.MustParseAddr("192.0.2.10"): {freedBy: "shop/t", freedAt: epoch.Add(time.Microsecond)},
	}
	o := &v1beta1.AddressBlock{ObjectMeta: metav1.ObjectMeta{Name: blockName(p)}, Spec: spec(p, records)}
	if o.Spec.Addresses[0].Address != "192.0.2.9" {
		t.Errorf("not sorted: %+v", o.Spec.Addresses)
	}
	o.Spec.Addresses = append(o.Spec.Addresses, v1beta1.AddressRecord{Address: "192.0.2.64"}, v1beta1.AddressRecord{Address: "here"})
	got, problems := readBlock(o)
	if diff := cmp.Diff(records, got, cmp.AllowUnexported(record{}), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if len(problems) != 2 || problems[0].Error() != `address block 192.0.2.0-26: "192.0.2.64" is no address of it: ignored` {
		t.Errorf("problems: %v", problems)
	}
}

func TestLater(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want bool
	}{{"2", "1", true}, {"10", "9", true}, {"1", "1", false}, {"1", "2", false}, {"", "1", false}, {"x", "1", false}, {"2", "", false}} {
		if later(test.a, test.b) != test.want {
			t.Errorf("%q later than %q: %t", test.a, test.b, !test.want)
		}
	}
}
