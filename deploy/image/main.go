// SPDX-License-Identifier: Apache-2.0

// Command image builds Fairlead's container image for several platforms as one
// OCI archive, without a container engine: the static binary, the licence, and
// nothing else. The same sources, version and Go make the same bytes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// options are what the archive is made from.
type options struct {
	pkg       string // the Go package of the binary
	ref       string // the image's name and tag
	version   string
	license   string // a file
	platforms []v1.Platform
	created   time.Time
	vcs       bool // stamp the binary with the commit
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(os.Stderr, "image: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout io.Writer) error {
	o := options{pkg: "github.com/fairlead/fairlead/cmd/fairlead"}
	flags := flag.NewFlagSet("image", flag.ContinueOnError)
	out := flags.String("o", "", "archive `FILE` to write")
	platforms := flags.String("platforms", "linux/amd64,linux/arm64", "`LIST` of platforms; Docker without containerd loads the first")
	flags.StringVar(&o.ref, "ref", "registry.example/fairlead:dev", "`NAME` with registry and tag")
	flags.StringVar(&o.version, "version", "dev", "`VERSION` of the binary")
	flags.StringVar(&o.license, "license", "LICENSE", "licence `FILE` to put into the image")
	flags.BoolVar(&o.vcs, "vcs", false, "stamp the binary with the commit")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *out == "" || flags.NArg() > 0 {
		return errors.New("want -o FILE and no arguments")
	}
	var err error
	if o.platforms, err = parsePlatforms(*platforms); err != nil {
		return err
	}
	if o.created, err = sourceDate(os.Getenv("SOURCE_DATE_EPOCH")); err != nil {
		return err
	}
	digest, err := writeFile(ctx, *out, o)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "%s\n%s@%s\n", *out, o.ref, digest)
	return err
}

// check finds out early what would fail after minutes of building.
func (o options) check() error {
	if _, err := name.NewTag(o.ref, name.StrictValidation); err != nil {
		return fmt.Errorf("reference %q: %w", o.ref, err)
	}
	return nil
}

func parsePlatforms(list string) ([]v1.Platform, error) {
	var platforms []v1.Platform
	for text := range strings.SplitSeq(list, ",") {
		os, arch, ok := strings.Cut(text, "/")
		if !ok || os != "linux" || arch == "" || strings.Contains(arch, "/") {
			return nil, fmt.Errorf("platform %q: want linux/ARCHITECTURE", text)
		}
		platforms = append(platforms, v1.Platform{OS: os, Architecture: arch})
	}
	return platforms, nil
}

// sourceDate is the time that all parts of the image carry: seconds since 1970
// as in reproducible-builds.org's SOURCE_DATE_EPOCH, or 1970 itself.
func sourceDate(epoch string) (time.Time, error) {
	if epoch == "" {
		return time.Unix(0, 0).UTC(), nil
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// writeFile replaces the archive in one step and returns the image's digest.
func writeFile(ctx context.Context, path string, o options) (digest v1.Hash, err error) {
	if err := o.check(); err != nil {
		return digest, err
	}
	index, err := buildIndex(ctx, o)
	if err != nil {
		return digest, err
	}
	f, err := os.Create(path + ".new")
	if err != nil {
		return digest, fmt.Errorf("create archive: %w", err)
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if err := errors.Join(writeArchive(f, index, o), f.Close()); err != nil {
		return digest, fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return digest, fmt.Errorf("replace archive: %w", err)
	}
	return index.Digest()
}
