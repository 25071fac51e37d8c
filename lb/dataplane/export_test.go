// SPDX-License-Identifier: Apache-2.0

package dataplane

import "fmt"

// Check recounts every reference count and every line, and returns what is wrong.
func (d *Dataplane) Check() (problems []string) {
	report := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	users, claims, onVIP := map[*region]int{}, map[*backend]int{}, map[*vip]int{}
	for _, s := range d.services {
		for _, r := range append(s.former, s.region) {
			if r != nil {
				users[r]++
			}
		}
		for b := range s.claims {
			claims[b]++
		}
		onVIP[s.vip]++
	}
	for _, s := range d.orphans {
		for b := range s.claims {
			claims[b]++
		}
	}
	lines := uint32(0)
	for r, n := range users {
		lines += r.lines
		if r.users != n {
			report("region at line %d: %d users, counted %d", r.ref.Line, r.users, n)
		}
	}
	for _, e := range d.regions.free {
		lines += e.lines
	}
	if lines != d.regions.total {
		report("%d lines, %d are used or free", d.regions.total, lines)
	}
	for key, s := range d.services {
		if s.pastUntil != s.entry.value.PastUntil || s.pastUntil != 0 && d.pasts[s.pastPlace] != s {
			report("service %s: past until %d, known until %d at %d", key, s.entry.value.PastUntil, s.pastUntil, s.pastPlace)
		}
	}
	for i, s := range d.pasts {
		if d.services[s.key] != s || i > 0 && !reached(s.pastUntil, d.pasts[(i-1)/2].pastUntil) {
			report("place %d: past of service %s until %d", i, s.key, s.pastUntil)
		}
	}
	for entry, b := range d.backends {
		if b.claims != claims[b] || (d.idleBackends[b.id] != nil) != (b.claims == 0) {
			report("backend %v: %d claims, counted %d, idle %v", entry, b.claims, claims[b], d.idleBackends[b.id] != nil)
		}
	}
	for addr, v := range d.vips {
		if v.users != onVIP[v] || (d.idleVIPs[addr] != nil) != (v.users == 0) {
			report("VIP %s: %d users, counted %d, idle %v", addr, v.users, onVIP[v], d.idleVIPs[addr] != nil)
		}
	}
	return problems
}
