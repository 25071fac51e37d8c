// SPDX-License-Identifier: Apache-2.0

package members

import (
	"net/netip"
	"testing"
	"time"
)

var keyOne = []byte("0123456789abcdef0123456789abcdef")

func TestConfigErrors(t *testing.T) {
	good := Config{Name: "a", Bind: netip.MustParseAddrPort("127.0.0.1:7949"), Keys: [][]byte{keyOne}}
	for _, tt := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"good", func(*Config) {}, ""},
		{"name", func(c *Config) { c.Name = "" }, "name is empty: want that of the node"},
		{"no address", func(c *Config) { c.Bind = netip.AddrPort{} }, `bind "invalid AddrPort": want an address of this node with a port`},
		{"any address", func(c *Config) { c.Bind = netip.MustParseAddrPort("[::]:7949") }, `bind "[::]:7949": want an address of this node with a port`},
		{"port", func(c *Config) { c.Bind = netip.MustParseAddrPort("10.0.0.1:0") }, `bind "10.0.0.1:0": want an address of this node with a port`},
		{"no keys", func(c *Config) { c.Keys = nil }, "keys: none, want one or more"},
		{"short key", func(c *Config) { c.Keys = [][]byte{keyOne, keyOne[:15]} }, "keys[1] of 15 bytes: want 16, 24 or 32"},
		{"meta", func(c *Config) { c.Meta = make([]byte, 513) }, "meta of 513 bytes: want at most 512"},
		{"all", func(c *Config) { c.Name, c.Keys = "", nil }, "name is empty: want that of the node\nkeys: none, want one or more"},
	} {
		c := good
		tt.change(&c)
		got := ""
		if err := c.validate(); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// Members that have not answered for a while are not seen, whatever memberlist
// still thinks of them.
func TestSilence(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	m := &Members{
		config:  Config{Name: "b"},
		nodes:   []Node{{Name: "a"}, {Name: "b"}, {Name: "c"}},
		members: map[string]Member{"a": {}, "b": {}, "c": {}},
		lastAck: now,
	}
	for _, tt := range []struct {
		after time.Duration
		live  int
		want  bool
	}{{0, 3, true}, {isolated - 1, 3, true}, {isolated, 1, false}, {time.Hour, 1, false}} {
		if live, has := m.set(now.Add(tt.after)); len(live) != tt.live || has != tt.want {
			t.Errorf("after %s: sees %v, quorum %t, want %d, %t", tt.after, live, has, tt.live, tt.want)
		}
	}
	m.left = true
	if live, has := m.set(now); len(live) != 0 || has {
		t.Errorf("after leaving: sees %v, quorum %t", live, has)
	}
}
