// SPDX-License-Identifier: Apache-2.0

package config

import (
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
	"github.com/fairlead/fairlead/controller/ipam"
)

// pool is a pool as advertisements see it.
type pool struct {
	name    string
	labels  labels.Set
	entries []ipam.Range // as written, those that can be read
	ranges  []ipam.Range // sorted and disjoint
}

// checkPools returns the pools, oldest first.
func (c *checker) checkPools() []*pool {
	var all []*pool
	for _, o := range c.Pools {
		read, err := ipam.NewPool(o)
		for _, message := range lines(err) {
			c.report(o, ReasonInvalid, "%s", message)
		}
		p := &pool{name: o.Name, labels: o.Labels, ranges: read.Ranges}
		for i, text := range o.Spec.Addresses {
			entry, err := ipam.ParseRange(text)
			if err != nil {
				continue // reported by NewPool
			}
			p.entries = append(p.entries, entry)
			c.checkOverlap(o, i, entry, all)
			c.checkUsable(o, i, entry)
		}
		all = append(all, p)
	}
	return all
}

// lines are the messages of joined errors.
func lines(err error) []string {
	switch err := err.(type) {
	case nil:
		return nil
	case interface{ Unwrap() []error }:
		var all []string
		for _, one := range err.Unwrap() {
			all = append(all, lines(one)...)
		}
		return all
	default:
		return []string{err.Error()}
	}
}

// checkOverlap reports the oldest pool that has addresses of the entry.
func (c *checker) checkOverlap(o *v1beta1.IPAddressPool, i int, entry ipam.Range, older []*pool) {
	for _, other := range older {
		at, _ := slices.BinarySearchFunc(other.ranges, entry.From, func(r ipam.Range, a netip.Addr) int { return r.To.Compare(a) })
		if at < len(other.ranges) && other.ranges[at].Overlaps(entry) {
			c.report(o, ReasonOverlap, "spec.addresses[%d]: %s overlaps %s of IPAddressPool %q, which is older and keeps what is in both",
				i, entry, other.ranges[at], other.name)
			return
		}
	}
}

// unusable are the addresses that no Service can have. The schema refuses
// prefixes with them, and ranges that start or end in them; here are those that
// have them in the middle.
var unusable = []struct {
	prefix netip.Prefix
	kind   string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "unspecified"},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
	{netip.MustParsePrefix("255.255.255.255/32"), "broadcast"},
	{netip.MustParsePrefix("::/127"), "unspecified or loopback"},
	{netip.MustParsePrefix("fe80::/10"), "link-local"},
	{netip.MustParsePrefix("ff00::/8"), "multicast"},
}

func (c *checker) checkUsable(o *v1beta1.IPAddressPool, i int, entry ipam.Range) {
	var kinds []string
	for _, u := range unusable {
		// A prefix of the same family lies in the range or holds an end of it.
		if u.prefix.Addr().Is4() == entry.From.Is4() &&
			(entry.Contains(u.prefix.Addr()) || u.prefix.Contains(entry.From)) {
			kinds = append(kinds, u.kind)
		}
	}
	if len(kinds) > 0 {
		c.report(o, ReasonInvalid, "spec.addresses[%d]: %s has addresses that no Service can have (%s): leave them out", i, entry, strings.Join(kinds, ", "))
	}
}

// largestBlock is the length of the shortest prefix that fits in a range.
func largestBlock(r ipam.Range) int {
	for bits := range r.From.BitLen() {
		// The first prefix of this length that does not start before the range.
		first := netip.PrefixFrom(r.From, bits).Masked()
		if first.Addr() != r.From {
			next := lastOf(first).Next()
			if !next.IsValid() {
				continue
			}
			first = netip.PrefixFrom(next, bits)
		}
		if r.Contains(first.Addr()) && r.Contains(lastOf(first)) {
			return bits
		}
	}
	return r.From.BitLen()
}

// lastOf is the last address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
