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
	"time"

	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/cluster"
)

const iperfPort = 5201

// throughput is one line of results: iperf3 through the VIP and straight to the
// Pod, which is behind the tunnel, one after the other.
type throughput struct {
	XDPMode       string  `json:"xdpMode"`
	Protocol      string  `json:"protocol"`
	Family        string  `json:"family"`
	Reverse       bool    `json:"reverse"` // the Pod sends
	VIPMbit       float64 `json:"vipMbitPerSecond"`
	DirectMbit    float64 `json:"directMbitPerSecond"`
	VIPLostPct    float64 `json:"vipLostPercent"`
	DirectLostPct float64 `json:"directLostPercent"`
}

// TestThroughput records what iperf3 says; it asserts only that bytes went
// through. The direct way is for comparison, where results are wanted.
func TestThroughput(t *testing.T) {
	lab.RequireRoot(t, "iperf3")
	var results []throughput
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			c := cluster.New(newLab(t, mode, lab.Options{}), fairlead, mode)
			startConfirmed(t, c)
			server := c.Lab.Nodes[1].Pods[0]
			serveIperf(t, c, server)
			serve(t, c, iperfService([]*lab.Pod{server}))
			for _, run := range []struct {
				protocol string
				family   int
				args     []string
			}{
				{"tcp", 0, nil},
				{"tcp", 1, nil},
				{"tcp", 0, []string{"-R"}},
				{"udp", 1, []string{"-u", "-b", "0", "-l", "1200"}},
			} {
				r := throughput{XDPMode: mode, Protocol: run.protocol, Family: []string{"v4", "v6"}[run.family]}
				r.Reverse = len(run.args) == 1
				r.VIPMbit, r.VIPLostPct = iperf(t, c, vips(50)[run.family], run.args...)
				if resultsDir() != "" {
					r.DirectMbit, r.DirectLostPct = iperf(t, c, server.Addr(clientAddrs[run.family]), run.args...)
				}
				t.Logf("%+v", r)
				results = append(results, r)
			}
		})
	}
	writeResults(t, "iperf3.json", results)
}

// resultsDir is where results are wanted, "": nowhere.
func resultsDir() string { return os.Getenv("FAIRLEAD_RESULTS") }

// writeResults puts the results into resultsDir.
func writeResults(t *testing.T, name string, results any) {
	t.Helper()
	dir := resultsDir()
	if dir == "" {
		return
	}
	data, err := json.MarshalIndent(map[string]any{"results": results}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), append(data, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

// iperfService remembers clients, so that all connections of a test reach one Pod.
func iperfService(pods []*lab.Pod) *cluster.Service {
	s := &cluster.Service{Name: "lab/iperf3", Policy: "Cluster", Affinity: "ClientIP"}
	for _, vip := range vips(50) {
		s.VIPs = append(s.VIPs, vip.String())
	}
	for _, protocol := range []string{"TCP", "UDP"} {
		port := cluster.Port{Port: iperfPort, Protocol: protocol}
		for _, p := range pods {
			for _, addr := range []netip.Addr{p.Addr4, p.Addr6} {
				port.Backends = append(port.Backends, cluster.Backend{Address: addr.String(), Port: iperfPort, Node: p.Node.Host})
			}
		}
		s.Ports = append(s.Ports, port)
	}
	return s
}

// serveIperf runs a server in the Pod, which ends with the lab.
func serveIperf(t *testing.T, c *cluster.Cluster, p *lab.Pod) {
	t.Helper()
	path := filepath.Join(p.Node.Dir, p.Host+"-iperf3.log")
	log, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command("iperf3", "-s", "--forceflush", "-p", strconv.Itoa(iperfPort))
	cmd.Stdout, cmd.Stderr = log, log
	if _, err := p.Start(cmd); err != nil {
		t.Fatal(err)
	}
	var said []byte
	err = lab.Poll(t.Context(), 5*time.Second, func() bool {
		said, _ = os.ReadFile(path)
		return bytes.Contains(said, []byte("listening"))
	})
	if err != nil {
		t.Fatalf("start iperf3 in %s: %v: %s", p.Host, err, said)
	}
}

// iperf runs a client for a second and returns what arrived.
func iperf(t *testing.T, c *cluster.Cluster, to netip.Addr, args ...string) (mbit, lostPercent float64) {
	t.Helper()
	all := append([]string{"-c", to.String(), "-p", strconv.Itoa(iperfPort), "-t", "1", "-J", "--connect-timeout", "3000"}, args...)
	out, err := c.Lab.Client.Output(t.Context(), "iperf3", all...)
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var report struct {
		End struct {
			Received struct {
				Bits  float64 `json:"bits_per_second"`
				Bytes int64   `json:"bytes"`
			} `json:"sum_received"`
			Sum struct {
				Bits  float64 `json:"bits_per_second"`
				Bytes int64   `json:"bytes"`
				Lost  float64 `json:"lost_percent"`
			} `json:"sum"`
		} `json:"end"`
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatal(err)
	}
	bits, bytes := report.End.Received.Bits, report.End.Received.Bytes
	if sum := report.End.Sum; sum.Bytes > 0 { // UDP: of what was sent
		bits, bytes = sum.Bits*(1-sum.Lost/100), int64(float64(sum.Bytes)*(1-sum.Lost/100))
	}
	if bytes == 0 {
		t.Errorf("iperf3 %v: nothing arrived: %s", all, out)
	}
	return bits / 1e6, report.End.Sum.Lost
}
