// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"crypto/rand"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"

	"github.com/fairlead/fairlead/perf/lab"
)

// Ports. Every control plane has addresses of its own, so they are the usual ones.
const (
	apiPort       = 6443
	etcdPort      = 2379
	etcdPeerPort  = 2380
	managerPort   = 10257
	schedulerPort = 10259
)

// address is where the API server will listen.
func (o Options) address() (netip.Addr, error) {
	if o.Machine != nil {
		return o.Machine.Addrs[0], nil
	}
	for range 100 {
		var host [3]byte
		rand.Read(host[:])
		addr := netip.AddrFrom4([4]byte{127, host[0], host[1], host[2]})
		if host[0] != 0 && unused(addr) {
			return addr, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("find an unused address in 127.0.0.0/8")
}

// unused says whether all ports of a control plane are free on the address.
func unused(addr netip.Addr) bool {
	for _, port := range []uint16{apiPort, etcdPort, etcdPeerPort, managerPort, schedulerPort} {
		ln, err := net.Listen("tcp", netip.AddrPortFrom(addr, port).String())
		if err != nil {
			return false
		}
		ln.Close()
	}
	return true
}

// local is where programs listen that only the control plane itself uses.
func (c *ControlPlane) local() netip.Addr {
	if c.options.Machine != nil {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return c.Addr
}

// serverAddrs are those under which clients and Pods know the API server.
func (c *ControlPlane) serverAddrs() []netip.Addr {
	addrs := []netip.Addr{c.Addr, c.local(), ServiceNet4.Addr().Next(), ServiceNet6.Addr().Next()}
	if c.options.Machine != nil {
		addrs = append(addrs, c.options.Machine.Addrs[1:]...)
	}
	return addrs
}

// URL is the API server's.
func (c *ControlPlane) URL() string {
	return "https://" + netip.AddrPortFrom(c.Addr, apiPort).String()
}

// component describes a program of the control plane.
func (c *ControlPlane) component(name string, args ...string) *component {
	start := lab.StartChild
	if c.options.Machine != nil {
		start = c.options.Machine.Start
	}
	return &component{
		name: name, path: filepath.Join(c.binaries, name), args: append(args, c.options.Args[name]...),
		log: c.file(name + ".log"), start: start,
	}
}

// describe says how every program is called.
func (c *ControlPlane) describe() error {
	c.etcd = c.component(Etcd, c.etcdArgs()...)
	c.apiserver = c.component(APIServer, c.apiserverArgs()...)
	manager, err := c.Kubeconfig("system:kube-controller-manager")
	if err != nil {
		return err
	}
	scheduler, err := c.Kubeconfig("system:kube-scheduler")
	if err != nil {
		return err
	}
	c.manager = c.component(ControllerManager, c.managerArgs(manager)...)
	c.scheduler = c.component(Scheduler,
		"--kubeconfig="+scheduler, "--authentication-kubeconfig="+scheduler, "--authorization-kubeconfig="+scheduler,
		"--leader-elect=false", "--bind-address="+c.local().String(), fmt.Sprintf("--secure-port=%d", schedulerPort))
	return nil
}

func (c *ControlPlane) etcdArgs() []string {
	client := "http://" + netip.AddrPortFrom(c.local(), etcdPort).String()
	peer := "http://" + netip.AddrPortFrom(c.local(), etcdPeerPort).String()
	return []string{
		"--name=lab", "--data-dir=" + c.file("etcd"), "--unsafe-no-fsync",
		"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer, "--initial-cluster=lab=" + peer,
		// Tests with many objects need more than the default of 2 GB, and forget.
		"--quota-backend-bytes=8589934592", "--auto-compaction-retention=1000", "--auto-compaction-mode=revision",
		"--log-level=warn",
	}
}

func (c *ControlPlane) apiserverArgs() []string {
	args := []string{
		"--etcd-servers=http://" + netip.AddrPortFrom(c.local(), etcdPort).String(),
		fmt.Sprintf("--secure-port=%d", apiPort),
		"--tls-cert-file=" + c.file("apiserver.crt"), "--tls-private-key-file=" + c.file("apiserver.key"),
		"--client-ca-file=" + c.file("ca.crt"),
		"--authorization-mode=Node,RBAC", "--allow-privileged=true",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + c.file("tokens.key"),
		"--service-account-signing-key-file=" + c.file("tokens.key"),
		"--service-cluster-ip-range=" + c.serviceNets(),
		"--kubelet-preferred-address-types=InternalIP",
		// The others ask for the authority of aggregated servers, which the lab has none of.
		"--requestheader-client-ca-file=" + c.file("ca.crt"), "--requestheader-allowed-names=nobody",
		"--requestheader-username-headers=X-Remote-User",
	}
	if !c.options.NodeLifecycle {
		// Else every new node would be tainted not-ready, and nobody would take that away.
		args = append(args, "--disable-admission-plugins=TaintNodesByCondition")
	}
	if c.options.Machine != nil {
		return append(args, "--bind-address=0.0.0.0", "--advertise-address="+c.Addr.String())
	}
	// A loopback address cannot be an endpoint, and nobody would use it.
	return append(args, "--bind-address="+c.Addr.String(), "--advertise-address=192.0.2.1", "--endpoint-reconciler-type=none")
}

func (c *ControlPlane) managerArgs(kubeconfig string) []string {
	controllers := "--controllers=*"
	if !c.options.NodeLifecycle {
		controllers += ",-node-lifecycle-controller"
	}
	return []string{
		"--kubeconfig=" + kubeconfig, "--authentication-kubeconfig=" + kubeconfig, "--authorization-kubeconfig=" + kubeconfig,
		"--use-service-account-credentials=true", "--leader-elect=false",
		"--service-account-private-key-file=" + c.file("tokens.key"), "--root-ca-file=" + c.file("ca.crt"),
		"--bind-address=" + c.local().String(), fmt.Sprintf("--secure-port=%d", managerPort),
		"--cert-dir=" + c.file("manager"), "--flex-volume-plugin-dir=" + c.file("flex"), controllers,
	}
}

func (c *ControlPlane) serviceNets() string {
	if c.options.DualStack {
		return ServiceNet4.String() + "," + ServiceNet6.String()
	}
	return ServiceNet4.String()
}
