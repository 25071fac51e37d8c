// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
)

// pool rewrites addresses that MetalLB reads and we refuse, and tells of what a
// pool means otherwise.
func (c *converter) pool(p *v1beta1.IPAddressPool) {
	for i, text := range p.Spec.Addresses {
		if rewritten := address(text); rewritten != text {
			c.note(Info, "spec.addresses[%d]: %q is written %q, which is what MetalLB takes it for", i, text, rewritten)
			p.Spec.Addresses[i] = rewritten
		}
	}
	p.Spec.Addresses = once(c, "spec.addresses", p.Spec.Addresses)
	if n := len(p.Spec.Addresses); n == 0 || n > maxAddresses {
		c.note(Error, "spec.addresses: %d entries: want 1 to %d: make several pools of it", n, maxAddresses)
	}
	if p.Spec.AvoidBuggyIPs && slices.ContainsFunc(p.Spec.Addresses, func(a string) bool { return strings.Contains(a, ":") }) {
		c.note(Info, "spec.avoidBuggyIPs: leaves out the first address of IPv6 prefixes too, which MetalLB gives out")
	}
	a := p.Spec.AllocateTo
	if a == nil {
		return
	}
	a.Namespaces = once(c, "spec.serviceAllocation.namespaces", a.Namespaces)
	for i, name := range a.Namespaces {
		if len(name) > maxNamespace && len(name) <= maxName {
			c.note(Error, "spec.serviceAllocation.namespaces[%d]: %d bytes: want 1 to %d", i, len(name), maxNamespace)
		}
	}
	if len(a.NamespaceSelectors) > 0 && len(a.Namespaces) == 0 {
		c.note(Warning, "spec.serviceAllocation.namespaceSelectors: while they match no namespace, MetalLB lets every Service ask for the pool, and Fairlead none")
	}
}

// Bounds of the schema.
const (
	maxAddresses = 500
	maxNamespace = 63
)

// address writes an entry of a pool as the schema wants it: nothing behind the
// prefix length, IPv4 as IPv4. What cannot be read stays as it is.
func address(text string) string {
	if first, last, ok := strings.Cut(text, "-"); ok {
		a, errA := netip.ParseAddr(strings.TrimSpace(first))
		b, errB := netip.ParseAddr(strings.TrimSpace(last))
		if errA != nil || errB != nil || !a.Is4In6() && !b.Is4In6() {
			return text
		}
		return a.Unmap().String() + "-" + b.Unmap().String()
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return text
	}
	if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	if p == p.Masked() && !strings.Contains(text, "::ffff:") {
		return text
	}
	return p.Masked().String()
}

// once removes what a list has twice, and tells of what else the schema refuses.
// An empty name stays: without it an empty list could mean all.
func once(c *converter, path string, list []string) []string {
	var kept []string
	for i, one := range list {
		switch {
		case slices.Contains(kept, one):
			c.note(Info, "%s[%d]: %q is there twice: the second one is left out", path, i, one)
			continue
		case one == "", len(one) > maxName:
			c.note(Error, "%s[%d]: %d bytes: want 1 to %d", path, i, len(one), maxName)
		}
		kept = append(kept, one)
	}
	return kept
}

// maxName is what Kubernetes allows for names of objects.
const maxName = 253
