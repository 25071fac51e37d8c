// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"cmp"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/fairlead/fairlead/perf/lab"
)

// wireKey authenticates the nodes of every cluster in a lab to each other.
const wireKey = "6661697264656164666169726c656164"

// Config is the file of `fairlead agent --config`, as far as a lab writes it.
type Config struct {
	Node       string    `yaml:"node"`
	Interfaces []string  `yaml:"interfaces"`
	XDPMode    string    `yaml:"xdpMode,omitempty"`
	PinPath    string    `yaml:"pinPath"`
	Socket     string    `yaml:"socket"`
	Key        string    `yaml:"key"`
	Previous   string    `yaml:"previousKey,omitempty"`
	Limits     *Limits   `yaml:"limits,omitempty"`
	Nodes      []Node    `yaml:"nodes"`
	Services   []Service `yaml:"services"`
}

// Limits are small: three agents share one machine.
type Limits struct {
	Flows int `yaml:"flows"`
}

// Node is a node of the cluster.
type Node struct {
	Name      string   `yaml:"name"`
	Addresses []string `yaml:"addresses,flow"`
}

// Service is a service; its owner changes it and applies the cluster.
type Service struct {
	Name         string   `yaml:"name"`
	VIPs         []string `yaml:"vips,flow"`
	Policy       string   `yaml:"externalTrafficPolicy"`
	Affinity     string   `yaml:"sessionAffinity,omitempty"`
	Remember     string   `yaml:"sessionAffinityTimeout,omitempty"`
	SourceRanges []string `yaml:"loadBalancerSourceRanges,omitempty,flow"`
	TableSize    int      `yaml:"tableSize,omitempty"`
	Ports        []Port   `yaml:"ports"`
}

// Port is a service port.
type Port struct {
	Port     uint16    `yaml:"port"`
	Protocol string    `yaml:"protocol"`
	Backends []Backend `yaml:"backends,omitempty"`
	Left     bool      `yaml:"leftToKubeProxy,omitempty"`
}

// Backend is one address of a Pod.
type Backend struct {
	Address string `yaml:"address"`
	Port    uint16 `yaml:"port"`
	Node    string `yaml:"node"`
	Weight  int    `yaml:"weight,omitempty"`
	State   string `yaml:"state,omitempty"`
}

// NewService has the Pods' port 8080 behind port 80 of the VIPs, TCP and UDP.
func NewService(name, policy string, pods []*lab.Pod, vips ...netip.Addr) *Service {
	s := &Service{Name: name, Policy: policy}
	for _, vip := range vips {
		s.VIPs = append(s.VIPs, vip.String())
	}
	for _, protocol := range []string{"TCP", "UDP"} {
		s.Ports = append(s.Ports, Port{Port: ServicePort, Protocol: protocol})
	}
	for _, p := range pods {
		s.Add(p)
	}
	return s
}

// Add makes the Pod a backend of every port.
func (s *Service) Add(p *lab.Pod) {
	for i := range s.Ports {
		for _, addr := range []netip.Addr{p.Addr4, p.Addr6} {
			b := Backend{Address: addr.String(), Port: PodPort, Node: p.Node.Host}
			s.Ports[i].Backends = append(s.Ports[i].Backends, b)
		}
	}
}

// Drain makes the Pod's backends draining.
func (s *Service) Drain(p *lab.Pod) {
	s.edit(p, func(b *Backend) bool { b.State = "draining"; return true })
}

// Remove takes the Pod's backends out.
func (s *Service) Remove(p *lab.Pod) {
	s.edit(p, func(*Backend) bool { return false })
}

// edit changes the Pod's backends and keeps those for which keep says true.
func (s *Service) edit(p *lab.Pod, keep func(*Backend) bool) {
	for i := range s.Ports {
		var kept []Backend
		for _, b := range s.Ports[i].Backends {
			own := b.Address == p.Addr4.String() || b.Address == p.Addr6.String()
			if !own || keep(&b) {
				kept = append(kept, b)
			}
		}
		s.Ports[i].Backends = kept
	}
}

// NodeAddrs are the InternalIPs by which the other nodes know the node.
func (c *Cluster) NodeAddrs(n *lab.Node) []netip.Addr {
	if c.NodesV6 {
		return slices.DeleteFunc(slices.Clone(n.Addrs), netip.Addr.Is4)
	}
	return n.Addrs
}

// config is the node's file for the cluster as it stands.
func (c *Cluster) config(n *lab.Node) Config {
	cfg := Config{
		Node:       n.Host,
		Interfaces: []string{lab.Uplink},
		PinPath:    filepath.Join(n.BPF, "fairlead"),
		Socket:     Socket(n),
		Key:        c.Key,
		Previous:   c.PreviousKey,
		Limits:     &Limits{Flows: cmp.Or(c.FlowLimit, 1<<16)},
	}
	for _, other := range c.Lab.Nodes {
		node := Node{Name: other.Host}
		for _, a := range c.NodeAddrs(other) {
			node.Addresses = append(node.Addresses, a.String())
		}
		cfg.Nodes = append(cfg.Nodes, node)
	}
	for _, s := range c.Services {
		cfg.Services = append(cfg.Services, *s)
	}
	return cfg
}

// write replaces the node's file in one step.
func (c *Cluster) write(n *lab.Node) error {
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(c.config(n)); err != nil {
		return fmt.Errorf("encode configuration of %s: %w", n.Host, err)
	}
	path := ConfigFile(n)
	if err := os.WriteFile(path+".new", b.Bytes(), 0o600); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("replace configuration: %w", err)
	}
	return nil
}
