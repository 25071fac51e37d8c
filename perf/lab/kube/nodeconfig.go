// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// pluginDir is where Debian has the CNI plugins.
const pluginDir = "/usr/lib/cni"

// containerdConfig is for a node whose /var/lib and /run are its own. The plugin
// that is off would make a directory in /opt. Without CAP_SYS_RESOURCE, which a
// machine in a sandbox lacks, a container's OOM score cannot be lowered.
const containerdConfig = `version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri"]

[grpc]
address = "/run/containerd/containerd.sock"

[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = %q

[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true

[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = [%q]
conf_dir = %q
`

// kubeletConfig is JSON's superset YAML. It evicts nothing, for the disk is
// others' too, and touches no iptables. exec and logs come to it as anonymous.
const kubeletConfig = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
cgroupDriver: cgroupfs
cgroupRoot: %s
enforceNodeAllocatable: []
failCgroupV1: false
failSwapOn: false
oomScoreAdj: 0
maxOpenFiles: 20000
makeIPTablesUtilChains: false
localStorageCapacityIsolation: false
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
volumePluginDir: /var/lib/kubelet/volumeplugins
resolvConf: ""
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: "0%%", nodefs.available: "0%%", nodefs.inodesFree: "0%%", imagefs.available: "0%%", imagefs.inodesFree: "0%%"}
podPidsLimit: -1
`

// writeConfig writes the files of the node's programs.
func (n *Node) writeConfig() error {
	network, err := n.network()
	if err != nil {
		return err
	}
	for name, content := range map[string]string{
		"containerd.toml":     fmt.Sprintf(containerdConfig, pauseRef, pluginDir, n.file("cni")),
		"kubelet.yaml":        fmt.Sprintf(kubeletConfig, n.cgroup),
		"cni/10-lab.conflist": network,
	} {
		path := n.file(name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return fmt.Errorf("write configuration: %w", err)
		}
	}
	return nil
}

// network is the node's CNI configuration: every Pod has a link of its own, as
// the lab's own Pods have, with addresses out of the node's networks.
func (n *Node) network() (string, error) {
	type object = map[string]any
	var ranges [][]object
	for _, cidr := range n.PodCIDRs() {
		ranges = append(ranges, []object{{"subnet": cidr.String()}})
	}
	config := object{
		"cniVersion": "1.0.0",
		"name":       "lab",
		"plugins": []object{{
			"type": "ptp",
			"ipam": object{
				"type":   "host-local",
				"ranges": ranges,
				"routes": []object{{"dst": "0.0.0.0/0"}, {"dst": "::/0"}},
			},
		}},
	}
	encoded, err := json.Marshal(config)
	if err != nil {
		return "", fmt.Errorf("encode network: %w", err)
	}
	return string(encoded), nil
}

// kubeletArgs are what is not in its file.
func (n *Node) kubeletArgs(kubeconfig string) []string {
	var addrs []string
	for _, addr := range n.Addrs {
		addrs = append(addrs, addr.String())
	}
	return []string{
		"--kubeconfig=" + kubeconfig, "--config=" + n.file("kubelet.yaml"),
		"--hostname-override=" + n.Host, "--node-ip=" + strings.Join(addrs, ","),
	}
}
