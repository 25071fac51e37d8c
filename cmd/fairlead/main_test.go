// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestUsage(t *testing.T) {
	for _, test := range []struct {
		name           string
		args           []string
		code           int
		stdout, stderr string // contained
	}{
		{"nothing", nil, exitUsage, "", "Usage: fairlead COMMAND"},
		{"help", []string{"help"}, exitOK, "status", ""},
		{"unknown command", []string{"frob"}, exitUsage, "", `unknown command "frob"`},
		{"help of a command", []string{"agent", "--help"}, exitOK, "--config", ""},
		{"unknown flag", []string{"status", "--frob"}, exitUsage, "", "flag provided but not defined: -frob"},
		{"argument", []string{"status", "x"}, exitUsage, "", `unexpected argument "x"`},
		{"bad format", []string{"status", "-o", "xml"}, exitUsage, "", "want table or json"},
		{"agent without configuration", []string{"agent"}, exitUsage, "", "--config is missing"},
		{"agent with a bad mode", []string{"agent", "--config", "x", "--xdp-mode", "fast"}, exitUsage, "", `unknown xdp mode "fast"`},
		{"agent with a bad level", []string{"agent", "--config", "x", "--log-level", "loud"}, exitUsage, "", "invalid value"},
		{"check and cleanup", []string{"agent", "--config", "x", "--check", "--cleanup"}, exitUsage, "", "exclude each other"},
		{"help of migrate", []string{"migrate", "--help"}, exitOK, "Exit codes: 0, all that was there is printed", ""},
		{"migrate from what", []string{"migrate"}, exitUsage, "", "metallb is missing"},
		{"migrate from something else", []string{"migrate", "other"}, exitUsage, "", `unknown load balancer "other": want metallb`},
		{"bad limit", []string{"flows", "--limit", "-1"}, exitUsage, "", "--limit -1: want 0 or more"},
		{"no agent", []string{"status", "--socket", "/nonexistent/agent.sock"}, exitError, "", "ask the agent: dial unix /nonexistent/agent.sock"},
		{"no configuration", []string{"agent", "--config", "/nonexistent/config"}, exitError, "", "open /nonexistent/config: no such file"},
	} {
		t.Run(test.name, func(t *testing.T) {
			code, stdout, stderr := runCommand(test.args...)
			if code != test.code {
				t.Errorf("exit code %d, want %d", code, test.code)
			}
			if !strings.Contains(stdout, strings.TrimPrefix(test.stdout, "-")) {
				t.Errorf("stdout %q, want %q in it", stdout, test.stdout)
			}
			if !strings.Contains(stderr, test.stderr) {
				t.Errorf("stderr %q, want %q in it", stderr, test.stderr)
			}
		})
	}
}

func TestHiddenCommands(t *testing.T) {
	_, stdout, _ := runCommand("help")
	for _, c := range commands {
		if shown := strings.Contains(stdout, "  "+c.name+" "); shown == c.hidden {
			t.Errorf("%s: hidden %t, shown %t", c.name, c.hidden, shown)
		}
	}
}

func TestVersion(t *testing.T) {
	code, stdout, _ := runCommand("version")
	want := fmt.Sprintf("fairlead dev\ncommit %s\n%s\nrecords 1, wire 1, hash 1\n", commit(), runtime.Version())
	if diff := cmp.Diff(want, stdout); diff != "" || code != exitOK {
		t.Errorf("code %d; -want +got:\n%s", code, diff)
	}
}

func TestCheck(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yaml")
	check := func(text string) (int, string, string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return runCommand("agent", "--check", "--config", path)
	}
	good := strings.ReplaceAll(config, "SOCKET", "/run/x.sock")
	if code, stdout, stderr := check(good); code != exitOK || stdout != "ok\n" || stderr != "" {
		t.Errorf("good file: %d %q %q", code, stdout, stderr)
	}
	bad := strings.Replace(strings.Replace(good, "port: 80\n", "port: 0\n", 1), "weight: 3", "weight: x", 1)
	want := "fairlead agent: check " + path + `:
services[0].ports[0].port: 0: want 1 to 65535
services[0].ports[0].backends[0].weight: "x": want a number, 1 to 1000
`
	code, stdout, stderr := check(bad)
	if diff := cmp.Diff(want, stderr); diff != "" || code != exitError || stdout != "" {
		t.Errorf("bad file: %d %q; -want +got:\n%s", code, stdout, diff)
	}
}
