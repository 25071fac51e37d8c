// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/maglev"
)

// serviceName is namespace/name or any other word; it stands in metrics and paths.
var serviceName = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9_./]*[A-Za-z0-9])?$`)

const maxServiceName = 253

func (p *parser) nodes(list, self value) {
	places := map[string]value{}
	for _, v := range list.list(1) {
		f := v.fields("name", "addresses")
		name := p.name(f["name"])
		if other, taken := places[name]; taken && name != "" {
			f["name"].fail("same as %s.name", other.path)
			continue
		}
		places[name] = v
		p.snapshot.Nodes = append(p.snapshot.Nodes, lb.Node{Name: name, Addrs: p.nodeAddrs(f["addresses"], name)})
	}
	s := &p.snapshot.Settings
	i := p.node(s.Node)
	if i < 0 {
		if s.Node != "" && list.given() {
			self.fail("is not among nodes")
		}
		return
	}
	s.Addrs = p.snapshot.Nodes[i].Addrs
	for _, n := range p.snapshot.Nodes {
		if len(n.Addrs) > 0 && len(s.Addrs) > 0 && !shareFamily(n.Addrs, s.Addrs) {
			places[n.Name].field("addresses", nil).report("none of an address family that %q has", s.Node)
		}
	}
}

// node is the index of a node, -1 if there is none.
func (p *parser) node(name string) int {
	return slices.IndexFunc(p.snapshot.Nodes, func(n lb.Node) bool { return n.Name == name && name != "" })
}

func shareFamily(a, b []netip.Addr) bool {
	return slices.ContainsFunc(a, func(x netip.Addr) bool {
		return slices.ContainsFunc(b, func(y netip.Addr) bool { return x.Is4() == y.Is4() })
	})
}

func (p *parser) nodeAddrs(list value, node string) []netip.Addr {
	var addrs []netip.Addr
	for _, v := range list.list(1) {
		addr := v.addr()
		other, taken := p.owners[addr]
		switch {
		case !addr.IsValid():
		case taken:
			v.fail("is %s already", other.path)
		case shareFamily(addrs, []netip.Addr{addr}):
			v.fail("second %s address: want one at most", family(addr))
		default:
			addrs = append(addrs, addr)
			p.owners[addr] = owner{node, v.path}
		}
	}
	return addrs
}

func (p *parser) services(list value) {
	paths := map[string]string{}
	for _, v := range list.list(0) {
		f := v.fields("name", "vips", "externalTrafficPolicy", "sessionAffinity", "sessionAffinityTimeout",
			"loadBalancerSourceRanges", "tableSize", "ports")
		s := Service{Name: word(f["name"], true), VIPs: p.vips(f["vips"])}
		if other, taken := paths[s.Name]; taken && s.Name != "" {
			f["name"].fail("same as %s.name", other)
		}
		paths[s.Name] = v.path
		if f["externalTrafficPolicy"].choice("Cluster", "Local") == "Local" {
			s.Policy = lb.Local
		}
		s.Affinity = affinity(f["sessionAffinity"], f["sessionAffinityTimeout"])
		s.SourceRanges = sourceRanges(f["loadBalancerSourceRanges"], s.VIPs)
		s.TableSize = tableSize(f["tableSize"])
		s.Ports = p.ports(f["ports"], s)
		p.snapshot.Services = append(p.snapshot.Services, s)
	}
	p.checkLimits(list)
}

// word returns a name for people, "" where there is none.
func word(v value, required bool) string {
	if required {
		v.required()
	}
	name, ok := v.text()
	if ok && (len(name) > maxServiceName || !serviceName.MatchString(name)) {
		v.fail("want at most %d letters, digits and -_./ between them", maxServiceName)
		return ""
	}
	return name
}

func (p *parser) vips(list value) []netip.Addr {
	var vips []netip.Addr
	for _, v := range list.list(1) {
		addr := v.addr()
		other, taken := p.owners[addr]
		switch {
		case !addr.IsValid():
		case taken:
			v.fail("is %s: want an address of no machine", other.path)
		default:
			vips = appendOnce(vips, v, addr)
			p.vipPaths[addr] = v.path
		}
	}
	return vips
}

func affinity(mode, timeout value) time.Duration {
	d := timeout.duration(time.Second, 24*time.Hour, defaultAffinityTimeout)
	switch {
	case mode.choice("None", "ClientIP") == "ClientIP":
		return d
	case timeout.given():
		timeout.fail("means nothing without sessionAffinity ClientIP")
	}
	return 0
}

// sourceRanges holds ranges and VIPs against each other: none may be there in
// vain, since a VIP without a range would admit nobody, or everybody.
func sourceRanges(list value, vips []netip.Addr) []netip.Prefix {
	var ranges []netip.Prefix
	for _, v := range list.list(0) {
		prefix := v.prefix()
		switch {
		case !prefix.IsValid():
		case len(vips) > 0 && !shareFamily(vips, []netip.Addr{prefix.Addr()}):
			v.fail("no VIP of the service is %s", family(prefix.Addr()))
		default:
			ranges = appendOnce(ranges, v, prefix)
		}
	}
	for _, vip := range vips {
		if len(ranges) > 0 && !slices.ContainsFunc(ranges, func(r netip.Prefix) bool { return r.Addr().Is4() == vip.Is4() }) {
			list.report("no %s range, so VIP %q would admit nobody", family(vip), vip)
		}
	}
	return ranges
}

func tableSize(v value) int {
	n := v.number(1, maglev.Sizes[len(maglev.Sizes)-1], maglev.DefaultSize)
	if slices.Contains(maglev.Sizes, n) {
		return n
	}
	var sizes []string
	for _, size := range maglev.Sizes {
		sizes = append(sizes, strconv.Itoa(size))
	}
	v.fail("want %s", alternatives(sizes))
	return maglev.DefaultSize
}

func (p *parser) ports(list value, s Service) []Port {
	var ports []Port
	paths := map[string]string{}
	for _, v := range list.list(1) {
		f := v.fields("name", "port", "protocol", "backends", "leftToKubeProxy")
		port := Port{Name: word(f["name"], false)}
		if other, taken := paths[port.Name]; taken && port.Name != "" {
			f["name"].fail("same as %s.name", other)
		}
		paths[port.Name] = v.path
		f["port"].required()
		port.Port = uint16(f["port"].number(1, 65535, 0))
		port.Proto, _ = lb.ParseProto(f["protocol"].choice("TCP", "UDP"))
		port.LeftIPv4 = f["leftToKubeProxy"].choice("false", "true") == "true"
		port.LeftIPv6 = port.LeftIPv4
		port.Backends = goOn(p.backends(f["backends"], s.TableSize), s.Policy)
		if port.LeftIPv4 && f["backends"].given() {
			f["backends"].report("given beside leftToKubeProxy: want one of them")
		}
		for _, vip := range s.VIPs {
			p.claim(f["port"], v.path, lb.ServiceKey{VIP: vip, Port: port.Port, Proto: port.Proto})
		}
		ports = append(ports, port)
	}
	return ports
}

// claim reports a service port that another service has.
func (p *parser) claim(v value, path string, key lb.ServiceKey) {
	if key.Port == 0 {
		return
	}
	if other, taken := p.keys[key]; taken {
		v.fail("%s is %s already", key, other)
		return
	}
	p.keys[key] = path
}

func (p *parser) backends(list value, tableSize int) []lb.Backend {
	var backends []lb.Backend
	paths := map[netip.AddrPort]string{}
	for _, v := range list.list(0) {
		b, ok := p.backend(v)
		if other, taken := paths[b.Addr]; taken && ok {
			v.report("%s is %s already", b.Addr, other)
		}
		paths[b.Addr] = v.path
		backends = append(backends, b)
	}
	if len(backends) > tableSize {
		list.report("%d backends: want at most as many as tableSize, %d", len(backends), tableSize)
	}
	return backends
}

// goOn lets the last that serve go on serving where all drain, as kube-proxy
// does (KEP-1669): each family by itself, and under Local each node.
func goOn(backends []lb.Backend, policy lb.Policy) []lb.Backend {
	type group struct {
		v4   bool
		node string
	}
	of := func(b lb.Backend) group {
		if policy == lb.Local {
			return group{b.Addr.Addr().Is4(), b.Node}
		}
		return group{v4: b.Addr.Addr().Is4()}
	}
	served := map[group]bool{}
	for _, b := range backends {
		served[of(b)] = served[of(b)] || !b.Draining
	}
	for i := range backends {
		backends[i].Draining = backends[i].Draining && served[of(backends[i])]
	}
	return backends
}

// backend returns a backend, and whether its address is complete.
func (p *parser) backend(v value) (lb.Backend, bool) {
	f := v.fields("address", "port", "node", "weight", "state")
	for _, name := range []string{"address", "port"} {
		f[name].required()
	}
	addr, node := f["address"].addr(), p.name(f["node"])
	if node != "" && len(p.snapshot.Nodes) > 0 && p.node(node) < 0 {
		f["node"].fail("is not among nodes")
	}
	if addr.IsValid() {
		p.place(f, addr, node)
	}
	port := f["port"].number(1, 65535, 0)
	return lb.Backend{
		Addr:     netip.AddrPortFrom(addr, uint16(port)),
		Node:     node,
		Weight:   uint16(f["weight"].number(1, 1000, 1)),
		Draining: f["state"].choice("ready", "draining") == "draining",
	}, addr.IsValid() && port != 0
}

// place checks where a backend's address is: no VIP, and on one node wherever
// it is named. It may be of a family that no VIP has; then it is not used.
func (p *parser) place(f map[string]value, addr netip.Addr, node string) {
	if vip, taken := p.vipPaths[addr]; taken {
		f["address"].fail("is %s: want the address of a Pod", vip)
	}
	other, known := p.owners[addr]
	switch {
	case node == "":
	case !known:
		p.owners[addr] = owner{node, f["address"].path}
	case other.node != "" && other.node != node:
		f["node"].fail("%s is on %q by %s", addr, other.node, other.path)
	}
}

// checkLimits counts what the maps have to hold.
func (p *parser) checkLimits(list value) {
	limits := p.snapshot.Settings.Limits
	if n := len(p.keys); n > limits.Services {
		list.report("%d VIPs and ports together: want at most limits.services, %d", n, limits.Services)
	}
	backends := map[netip.AddrPort]bool{}
	for _, s := range p.snapshot.Services {
		for _, port := range s.Ports {
			for _, b := range port.Backends {
				backends[b.Addr] = true
			}
		}
	}
	// Number 0 is no backend.
	if n := len(backends); n >= limits.Backends {
		list.report("%d backends: want fewer than limits.backends, %d", n, limits.Backends)
	}
}
