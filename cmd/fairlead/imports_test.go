// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	module      = "github.com/fairlead/fairlead/"
	pcapLibrary = "github.com/gopacket" // reads capture files, and forwards nothing
)

// forbidden says what no package below a folder may depend on, however far
// away. Arrows point one way: cmd → edges → pure → lb.
var forbidden = []struct {
	folder string
	of     []string
}{
	{"lb", []string{
		module + "xdp", module + "controller", module + "announce", module + "perf", module + "cmd",
		"k8s.io", "sigs.k8s.io", "github.com/cilium", "github.com/vishvananda", pcapLibrary,
	}},
	{"xdp", []string{module + "controller", module + "announce", module + "perf", module + "cmd", "k8s.io", "sigs.k8s.io", pcapLibrary}},
	{"controller", []string{module + "xdp", module + "perf", module + "cmd", "github.com/cilium", "github.com/vishvananda", pcapLibrary}},
	{"controller/desired", []string{module + "controller/watch", module + "controller/status", module + "announce"}},
	{"controller/ipam", []string{module + "controller/watch", module + "controller/status", module + "announce"}},
	{"announce", []string{
		module + "xdp", module + "perf", module + "cmd", "github.com/cilium/ebpf", "k8s.io/client-go", "sigs.k8s.io/controller-runtime",
	}},
	{"perf", []string{module + "cmd"}},
}

// pure packages have no syscalls, clock or goroutines.
var pure = []string{
	"lb", "lb/maglev", "lb/packet", "lb/flow", "lb/forward", "controller/desired", "controller/desired/kube", "controller/ipam",
	"controller/config", "controller/migrate", "announce", "announce/kube", "announce/bgp/guard",
	"announce/l2/ether", "announce/l2/arp", "announce/l2/ndp", "announce/elect", "announce/ability",
}

// goPackage is the part of `go list -json` that counts here.
type goPackage struct {
	Dir, ImportPath string
	GoFiles         []string
	Imports, Deps   []string
}

func listPackages(t *testing.T) []goPackage {
	t.Helper()
	tool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("no go command in PATH")
	}
	out, err := exec.Command(tool, "list", "-json=Dir,ImportPath,GoFiles,Imports,Deps", module+"...").Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v: %s", err, exit.Stderr)
		}
		t.Fatalf("go list: %v", err)
	}
	var packages []goPackage
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		switch err := decoder.Decode(&p); {
		case errors.Is(err, io.EOF):
			return packages
		case err != nil:
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

// below says whether a path is a folder or lies in it.
func below(path, folder string) bool { return path == folder || strings.HasPrefix(path, folder+"/") }

func TestImportDirections(t *testing.T) {
	packages := listPackages(t)
	for _, rule := range forbidden {
		for _, p := range packages {
			if !below(p.ImportPath, module+rule.folder) {
				continue
			}
			for _, dependency := range p.Deps {
				if slices.ContainsFunc(rule.of, func(folder string) bool { return below(dependency, folder) }) {
					t.Errorf("%s depends on %s", p.ImportPath, dependency)
				}
			}
		}
	}
}

func TestPurePackages(t *testing.T) {
	packages := listPackages(t)
	for _, name := range pure {
		i := slices.IndexFunc(packages, func(p goPackage) bool { return p.ImportPath == module+name })
		if i < 0 {
			t.Errorf("no package %s", name)
			continue
		}
		p := packages[i]
		for _, path := range p.Imports {
			if impure(path) {
				t.Errorf("%s imports %s", p.ImportPath, path)
			}
		}
		for _, file := range p.GoFiles {
			checkPure(t, filepath.Join(p.Dir, file))
		}
	}
}

func impure(path string) bool {
	for _, folder := range []string{"os", "net", "syscall", "golang.org/x/sys", "math/rand", "crypto/rand"} {
		if below(path, folder) && path != "net/netip" {
			return true
		}
	}
	return false
}

// checkPure finds clocks and goroutines.
func checkPure(t *testing.T, path string) {
	t.Helper()
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	clocks := []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			t.Errorf("%s: a goroutine in a pure package", files.Position(n.Pos()))
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains(clocks, n.Sel.Name) {
				t.Errorf("%s: time.%s in a pure package", files.Position(n.Pos()), n.Sel.Name)
			}
		}
		return true
	})
}

// The rules find what they are for.
func TestImpure(t *testing.T) {
	for path, want := range map[string]bool{
		"os": true, "os/exec": true, "net": true, "net/http": true, "net/netip": false, "syscall": true, "golang.org/x/sys/unix": true,
		"osmosis": false, "time": false, "math/rand/v2": true,
	} {
		if impure(path) != want {
			t.Errorf("%s: %t, want %t", path, !want, want)
		}
	}
}
