// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/fairlead/fairlead/controller/migrate"
	"github.com/fairlead/fairlead/controller/migrate/cluster"
)

// migrateOptions are the command line of fairlead migrate metallb.
type migrateOptions struct {
	namespace, kubeconfig string
	files                 []string // "-" is the standard input
}

const migrateHelp = `Prints the objects of MetalLB that FILEs hold, as objects of Fairlead in YAML.
A FILE has any number of documents of YAML or JSON; a directory stands for all
files in and below it that end in .yaml, .yml or .json, and - for the standard
input. What is left out, changed or means something else is said on the standard
error, and in comments above the objects.

Exit codes: 0, all that was there is printed and means what it did; 3, printed,
but something has no counterpart or means something else; 1, something is not
usable as it is printed, or could not be read.

`

func parseMigrate(env *env, args []string) (o migrateOptions, err error) {
	switch {
	case len(args) == 0:
		return o, usageError{errors.New("metallb is missing")}
	case args[0] == "metallb":
		args = args[1:]
	case !strings.HasPrefix(args[0], "-"):
		return o, usageError{fmt.Errorf("unknown load balancer %q: want metallb", args[0])}
	}
	flags := newFlags("migrate metallb")
	flags.StringVar(&o.namespace, "namespace", "fairlead-system", "the `NAMESPACE` of the printed objects, which is Fairlead's; empty keeps those of the given ones")
	flags.StringVar(&o.kubeconfig, "kubeconfig", "", "read the objects from the cluster that this `FILE` leads to")
	o.files, err = parseArgs(env, flags, args, "[FILE]...")
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(env.stdout, "\n"+migrateHelp)
		return o, err
	case err != nil:
		return o, err
	case len(o.files) > 0 && o.kubeconfig != "":
		return o, usageError{errors.New("files and --kubeconfig exclude each other")}
	case len(o.files) == 0 && o.kubeconfig == "":
		return o, usageError{errors.New("want a FILE, or --kubeconfig")}
	}
	return o, nil
}

func runMigrate(ctx context.Context, env *env, args []string) error {
	o, err := parseMigrate(env, args)
	if err != nil {
		return err
	}
	objects, err := o.read(ctx, env.stdin)
	if err != nil {
		return err
	}
	result := migrate.Convert(objects, o.namespace)
	text, err := result.YAML()
	if err != nil {
		return err
	}
	if _, err := env.stdout.Write(text); err != nil {
		return err
	}
	count := map[migrate.Level]int{}
	for _, note := range result.All() {
		fmt.Fprintln(env.stderr, note)
		count[note.Level]++
	}
	switch result.Worst() {
	case migrate.Error:
		return fmt.Errorf("%d objects printed, %d errors and %d warnings above", len(result.Converted), count[migrate.Error], count[migrate.Warning])
	case migrate.Warning:
		return codeError{exitPartial, fmt.Errorf("%d objects printed, %d warnings above", len(result.Converted), count[migrate.Warning])}
	}
	return nil
}

// read returns the objects of the cluster or of all files.
func (o migrateOptions) read(ctx context.Context, stdin io.Reader) ([]*unstructured.Unstructured, error) {
	if o.kubeconfig != "" {
		config, err := clientcmd.BuildConfigFromFlags("", o.kubeconfig)
		if err != nil {
			return nil, fmt.Errorf("--kubeconfig: %w", err)
		}
		return cluster.Read(ctx, config)
	}
	var all []*unstructured.Unstructured
	for _, name := range o.files {
		sources, err := sourcesOf(name)
		if err != nil {
			return nil, err
		}
		for _, source := range sources {
			objects, err := readObjects(source, stdin)
			if err != nil {
				return nil, err
			}
			all = append(all, objects...)
		}
	}
	return all, nil
}

// sourcesOf returns the files that a name on the command line stands for.
func sourcesOf(name string) ([]string, error) {
	if name == "-" {
		return []string{name}, nil
	}
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{name}, nil
	}
	var files []string
	err = filepath.WalkDir(name, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(path)) {
			files = append(files, path)
		}
		return err
	})
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("%s: no files that end in .yaml, .yml or .json", name)
	}
	return files, err
}

func readObjects(source string, stdin io.Reader) ([]*unstructured.Unstructured, error) {
	if source == "-" {
		text, err := io.ReadAll(stdin)
		if err != nil {
			return nil, fmt.Errorf("read the standard input: %w", err)
		}
		return migrate.Parse("standard input", text)
	}
	text, err := os.ReadFile(source)
	if err != nil {
		return nil, err
	}
	return migrate.Parse(source, text)
}
