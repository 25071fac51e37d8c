// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/fairlead/fairlead/xdp"
)

// version is set by the linker; see the Makefile.
var version = "dev"

// versionReport is what this binary is and speaks.
type versionReport struct {
	Version string `json:"version"`
	Commit  string `json:"commit"`
	Go      string `json:"go"`
	Records int    `json:"records"` // layout of pinned maps
	Wire    int    `json:"wire"`    // Geneve option
	Hash    int    `json:"hash"`    // slot of a flow
}

func thisVersion() versionReport {
	return versionReport{
		Version: version, Commit: commit(), Go: runtime.Version(),
		Records: xdp.ABI.Records, Wire: xdp.ABI.Wire, Hash: xdp.ABI.Hash,
	}
}

// commit is what the binary was built from, "unknown" outside a repository.
func commit() string {
	info, _ := debug.ReadBuildInfo()
	if info == nil {
		return "unknown"
	}
	revision, modified := "unknown", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			modified = "-modified"
		}
	}
	return revision + modified
}

func runVersion(_ context.Context, env *env, args []string) error {
	if err := parseFlags(env, newFlags("version"), args); err != nil {
		return err
	}
	v := thisVersion()
	_, err := fmt.Fprintf(env.stdout, "fairlead %s\ncommit %s\n%s\nrecords %d, wire %d, hash %d\n",
		v.Version, v.Commit, v.Go, v.Records, v.Wire, v.Hash)
	return err
}
