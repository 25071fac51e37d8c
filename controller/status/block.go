// SPDX-License-Identifier: Apache-2.0

package status

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/resourceversion"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
)

// Prefix lengths of blocks: 64 addresses.
const (
	blockBits4 = 26
	blockBits6 = 122
)

// blockOf is the block that an address is recorded in.
func blockOf(a netip.Addr) netip.Prefix {
	bits := blockBits6
	if a.Is4() {
		bits = blockBits4
	}
	p, _ := a.Prefix(bits) // never fails: the length fits the family
	return p
}

// blockName is the name of the object of a block.
func blockName(p netip.Prefix) string {
	return fmt.Sprintf("%s-%d", strings.ReplaceAll(p.Addr().StringExpanded(), ":", "-"), p.Bits())
}

// record is what a block says of an address.
type record struct {
	holders []v1beta1.AddressHolder
	freedBy string
	freedAt time.Time // zero: never
}

func (r *record) holder(uid string) int {
	return slices.IndexFunc(r.holders, func(h v1beta1.AddressHolder) bool { return h.UID == uid })
}

// readBlock reads the records of a block, and says what it could not read.
func readBlock(o *v1beta1.AddressBlock) (map[netip.Addr]record, []error) {
	var problems []error
	records := make(map[netip.Addr]record, len(o.Spec.Addresses))
	for i := range o.Spec.Addresses {
		one := &o.Spec.Addresses[i]
		a, err := netip.ParseAddr(one.Address)
		if err != nil || blockName(blockOf(a)) != o.Name {
			problems = append(problems, fmt.Errorf("address block %s: %q is no address of it: ignored", o.Name, one.Address))
			continue
		}
		r := record{holders: one.Holders, freedBy: one.FreedBy}
		if one.FreedAt != nil {
			r.freedAt = one.FreedAt.Time
		}
		records[a] = r
	}
	return records, problems
}

// spec is how records are stored.
func spec(p netip.Prefix, records map[netip.Addr]record) v1beta1.AddressBlockSpec {
	s := v1beta1.AddressBlockSpec{Prefix: p.String()}
	for a, r := range records {
		one := v1beta1.AddressRecord{Address: a.String(), Holders: r.holders, FreedBy: r.freedBy}
		if !r.freedAt.IsZero() {
			one.FreedAt = &metav1.MicroTime{Time: r.freedAt}
		}
		s.Addresses = append(s.Addresses, one)
	}
	slices.SortFunc(s.Addresses, func(a, b v1beta1.AddressRecord) int {
		return netip.MustParseAddr(a.Address).Compare(netip.MustParseAddr(b.Address))
	})
	return s
}

// edit is a change of a record: a claim of holder, or its withdrawal.
type edit struct {
	addr     netip.Addr
	holder   v1beta1.AddressHolder
	withdraw bool
}

// apply changes a record. Withdrawing what is not there is no change.
func (e *edit) apply(r record, now time.Time) record {
	r.holders = slices.Clone(r.holders)
	i := r.holder(e.holder.UID)
	switch {
	case e.withdraw && i >= 0:
		r.holders = slices.Delete(r.holders, i, i+1)
		if len(r.holders) == 0 {
			r.freedBy, r.freedAt = e.holder.Service, now
		}
	case e.withdraw:
	case i >= 0:
		r.holders[i] = e.holder
		r.freedBy, r.freedAt = "", time.Time{}
	default:
		r.holders = append(r.holders, e.holder)
		r.freedBy, r.freedAt = "", time.Time{}
	}
	return r
}

// later says whether version a of an object is later than b. What is no number
// is later than nothing, so that nothing is concluded from it.
func later(a, b string) bool {
	order, err := resourceversion.CompareResourceVersion(a, b)
	return err == nil && order > 0
}
