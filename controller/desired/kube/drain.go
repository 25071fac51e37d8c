// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
	"github.com/fairlead/fairlead/lb"
)

// pod is a Pod of this node.
type pod struct {
	ips  []netip.Addr
	host bool // shares the node's addresses
}

// kept is an endpoint that left all slices, though its Pod may still run.
type kept struct {
	drainOn
	pod   types.UID // it drains while this Pod of our node runs; "": until then
	until time.Time
}

// PutPod takes a Pod of this node in.
func (s *State) PutPod(o *corev1.Pod) {
	if o.Status.Phase == corev1.PodSucceeded || o.Status.Phase == corev1.PodFailed {
		s.DeletePod(o.UID)
		return
	}
	p := pod{host: o.Spec.HostNetwork}
	for _, ip := range o.Status.PodIPs {
		if addr, err := netip.ParseAddr(ip.IP); err == nil {
			p.ips = append(p.ips, addr.Unmap())
		}
	}
	s.pods[o.UID] = p
}

// DeletePod forgets a Pod: nothing of it drains any more.
func (s *State) DeletePod(uid types.UID) {
	if _, known := s.pods[uid]; !known {
		return
	}
	delete(s.pods, uid)
	for one := range s.vanished {
		if slices.ContainsFunc(one.kept, func(k kept) bool { return k.pod == uid }) {
			s.touch(one)
		}
	}
}

// adopted is a backend of this node that its tables held before.
type adopted struct {
	key  lb.ServiceKey
	addr netip.AddrPort
}

// Adopt tells the first Apply of a backend on this node that its tables hold
// already: if no slice has it but a Pod, it drains, for nobody else remembers it.
func (s *State) Adopt(key lb.ServiceKey, addr netip.AddrPort) {
	s.adopted = append(s.adopted, adopted{key, addr})
}

// podAt is the Pod with an address of its own.
func (s *State) podAt(addr netip.Addr) (types.UID, bool) {
	for uid, p := range s.pods {
		if !p.host && slices.Contains(p.ips, addr) {
			return uid, true
		}
	}
	return "", false
}

// vanish finds endpoints that the slices had before and do not have now, and
// keeps them draining where their connections may live.
func (s *State) vanish(one *service, now time.Time) {
	if one.object == nil {
		one.kept = nil
		delete(s.vanished, one)
		return
	}
	changed := !slices.Equal(one.before, one.slices)
	for i := range one.object.Spec.Ports {
		port := &one.object.Spec.Ports[i]
		if !changed && len(one.kept) == 0 {
			break
		}
		present := collect(port, one.slices)
		one.kept = slices.DeleteFunc(one.kept, func(k kept) bool { return k.port == port.Name && has(present, k.addr) })
		if !changed {
			continue
		}
		for _, e := range collect(port, one.before) {
			if !has(present, e.addr) && s.member(e.node) {
				s.keep(one, port.Name, e, now)
			}
		}
	}
	one.kept = slices.DeleteFunc(one.kept, func(k kept) bool {
		if k.pod != "" {
			_, runs := s.pods[k.pod]
			return !runs
		}
		// Once the endpoint's node has spoken of it, that is what counts.
		return !now.Before(k.until) || slices.Contains(s.draining[one.name][k.node], k.drain)
	})
	if len(one.kept) == 0 {
		one.kept = nil
		delete(s.vanished, one)
	} else {
		s.vanished[one] = true
	}
}

// has says whether sorted endpoints have one at an address.
func has(all []endpoint, addr netip.AddrPort) bool {
	_, found := slices.BinarySearchFunc(all, addr, func(e endpoint, a netip.AddrPort) int { return e.addr.Compare(a) })
	return found
}

func (s *State) keep(one *service, port string, e endpoint, now time.Time) {
	k := kept{drainOn: drainOn{drain{port, e.addr}, e.node}, until: now.Add(s.options.Hold)}
	switch {
	case s.options.Self == "":
		return // the controller has no flows
	case e.node == s.options.Self && e.pod != "":
		k.pod = e.pod
	case e.terminating:
		return // a terminating endpoint vanishes with its Pod
	}
	if !slices.ContainsFunc(one.kept, func(o kept) bool { return o.drain == k.drain }) {
		one.kept = append(one.kept, k)
	}
}

// adopt keeps what Adopt told of and no slice has.
func (s *State) adopt() {
	for _, a := range s.adopted {
		if len(s.keys[a.key]) == 0 {
			continue
		}
		one := s.keys[a.key][0]
		i := slices.IndexFunc(one.rows, func(row lb.Service) bool { return row.Key == a.key })
		j := slices.IndexFunc(one.object.Spec.Ports, func(p corev1.ServicePort) bool {
			return uint16(p.Port) == a.key.Port && cmp.Or(p.Protocol, corev1.ProtocolTCP) == protocolOf(a.key.Proto)
		})
		uid, runs := s.podAt(a.addr.Addr())
		if i < 0 || j < 0 || !runs || slices.ContainsFunc(one.rows[i].Backends, func(b lb.Backend) bool { return b.Addr == a.addr }) {
			continue
		}
		d := drainOn{drain{one.object.Spec.Ports[j].Name, a.addr}, s.options.Self}
		if !slices.ContainsFunc(one.kept, func(k kept) bool { return k.drain == d.drain }) {
			one.kept = append(one.kept, kept{drainOn: d, pod: uid})
			s.vanished[one] = true
			s.touch(one)
		}
	}
	s.adopted = nil
}

func protocolOf(p lb.Proto) corev1.Protocol {
	if p == lb.UDP {
		return corev1.ProtocolUDP
	}
	return corev1.ProtocolTCP
}

// drains are all endpoints of the service that drain without being in a slice:
// by our own memory and by what other nodes say.
func (s *State) drains(one *service) []drainOn {
	var all []drainOn
	for _, k := range one.kept {
		all = append(all, k.drainOn)
	}
	for node, drains := range s.draining[one.name] {
		for _, d := range drains {
			if node != s.options.Self { // which knows it first
				all = append(all, drainOn{d, node})
			}
		}
	}
	// Nodes come in no order, and two may name the same address.
	slices.SortFunc(all, func(a, b drainOn) int {
		return cmp.Or(a.addr.Compare(b.addr), cmp.Compare(a.port, b.port), cmp.Compare(a.node, b.node))
	})
	return all
}

// Draining are the endpoints of this node that drain without being in a slice,
// for its NodeState; sorted.
func (s *State) Draining() []v1beta1.DrainingEndpoint {
	var all []v1beta1.DrainingEndpoint
	for one := range s.vanished {
		for _, k := range one.kept {
			if k.pod != "" {
				all = append(all, v1beta1.DrainingEndpoint{
					Service: one.name.String(), Port: k.port, Address: k.addr.String(),
				})
			}
		}
	}
	slices.SortFunc(all, func(a, b v1beta1.DrainingEndpoint) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Address, b.Address))
	})
	s.reported = all
	return all
}

// NextExpiry is when Apply has something to do though nothing changed.
func (s *State) NextExpiry() (at time.Time, ok bool) {
	for one := range s.vanished {
		for _, k := range one.kept {
			if k.pod == "" && (!ok || k.until.Before(at)) {
				at, ok = k.until, true
			}
		}
	}
	return at, ok
}
