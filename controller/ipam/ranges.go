// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"slices"
	"strings"
)

// Range is From to To, both included and of one family.
type Range struct{ From, To netip.Addr }

// ParseRange reads a prefix ("192.0.2.0/24") or a range
// ("192.0.2.10-192.0.2.20", with spaces around the hyphen or without).
func ParseRange(s string) (Range, error) {
	if from, to, ok := strings.Cut(s, "-"); ok {
		return parseEnds(strings.TrimSpace(from), strings.TrimSpace(to))
	}
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return Range{}, errors.New("want a prefix such as 192.0.2.0/24, or a range such as 192.0.2.10-192.0.2.20")
	case p.Addr().Is4In6():
		return Range{}, errors.New("is IPv4 inside of IPv6: write it as IPv4")
	}
	return Range{p.Masked().Addr(), lastOf(p)}, nil
}

func parseEnds(from, to string) (Range, error) {
	var ends [2]netip.Addr
	for i, s := range []string{from, to} {
		a, err := netip.ParseAddr(s)
		switch {
		case err != nil:
			return Range{}, fmt.Errorf("%q is no IP address", s)
		case a.Zone() != "":
			return Range{}, fmt.Errorf("%q: want an address without a zone", s)
		case a.Is4In6():
			return Range{}, fmt.Errorf("%q is IPv4 inside of IPv6: write it as IPv4", s)
		}
		ends[i] = a
	}
	switch r := (Range{ends[0], ends[1]}); {
	case r.From.Is4() != r.To.Is4():
		return Range{}, errors.New("the ends of the range are of different families: want both IPv4 or both IPv6")
	case r.To.Less(r.From):
		return Range{}, errors.New("the range ends before it starts: write the lower address first")
	default:
		return r, nil
	}
}

func lastOf(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// Family is that of both ends.
func (r Range) Family() Family { return FamilyOf(r.From) }

// Contains says whether a lies between the ends.
func (r Range) Contains(a netip.Addr) bool {
	return a.Is4() == r.From.Is4() && r.From.Compare(a) <= 0 && a.Compare(r.To) <= 0
}

// Overlaps says whether an address is in both.
func (r Range) Overlaps(o Range) bool {
	return r.From.Is4() == o.From.Is4() && r.From.Compare(o.To) <= 0 && o.From.Compare(r.To) <= 0
}

// String returns the prefix, where the range is one, or both ends.
func (r Range) String() string {
	for n := range r.From.BitLen() + 1 {
		if p := netip.PrefixFrom(r.From, n); p.Masked() == p && lastOf(p) == r.To {
			return p.String()
		}
	}
	return r.From.String() + "-" + r.To.String()
}

// size is the number of addresses.
func (r Range) size() *big.Int {
	n := new(big.Int).Sub(number(r.To), number(r.From))
	return n.Add(n, big.NewInt(1))
}

func number(a netip.Addr) *big.Int { return new(big.Int).SetBytes(a.AsSlice()) }

func sortRanges(r []Range) {
	slices.SortFunc(r, func(a, b Range) int { return a.From.Compare(b.From) })
}

// subtract returns what of r is in none of taken, which are sorted and disjoint.
func subtract(r Range, taken []Range) []Range {
	i, _ := slices.BinarySearchFunc(taken, r.From, func(t Range, a netip.Addr) int { return t.To.Compare(a) })
	var left []Range
	for ; i < len(taken) && taken[i].From.Compare(r.To) <= 0; i++ {
		if r.From.Less(taken[i].From) {
			left = append(left, Range{r.From, taken[i].From.Prev()})
		}
		if taken[i].To.Compare(r.To) >= 0 {
			return left
		}
		r.From = taken[i].To.Next()
	}
	return append(left, r)
}

// buggy says whether equipment may take a for the address of a network or a
// broadcast: IPv4 addresses that end in .0 or .255, and the subnet-router
// anycast address (RFC 4291 section 2.6.1) of a /64, which links have.
func buggy(a netip.Addr) bool {
	if a.Is4() {
		last := a.As4()[3]
		return last == 0 || last == 255
	}
	b := a.As16()
	return binary.BigEndian.Uint64(b[8:]) == 0
}

// buggyIn is the number of such addresses in a range.
func buggyIn(r Range) *big.Int {
	if r.Family() == IPv4 {
		from, to := number(r.From).Int64(), number(r.To).Int64()
		// Those below n: one .0 for each 256 begun, one .255 for each completed.
		below := func(n int64) int64 { return (n+255)/256 + n/256 }
		return big.NewInt(below(to+1) - below(from))
	}
	// One for each /64 that begins in the range.
	from, to := number(r.From), number(r.To)
	from.Sub(from, big.NewInt(1))
	from.Rsh(from, 64) // floor division, of -1 too
	to.Rsh(to, 64)
	return to.Sub(to, from)
}
