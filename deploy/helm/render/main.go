// SPDX-License-Identifier: Apache-2.0

// Command render brings up to date what is made from the chart and the custom
// resource definitions: deploy/manifests, the chart's copy of the definitions
// and its table of values. It runs in the repository's root.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/fairlead/fairlead/deploy/helm"
)

func main() {
	check := flag.Bool("check", false, "write nothing, and fail if something is stale")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *check); err != nil {
		fmt.Fprintf(os.Stderr, "render: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, check bool) error {
	binary, err := helm.Binary(ctx)
	if err != nil {
		return err
	}
	generated, err := helm.Generate(ctx, ".", binary)
	if err != nil {
		return err
	}
	if check {
		stale, err := generated.Stale(".")
		if err == nil && len(stale) > 0 {
			err = fmt.Errorf("stale, make manifests writes: %s", strings.Join(stale, " "))
		}
		return err
	}
	written, err := generated.Write(".")
	for _, path := range written {
		fmt.Println(path)
	}
	return err
}
