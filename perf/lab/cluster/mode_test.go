// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestModeArgs(t *testing.T) {
	for mode, want := range map[string][]string{
		"":            nil,
		"generic":     {"--xdp-mode=generic"},
		ModeUserspace: {"--datapath=userspace", "--xdp-mode=native"},
	} {
		if diff := cmp.Diff(want, ModeArgs(mode)); diff != "" {
			t.Errorf("arguments of mode %q (-want +got):\n%s", mode, diff)
		}
	}
	for mode, want := range map[string]bool{"native": true, ModeUserspace: true, "generic": false, "off": false} {
		if got := NeedsNative(mode); got != want {
			t.Errorf("mode %q needs native links: %v, want %v", mode, got, want)
		}
	}
}
