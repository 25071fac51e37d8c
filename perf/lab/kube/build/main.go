// SPDX-License-Identifier: Apache-2.0

// Command build puts the programs of Kubernetes that are named, or all of the
// lab's, into the cache and prints their directory.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/fairlead/fairlead/perf/lab/kube"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, names []string) error {
	if len(names) == 0 {
		names = kube.Programs()
	}
	var dir string
	for _, name := range names {
		begun := time.Now()
		var err error
		if dir, err = kube.Binaries(ctx, name); err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "%s in %.1f s\n", name, time.Since(begun).Seconds())
	}
	fmt.Println(dir)
	return nil
}
