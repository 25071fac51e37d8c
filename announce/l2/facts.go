// SPDX-License-Identifier: Apache-2.0

package l2

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/announce/l2/ether"
)

// Facts are what a node tells the others of itself, so that all of them elect
// alike: a node that is alive may have lost the link that a VIP is on.
type Facts struct {
	// Ready: the datapath runs and holds the VIPs.
	Ready bool
	// Interfaces are those that VIPs may be answered on, without Index.
	Interfaces []Interface
}

// FactsOf picks the interfaces that one of the answers is for. The answers are
// all that some node gives, not only those of this one.
func FactsOf(ready bool, interfaces []Interface, answers []Answer) Facts {
	f := Facts{Ready: ready}
	for _, i := range interfaces {
		if slices.ContainsFunc(answers, func(a Answer) bool { return a.matches(&i) }) {
			i.Index = 0
			f.Interfaces = append(f.Interfaces, i)
		}
	}
	return f
}

// Able says that the node can give the answer.
func (f *Facts) Able(a Answer) bool {
	return f.Ready && slices.ContainsFunc(f.Interfaces, func(i Interface) bool { return i.Running && a.matches(&i) })
}

// MACs are the addresses that the node speaks from, for SetFellows.
func (f *Facts) MACs() (macs []ether.MAC) {
	for _, i := range f.Interfaces {
		macs = append(macs, i.MAC)
	}
	return macs
}

// What facts look like in bytes: a version, flags, and for each interface flags
// with the length of its name, the name, the MAC address, the number of
// networks, and for each its number of bits, its family, and the
// bytes that these need.
const (
	factsVersion = 1
	readyFlag    = 1
	runningFlag  = 0x80 // beside a length of up to 15
	nameMax      = 15
)

// ErrFactsSize says that not all interfaces fit.
var ErrFactsSize = errors.New("facts do not fit")

// Append appends the facts in up to limit bytes. With ErrFactsSize the last
// interfaces are missing: the others take it that the node does not have them.
func (f *Facts) Append(b []byte, limit int) ([]byte, error) {
	limit += len(b)
	b = append(b, factsVersion, flagged(f.Ready, readyFlag))
	for n := range f.Interfaces {
		longer := f.Interfaces[n].appendFact(b)
		if len(longer) > limit {
			return b, fmt.Errorf("%w: %d of %d interfaces in %d bytes", ErrFactsSize, n, len(f.Interfaces), limit)
		}
		b = longer
	}
	return b, nil
}

func flagged(flag bool, value byte) byte {
	if flag {
		return value
	}
	return 0
}

func (i *Interface) appendFact(b []byte) []byte {
	name := i.Name[:min(len(i.Name), nameMax)]
	b = append(b, flagged(i.Running, runningFlag)|byte(len(name)))
	b = append(append(b, name...), i.MAC[:]...)
	addrs := i.Addrs[:min(len(i.Addrs), 255)]
	b = append(b, byte(len(addrs)))
	for _, p := range addrs {
		family := byte(4)
		if p.Addr().Is6() {
			family = 6
		}
		b = append(b, family, byte(p.Bits()))
		b = append(b, p.Masked().Addr().AsSlice()[:(p.Bits()+7)/8]...)
	}
	return b
}

// errFacts is what all errors of ParseFacts wrap.
var errFacts = errors.New("malformed facts")

// ParseFacts reads what Append wrote. Of addresses only the network is there.
func ParseFacts(b []byte) (Facts, error) {
	if len(b) < 2 || b[0] != factsVersion {
		return Facts{}, fmt.Errorf("%w: %d bytes without version %d", errFacts, len(b), factsVersion)
	}
	f := Facts{Ready: b[1]&readyFlag != 0}
	r := reader{rest: b[2:]}
	for len(r.rest) > 0 && !r.short {
		head := r.take(1)[0]
		i := Interface{Running: head&runningFlag != 0, Name: string(r.take(int(head & nameMax))), MAC: ether.MAC(r.take(6))}
		for range int(r.take(1)[0]) {
			p := r.prefix()
			if r.short {
				break
			}
			i.Addrs = append(i.Addrs, p)
		}
		f.Interfaces = append(f.Interfaces, i)
	}
	if r.short {
		return Facts{}, fmt.Errorf("%w: %d bytes end inside an interface, or have a wrong network", errFacts, len(b))
	}
	return f, nil
}

// reader takes bytes from the front. Once there are too few it is short, and
// gives zeros.
type reader struct {
	rest  []byte
	short bool
}

func (r *reader) take(n int) []byte {
	if r.short = r.short || n > len(r.rest); r.short {
		return make([]byte, n)
	}
	taken := r.rest[:n]
	r.rest = r.rest[n:]
	return taken
}

func (r *reader) prefix() netip.Prefix {
	family, bits := r.take(1)[0], int(r.take(1)[0])
	var b [16]byte
	size := len(b)
	if family == 4 {
		size = 4
	}
	if r.short = r.short || family != 4 && family != 6 || bits > 8*size; r.short {
		return netip.Prefix{}
	}
	copy(b[:], r.take((bits+7)/8))
	addr, _ := netip.AddrFromSlice(b[:size])
	return netip.PrefixFrom(addr, bits)
}
