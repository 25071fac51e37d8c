// SPDX-License-Identifier: Apache-2.0

package forwardtest

import (
	"slices"

	"github.com/fairlead/fairlead/lb"
)

// Shrunk is the vector without what the difference of that kind does not need:
// steps, redirects, earlier tables, services. differs tries a vector on fresh
// datapaths.
func (v Vector) Shrunk(kind Kind, differs func(Vector) *Difference) Vector {
	still := func(smaller Vector) bool {
		diff := differs(smaller)
		if diff == nil || diff.Kind != kind {
			return false
		}
		smaller.Steps = smaller.Steps[:diff.Step+1]
		v = smaller
		return true
	}
	if !still(v) { // cuts off what comes later
		return v
	}
	for size := len(v.Steps) / 2; size > 0; size /= 2 {
		for at := 0; at+size < len(v.Steps); {
			smaller := v
			smaller.Steps = slices.Delete(slices.Clone(v.Steps), at, at+size)
			if !still(smaller) {
				at += size
			}
		}
	}
	for i := len(v.Redirects) - 1; i >= 0; i-- {
		smaller := v
		smaller.Redirects = slices.Delete(slices.Clone(v.Redirects), i, i+1)
		still(smaller)
	}
	for i := len(v.Tables) - 2; i >= 0; i-- {
		smaller := v
		smaller.Tables = slices.Delete(slices.Clone(v.Tables), i, i+1)
		still(smaller)
	}
	for _, key := range v.services() {
		still(v.without(key))
	}
	return v
}

// services are those of the first table that no redirect is for.
func (v Vector) services() []lb.ServiceKey {
	if len(v.Tables) == 0 {
		return nil
	}
	var keys []lb.ServiceKey
	for _, s := range v.Tables[0].Services() {
		if !slices.ContainsFunc(v.Redirects, func(r Redirect) bool { return r.Service == s.Key }) {
			keys = append(keys, s.Key)
		}
	}
	return keys
}

// without is the vector with a service left out of every table.
func (v Vector) without(key lb.ServiceKey) Vector {
	less := func(t *lb.Table) *lb.Table {
		var services []lb.Service
		for _, s := range t.Services() {
			if s.Key != key {
				services = append(services, *s)
			}
		}
		return table(services...)
	}
	v.Tables, v.Steps = slices.Clone(v.Tables), slices.Clone(v.Steps)
	for i, t := range v.Tables {
		v.Tables[i] = less(t)
	}
	for i, s := range v.Steps {
		if s.Table != nil {
			v.Steps[i].Table = less(s.Table)
		}
	}
	return v
}
