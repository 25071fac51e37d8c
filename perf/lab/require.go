// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"

	"github.com/vishvananda/netns"
)

// TB is the part of testing.TB that the lab uses.
type TB interface {
	Helper()
	Skipf(format string, args ...any)
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
	Cleanup(func())
}

// RequireRoot skips the test, with the missing thing as reason, where no lab
// can be built or one of the tools is not installed. With REQUIRE_ROOT=1 in
// the environment it fails instead.
func RequireRoot(t TB, tools ...string) {
	t.Helper()
	err := Missing(append([]string{"nft"}, tools...)...)
	switch {
	case err == nil:
	case os.Getenv("REQUIRE_ROOT") == "1":
		t.Fatalf("REQUIRE_ROOT=1: %v", err)
	default:
		t.Skipf("%v", err)
	}
}

// Missing returns what a lab lacks on this machine, nil when it can be built.
func Missing(tools ...string) error {
	if uid := os.Geteuid(); uid != 0 {
		return fmt.Errorf("needs root: user id is %d", uid)
	}
	err := onThread(func() error {
		ns, err := netns.New()
		if err != nil {
			return err
		}
		return ns.Close()
	})
	if err != nil {
		return fmt.Errorf("needs network namespaces: %w", err)
	}
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("needs %s: %w", tool, err)
		}
	}
	return nil
}

// ForTest builds a lab for one test and closes it after it.
func ForTest(t TB, o Options) *Lab {
	t.Helper()
	RequireRoot(t)
	l, err := New(slog.New(slog.DiscardHandler), o)
	if err != nil {
		t.Fatalf("new lab: %v", err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close lab: %v", err)
		}
	})
	return l
}
