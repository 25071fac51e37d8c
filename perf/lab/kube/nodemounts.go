// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// hostSysctls belong to the machine, and a kubelet wants them so. It sees files
// that already say what it wants, and leaves the machine as it is.
var hostSysctls = map[string]string{
	"vm/overcommit_memory":      "1",
	"vm/panic_on_oom":           "0",
	"kernel/panic":              "10",
	"kernel/panic_on_oops":      "1",
	"kernel/keys/root_maxkeys":  "1000000",
	"kernel/keys/root_maxbytes": "25000000",
}

// makeMounts gives the node a mount namespace in which the default directories
// of all programs are its own, and keeps it in n.mounts.
func (n *Node) makeMounts() error {
	return n.DoWith(func() error { return unix.Unshare(unix.CLONE_NEWNS) }, func() (err error) {
		// Nothing of what is mounted here gets out, and all of it into the Pods.
		for _, flags := range []uintptr{unix.MS_PRIVATE, unix.MS_SHARED} {
			if err := unix.Mount("", "/", "", flags|unix.MS_REC, ""); err != nil {
				return fmt.Errorf("set propagation of mounts: %w", err)
			}
		}
		for _, bind := range [][2]string{{"lib", "/var/lib"}, {"log", "/var/log"}} {
			if err := os.MkdirAll(n.file(bind[0]), 0o755); err != nil {
				return fmt.Errorf("make directory: %w", err)
			}
			if err := bindOver(n.file(bind[0]), bind[1]); err != nil {
				return err
			}
		}
		// Every node has pins of its own at the usual place.
		if err := bindOver(n.BPF, "/sys/fs/bpf"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"); err != nil {
			return fmt.Errorf("mount /run: %w", err)
		}
		if err := n.hideSysctls(); err != nil {
			return err
		}
		if n.mounts, err = os.Open("/proc/thread-self/ns/mnt"); err != nil {
			return fmt.Errorf("open mount namespace: %w", err)
		}
		return nil
	})
}

// hideSysctls binds files over those that belong to the machine.
func (n *Node) hideSysctls() error {
	for name, value := range hostSysctls {
		path := n.file(filepath.Join("sysctl", name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
		if err := os.WriteFile(path, []byte(value+"\n"), 0o644); err != nil {
			return fmt.Errorf("write sysctl: %w", err)
		}
		if err := bindOver(path, filepath.Join("/proc/sys", name)); err != nil {
			return err
		}
	}
	return nil
}

func bindOver(source, target string) error {
	if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind %q over %q: %w", source, target, err)
	}
	return nil
}

// enterMounts changes the calling thread, which is one of DoWith, over to them.
func (n *Node) enterMounts() error {
	if err := unix.Setns(int(n.mounts.Fd()), unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("enter mount namespace: %w", err)
	}
	return nil
}
