// SPDX-License-Identifier: Apache-2.0

package config

import (
	"net/netip"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
	"github.com/fairlead/fairlead/controller/api/v1beta1/crd/crdtest"
)

// FuzzAddresses holds the schema's rules for the addresses of a pool against
// Check: what the schema takes, Check can use, but for what CEL cannot see;
// what Check can use, the schema takes, but for what it wants written otherwise.
func FuzzAddresses(f *testing.F) {
	server, err := crdtest.NewServer()
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{
		"192.0.2.0/24", "192.0.2.1-192.0.2.9", "192.0.2.9 - 192.0.2.1", "192.0.2.5", "192.0.2.5/24", "0.0.0.0/0", "::/0", "2001:db8::/64",
		"2001:db8::9-2001:db8::1", "2001:db8::1-192.0.2.1", "126.0.0.0-128.0.0.0", "fe80::/10", "::ffff:192.0.2.0/120", "192.0.2.1-192.0.2.1",
		"9.255.255.255-10.0.0.0", "192.0.2.1\t-192.0.2.9", "::-::1", "1.2.3.4-1.2.3.04", "64:ff9b::192.0.2.1/128", "192.0.2.1-192.0.2.9-",
		"192.0.2.2\t-192.0.1.9",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.ToValidUTF8(text, "") != text || len(text) > 96 {
			return
		}
		refused := server.Create(&unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "fairlead.io/v1beta1", "kind": "IPAddressPool", "metadata": map[string]any{"name": "a"},
			"spec": map[string]any{"addresses": []any{text}},
		}})
		pool := &v1beta1.IPAddressPool{
			ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: namespace},
			Spec:       v1beta1.IPAddressPoolSpec{Addresses: []string{text}},
		}
		wrong := problems(Check(Objects{Pools: []*v1beta1.IPAddressPool{pool}}, namespace))["IPAddressPool a"]
		unseen := strings.Contains(text, "-") && strings.Contains(text, ":") && strings.Contains(wrong, "ends before it starts") ||
			strings.Contains(text, "-") && strings.Contains(wrong, "no Service can have")
		if len(refused) == 0 && wrong != "" && !unseen {
			t.Errorf("%q: the schema takes it, Check says %s", text, wrong)
		}
		prefix, err := netip.ParsePrefix(text)
		otherwise := err == nil && prefix != prefix.Masked()
		if len(refused) > 0 && wrong == "" && !otherwise {
			t.Errorf("%q: Check takes it, the schema says %q", text, refused)
		}
	})
}
