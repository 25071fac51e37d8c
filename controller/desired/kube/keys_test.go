// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func wireKey(i int) [16]byte { return [16]byte{byte(i >> 8), byte(i), 1} }

func TestParseKeys(t *testing.T) {
	const good, other = "000102030405060708090a0b0c0d0e0f", "0f0e0d0c0b0a09080706050403020100"
	for _, test := range []struct {
		name          string
		key, previous string
		want          string
	}{
		{"one", good, "", ""},
		{"two", good + "\n", other, ""},
		{"missing", "", "", "secret fairlead/fairlead-wire-key: data.key: 0 characters: want 32 hex digits"},
		{"both wrong", "xyz", "00000000000000000000000000000000", "secret fairlead/fairlead-wire-key: data.key: 3 characters: want 32 hex digits\n" +
			"secret fairlead/fairlead-wire-key: data.previousKey: all digits are 0: want a random key"},
	} {
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "fairlead", Name: KeySecret}, Data: map[string][]byte{
			KeyData: []byte(test.key), PreviousKeyData: []byte(test.previous),
		}}
		keys, err := ParseKeys(secret)
		if got := fmt.Sprint(err); err != nil && got != test.want || err == nil && test.want != "" {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
		if err == nil && (keys.Key == [16]byte{} || (keys.Previous == [16]byte{}) != (test.previous == "")) {
			t.Errorf("%s: %v", test.name, keys)
		}
	}
}

func TestRotation(t *testing.T) {
	a, b := wireKey(1), wireKey(2)
	others := func(keys ...[16]byte) map[string][]string { return map[string][]string{"node2": Fingerprints(keys)} }
	var r Rotation
	for _, step := range []struct {
		what   string
		secret Keys
		others map[string][]string
		want   [][16]byte
	}{
		{"no Secret", Keys{}, others(a), nil},
		{"the first key", Keys{Key: a}, others(a), [][16]byte{a}},
		{"replaced", Keys{Key: b}, others(a), [][16]byte{a, b}},
		{"accepted elsewhere", Keys{Key: b}, others(a, b), [][16]byte{b, a}},
		{"a third one waits", Keys{Key: wireKey(3)}, others(a, b), [][16]byte{b, a}},
		{"sent elsewhere", Keys{Key: b}, others(b, a), [][16]byte{b}},
		{"the Secret is gone", Keys{}, others(b, a), [][16]byte{b}},
		{"the next one", Keys{Key: a, Previous: b}, others(b), [][16]byte{b, a}},
		{"sent elsewhere, the Secret has the old one", Keys{Key: a, Previous: b}, others(a, b), [][16]byte{a, b}},
	} {
		if diff := cmp.Diff(step.want, r.Next(step.secret, step.others)); diff != "" {
			t.Errorf("%s: -want +got:\n%s", step.what, diff)
		}
	}
}

// keyNode is an agent with what it has seen so far of what is told in order.
type keyNode struct {
	rotation Rotation
	accepted [][16]byte
	said     [][]string
	secret   int   // place in the Secret's history
	heard    []int // place in said of every node
}

// However late everybody hears of the Secret and of each other, what one sends
// all accept. In the end all send with the last key, unless keys were replaced
// before everybody sent with them: then the rotation may stop at an old one.
func TestRotationLosesNothing(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	for round := range 500 {
		r := rand.New(rand.NewPCG(seed, uint64(round)))
		hasty := round%2 > 0
		nodes := make([]keyNode, 2+r.IntN(4))
		secrets := []Keys{{Key: wireKey(1)}}
		for i := range nodes {
			nodes[i].heard = make([]int, len(nodes))
			nodes[i].accepted = nodes[i].rotation.Next(secrets[0], nil)
			nodes[i].said = [][]string{Fingerprints(nodes[i].accepted)}
		}
		for step := range 400 {
			last := secrets[len(secrets)-1]
			if step < 200 && r.IntN(40) == 0 && (hasty || everybodySends(nodes, last.Key)) {
				secrets = append(secrets, Keys{Key: wireKey(len(secrets) + 1), Previous: pick(r, last.Key, [16]byte{})})
			}
			turn(r, nodes, secrets, r.IntN(len(nodes)))
			checkKeys(t, nodes, fmt.Sprintf("seed %d, round %d, step %d", seed, round, step))
		}
		for range 20 * (1 - round%2) {
			for i := range nodes {
				nodes[i].secret = len(secrets) - 1
				for k := range nodes {
					nodes[i].heard[k] = len(nodes[k].said) - 1
				}
				turn(nil, nodes, secrets, i)
			}
		}
		for i, n := range nodes {
			if hasty {
				break
			}
			if last := secrets[len(secrets)-1]; n.accepted[0] != last.Key || last.Previous == [16]byte{} && len(n.accepted) > 1 {
				t.Fatalf("seed %d, round %d: node %d ends with %v, want %v first", seed, round, i, n.accepted, last.Key)
			}
		}
	}
}

func everybodySends(nodes []keyNode, key [16]byte) bool {
	return !slices.ContainsFunc(nodes, func(n keyNode) bool { return n.accepted[0] != key })
}

// turn lets a node hear some more, act, and say so.
func turn(r *rand.Rand, nodes []keyNode, secrets []Keys, i int) {
	n := &nodes[i]
	if r != nil {
		n.secret += r.IntN(len(secrets) - n.secret)
		for k := range nodes {
			n.heard[k] += r.IntN(len(nodes[k].said) - n.heard[k])
		}
	}
	others := map[string][]string{}
	for k := range nodes {
		if k != i {
			others[fmt.Sprint(k)] = nodes[k].said[n.heard[k]]
		}
	}
	n.accepted = n.rotation.Next(secrets[n.secret], others)
	if said := Fingerprints(n.accepted); !slices.Equal(said, n.said[len(n.said)-1]) {
		n.said = append(n.said, said)
	}
}

func checkKeys(t *testing.T, nodes []keyNode, when string) {
	t.Helper()
	for i := range nodes {
		for k := range nodes {
			if !slices.Contains(nodes[k].accepted, nodes[i].accepted[0]) {
				t.Fatalf("%s: node %d sends %v, node %d accepts %v", when, i, nodes[i].accepted[0][:2], k, nodes[k].accepted)
			}
		}
	}
}
