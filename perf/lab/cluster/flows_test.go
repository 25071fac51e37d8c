// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/cluster"
)

// flow is the part of a line of `fairlead flows -o json` that the tests read.
type flow struct {
	Protocol string         `json:"protocol"`
	Client   netip.AddrPort `json:"client"`
	Backend  netip.AddrPort `json:"backend"`
	PodPort  uint16         `json:"podPort"`
	Kind     string         `json:"kind"`
	State    string         `json:"state"`
}

// flowsOf are the flows that the node owns of a service.
func flowsOf(t *testing.T, c *cluster.Cluster, n *lab.Node, service string) []flow {
	t.Helper()
	out, err := n.Output(t.Context(), c.Binary, "flows", "-o", "json", "--limit", "0", "--service", service, "--socket", cluster.Socket(n))
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		Flows []flow `json:"flows"`
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		t.Fatalf("flows of %s: %v: %s", n.Host, err, out)
	}
	return list.Flows
}

// longIperf is an iperf3 client that runs until the test ends.
type longIperf struct {
	process *lab.Process
	log     string
}

// startLongIperf sends at a rate that leaves the machine room.
func startLongIperf(t *testing.T, c *cluster.Cluster, to netip.Addr) *longIperf {
	t.Helper()
	i := &longIperf{log: filepath.Join(c.Lab.Dir, "iperf3.log")}
	log, err := os.Create(i.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command("iperf3", "-c", to.String(), "-p", strconv.Itoa(iperfPort),
		"-t", "600", "-b", "100M", "-i", "0.1", "-f", "k", "--forceflush")
	cmd.Stdout, cmd.Stderr = log, log
	if i.process, err = c.Lab.Client.Start(cmd); err != nil {
		t.Fatal(err)
	}
	i.expectProgress(t)
	return i
}

// expectProgress waits until the client reports that it sent more, twice: what
// it wrote in an interval that began before the call does not count.
func (i *longIperf) expectProgress(t *testing.T) {
	t.Helper()
	seen := i.intervals(t)
	err := lab.Poll(t.Context(), syncTimeout, func() bool {
		select {
		case <-i.process.Done():
			return true
		default:
			return i.intervals(t) >= seen+2
		}
	})
	select {
	case <-i.process.Done():
		t.Fatalf("iperf3 ended: %v: %s", i.process.Wait(), i.tail())
	default:
	}
	if err != nil {
		t.Errorf("iperf3 makes no progress: %v: %s", err, i.tail())
	}
}

// intervals counts the lines of reports in which something was sent.
func (i *longIperf) intervals(t *testing.T) (n int) {
	t.Helper()
	data, err := os.ReadFile(i.log)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(data) {
		if bytes.Contains(line, []byte("Kbits/sec")) && !bytes.Contains(line, []byte(" 0.00 Kbits/sec")) {
			n++
		}
	}
	return n
}

func (i *longIperf) tail() []byte {
	data, _ := os.ReadFile(i.log)
	return data[max(0, len(data)-500):]
}

// pod is the one at the other end.
func (i *longIperf) pod(t *testing.T, c *cluster.Cluster) *lab.Pod {
	t.Helper()
	flows := established(t, c, "lab/iperf3")
	if len(flows) == 0 {
		t.Fatal("iperf3 has no flow")
	}
	return podOf(t, c, flows[0].Backend.Addr())
}
