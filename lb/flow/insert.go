// SPDX-License-Identifier: Apache-2.0

package flow

// Result is the outcome of an insertion.
type Result uint8

// The results.
const (
	Inserted Result = iota
	Full            // the bucket is full of records that nothing evicts
	NoPort          // no free substitute client port
)

// Insert makes a new Own record, in place of the same flow's earlier one if
// there is one. Where the Pod would mistake the flow for another with the same
// client address and port, it gets a substitute port; seed says which are
// tried. podPort is the client's port for the Pod.
func (t *Table) Insert(k *Key, flags Flags, slot uint16, seed, now uint32) (podPort uint16, result Result) {
	r := Record{Kind: Own, PodPort: k.Port, Flags: flags, Slot: slot}
	if t.conflicts(k, false, now) {
		if r.PodPort, result = t.substitute(k, flags, slot, seed, now); result != Inserted {
			return 0, result
		}
	}
	return r.PodPort, t.write(k, r, now)
}

// conflicts says whether a flow of k to its backend would be taken for another
// one when the Pod replies. A substitute may not meet even a flow of the same service.
func (t *Table) conflicts(k *Key, substitute bool, now uint32) bool {
	b := t.bucketOf(k.Client, k.Port)
	for i := range Ways {
		r := &t.records[b.way(i)]
		if r.Kind != Own && r.Kind != Alias || !k.hasClient(r) || r.Backend != k.Backend {
			continue
		}
		if r.Kind == Own && !substitute && k.hasService(r) {
			continue
		}
		if t.alive(r, now) {
			return true
		}
	}
	return false
}

// How substitute ports are tried: above the well-known ones, in steps that
// spread them.
const (
	substituteFirst = 1024
	substituteCount = 65536 - substituteFirst
	substituteStep  = 4099
)

// substitute finds a client port that no flow to k's backend uses and leaves
// an Alias record there.
func (t *Table) substitute(k *Key, flags Flags, slot uint16, seed, now uint32) (uint16, Result) {
	alias := *k
	for i := range uint32(PortTries) {
		alias.Port = uint16(substituteFirst + (seed+i*substituteStep)%substituteCount)
		if alias.Port == k.Port || t.conflicts(&alias, true, now) {
			continue
		}
		return alias.Port, t.write(&alias, Record{Kind: Alias, PodPort: k.Port, Flags: flags, Slot: slot}, now)
	}
	return 0, NoPort
}

// remember makes or renews the Affinity record of an established flow's
// client. A full bucket costs the client its affinity, nothing else.
func (t *Table) remember(r *Record, ticks, now uint32) {
	k := Key{
		Client:  r.Client,
		Service: r.Service, ServiceTag: r.ServiceTag,
		Backend: r.Backend, BackendTag: r.BackendTag,
	}
	t.write(&k, Record{Kind: Affinity, State: Established, Slot: SlotUnknown, Until: now + ticks}, now)
}

// PutRedirect registers a stray: packets of k's flow go to the node until the
// tick. Result Full: there is no place for it.
func (t *Table) PutRedirect(k *Key, r Record, now uint32) Result {
	r.Kind, r.PodPort = Redirect, k.Port
	return t.write(k, r, now)
}

// write completes r from the key and stores it by the victim rule.
func (t *Table) write(k *Key, r Record, now uint32) Result {
	victim := t.victim(k, r.Kind, now)
	if victim == nil {
		return Full
	}
	r.Client, r.Port, r.Proto = k.Client, k.Port, k.Proto
	r.Service, r.ServiceTag = k.Service, k.ServiceTag
	r.Backend, r.BackendTag = k.Backend, k.BackendTag
	r.Seen = now
	r.Seq = victim.Seq + 2
	*victim = r
	return Inserted
}

// victim is the record to give up for a new one: the same flow's earlier
// record, else one whose time is over, else the half-open one that has been
// silent longest, else one whose backend is gone, else the affinity that ends
// first. Established flows and redirects are never given up.
func (t *Table) victim(k *Key, kind Kind, now uint32) *Record {
	var dead, halfOpen, affinity *Record
	b := t.bucketOf(k.Client, k.Port)
	for i := range Ways {
		r := &t.records[b.way(i)]
		switch {
		case r.Kind == kind && k.hasClient(r) && k.hasService(r):
			return r
		case r.expired(now):
			dead = first(dead, r)
		case r.Kind == Affinity:
			if affinity == nil || ticksLeft(r.Until, now) < ticksLeft(affinity.Until, now) {
				affinity = r
			}
		case r.Kind != Redirect && r.State == HalfOpen:
			if halfOpen == nil || r.idle(now) > halfOpen.idle(now) {
				halfOpen = r
			}
		}
	}
	if found := first(dead, halfOpen); found != nil {
		return found
	}
	for i := range Ways {
		if r := &t.records[b.way(i)]; !t.hasBackend(r) {
			return r
		}
	}
	return affinity
}

// first returns a unless it is nil.
func first(a, b *Record) *Record {
	if a != nil {
		return a
	}
	return b
}
