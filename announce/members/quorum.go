// SPDX-License-Identifier: Apache-2.0

package members

import "slices"

// quorum returns those of the nodes that exist that this one sees, in order,
// and whether they are a majority: more than half, or the half with the first
// name. Of any two groups that do not see each other one at most has it. A node
// that does not exist has none, and sees none.
func quorum(self string, exist []string, sees func(string) bool) (seen []string, majority bool) {
	exist = slices.Sorted(slices.Values(exist))
	exist = slices.Compact(exist)
	if !slices.Contains(exist, self) {
		return nil, false
	}
	for _, name := range exist {
		if name == self || sees(name) {
			seen = append(seen, name)
		}
	}
	twice := 2 * len(seen)
	return seen, twice > len(exist) || twice == len(exist) && seen[0] == exist[0]
}
