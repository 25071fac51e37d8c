// SPDX-License-Identifier: Apache-2.0

// Command fairlead is the one binary of Fairlead: the agent of a node, the
// controller of a cluster, and the commands that look into them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
)

// env is what a command has of the world around it.
type env struct {
	stdin          io.Reader
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
	{name: "controller", summary: "give addresses to the LoadBalancer Services of a cluster", run: runController},
	{name: "status", summary: "show services, backends, interfaces and counters of the running agent", run: runStatus},
	{name: "drain", summary: "have the network send no more connections to this node, and wait", run: runDrain},
	{name: "flows", summary: "list the connections that this node owns", run: runFlows},
	{name: "explain", summary: "say step by step what becomes of a packet, and why", run: runExplain},
	{name: "replay", summary: "run a capture through the forwarding decision, without root", run: runReplay},
	{name: "migrate", summary: "turn objects of MetalLB into objects of Fairlead", run: runMigrate},
	{name: "demo", summary: "build a cluster of namespaces on this machine and balance real connections in it", run: runDemo},
	{name: "pod", summary: "the server of the demo's Pods", hidden: true, run: runPod},
	{name: "mount-bpffs", summary: "mount a BPF file system where there is none", hidden: true, run: runMountBPFFS},
	{name: "wait", summary: "wait for the end", hidden: true, run: runWait},
	{name: "version", summary: "print versions", run: runVersion},
}

// Exit codes.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2
	// exitPartial says that there is a result, and something to know about it.
	exitPartial = 3
)

// codeError is an error with an exit code of its own.
type codeError struct {
	code int
	error
}

// libraryLevel is the level that client-go and controller-runtime log at.
var libraryLevel slog.LevelVar

// newLog returns the log of a command that goes on until it is ended. What the
// libraries call information is about themselves: they get warnings at least.
func newLog(env *env, level slog.Level) *slog.Logger {
	libraryLevel.Set(max(level, slog.LevelWarn))
	return slog.New(slog.NewTextHandler(env.stderr, &slog.HandlerOptions{Level: level}))
}

func main() {
	// Of the process, and set before anything of theirs runs: their goroutines may outlive what started them.
	libraries := slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: &libraryLevel})
	klog.SetSlogLogger(slog.New(libraries))
	ctrl.SetLogger(logr.FromSlogHandler(libraries))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, &env{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, getenv: os.Getenv}, os.Args[1:])
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
	var own codeError
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return exitOK
	case errors.As(err, &wrong):
		fmt.Fprintf(env.stderr, "fairlead %s: %v: see 'fairlead %s --help'\n", name, err, name)
		return exitUsage
	}
	fmt.Fprintf(env.stderr, "fairlead %s: %v\n", name, err)
	if errors.As(err, &own) {
		return own.code
	}
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

// parseFlags reads flags and nothing beside them. --help prints them and
// returns flag.ErrHelp.
func parseFlags(env *env, flags *flag.FlagSet, args []string) error {
	_, err := parseArgs(env, flags, args)
	return err
}

// parseArgs is parseFlags for commands with arguments, one for each of names; a
// last name "[X]..." stands for any number. Flags may stand before, between and
// behind them, up to "--".
func parseArgs(env *env, flags *flag.FlagSet, args []string, names ...string) ([]string, error) {
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	var behind []string
	if i := slices.Index(args, "--"); i >= 0 {
		args, behind = args[:i], args[i+1:]
	}
	var given []string
	for {
		err := flags.Parse(args)
		switch {
		case errors.Is(err, flag.ErrHelp):
			fmt.Fprintf(env.stdout, "Usage: fairlead %s [FLAGS]\n\n", strings.Join(append([]string{flags.Name()}, names...), " "))
			flags.SetOutput(env.stdout)
			flags.PrintDefaults()
			return nil, err
		case err != nil:
			return nil, usageError{err}
		}
		if flags.NArg() == 0 {
			break
		}
		given, args = append(given, flags.Arg(0)), flags.Args()[1:]
	}
	given = append(given, behind...)
	if last := len(names) - 1; last >= 0 && strings.HasSuffix(names[last], "...") && len(given) >= last {
		return given, nil
	}
	switch {
	case len(given) > len(names):
		return nil, usageError{fmt.Errorf("unexpected argument %q", given[len(names)])}
	case len(given) < len(names):
		return nil, usageError{fmt.Errorf("%s is missing", names[len(given)])}
	}
	return given, nil
}

func newFlags(name string) *flag.FlagSet { return flag.NewFlagSet(name, flag.ContinueOnError) }
