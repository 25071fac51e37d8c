// SPDX-License-Identifier: Apache-2.0

package kube

import "testing"

// Every program has one module, and none is asked of two.
func TestSources(t *testing.T) {
	for _, name := range Programs() {
		if _, err := sourceOf([]string{name}); err != nil {
			t.Error(err)
		}
	}
	for _, names := range [][]string{{"kube-dns"}, {Kubelet, Containerd}} {
		if s, err := sourceOf(names); err == nil {
			t.Errorf("%s are of %s", names, s.folder)
		}
	}
}
