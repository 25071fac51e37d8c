// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/packet"
)

// Backends tells the table about the backends that its records name.
type Backends interface {
	// BackendIsLocal says that the id still names the backend with the tag
	// (its wire id), and that the backend runs on this node.
	BackendIsLocal(id lb.BackendID, tag uint32) bool
	// BackendPort is the port of a backend; 0 if the id names none.
	BackendPort(id lb.BackendID) uint16
}

// Table is a set-associative table of records. One goroutine at a time.
type Table struct {
	records  []Record
	mask     uint64
	key      packet.Key
	backends Backends
}

// New makes a table of so many buckets, a power of two, of Ways records each.
// key is this node's secret.
func New(buckets int, key [16]byte, backends Backends) (*Table, error) {
	if buckets < 1 || bits.OnesCount(uint(buckets)) != 1 || buckets > math.MaxInt32/Ways {
		return nil, fmt.Errorf("flow table of %d buckets: want a power of two", buckets)
	}
	return &Table{
		records:  make([]Record, buckets*Ways),
		mask:     uint64(buckets - 1),
		key:      packet.KeyOf(key),
		backends: backends,
	}, nil
}

// Records are all records, bucket by bucket. The caller must not change them.
func (t *Table) Records() []Record { return t.records }

// bucket is where the records of a client's address and port are, and the
// probe that begins a search there.
type bucket struct {
	base  int // index of the bucket's way 0
	first int // the way that is probed first
}

func (t *Table) bucketOf(client packet.Addr, port uint16) bucket {
	// SipHash of address and port in network order, 18 bytes.
	words := [2]uint64{binary.LittleEndian.Uint64(client[:8]), binary.LittleEndian.Uint64(client[8:])}
	hash := t.key.HashWords(words[:], uint64(bits.ReverseBytes16(port))|18<<56)
	return bucket{base: int(hash&t.mask) * Ways, first: int(hash >> 32 & (Ways - 1))}
}

// way is the index of the i-th way probed.
func (b bucket) way(i int) int { return b.base + (b.first+i)%Ways }

// alive says whether the record still counts.
func (t *Table) alive(r *Record, now uint32) bool { return !r.expired(now) && t.hasBackend(r) }

// expired says that the record's time is over. A free one's is.
func (r *Record) expired(now uint32) bool {
	switch r.Kind {
	case Own, Alias:
		return r.idle(now) > int32(r.timeout())
	case Affinity, Redirect:
		return ticksLeft(r.Until, now) < 0
	}
	return true
}

func (t *Table) hasBackend(r *Record) bool {
	return r.Kind == Redirect || t.backends.BackendIsLocal(r.Backend, r.BackendTag)
}

// ticksLeft is right also when the tick counter wraps in between.
func ticksLeft(until, now uint32) int32 { return int32(until - now) }

// match is what a search is for, beside the client's address, port and protocol.
type match uint8

const (
	matchService  match = iota // Own or Redirect of the service
	matchAffinity              // Affinity of the service
	matchReply                 // Own of the backend whose Pod sees this very port
	matchAlias                 // Alias of the backend
)

func (m match) fits(r *Record, k *Key) bool {
	switch m {
	case matchService:
		return (r.Kind == Own || r.Kind == Redirect) && k.hasService(r)
	case matchAffinity:
		return r.Kind == Affinity && k.hasService(r)
	case matchReply:
		return r.Kind == Own && r.Backend == k.Backend && r.PodPort == k.Port
	default:
		return r.Kind == Alias && r.Backend == k.Backend
	}
}

// search returns the first living record in probe order, or nil.
func (t *Table) search(k *Key, m match, now uint32) *Record {
	b := t.bucketOf(k.Client, k.Port)
	for i := range Ways {
		r := &t.records[b.way(i)]
		if k.hasClient(r) && m.fits(r, k) && t.alive(r, now) {
			return r
		}
	}
	return nil
}

// Find returns the living Own or Redirect record of a client's packet, or nil.
// The pointer is good until the next insertion.
func (t *Table) Find(k *Key, now uint32) *Record { return t.search(k, matchService, now) }

// FindAffinity returns the living record that remembers k's client for k's
// service, or nil.
func (t *Table) FindAffinity(k *Key, now uint32) *Record {
	client := *k
	client.Port, client.Proto = 0, 0
	return t.search(&client, matchAffinity, now)
}

// FindReply returns the living Own record that a reply of k's backend to k's
// client belongs to, or nil. k.Port is the port as the Pod sees it.
func (t *Table) FindReply(k *Key, now uint32) *Record {
	if r := t.search(k, matchReply, now); r != nil {
		return r
	}
	alias := t.search(k, matchAlias, now)
	if alias == nil {
		return nil
	}
	return t.findSubstituted(k, alias.PodPort, now)
}

// findSubstituted finds the Own record under the client's real port whose
// substitute is k.Port.
func (t *Table) findSubstituted(k *Key, port uint16, now uint32) *Record {
	b := t.bucketOf(k.Client, port)
	for i := range Ways {
		r := &t.records[b.way(i)]
		if r.Kind == Own && r.Port == port && r.Proto == k.Proto && r.Client == k.Client &&
			r.Backend == k.Backend && r.PodPort == k.Port && t.alive(r, now) {
			return r
		}
	}
	return nil
}

// FindMasqueraded returns the backend that a reply to k's client comes from when
// only the backend's port is left of it, because somebody put the node's address
// in place of the Pod's. k.Port is the client's port as the Pod sees it.
func (t *Table) FindMasqueraded(k *Key, backendPort uint16, now uint32) (lb.BackendID, bool) {
	b := t.bucketOf(k.Client, k.Port)
	for i := range Ways {
		r := &t.records[b.way(i)]
		if (r.Kind == Alias || r.Kind == Own && r.PodPort == k.Port) && k.hasClient(r) && t.alive(r, now) &&
			t.backends.BackendPort(r.Backend) == backendPort {
			return r.Backend, true
		}
	}
	return 0, false
}
