// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"cmp"
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
)

// Service is a Service of type LoadBalancer, read.
type Service struct {
	Name      string // namespace/name
	Namespace string
	UID       string
	Created   time.Time
	Labels    labels.Set

	// Families are those that it may have, the first one first.
	Families []Family
	// Required says that it needs all of them (RequireDualStack).
	Required bool
	// Request is what it asks for. Where Problem is set, it is not to be
	// understood, and says nothing.
	Request Request
	Problem error
	// Status are the addresses that its status shows.
	Status []netip.Addr
	// Terms say what the Service wants to share; empty where nothing. Services
	// that change them lose against those that did not.
	Terms string

	ports   []port
	backend string // the selector, where only Services with equal ones can share
}

// Request is what a Service asks for.
type Request struct {
	Addrs []netip.Addr // at most one of each family
	Pool  string       // "": any
	// Key lets Services with an equal one share an address; "": with nobody.
	Key string
}

type port struct {
	proto  corev1.Protocol
	number int32
}

func (p port) String() string { return fmt.Sprintf("%s/%d", p.proto, p.number) }

// NewService reads a Service of type LoadBalancer. It never fails: what is
// wrong with it is in Problem.
func NewService(o *corev1.Service) *Service {
	s := &Service{
		Name: o.Namespace + "/" + o.Name, Namespace: o.Namespace, UID: string(o.UID),
		Created: o.CreationTimestamp.Time, Labels: o.Labels,
		Families: families(o),
		Required: o.Spec.IPFamilyPolicy != nil && *o.Spec.IPFamilyPolicy == corev1.IPFamilyPolicyRequireDualStack,
	}
	for _, p := range o.Spec.Ports {
		s.ports = append(s.ports, port{cmp.Or(p.Protocol, corev1.ProtocolTCP), p.Port})
	}
	if o.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal {
		s.backend = "local " + labels.Set(o.Spec.Selector).String()
	}
	for _, ingress := range o.Status.LoadBalancer.Ingress {
		if a, err := netip.ParseAddr(ingress.IP); err == nil && a.Zone() == "" {
			s.Status = append(s.Status, a.Unmap())
		}
	}
	s.Request, s.Problem = newRequest(o, s.Families)
	s.Terms = s.terms()
	return s
}

func families(o *corev1.Service) []Family {
	var all []Family
	for _, f := range o.Spec.IPFamilies {
		if f == corev1.IPv6Protocol {
			all = append(all, IPv6)
		} else {
			all = append(all, IPv4)
		}
	}
	if len(all) == 0 { // the API server fills it in, except for what is older than the field
		a, err := netip.ParseAddr(o.Spec.ClusterIP)
		if err == nil && a.Is6() {
			return []Family{IPv6}
		}
		return []Family{IPv4}
	}
	return all
}

// terms is a hash of all that decides with whom the Service can share.
func (s *Service) terms() string {
	if s.Request.Key == "" {
		return ""
	}
	var ports []string
	for _, p := range s.ports {
		ports = append(ports, p.String())
	}
	slices.Sort(ports)
	h := fnv.New64a()
	fmt.Fprintf(h, "%q %q %q", s.Request.Key, s.backend, ports)
	return fmt.Sprintf("%016x", h.Sum64())
}

// newRequest reads what a Service asks for in its spec and annotations.
func newRequest(o *corev1.Service, families []Family) (Request, error) {
	r := Request{Pool: annotation(o, v1beta1.AnnotationAddressPool), Key: annotation(o, v1beta1.AnnotationAllowSharedIP)}
	listed := annotation(o, v1beta1.AnnotationLoadBalancerIPs)
	annotated, err := parseAddrs(listed)
	if err != nil {
		return r, fmt.Errorf("annotation loadBalancerIPs: %w", err)
	}
	field := o.Spec.LoadBalancerIP
	specified, err := parseAddrs(field)
	if err != nil {
		return r, fmt.Errorf("spec.loadBalancerIP: %w", err)
	}
	switch {
	case len(annotated) == 0:
		r.Addrs = specified
	case len(specified) == 0 || slices.Equal(annotated, specified):
		r.Addrs = annotated
	default:
		return r, fmt.Errorf("spec.loadBalancerIP is %q and annotation loadBalancerIPs %q: remove one of them, or make them equal", field, listed)
	}
	for _, a := range r.Addrs {
		if !slices.Contains(families, FamilyOf(a)) {
			addrs := r.Addrs
			r.Addrs = nil
			return r, fmt.Errorf("%s: asks for %s, but the Service has %s only: add %s to spec.ipFamilies, or ask for another address",
				joinAddrs(addrs), FamilyOf(a), families[0], FamilyOf(a))
		}
	}
	return r, nil
}

// annotation returns the value of an annotation under its own name or an alias.
func annotation(o *corev1.Service, name string) string {
	if value := strings.TrimSpace(o.Annotations[name]); value != "" {
		return value
	}
	for _, prefix := range v1beta1.AliasPrefixes {
		if value := strings.TrimSpace(o.Annotations[prefix+strings.TrimPrefix(name, v1beta1.Prefix)]); value != "" {
			return value
		}
	}
	return ""
}

func parseAddrs(s string) ([]netip.Addr, error) {
	if s == "" {
		return nil, nil
	}
	var addrs []netip.Addr
	for part := range strings.SplitSeq(s, ",") {
		a, err := netip.ParseAddr(strings.TrimSpace(part))
		switch {
		case err != nil:
			return nil, fmt.Errorf("%q is no IP address: want one, or one of each family with a comma between", strings.TrimSpace(part))
		case a.Zone() != "":
			return nil, fmt.Errorf("%q: want an address without a zone", a)
		}
		a = a.Unmap()
		if i := slices.IndexFunc(addrs, func(b netip.Addr) bool { return a.Is4() == b.Is4() }); i >= 0 {
			return nil, fmt.Errorf("%s and %s are both %s: want one of each family at most", addrs[i], a, FamilyOf(a))
		}
		addrs = append(addrs, a)
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return addrs, nil
}

// canShare says why two Services cannot have one address; nil where they can.
func canShare(s, o *Service) error {
	if s.Request.Key == "" {
		return errors.New("to share it, give both Services the same annotation " + v1beta1.AnnotationAllowSharedIP)
	}
	if s.Request.Key != o.Request.Key {
		return fmt.Errorf("to share it, give both Services the same annotation %s: here it is %q, there %q",
			v1beta1.AnnotationAllowSharedIP, s.Request.Key, o.Request.Key)
	}
	for _, p := range s.ports {
		if slices.Contains(o.ports, p) {
			return fmt.Errorf("both have port %s: Services that share an address need different ports", p)
		}
	}
	if s.backend != o.backend {
		return errors.New("with externalTrafficPolicy Local, Services that share an address all need Local and equal selectors")
	}
	return nil
}

// first orders Services by age, and by name where that is equal.
func first(a, b *Service) int {
	return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.Name, b.Name), strings.Compare(a.UID, b.UID))
}

func joinAddrs(addrs []netip.Addr) string {
	var words []string
	for _, a := range addrs {
		words = append(words, a.String())
	}
	return strings.Join(words, " and ")
}
