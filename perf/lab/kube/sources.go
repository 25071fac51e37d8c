// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"fmt"
	"slices"
)

// The programs that Binaries builds.
const (
	Etcd              = "etcd"
	APIServer         = "kube-apiserver"
	ControllerManager = "kube-controller-manager"
	Scheduler         = "kube-scheduler"
	Kubectl           = "kubectl"
	Proxy             = "kube-proxy"
	Kubelet           = "kubelet"
	Containerd        = "containerd"
	Shim              = "containerd-shim-runc-v2"
	Ctr               = "ctr"
)

// What Start runs, and kubectl to look at it; and what StartNodes runs.
var (
	controlPlane = []string{Etcd, APIServer, ControllerManager, Scheduler, Kubectl}
	nodePrograms = []string{Kubelet, Containerd, Shim, Ctr}
)

// Programs are all that Binaries can build, the control plane's first.
func Programs() []string { return slices.Concat(controlPlane, []string{Proxy}, nodePrograms) }

// source is a module of programs, and the packages in it by the program's name.
type source struct {
	folder   string // below the main module
	ldflags  string
	tags     string
	packages map[string]string
}

// Versions of what the modules below binaries require.
const (
	version           = "v1.36.3"
	containerdVersion = "v2.4.2"
)

var sources = []*source{
	{
		folder: "perf/lab/kube/binaries/kubernetes",
		ldflags: "-s -w -X k8s.io/component-base/version.gitVersion=" + version +
			" -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36" +
			" -X k8s.io/client-go/pkg/version.gitVersion=" + version,
		packages: map[string]string{
			Etcd:              "./etcd",
			APIServer:         "k8s.io/kubernetes/cmd/kube-apiserver",
			ControllerManager: "k8s.io/kubernetes/cmd/kube-controller-manager",
			Scheduler:         "k8s.io/kubernetes/cmd/kube-scheduler",
			Proxy:             "k8s.io/kubernetes/cmd/kube-proxy",
			Kubelet:           "k8s.io/kubernetes/cmd/kubelet",
			Kubectl:           "k8s.io/kubernetes/cmd/kubectl",
		},
	},
	{
		folder:  "perf/lab/kube/binaries/containerd",
		ldflags: "-s -w -X github.com/containerd/containerd/v2/version.Version=" + containerdVersion,
		// Their snapshotters need what a static build has not.
		tags: "no_btrfs,no_devmapper,no_zfs",
		packages: map[string]string{
			Containerd: "github.com/containerd/containerd/v2/cmd/containerd",
			Shim:       "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
			Ctr:        "github.com/containerd/containerd/v2/cmd/ctr",
		},
	},
}

// sourceOf is the one source of all the programs.
func sourceOf(names []string) (*source, error) {
	for _, s := range sources {
		if !slices.ContainsFunc(names, func(name string) bool { return s.packages[name] == "" }) {
			return s, nil
		}
	}
	return nil, fmt.Errorf("no module has all the programs %q", names)
}
