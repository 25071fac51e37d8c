// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"
)

// runMountBPFFS mounts a BPF file system at a path that has none. On nodes
// that do not mount one themselves an init container does it before the agent.
func runMountBPFFS(_ context.Context, env *env, args []string) error {
	given, err := parseArgs(env, newFlags("mount-bpffs"), args, "PATH")
	if err != nil {
		return err
	}
	return mountBPFFS(given[0])
}

func mountBPFFS(path string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return fmt.Errorf("look at %q: %w", path, err)
	}
	if st.Type == unix.BPF_FS_MAGIC {
		return nil
	}
	// As systemd does it on nodes that it runs.
	if err := unix.Mount("bpf", path, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700"); err != nil {
		return fmt.Errorf("mount bpf at %q: %w", path, err)
	}
	return nil
}

// runWait does nothing until it is told to end: a container whose work its init
// containers have done.
func runWait(ctx context.Context, env *env, args []string) error {
	if err := parseFlags(env, newFlags("wait"), args); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}
