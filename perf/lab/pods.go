// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"

	podserver "github.com/fairlead/fairlead/perf/lab/pod"
)

// Pod is a namespace behind a node.
type Pod struct {
	*Namespace
	Host  string // "pod1-2", its name in the cluster
	Node  *Node
	Addr4 netip.Addr
	Addr6 netip.Addr

	link    string // in the node
	servers []*podserver.Server
}

// Pods are all Pods of the lab, by node.
func (l *Lab) Pods() []*Pod {
	var pods []*Pod
	for _, n := range l.Nodes {
		pods = append(pods, n.Pods...)
	}
	return pods
}

// Addr is the Pod's address of the family that a has.
func (p *Pod) Addr(a netip.Addr) netip.Addr {
	if a.Is4() {
		return p.Addr4
	}
	return p.Addr6
}

// AddPod makes another Pod on the node. Names and addresses are not used again.
func (l *Lab) AddPod(n *Node) (*Pod, error) {
	if n.nextPod == maxPods {
		return nil, fmt.Errorf("add pod to %s: no address left", n.Host)
	}
	n.nextPod++
	host := fmt.Sprintf("pod%d-%d", n.Index, n.nextPod)
	ns, err := l.newNamespace(host)
	if err != nil {
		return nil, err
	}
	last := byte(1 + n.nextPod)
	v6 := n.PodCIDRs()[1].Addr().As16()
	v6[15] = last
	p := &Pod{
		Namespace: ns,
		Host:      host,
		Node:      n,
		Addr4:     netip.AddrFrom4([4]byte{10, 244, byte(n.Index), last}),
		Addr6:     netip.AddrFrom16(v6),
		link:      fmt.Sprintf("pod%d", n.nextPod),
	}
	n.Pods = append(n.Pods, p)
	connect := p.connectRouted
	if l.options.Bridged {
		connect = p.connectBridged
	}
	if err := n.addVeth(p.link, p.Namespace, Uplink, l.options.MTU); err != nil {
		return nil, err
	}
	if err := connect(); err != nil {
		return nil, fmt.Errorf("connect pod %s: %w", host, err)
	}
	return p, nil
}

// connectRouted gives the Pod a route of its own on the node. Its gateway is
// the node's address on lo (IPv4) and one on the link (IPv6: the kernel answers
// solicitations only for addresses of the very link).
func (p *Pod) connectRouted() error {
	n := p.Node
	own4, own6 := netip.PrefixFrom(p.Addr4, 32), netip.PrefixFrom(p.Addr6, 128)
	gateway4 := n.PodCIDRs()[0].Addr().Next()
	return steps(
		func() error { return n.AddAddrs(p.link, netip.PrefixFrom(podGateway6, 64)) },
		func() error { return n.linkUp(p.link) },
		func() error { return p.AddAddrs(Uplink, own4, own6) },
		func() error { return p.linkUp(Uplink) },
		func() error { return n.SetRoute(Route{Dst: own4, Link: p.link}) },
		func() error { return n.SetRoute(Route{Dst: own6, Link: p.link}) },
		func() error { return p.SetRoute(Route{Dst: netip.PrefixFrom(gateway4, 32), Link: Uplink}) },
		func() error { return p.setDefaults(gateway4, podGateway6) },
	)
}

// connectBridged puts the Pod on the node's Pod bridge.
func (p *Pod) connectBridged() error {
	cidrs := p.Node.PodCIDRs()
	return steps(
		func() error { return p.AddAddrs(Uplink, netip.PrefixFrom(p.Addr4, 24), netip.PrefixFrom(p.Addr6, 64)) },
		func() error { return p.linkUp(Uplink) },
		func() error { return p.Node.enslave(p.link, podBridge) },
		func() error { return p.setDefaults(cidrs[0].Addr().Next(), cidrs[1].Addr().Next()) },
	)
}

// RemovePod kills the Pod as its node would: processes, link and namespace go.
func (l *Lab) RemovePod(p *Pod) error {
	errs := []error{l.killProcesses(func(proc *Process) bool { return proc.ns == p.Namespace })}
	p.stopServers()
	if link, err := p.Node.link(p.link); err == nil {
		errs = append(errs, p.Node.nl.LinkDel(link))
	} else if !errors.As(err, &netlink.LinkNotFoundError{}) {
		errs = append(errs, err)
	}
	errs = append(errs, p.Namespace.close())
	l.namespaces = slices.DeleteFunc(l.namespaces, func(n *Namespace) bool { return n == p.Namespace })
	p.Node.Pods = slices.DeleteFunc(p.Node.Pods, func(o *Pod) bool { return o == p })
	return errors.Join(errs...)
}

// Serve runs a Pod server inside this process, on sockets of the Pod's
// namespace; what `fairlead pod` does in a process of its own.
func (p *Pod) Serve(port uint16) error {
	var s *podserver.Server
	err := p.Do(func() (err error) {
		s, err = podserver.Listen(p.Host, port)
		return err
	})
	if err != nil {
		return fmt.Errorf("serve in %s: %w", p.Name, err)
	}
	p.servers = append(p.servers, s)
	return nil
}

func (p *Pod) stopServers() {
	for _, s := range p.servers {
		s.Close()
	}
	p.servers = nil
}
