// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
	"github.com/fairlead/fairlead/controller/desired"
)

// Versions are the formats that programs on different nodes have to share.
type Versions struct{ Wire, Hash int32 }

// node is what a Node and its NodeState say that matters here.
type node struct {
	name     string
	known    bool // there is a Node
	boot     string
	addrs    []netip.Addr // InternalIPs, the first of each family
	all      []netip.Addr // every address, sorted
	attached bool
	stateIn  string // boot that the NodeState is of
	versions Versions
	drains   map[types.NamespacedName][]drain
	keys     []string
}

// drain is an endpoint that its node says is draining.
type drain struct {
	port string
	addr netip.AddrPort
}

// member says that the node's programs forward, so that endpoints on it count.
func (n *node) member(want Versions) bool {
	return n.known && len(n.addrs) > 0 && n.attached && n.boot != "" && n.stateIn == n.boot && n.versions == want
}

func (n *node) setNode(o *corev1.Node) {
	n.known, n.boot, n.addrs, n.all = true, o.Status.NodeInfo.BootID, nil, nil
	for _, a := range o.Status.Addresses {
		addr, err := netip.ParseAddr(a.Address)
		if err != nil || addr.Zone() != "" {
			continue // a host name
		}
		addr = addr.Unmap()
		n.all = append(n.all, addr)
		other := func(b netip.Addr) bool { return b.Is4() == addr.Is4() }
		if a.Type == corev1.NodeInternalIP && desired.Unusable(addr) == "" && !slices.ContainsFunc(n.addrs, other) {
			n.addrs = append(n.addrs, addr)
		}
	}
	slices.SortFunc(n.all, netip.Addr.Compare)
	n.all = slices.Compact(n.all)
}

func (n *node) setState(o *v1beta1.NodeState) {
	s := &o.Status
	n.attached, n.stateIn, n.versions, n.keys = s.Attached, s.BootID, Versions{Wire: s.WireVersion, Hash: s.HashVersion}, s.Keys
	n.drains = nil
	for _, d := range s.Draining {
		addr, err := netip.ParseAddrPort(d.Address)
		if err != nil {
			continue // no agent writes that
		}
		if n.drains == nil {
			n.drains = map[types.NamespacedName][]drain{}
		}
		name := parseName(d.Service)
		n.drains[name] = append(n.drains[name], drain{d.Port, netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())})
	}
}

// parseName reads namespace/name.
func parseName(text string) types.NamespacedName {
	namespace, name, _ := strings.Cut(text, "/")
	return types.NamespacedName{Namespace: namespace, Name: name}
}
