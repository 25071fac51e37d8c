// SPDX-License-Identifier: Apache-2.0

// Package ability is what a node tells the others, by gossip, of the VIPs that it
// can answer for: a node that is elected without having a VIP in its tables would
// drop what it attracts. It stands at the end of road A and is pure.
//
// There is room for some hundred bytes and there may be thousands of VIPs, so a
// node does not list what it has. It says up to which version of the Services
// its tables follow the API server, in its order of all writes, and which of the
// VIPs up to there it cannot answer for after all: mostly none. So of a VIP that
// a node has not heard of yet, because it is slow or cut off from the API server,
// the others know that it does not have it.
package ability

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"k8s.io/apimachinery/pkg/util/resourceversion"

	"github.com/fairlead/fairlead/announce/l2/ether"
)

// Limits of a message.
const (
	MaxSize    = 2 + maxVersion + 1 + MaxMACs*len(ether.MAC{}) + filterSize
	MaxMACs    = 8
	maxVersion = 40 // digits

	// filterSize is that of the set of VIPs that a node is not able to answer
	// for, in bytes: a Bloom filter with three bits for each, which takes one in a
	// thousand others for one of 100, and every fourth for one of 1,000. Such a
	// VIP goes to another node: everybody sees the same filter.
	filterSize = 384
	filterBits = 3
)

const format = 1

// Ability is what a node tells. The zero value is able to do nothing.
type Ability struct {
	Version string       // resourceVersion of the newest Service in the tables; "": no table yet
	Unable  []netip.Addr // VIPs of Services up to there that it cannot answer for
	MACs    []ether.MAC  // of the interfaces that it answers on; the first MaxMACs count
}

// Append writes what the node of the name tells: at most MaxSize bytes.
func (a Ability) Append(b []byte, node string) ([]byte, error) {
	if len(a.Version) > maxVersion {
		return b, fmt.Errorf("version %q: want at most %d digits", a.Version, maxVersion)
	}
	b = append(b, format, byte(len(a.Version)))
	b = append(b, a.Version...)
	macs := a.MACs[:min(len(a.MACs), MaxMACs)]
	b = append(b, byte(len(macs)))
	for _, m := range macs {
		b = append(b, m[:]...)
	}
	if len(a.Unable) == 0 {
		return b, nil
	}
	var filter [filterSize]byte
	for _, vip := range a.Unable {
		for _, bit := range bits(node, vip) {
			filter[bit/8] |= 1 << (bit % 8)
		}
	}
	return append(b, filter[:]...), nil
}

// bits are the places of a VIP in the filter, others for each node.
func bits(node string, vip netip.Addr) [filterBits]uint32 {
	sum := sha256.Sum256([]byte(node + "#" + vip.String()))
	var places [filterBits]uint32
	for i := range places {
		places[i] = binary.BigEndian.Uint32(sum[4*i:]) % (8 * filterSize)
	}
	return places
}

// Told is what a node has told. The zero value is able to do nothing.
type Told struct {
	MACs []ether.MAC

	node    string
	version string
	filter  []byte // nil: nothing is in it
}

// ErrMalformed is wrapped by the errors of Parse.
var ErrMalformed = errors.New("malformed ability")

// Parse reads what the node of the name has told; nothing at all is the zero
// value. Of a later format it reads nothing, with an error.
func Parse(node string, b []byte) (Told, error) {
	t := Told{node: node}
	if len(b) == 0 {
		return t, nil
	}
	fail := func(what string, value any) (Told, error) {
		return Told{node: node}, fmt.Errorf("%w: %s %v", ErrMalformed, what, value)
	}
	if b[0] != format {
		return fail("format", b[0])
	}
	rest := b[1:]
	version, rest, ok := field(rest, 1)
	if !ok || len(version) > maxVersion {
		return fail("version in", b)
	}
	macs, rest, ok := field(rest, len(ether.MAC{}))
	if !ok || len(macs) > MaxMACs*len(ether.MAC{}) {
		return fail("addresses in", b)
	}
	if len(rest) != 0 && len(rest) != filterSize {
		return fail("filter of bytes:", len(rest))
	}
	t.version = string(version)
	for ; len(macs) > 0; macs = macs[len(ether.MAC{}):] {
		t.MACs = append(t.MACs, ether.MAC(macs))
	}
	if len(rest) > 0 {
		t.filter = rest
	}
	return t, nil
}

// field takes a byte that counts units, and these.
func field(b []byte, unit int) (value, rest []byte, ok bool) {
	if len(b) == 0 || len(b)-1 < int(b[0])*unit {
		return nil, nil, false
	}
	n := 1 + int(b[0])*unit
	return b[1:n], b[n:], true
}

// Able says whether the node can answer for a VIP that came into its Service with
// a resourceVersion, or earlier.
func (t Told) Able(vip netip.Addr, since string) bool {
	if t.version == "" {
		return false
	}
	// Versions that are no numbers are of an API server that does not order them.
	if order, err := resourceversion.CompareResourceVersion(t.version, since); err == nil && order < 0 {
		return false
	}
	if t.filter == nil {
		return true
	}
	for _, bit := range bits(t.node, vip) {
		if t.filter[bit/8]&(1<<(bit%8)) == 0 {
			return true
		}
	}
	return false
}
