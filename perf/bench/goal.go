// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// forwardGoalNS is what lb/forward alone may take for a packet.
const forwardGoalNS = 150

// printForwardGoal says which of the rows hold the goal. Without one it is silent.
func printForwardGoal(out io.Writer, rows []Result) error {
	var slow, allocate []string
	n := 0
	for _, r := range rows {
		if r.Allocs == nil {
			continue
		}
		n++
		if r.NS >= forwardGoalNS {
			slow = append(slow, fmt.Sprintf("%s (%.0f)", r.Name, r.NS))
		}
		if *r.Allocs > 0 {
			allocate = append(allocate, r.Name)
		}
	}
	if n == 0 {
		return nil
	}
	fmt.Fprintf(out, "\nlb/forward alone, goal under %d ns and no allocation per packet: held by %d of %d rows\n", forwardGoalNS, n-len(slow), n)
	if len(slow) > 0 {
		fmt.Fprintf(out, "  slower: %s\n", strings.Join(slow, ", "))
	}
	if len(allocate) > 0 {
		return errors.New("packets cost allocations: " + strings.Join(allocate, ", "))
	}
	return nil
}
