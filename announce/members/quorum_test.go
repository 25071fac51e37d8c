// SPDX-License-Identifier: Apache-2.0

package members

import (
	"slices"
	"strings"
	"testing"
)

func TestQuorum(t *testing.T) {
	for _, tt := range []struct {
		name, self, exist, alive string
		seen                     string
		want                     bool
	}{
		{"nobody exists", "a", "", "a b", "", false},
		{"alone", "a", "a", "", "a", true},
		{"does not exist", "a", "b c", "b c", "", false},
		{"all of three", "a", "c b a", "c b", "a b c", true},
		{"two of three", "b", "a b c", "c", "b c", true},
		{"one of three", "a", "a b c", "", "a", false},
		{"first of two", "a", "a b", "", "a", true},
		{"second of two", "b", "a b", "", "b", false},
		{"first half of four", "c", "a b c d", "a", "a c", true},
		{"second half of four", "b", "a b c d", "d", "b d", false},
		{"one of four", "a", "a b c d", "", "a", false},
		{"three of five", "e", "a b c d e", "d c", "c d e", true},
		{"strangers do not count", "c", "a b c", "x y z", "c", false},
		{"given twice", "c", "a a b c c", "a", "a c", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			alive := strings.Fields(tt.alive)
			seen, has := quorum(tt.self, strings.Fields(tt.exist), func(name string) bool { return slices.Contains(alive, name) })
			if got := strings.Join(seen, " "); got != tt.seen || has != tt.want {
				t.Errorf("sees %q, quorum %t, want %q, %t", got, has, tt.seen, tt.want)
			}
		})
	}
}

// However the nodes fall apart, one group at most has a quorum.
func TestOneQuorum(t *testing.T) {
	names := strings.Fields("a b c d e f")
	for n := 1; n <= len(names); n++ {
		exist := names[:n]
		// Every way to put n nodes into groups, a digit each.
		ways := 1
		for range n {
			ways *= n
		}
		for way := range ways {
			group, rest := map[string]int{}, way
			for _, name := range exist {
				group[name], rest = rest%n, rest/n
			}
			with := map[int]bool{}
			for _, self := range exist {
				if _, has := quorum(self, exist, func(name string) bool { return group[name] == group[self] }); has {
					with[group[self]] = true
				}
			}
			if len(with) > 1 {
				t.Fatalf("%v: groups %v have a quorum", group, with)
			}
		}
	}
}
