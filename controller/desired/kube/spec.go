// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
	"github.com/fairlead/fairlead/controller/desired"
	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/maglev"
)

// defaultAffinityTimeout is Kubernetes' own.
const defaultAffinityTimeout = time.Duration(corev1.DefaultClientIPServiceAffinitySeconds) * time.Second

// reading collects what a Service says, and what is wrong with it.
type reading struct {
	object   *corev1.Service
	dual     bool // VIPs of both families
	problems []Problem
}

func (r *reading) fail(reason, format string, args ...any) {
	r.problems = append(r.problems, Problem{Reason: reason, Message: fmt.Sprintf(format, args...)})
}

func (r *reading) warn(reason, format string, args ...any) {
	r.problems = append(r.problems, Problem{Reason: reason, Message: fmt.Sprintf(format, args...), Minor: true})
}

// service is everything of the Service but its ports. nodeOf tells whose address
// one is, "" for nobody's.
func (r *reading) service(nodeOf func(netip.Addr) string) desired.Service {
	s := desired.Service{
		Name:      r.object.Namespace + "/" + r.object.Name,
		VIPs:      r.vips(nodeOf),
		Affinity:  affinity(r.object),
		TableSize: r.tableSize(),
	}
	if r.object.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal {
		s.Policy = lb.Local
	}
	s.SourceRanges = r.sourceRanges(s.VIPs)
	return s
}

// vips are the addresses of the status: those that are no address of a proxy.
func (r *reading) vips(nodeOf func(netip.Addr) string) []netip.Addr {
	var vips []netip.Addr
	for _, ingress := range r.object.Status.LoadBalancer.Ingress {
		if ingress.IP == "" || ingress.IPMode != nil && *ingress.IPMode != corev1.LoadBalancerIPModeVIP {
			continue
		}
		addr, err := netip.ParseAddr(ingress.IP)
		addr = addr.Unmap()
		switch {
		case err != nil || addr.Zone() != "":
			r.fail(ReasonInvalidAddress, "%q in status.loadBalancer.ingress is no IP address", ingress.IP)
		case desired.Unusable(addr) != "":
			r.fail(ReasonInvalidAddress, "%s in status.loadBalancer.ingress is a %s address, which cannot be a VIP", addr, desired.Unusable(addr))
		case nodeOf(addr) != "":
			r.fail(ReasonNodeAddress, "%s is an address of node %s, which needs it for itself: exclude it from its pool", addr, nodeOf(addr))
		case !slices.Contains(vips, addr):
			vips = append(vips, addr)
		}
	}
	return vips
}

func affinity(s *corev1.Service) time.Duration {
	if s.Spec.SessionAffinity != corev1.ServiceAffinityClientIP {
		return 0
	}
	if c := s.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil && *c.ClientIP.TimeoutSeconds > 0 {
		return time.Duration(*c.ClientIP.TimeoutSeconds) * time.Second
	}
	return defaultAffinityTimeout
}

func (r *reading) tableSize() int {
	text, ok := r.object.Annotations[v1beta1.AnnotationTableSize]
	if !ok {
		return maglev.DefaultSize
	}
	size, err := strconv.Atoi(text)
	if err != nil || !slices.Contains(maglev.Sizes, size) {
		r.warn(ReasonTableSize, "annotation %s=%q: want one of %v: %d is used", v1beta1.AnnotationTableSize, text, maglev.Sizes, maglev.DefaultSize)
		return maglev.DefaultSize
	}
	return size
}

// sourceRanges are nil when everybody is admitted. A list that says nothing
// about a family, or nothing valid, admits nobody of it: it was meant to restrict.
func (r *reading) sourceRanges(vips []netip.Addr) []netip.Prefix {
	if len(r.object.Spec.LoadBalancerSourceRanges) == 0 {
		return nil
	}
	ranges := []netip.Prefix{}
	for _, text := range r.object.Spec.LoadBalancerSourceRanges {
		prefix, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err == nil && prefix.Addr().Is4In6() {
			prefix, err = prefix.Addr().Unmap().Prefix(prefix.Bits() - 96)
		}
		if err != nil {
			r.fail(ReasonSourceRange, "spec.loadBalancerSourceRanges: %q is no prefix such as 192.0.2.0/24, and admits nobody", text)
			continue
		}
		ranges = append(ranges, prefix.Masked())
	}
	slices.SortFunc(ranges, netip.Prefix.Compare)
	ranges = slices.Compact(ranges)
	for _, vip := range vips {
		if !slices.ContainsFunc(ranges, func(p netip.Prefix) bool { return p.Addr().Is4() == vip.Is4() }) {
			r.fail(ReasonSourceRange, "spec.loadBalancerSourceRanges has no range of the address family of %s, so nobody is admitted there", vip)
		}
	}
	return ranges
}

// protocol of a port; ok is false for one that is not forwarded.
func (r *reading) protocol(p *corev1.ServicePort) (proto lb.Proto, ok bool) {
	switch p.Protocol {
	case corev1.ProtocolTCP, "":
		return lb.TCP, true
	case corev1.ProtocolUDP:
		return lb.UDP, true
	}
	r.fail(ReasonProtocol, "port %s is %s, which is not forwarded: TCP and UDP are", portName(p), p.Protocol)
	return 0, false
}

// portName is what people call the port.
func portName(p *corev1.ServicePort) string {
	if p.Name != "" {
		return strconv.Quote(p.Name)
	}
	return strconv.Itoa(int(p.Port))
}
