// SPDX-License-Identifier: Apache-2.0

// Command fairlead is the one binary of Fairlead: the agent of a node, and the
// commands that look into it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"text/tabwriter"
)

// env is what a command has of the world around it.
type env struct {
	stdout, stderr io.Writer
	getenv         func(string) string
}

// command is one word after fairlead. run ends early when ctx does.
type command struct {
	name, summary string
	hidden        bool // not in the usage
	run           func(ctx context.Context, env *env, args []string) error
}

var commands = []command{
	{name: "agent", summary: "run the node's load balancer, or check its configuration", run: runAgent},
	{name: "status", summary: "show services, backends, interfaces and counters of the running agent", run: runStatus},
	{name: "flows", summary: "list the connections that this node owns", run: runFlows},
	{name: "demo", summary: "build a cluster of namespaces on this machine and balance real connections in it", run: runDemo},
	{name: "pod", summary: "the server of the demo's Pods", hidden: true, run: runPod},
	{name: "version", summary: "print versions", run: runVersion},
}

// Exit codes.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, &env{stdout: os.Stdout, stderr: os.Stderr, getenv: os.Getenv}, os.Args[1:])
	stop()
	os.Exit(code)
}

// run finds the command, runs it and says what went wrong.
func run(ctx context.Context, env *env, args []string) int {
	if len(args) == 0 {
		usage(env.stderr)
		return exitUsage
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		usage(env.stdout)
		return exitOK
	}
	for _, c := range commands {
		if c.name == args[0] {
			return exitCode(env, c.name, c.run(ctx, env, args[1:]))
		}
	}
	fmt.Fprintf(env.stderr, "fairlead: unknown command %q: 'fairlead help' lists them\n", args[0])
	return exitUsage
}

func exitCode(env *env, name string, err error) int {
	var wrong usageError
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return exitOK
	case errors.As(err, &wrong):
		fmt.Fprintf(env.stderr, "fairlead %s: %v: see 'fairlead %s --help'\n", name, err, name)
		return exitUsage
	}
	fmt.Fprintf(env.stderr, "fairlead %s: %v\n", name, err)
	return exitError
}

func usage(w io.Writer) {
	fmt.Fprint(w, "Fairlead balances connections to service addresses, in XDP and TC.\n\nUsage: fairlead COMMAND [FLAGS]\n\n")
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, c := range commands {
		if !c.hidden {
			fmt.Fprintf(table, "  %s\t%s\n", c.name, c.summary)
		}
	}
	table.Flush()
	fmt.Fprint(w, "\n'fairlead COMMAND --help' lists the flags of a command.\n")
}

// usageError is a mistake on the command line.
type usageError struct{ error }

// parseFlags reads flags and nothing behind them. --help prints them and
// returns flag.ErrHelp.
func parseFlags(env *env, flags *flag.FlagSet, args []string) error {
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintf(env.stdout, "Usage: fairlead %s [FLAGS]\n\n", flags.Name())
		flags.SetOutput(env.stdout)
		flags.PrintDefaults()
		return err
	case err != nil:
		return usageError{err}
	case flags.NArg() > 0:
		return usageError{fmt.Errorf("unexpected argument %q", flags.Arg(0))}
	}
	return nil
}

func newFlags(name string) *flag.FlagSet { return flag.NewFlagSet(name, flag.ContinueOnError) }
