// SPDX-License-Identifier: Apache-2.0

// Package kube reads what Kubernetes objects say of announcing into the state
// that announce.Select decides by. It stands on road A and is pure.
package kube

import (
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/fairlead/fairlead/announce"
	"github.com/fairlead/fairlead/controller/api/v1beta1"
	"github.com/fairlead/fairlead/controller/config"
	"github.com/fairlead/fairlead/controller/desired"
	"github.com/fairlead/fairlead/controller/ipam"
)

// Config returns the parts of a state that objects of our own kinds say. result
// is what config.Check says of them in the same namespace. An object that cannot
// be used stays as it was in before, if it was there.
func Config(o config.Objects, result config.Result, namespace string, before announce.State) announce.State {
	s := announce.State{Communities: communities(result)}
	s.Pools = read(o.Pools, "IPAddressPool", result, namespace, before.Pools, func(p announce.Pool) string { return p.Name }, pool)
	s.L2 = read(o.L2Advertisements, "L2Advertisement", result, namespace, before.L2,
		func(a announce.L2Advertisement) string { return a.Name },
		func(o *v1beta1.L2Advertisement, ref config.Ref) announce.L2Advertisement {
			return announce.L2Advertisement{
				Selection: selection(o.Name, o.Spec.Selection, result.Advertised[ref]),
				Preferred: preferences(o.Spec.PreferredNodeSelectors), Interfaces: o.Spec.Interfaces,
			}
		})
	s.BGP = read(o.BGPAdvertisements, "BGPAdvertisement", result, namespace, before.BGP,
		func(a announce.BGPAdvertisement) string { return a.Name },
		func(o *v1beta1.BGPAdvertisement, ref config.Ref) announce.BGPAdvertisement {
			return announce.BGPAdvertisement{
				Selection: selection(o.Name, o.Spec.Selection, result.Advertised[ref]),
				Created:   o.CreationTimestamp.Time, Peers: o.Spec.Peers,
				Length4: value(o.Spec.AggregationLength, 32), Length6: value(o.Spec.AggregationLengthV6, 128),
				LocalPref: o.Spec.LocalPref, Prepend: value(o.Spec.ASPathPrepend, 0),
				Communities: resolved(o.Spec.Communities, s.Communities),
			}
		})
	s.Peers = read(o.BGPPeers, "BGPPeer", result, namespace, before.Peers, func(p announce.Peer) string { return p.Name }, peer)
	return s
}

// read reads the objects of a kind.
func read[T metav1.Object, V any](objects []T, kind string, result config.Result, namespace string, before []V, name func(V) string, one func(T, config.Ref) V) []V {
	var list []V
	for _, o := range objects {
		ref := config.Ref{Kind: kind, Namespace: namespace, Name: o.GetName()}
		if o.GetNamespace() != namespace {
			continue
		}
		if !result.Unused[ref] {
			list = append(list, one(o, ref))
		} else if i := slices.IndexFunc(before, func(v V) bool { return name(v) == ref.Name }); i >= 0 {
			list = append(list, before[i])
		}
	}
	return list
}

// communities are the values of all names; names that objects give go first.
func communities(result config.Result) map[string]string {
	all := maps.Clone(config.WellKnown)
	maps.Copy(all, result.Communities)
	return all
}

// resolved puts values for names, so that an advertisement that stays as it was
// keeps them.
func resolved(list []string, values map[string]string) []string {
	list = slices.Clone(list)
	for i, name := range list {
		if value, known := values[name]; known {
			list[i] = value
		}
	}
	return list
}

func pool(o *v1beta1.IPAddressPool, _ config.Ref) announce.Pool {
	read, _ := ipam.NewPool(o) // what is wrong is in the condition Valid, and left out
	p := announce.Pool{Name: o.Name, Created: o.CreationTimestamp.Time}
	for _, r := range read.Ranges {
		p.Ranges = append(p.Ranges, announce.Range(r))
	}
	return p
}

func peer(o *v1beta1.BGPPeer, _ config.Ref) announce.Peer {
	addr, _ := netip.ParseAddr(o.Spec.PeerAddress) // by the schema it is one, or empty
	return announce.Peer{Name: o.Name, Nodes: choice(o.Spec.NodeSelectors), Addr: addr.Unmap(), DualStack: o.Spec.DualStackAddressFamily}
}

func selection(name string, s v1beta1.Selection, pools []string) announce.Selection {
	return announce.Selection{Name: name, Pools: pools, Services: choice(s.ServiceSelectors), Nodes: choice(s.NodeSelectors)}
}

func preferences(list []v1beta1.PreferredNodeSelector) []announce.Preference {
	var all []announce.Preference
	for i := range list {
		all = append(all, announce.Preference{Weight: int(list[i].Weight), Nodes: selector(&list[i].Preference)})
	}
	return all
}

func choice(list []metav1.LabelSelector) announce.Choice {
	var all announce.Choice
	for i := range list {
		all = append(all, selector(&list[i]))
	}
	return all
}

// selector reads one; what makes no sense matches nothing, and is in the
// condition Valid.
func selector(s *metav1.LabelSelector) labels.Selector {
	read, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return labels.Nothing()
	}
	return read
}

func value(given *int32, otherwise int) int {
	if given == nil {
		return otherwise
	}
	return int(*given)
}

// Node reads a Node. attached says that its programs forward, by its NodeState.
func Node(o *corev1.Node, attached bool) announce.Node {
	n := announce.Node{Name: o.Name, Labels: o.Labels, Attached: attached}
	for _, a := range o.Status.Addresses {
		addr, err := netip.ParseAddr(a.Address)
		if err == nil && a.Type == corev1.NodeInternalIP && addr.Zone() == "" && desired.Unusable(addr.Unmap()) == "" {
			n.Addrs = append(n.Addrs, addr.Unmap())
		}
	}
	for _, c := range o.Status.Conditions {
		if c.Type == corev1.NodeNetworkUnavailable && c.Status == corev1.ConditionTrue {
			n.NetworkUnavailable = true
		}
	}
	return n
}

// Service reads a Service. serving are the names of the nodes with an endpoint
// that serves.
func Service(o *corev1.Service, serving []string) announce.Service {
	s := announce.Service{
		Name: o.Namespace + "/" + o.Name, Labels: o.Labels, Serving: serving,
		Local: o.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal,
	}
	for _, ingress := range o.Status.LoadBalancer.Ingress {
		if addr, err := netip.ParseAddr(ingress.IP); err == nil && !slices.Contains(s.VIPs, addr.Unmap()) {
			s.VIPs = append(s.VIPs, addr.Unmap())
		}
	}
	return s
}
