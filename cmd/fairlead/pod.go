// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"

	"github.com/fairlead/fairlead/perf/lab/pod"
)

// runPod is the server of the demo's Pods; it is not for users.
func runPod(ctx context.Context, env *env, args []string) error {
	flags := newFlags("pod")
	name := flags.String("name", "pod", "`NAME` to answer with")
	port := flags.Uint("port", 8080, "TCP and UDP `PORT`")
	if err := parseFlags(env, flags, args); err != nil {
		return err
	}
	if *port < 1 || *port > 65535 {
		return usageError{fmt.Errorf("port %d: want 1 to 65535", *port)}
	}
	server, err := pod.Listen(*name, uint16(*port))
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	fmt.Fprintln(env.stdout, "ready")
	<-ctx.Done()
	return server.Close()
}
