// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead/fairlead/controller/desired"
)

// The Secret with the keys for the wire, in Fairlead's namespace.
const (
	KeySecret       = "fairlead-wire-key"
	KeyData         = "key"         // 32 hex digits
	PreviousKeyData = "previousKey" // the one before, while nodes may still send with it
)

// Keys are what the Secret says. The zero value is no key.
type Keys struct{ Key, Previous [16]byte }

// ParseKeys reads the Secret. An error shows no key.
func ParseKeys(o *corev1.Secret) (Keys, error) {
	var k Keys
	var problems []error
	read := func(name string, key *[16]byte) {
		var err error
		if *key, err = desired.ParseKey(strings.TrimSpace(string(o.Data[name]))); err != nil {
			problems = append(problems, fmt.Errorf("secret %s/%s: data.%s: %w", o.Namespace, o.Name, name, err))
		}
	}
	read(KeyData, &k.Key)
	if len(o.Data[PreviousKeyData]) > 0 {
		read(PreviousKeyData, &k.Previous)
	}
	if len(problems) > 0 {
		return Keys{}, errors.Join(problems...)
	}
	return k, nil
}

// Fingerprint names a key without telling it.
func Fingerprint(key [16]byte) string {
	sum := sha256.Sum256(key[:])
	return hex.EncodeToString(sum[:8])
}

// Fingerprints name keys in their order.
func Fingerprints(keys [][16]byte) []string {
	var names []string
	for _, key := range keys {
		names = append(names, Fingerprint(key))
	}
	return names
}

// Rotation replaces a key for the wire by another without losing a packet. The
// zero value has none.
//
// A new key is accepted at once, and sent when every node accepts it; the old
// one, whether the Secret still has it or not, is accepted until every node sends
// the new one. So the key may simply be replaced in the Secret; an agent that
// starts in between knows the old key by the Secret only, as its previous one.
// Two are accepted at a time: a third one waits until the second is sent
// everywhere. Where some nodes have seen only the third, nothing is lost, but no
// node comes to send it: agents that are started again do.
type Rotation struct {
	target   Keys
	accepted [][16]byte
}

// Next returns the keys to accept, the one to send with first, none before the
// Secret has been seen. others are the fingerprints of the keys that the other
// nodes say that they accept, by node, each node's own first; they may be old news.
// What it returned has to be accepted before this node says so.
func (r *Rotation) Next(secret Keys, others map[string][]string) [][16]byte {
	none := [16]byte{}
	if secret.Key == none {
		return r.accepted
	}
	if r.target.Key == none || r.target.Key == secret.Key || r.settled(others) {
		r.target = secret
	}
	key, old := r.target.Key, r.target.Previous
	switch n := len(r.accepted); {
	case n > 0 && r.accepted[0] != key:
		old = r.accepted[0]
	case n > 1 && !everyone(others, key, true):
		old = r.accepted[1] // somebody may still send with it
	}
	switch sends := len(r.accepted) > 0 && r.accepted[0] == key; {
	case old == none, old == key, r.target.Previous == none && everyone(others, key, true):
		r.accepted = [][16]byte{key}
	case sends, everyone(others, key, false):
		r.accepted = [][16]byte{key, old}
	default:
		r.accepted = [][16]byte{old, key}
	}
	return r.accepted
}

// settled says that every node sends with the target.
func (r *Rotation) settled(others map[string][]string) bool {
	return len(r.accepted) > 0 && r.accepted[0] == r.target.Key && everyone(others, r.target.Key, true)
}

// everyone says that all nodes accept a key, or that all send with it.
func everyone(nodes map[string][]string, key [16]byte, send bool) bool {
	name := Fingerprint(key)
	for _, names := range nodes {
		if i := slices.Index(names, name); i < 0 || send && i > 0 {
			return false
		}
	}
	return true
}
