// SPDX-License-Identifier: Apache-2.0

package l2

import "slices"

// Able says that the answer could be given on one of the interfaces as they are.
func (a *Answer) Able(interfaces []Interface) bool {
	return slices.ContainsFunc(interfaces, func(i Interface) bool { return i.Running && a.matches(&i) })
}
