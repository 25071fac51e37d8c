// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/fairlead/fairlead/perf/lab"
)

// proxyTimeout is how long kube-proxy may take to have programmed its node once.
const proxyTimeout = time.Minute

// proxyHealth is where kube-proxy says how it is, inside its node.
var proxyHealth = netip.MustParseAddrPort("127.0.0.1:10256")

// StartProxy runs kube-proxy, in nftables mode, on the node and returns when its
// rules are there. The lab ends it; or its caller does, to restart it.
func (c *ControlPlane) StartProxy(ctx context.Context, n *lab.Node) (*lab.Process, error) {
	binaries, err := Binaries(ctx, Proxy)
	if err != nil {
		return nil, err
	}
	kubeconfig, err := c.Kubeconfig("system:kube-proxy")
	if err != nil {
		return nil, err
	}
	proxy := &component{
		name: Proxy, path: filepath.Join(binaries, Proxy), log: filepath.Join(n.Dir, Proxy+".log"), start: n.Start,
		args: append([]string{
			"--kubeconfig=" + kubeconfig, "--hostname-override=" + n.Host, "--proxy-mode=nftables",
			"--cluster-cidr=" + lab.PodNet4.String() + "," + lab.PodNet6.String(),
			"--healthz-bind-address=" + proxyHealth.String(), "--metrics-bind-address=127.0.0.1:10249",
			// That sysctl belongs to the machine, not to the node's namespace.
			"--conntrack-max-per-core=0",
			"--nodeport-addresses=primary",
		}, c.options.Args[Proxy]...),
	}
	if err := proxy.run(); err != nil {
		return nil, err
	}
	err = proxy.wait(ctx, proxyTimeout, "kube-proxy of "+n.Host, func(ctx context.Context) error {
		return getHealth(ctx, n, proxyHealth)
	})
	if err != nil {
		proxy.kill()
		return nil, err
	}
	return proxy.process, nil
}

// getHealth asks for /healthz inside the node's namespace.
func getHealth(ctx context.Context, n *lab.Node, at netip.AddrPort) error {
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return n.Dial(ctx, network, netip.AddrPort{}, at)
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+at.String()+"/healthz", nil)
	if err != nil {
		return err
	}
	response, err := (&http.Client{Transport: transport, Timeout: time.Second}).Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if body, _ := io.ReadAll(response.Body); response.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d: %s", response.StatusCode, body)
	}
	return nil
}
