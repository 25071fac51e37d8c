// SPDX-License-Identifier: Apache-2.0

package flood

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/perf/lab"
)

// kernelCounters say what the kernels around Fairlead went through: rings of
// devices, conntrack of the nodes, TCP of Pods and client.
func (w *world) kernelCounters(t *testing.T) counts {
	t.Helper()
	c := counts{}
	c.devices(t, w.cluster.Lab.Router)
	for _, n := range w.cluster.Lab.Nodes {
		c.conntrack(t, n.Namespace)
		c.devices(t, n.Namespace)
	}
	for _, p := range w.cluster.Lab.Pods() {
		for _, name := range []string{"SyncookiesSent", "SyncookiesRecv", "SyncookiesFailed", "ListenOverflows", "TCPReqQFullDrop"} {
			c["pods "+name] += tcpExt(t, p.Namespace, name)
		}
	}
	c["client TCPSynRetrans"] = tcpExt(t, w.cluster.Lab.Client, "TCPSynRetrans")
	c["delay dropped"] = w.cluster.Lab.DelayDropped()
	return c
}

// devices adds what the devices of the namespace had no room for.
func (c counts) devices(t *testing.T, n *lab.Namespace) {
	t.Helper()
	links, err := n.Netlink().LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if s := link.Attrs().Statistics; s != nil {
			c["devices dropped"] += s.RxDropped + s.TxDropped
		}
	}
}

// read reads a file of the namespace's /proc/thread-self.
func read(t *testing.T, n *lab.Namespace, path string) string {
	t.Helper()
	var text []byte
	err := n.Do(func() (err error) {
		text, err = os.ReadFile("/proc/thread-self/" + path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// conntrack adds the columns of nf_conntrack, hexadecimal, a line a CPU.
func (c counts) conntrack(t *testing.T, n *lab.Namespace) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(read(t, n, "net/stat/nf_conntrack")), "\n")
	names := strings.Fields(lines[0])
	for i, line := range lines[1:] {
		for column, field := range strings.Fields(line) {
			number, err := strconv.ParseUint(field, 16, 64)
			if err != nil {
				t.Fatal(fmt.Errorf("parse conntrack of %s: %w", n.Name, err))
			}
			switch name := names[column]; name {
			case "entries": // the same on every line
				if i == 0 {
					c["conntrack entries"] += number
				}
			case "drop", "early_drop", "insert_failed", "invalid":
				c["conntrack "+name] += number
			}
		}
	}
}

// tcpExt is a counter of /proc/net/netstat.
func tcpExt(t *testing.T, n *lab.Namespace, name string) uint64 {
	t.Helper()
	lines := strings.Split(read(t, n, "net/netstat"), "\n")
	for i := 0; i+1 < len(lines); i += 2 {
		names, values := strings.Fields(lines[i]), strings.Fields(lines[i+1])
		for column := range names {
			if names[column] == name {
				number, err := strconv.ParseUint(values[column], 10, 64)
				if err != nil {
					t.Fatal(err)
				}
				return number
			}
		}
	}
	t.Fatalf("no counter %s in %s", name, n.Name)
	return 0
}
