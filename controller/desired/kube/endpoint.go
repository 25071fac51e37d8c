// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"cmp"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/controller/desired"
	"github.com/fairlead/fairlead/lb"
)

// rank says when an endpoint gets new connections (KEP-1669). Lower is better.
type rank uint8

const (
	ready   rank = iota
	reserve      // terminating and serving still: where nobody is ready
	never
)

// endpoint is an address and port behind a Service port.
type endpoint struct {
	addr        netip.AddrPort
	node        string // "": the slice does not say
	pod         types.UID
	rank        rank
	terminating bool
	chosen      bool // gets new connections
}

// collect returns what the slices say about a port, one endpoint per address,
// sorted. An endpoint that moves stands in two slices for a moment, and a Pod may
// have the address of one that is on its way out: the one that is not terminating
// counts, as with kube-proxy, and then the one of better rank.
func collect(port *corev1.ServicePort, list []*discoveryv1.EndpointSlice) []endpoint {
	var all []endpoint
	for _, slice := range list {
		if slice.AddressType != discoveryv1.AddressTypeIPv4 && slice.AddressType != discoveryv1.AddressTypeIPv6 {
			continue
		}
		for i := range slice.Ports {
			if number := portIn(&slice.Ports[i], port); number != 0 {
				all = appendEndpoints(all, slice, number)
			}
		}
	}
	slices.SortFunc(all, func(a, b endpoint) int {
		return cmp.Or(a.addr.Compare(b.addr), compareBools(a.terminating, b.terminating), cmp.Compare(a.rank, b.rank),
			cmp.Compare(b.node, a.node), cmp.Compare(b.pod, a.pod))
	})
	return slices.CompactFunc(all, func(a, b endpoint) bool { return a.addr == b.addr })
}

// portIn is the number that a slice has for a Service port, 0 if none. Its name
// joins the two; so Pods may have the port at different numbers.
func portIn(have *discoveryv1.EndpointPort, want *corev1.ServicePort) uint16 {
	protocol := corev1.ProtocolTCP
	if have.Protocol != nil {
		protocol = *have.Protocol
	}
	if have.Name == nil || *have.Name != want.Name || protocol != cmp.Or(want.Protocol, corev1.ProtocolTCP) ||
		have.Port == nil || *have.Port < 1 || *have.Port > 65535 {
		return 0
	}
	return uint16(*have.Port)
}

func appendEndpoints(all []endpoint, slice *discoveryv1.EndpointSlice, port uint16) []endpoint {
	for i := range slice.Endpoints {
		e := &slice.Endpoints[i]
		if len(e.Addresses) == 0 {
			continue
		}
		// All addresses of an endpoint are the same machine; kube-proxy takes the first one.
		addr, err := netip.ParseAddr(e.Addresses[0])
		if err != nil || addr.Is4() != (slice.AddressType == discoveryv1.AddressTypeIPv4) || addr.Is4In6() || desired.Unusable(addr) != "" {
			continue
		}
		one := endpoint{addr: netip.AddrPortFrom(addr, port), rank: rankOf(&e.Conditions), terminating: is(e.Conditions.Terminating, false)}
		if e.NodeName != nil {
			one.node = *e.NodeName
		}
		if e.TargetRef != nil {
			one.pod = e.TargetRef.UID
		}
		all = append(all, one)
	}
	return all
}

func rankOf(c *discoveryv1.EndpointConditions) rank {
	switch {
	case is(c.Ready, true):
		return ready
	case is(c.Serving, true) && is(c.Terminating, false):
		return reserve
	}
	return never
}

// is reads a condition; nil is what the API documents for it.
func is(condition *bool, otherwise bool) bool {
	if condition == nil {
		return otherwise
	}
	return *condition
}

// choose says which endpoints get new connections: the ready ones, else those
// that serve while they terminate; under Local that is asked for each node by
// itself, which is what kube-proxy answers there. Each family is on its own.
func choose(all []endpoint, policy lb.Policy) {
	type group struct {
		v4   bool
		node string
	}
	of := func(e *endpoint) group {
		g := group{v4: e.addr.Addr().Is4()}
		if policy == lb.Local {
			g.node = e.node
		}
		return g
	}
	best := map[group]rank{}
	for i := range all {
		g := of(&all[i])
		if have, ok := best[g]; !ok || all[i].rank < have {
			best[g] = all[i].rank
		}
	}
	for i := range all {
		all[i].chosen = all[i].rank != never && all[i].rank == best[of(&all[i])]
	}
}
