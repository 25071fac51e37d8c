// SPDX-License-Identifier: Apache-2.0

package config

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// choice is a list of selectors of which one has to match.
type choice struct {
	given     bool
	selectors []labels.Selector
}

// choice reads selectors. One that makes no sense is reported and matches nothing.
func (c *checker) choice(o metav1.Object, path string, list []metav1.LabelSelector) choice {
	result := choice{given: len(list) > 0}
	for i := range list {
		selector, err := metav1.LabelSelectorAsSelector(&list[i])
		if err != nil {
			c.report(o, ReasonInvalid, "%s[%d]: %v: matches nothing", path, i, err)
			continue
		}
		result.selectors = append(result.selectors, selector)
	}
	return result
}

func (s choice) matches(set labels.Set) bool {
	return slices.ContainsFunc(s.selectors, func(one labels.Selector) bool { return one.Matches(set) })
}

// orAll is matches, true for everything where no selectors are given.
func (s choice) orAll(set labels.Set) bool { return !s.given || s.matches(set) }

// shared returns the first node by name that all choices match, "" if there is none.
func (c *checker) shared(all ...choice) string {
	first := ""
	for name, set := range c.Nodes {
		others := slices.ContainsFunc(all, func(one choice) bool { return !one.orAll(set) })
		if !others && (first == "" || name < first) {
			first = name
		}
	}
	return first
}
