// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
)

// said is what a node says of announcing.
type said struct {
	announced []v1beta1.Announcement
	not       []v1beta1.NotAnnounced
}

// lines are what it says of each address, in words.
func (s said) lines() map[string]string {
	lines := map[string]string{}
	for _, a := range s.announced {
		for _, addr := range a.Addresses {
			lines[addr] += fmt.Sprint(a.Protocol, a.To, a.Since.Unix())
		}
	}
	for _, n := range s.not {
		for _, addr := range n.Addresses {
			lines[addr] += fmt.Sprint(n.Protocol, n.Reason, n.Message)
		}
	}
	return lines
}

// setAnnounced notes what a node says.
func (w *Watcher) setAnnounced(node string, s said) {
	old := w.said[node]
	if reflect.DeepEqual(old, s) {
		return
	}
	if w.said[node] = s; s.announced == nil && s.not == nil {
		delete(w.said, node)
	}
	if !w.dead[node] {
		w.touchAnnounced(old, s)
	}
}

// setDead notes whether what a node says counts.
func (w *Watcher) setDead(node string, dead bool) {
	if w.dead[node] == dead {
		return
	}
	if w.dead[node] = dead; !dead {
		delete(w.dead, node)
	}
	w.touchAnnounced(w.said[node], said{})
}

// touchAnnounced touches the Services with addresses of which a node says
// something else.
func (w *Watcher) touchAnnounced(old, s said) {
	before, after := old.lines(), s.lines()
	changed := map[string]bool{}
	for _, lines := range []map[string]string{before, after} {
		for addr := range lines {
			if before[addr] != after[addr] {
				changed[addr] = true
			}
		}
	}
	for name, one := range w.services {
		for _, i := range one.Object.Status.LoadBalancer.Ingress {
			if changed[i.IP] {
				w.touched[name] = true
			}
		}
	}
	w.signal()
}

// Announced is what nodes say of the announcing of addresses.
type Announced struct {
	// Known: a node says something of one of them.
	Known bool
	// All: every one is announced by a node.
	All     bool
	Reason  string // why one is not
	Message string
}

// Announced returns what nodes say of addresses. Of several that say that they
// answer by ARP or NDP, the one that began last does: another one is dead.
func (w *Watcher) Announced(addrs []netip.Addr) Announced {
	w.mu.Lock()
	defer w.mu.Unlock()
	a := Announced{All: true}
	var messages []string
	for _, addr := range addrs {
		yes, reason, why := w.announcedBy(addr.String())
		a.Known = a.Known || yes != "" || why != ""
		if yes != "" {
			messages = append(messages, fmt.Sprintf("%s: %s", addr, yes))
			continue
		}
		if a.All {
			a.All, a.Reason = false, cmp.Or(reason, "NotAnnounced")
		}
		messages = append(messages, fmt.Sprintf("%s: %s", addr, cmp.Or(why, "no node announces it")))
	}
	a.Message = strings.Join(messages, "; ")
	return a
}

// namesShown bounds how many nodes a message names.
const namesShown = 5

// announcedBy says how an address is announced, or else why it is not, by the
// first node that says so. An address that a stranger claims is not.
func (w *Watcher) announcedBy(addr string) (yes, reason, why string) {
	routes := map[string][]string{} // nodes by peers
	var link *v1beta1.Announcement
	answers := ""
	for _, node := range slices.Sorted(maps.Keys(w.said)) {
		s := w.said[node]
		if w.dead[node] {
			continue
		}
		for i := range s.announced {
			switch a := &s.announced[i]; {
			case !slices.Contains(a.Addresses, addr):
			case a.Protocol == "bgp":
				to := strings.Join(a.To, ", ")
				routes[to] = append(routes[to], node)
			case link == nil || a.Since.After(link.Since.Time):
				link, answers = a, node
			}
		}
		for _, n := range s.not {
			if !slices.Contains(n.Addresses, addr) {
				continue
			}
			if n.Reason == v1beta1.ReasonAddressConflict {
				return "", n.Reason, fmt.Sprintf("node %s: %s", node, n.Message)
			}
			if why == "" {
				reason, why = n.Reason, n.Message
			}
		}
	}
	var ways []string
	for _, to := range slices.Sorted(maps.Keys(routes)) {
		ways = append(ways, fmt.Sprintf("by BGP to %s from %s", to, some(routes[to])))
	}
	if link != nil {
		ways = append(ways, fmt.Sprintf("by ARP and NDP on %s of %s", strings.Join(link.To, ", "), answers))
	}
	return strings.Join(ways, ", "), reason, why
}

func some(names []string) string {
	if len(names) <= namesShown {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more nodes", strings.Join(names[:namesShown], ", "), len(names)-namesShown)
}
