// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	metalLBPool = "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: a, namespace: metallb-system}\nspec: {addresses: [192.0.2.0/24]}\n"
	metalLBEcho = "apiVersion: metallb.io/v1beta1\nkind: BFDProfile\nmetadata: {name: b, namespace: metallb-system}\nspec: {echoMode: true}\n"
	metalLBBad  = "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: c, namespace: metallb-system}\nspec: {addresses: [office]}\n"

	ourPool = "apiVersion: fairlead.io/v1beta1\nkind: IPAddressPool\nmetadata:\n  name: a\n  namespace: NAMESPACE\nspec:\n  addresses:\n  - 192.0.2.0/24\n"
	ourEcho = "# warning: BFDProfile b: spec.echoMode: true: Fairlead has no echo mode: the profile is used without\n" +
		"apiVersion: fairlead.io/v1beta1\nkind: BFDProfile\nmetadata:\n  name: b\n  namespace: fairlead-system\nspec:\n  echoMode: true\n"
	ourBad = "# error: IPAddressPool c: spec.addresses[0]: \"office\": want a prefix such as 192.0.2.0/24, or a range such as 192.0.2.10-192.0.2.20\n" +
		"apiVersion: fairlead.io/v1beta1\nkind: IPAddressPool\nmetadata:\n  name: c\n  namespace: fairlead-system\nspec:\n  addresses:\n  - office\n"
)

func TestMigrate(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	pool := write("all/a.yaml", metalLBPool)
	write("all/below/b.yml", metalLBEcho)
	write("all/README.md", "no YAML: [")
	broken := write("broken.yaml", "kind: [")
	empty := filepath.Dir(write("empty/README.md", ""))
	inOurs := strings.ReplaceAll(ourPool, "NAMESPACE", "fairlead-system")

	for _, test := range []struct {
		name, stdin, args string
		code              int
		stdout, stderr    string // stderr is contained
	}{
		{"a file", "", pool, exitOK, inOurs, ""},
		{"the standard input", metalLBPool, "-", exitOK, inOurs, ""},
		{"another namespace", "", pool + " --namespace net", exitOK, strings.ReplaceAll(ourPool, "NAMESPACE", "net"), ""},
		{"the same namespace", "", "--namespace= " + pool, exitOK, strings.ReplaceAll(ourPool, "NAMESPACE", "metallb-system"), ""},
		{"a directory", "", dir + "/all", exitPartial, inOurs + "---\n" + ourEcho, "warning: BFDProfile b: spec.echoMode: true: Fairlead has no echo mode: the profile is used without\n" +
			"fairlead migrate: 2 objects printed, 1 warnings above\n"},
		{"what cannot be used", metalLBBad, pool + " -", exitError, inOurs + "---\n" + ourBad, "fairlead migrate: 2 objects printed, 1 errors and 0 warnings above\n"},
		{"no YAML", "", pool + " " + broken, exitError, "", "broken.yaml: document 1: yaml: line 1: did not find expected node content"},
		{"no file", "", "/nonexistent/x.yaml", exitError, "", "stat /nonexistent/x.yaml: no such file or directory"},
		{"no files", "", empty, exitError, "", "no files that end in .yaml, .yml or .json"},
		{"nothing to read", "", "", exitUsage, "", "want a FILE, or --kubeconfig"},
		{"two things to read", "", "x.yaml --kubeconfig y", exitUsage, "", "files and --kubeconfig exclude each other"},
		{"no kubeconfig", "", "--kubeconfig /nonexistent/config", exitError, "", "--kubeconfig: stat /nonexistent/config: no such file or directory"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			e := &env{stdin: strings.NewReader(test.stdin), stdout: &stdout, stderr: &stderr, getenv: os.Getenv}
			code := run(context.Background(), e, append([]string{"migrate", "metallb"}, strings.Fields(test.args)...))
			if code != test.code || !strings.Contains(stderr.String(), test.stderr) || test.stderr == "" && stderr.Len() > 0 {
				t.Errorf("code %d, want %d; stderr %q, want %q in it", code, test.code, stderr.String(), test.stderr)
			}
			if diff := cmp.Diff(test.stdout, stdout.String()); diff != "" {
				t.Errorf("stdout (-want +got):\n%s", diff)
			}
		})
	}
}
