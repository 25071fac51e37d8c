// SPDX-License-Identifier: Apache-2.0

// Package kube runs Kubernetes for tests and the demo: a control plane of the
// real programs, on this machine's loopback or in a namespace of a lab, and
// nodes whose kubelets are real or played.
//
// A test that needs an API server and nothing else is one call away:
//
//	control := kube.ForTest(t, kube.Options{ControllerManager: true})
//	config := control.RESTConfig()
package kube

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"k8s.io/client-go/kubernetes"

	"github.com/fairlead/fairlead/perf/lab"
)

// Networks of every control plane. Those of Pods are lab.PodNet4 and lab.PodNet6.
var (
	ServiceNet4 = netip.MustParsePrefix("10.96.0.0/16")
	ServiceNet6 = netip.MustParsePrefix("fd96::/112")
)

// Options say what the control plane is like. The zero value is etcd and the
// API server on this machine's loopback, which needs no root.
type Options struct {
	// Dir is for the control plane's files and logs; it has to exist, and its
	// maker removes it. "": ForTest makes one.
	Dir string
	// Machine runs everything in a namespace of a lab, where nodes and Pods
	// reach it by its addresses; its lab also ends it. nil: an address of its
	// own in 127.0.0.0/8.
	Machine *lab.Machine
	// DualStack gives Services IPv6 addresses, too.
	DualStack bool
	// ControllerManager runs kube-controller-manager: EndpointSlices, Deployments,
	// ServiceAccounts, garbage collection; node leases only with NodeLifecycle.
	ControllerManager bool
	// NodeLifecycle taints nodes and evicts Pods when nobody renews the lease.
	NodeLifecycle bool
	// Scheduler runs kube-scheduler.
	Scheduler bool
	// CRDs holds the *.yaml files of definitions that are installed before Start
	// returns.
	CRDs fs.FS
	// Args are more arguments by program, after those that the lab gives.
	Args map[string][]string
}

// Deadlines, far above what an idle machine needs: readiness takes 3 s there.
const (
	readyTimeout   = 2 * time.Minute
	accountTimeout = time.Minute
)

// ControlPlane is a running one. Its owner closes it. Methods that start and
// stop are for one goroutine at a time, the others for any.
type ControlPlane struct {
	// Addr is where the API server listens, on port 6443.
	Addr netip.Addr
	Dir  string

	options   Options
	logger    *slog.Logger
	binaries  string
	authority *authority
	admin     kubernetes.Interface

	etcd, apiserver, manager, scheduler *component

	mu      sync.Mutex
	configs int // kubeconfigs written
}

// Start runs a control plane and returns when the API server is ready and, with
// a controller manager, the ServiceAccount that Pods need is there. It builds
// the programs when they are missing. After an error nothing runs.
func Start(ctx context.Context, logger *slog.Logger, o Options) (*ControlPlane, error) {
	begun := time.Now()
	binaries, err := Binaries(ctx)
	if err != nil {
		return nil, err
	}
	c := &ControlPlane{Dir: o.Dir, options: o, logger: logger, binaries: binaries}
	if c.Addr, err = o.address(); err != nil {
		return nil, err
	}
	if err := c.prepare(); err != nil {
		return nil, fmt.Errorf("prepare control plane: %w", err)
	}
	if err := c.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start control plane: %w", err), c.Close())
	}
	logger.Debug("control plane is up", "url", c.URL(), "took", time.Since(begun))
	return c, nil
}

func (c *ControlPlane) start(ctx context.Context) error {
	// The API server waits for etcd by itself.
	if err := c.etcd.run(); err != nil {
		return err
	}
	if err := c.StartAPIServer(ctx); err != nil {
		return err
	}
	// A controller manager that starts before the API server gives up after 10 s.
	for _, wanted := range []struct {
		component *component
		on        bool
	}{{c.manager, c.options.ControllerManager}, {c.scheduler, c.options.Scheduler}} {
		if !wanted.on {
			continue
		}
		if err := wanted.component.run(); err != nil {
			return err
		}
	}
	if c.options.CRDs != nil {
		if err := c.InstallCRDs(ctx, c.options.CRDs); err != nil {
			return err
		}
	}
	if !c.options.ControllerManager {
		return nil
	}
	return c.WaitForAccount(ctx, "default")
}

// StartAPIServer starts the API server after StopAPIServer, and waits until it is ready.
func (c *ControlPlane) StartAPIServer(ctx context.Context) error {
	if err := c.apiserver.run(); err != nil {
		return err
	}
	return c.apiserver.wait(ctx, readyTimeout, "API server", func(ctx context.Context) error {
		_, err := c.admin.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		return err
	})
}

// StopAPIServer kills the API server as if its machine had lost power; etcd and
// what it holds stay, and the controller manager and the scheduler try again
// until it is back.
func (c *ControlPlane) StopAPIServer() error { return c.apiserver.kill() }

// Close ends all programs. The directory stays. A second call does nothing.
func (c *ControlPlane) Close() error {
	return errors.Join(c.scheduler.kill(), c.manager.kill(), c.apiserver.kill(), c.etcd.kill())
}

// file is a path in the control plane's directory.
func (c *ControlPlane) file(name string) string { return filepath.Join(c.Dir, name) }

// prepare writes the certificates and says how every program is called.
func (c *ControlPlane) prepare() (err error) {
	if c.authority, err = newAuthority(); err != nil {
		return err
	}
	key, err := tokenKey()
	if err != nil {
		return err
	}
	names := []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}
	cert, certKey, err := c.authority.server("kube-apiserver", names, c.serverAddrs()...)
	if err != nil {
		return err
	}
	err = errors.Join(
		os.WriteFile(c.file("ca.crt"), c.authority.PEM, 0o644),
		os.WriteFile(c.file("tokens.key"), key, 0o600),
		writePair(c.file("apiserver"), cert, certKey),
	)
	if err != nil {
		return fmt.Errorf("write certificates: %w", err)
	}
	if c.admin, err = kubernetes.NewForConfig(c.RESTConfig()); err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	return c.describe()
}
