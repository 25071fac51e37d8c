// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/fairlead/fairlead/controller/watch/file"
	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/xdp"
)

// status asks until the report is as wanted and returns it.
func (a *testAgent) status(t *testing.T, what string, wanted func(statusReport) bool) statusReport {
	t.Helper()
	var report statusReport
	eventually(t, what, func() bool {
		code, stdout, _ := a.command("status", "-o", "json")
		report = statusReport{}
		return code == exitOK && json.Unmarshal([]byte(stdout), &report) == nil && wanted(report)
	})
	return report
}

func synced(r statusReport) bool { return r.Ready && r.Tables.State == "synced" }

func TestStatus(t *testing.T) {
	a := startAgent(t, newFake(), agentFlags{})
	report := a.status(t, "synced", synced)
	if report.Node != "node1" || report.XDPMode != "generic" || report.Config.State != "ok" || report.Version.Wire != 1 {
		t.Errorf("report: %+v", report)
	}
	code, stdout, stderr := a.command("status")
	if code != exitOK || stderr != "" {
		t.Fatalf("status: %d %q", code, stderr)
	}
	_, tables, _ := strings.Cut(stdout, "\n\n")
	want := `INTERFACE  XDP MODE
eth0       generic
eth1       not attached

SERVICE           KEY                POLICY   PACKETS  BYTES  BACKEND          NODE   STATE     WEIGHT
default/web:http  tcp/192.0.2.10:80  Cluster  10       1000   10.244.1.2:8080  node1  ready     3
                                                              10.244.2.2:8080  node2  draining  1

VERDICT  REASON  PACKETS
deliver  new     7
`
	if diff := cmp.Diff(want, tables); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for _, line := range []string{"Node:    node1\n", "Config:  ok, " + a.path + ", revision " + report.Config.Revision + "\n", "Tables:  synced\n"} {
		if !strings.Contains(stdout, line) {
			t.Errorf("no %q in:\n%s", line, stdout)
		}
	}
}

func TestStatusLeft(t *testing.T) {
	a := startAgent(t, newFake(), agentFlags{})
	a.write(t, config+"  - {port: 443, leftToKubeProxy: true}\n")
	a.status(t, "two ports", func(r statusReport) bool { return synced(r) && len(r.Services) == 2 && r.Services[1].Left })
	_, stdout, _ := a.command("status")
	if want := "default/web:443   tcp/192.0.2.10:443  Cluster  10       1000   (left to kube-proxy) "; !strings.Contains(stdout, want) {
		t.Errorf("no %q in:\n%s", want, stdout)
	}
}

func TestReload(t *testing.T) {
	a := startAgent(t, newFake(), agentFlags{})
	first := a.status(t, "synced", synced)

	a.write(t, strings.Replace(config, "port: 80\n", "port: 0\n", 1))
	bad := a.status(t, "bad file told", func(r statusReport) bool { return r.Config.State == "error" })
	if diff := cmp.Diff([]string{"services[0].ports[0].port: 0: want 1 to 65535"}, bad.Config.Problems); diff != "" {
		t.Errorf("problems: -want +got:\n%s", diff)
	}
	if bad.Config.Revision != first.Config.Revision || !bad.Ready || !a.hasService(t, "tcp/192.0.2.10:80") {
		t.Errorf("a bad file changed what runs: %+v", bad.Config)
	}
	if want := `problem="services[0].ports[0].port: 0: want 1 to 65535"`; !strings.Contains(a.log.String(), want) {
		t.Errorf("no %s in the log:\n%s", want, a.log)
	}

	a.write(t, strings.NewReplacer("port: 80\n", "port: 81\n", "[eth0, eth1]", "[eth2]").Replace(config))
	good := a.status(t, "good file applied", func(r statusReport) bool { return r.Config.State == "ok" && synced(r) })
	if good.Config.Revision == first.Config.Revision || good.Config.Problems != nil {
		t.Errorf("config: %+v", good.Config)
	}
	if a.hasService(t, "tcp/192.0.2.10:80") || !a.hasService(t, "tcp/192.0.2.10:81") {
		t.Error("services are not those of the new file")
	}
	if diff := cmp.Diff([]string{"eth2"}, a.configured().Interfaces); diff != "" {
		t.Errorf("interfaces: -want +got:\n%s", diff)
	}
}

// What a running agent cannot change is refused like a bad file.
func TestReloadFixed(t *testing.T) {
	a := startAgent(t, newFake(), agentFlags{})
	a.status(t, "synced", synced)
	a.write(t, strings.NewReplacer("socket: SOCKET", "socket: SOCKET\npinPath: /sys/fs/bpf/x", "flows: 1024", "flows: 2048").Replace(config))
	bad := a.status(t, "refused", func(r statusReport) bool { return r.Config.State == "error" })
	want := []string{
		"pinPath: /sys/fs/bpf/x: was /sys/fs/bpf/fairlead at the start of the agent: restart it for a change",
		"limits: {Flows:2048 Services:16 Backends:64 TableMemory:1048576}: was {Flows:1024 Services:16 Backends:64 TableMemory:1048576} at the start of the agent: restart it for a change",
	}
	if diff := cmp.Diff(want, bad.Config.Problems); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestRetry(t *testing.T) {
	f := newFake()
	f.maps.fail.Store(true)
	a := startAgent(t, f, agentFlags{})
	failing := a.status(t, "failure told", func(r statusReport) bool { return r.Tables.State == "retrying" })
	if failing.Ready || len(failing.Tables.Problems) == 0 || !strings.Contains(failing.Tables.Problems[0], "out of order") {
		t.Errorf("tables: %+v, ready %t", failing.Tables, failing.Ready)
	}
	f.maps.fail.Store(false)
	a.status(t, "synced by a retry", synced)

	// The datapath refuses new settings for a while; services go on meanwhile.
	f.refuse.Store(true)
	a.write(t, strings.NewReplacer("port: 80\n", "port: 81\n", "[eth0, eth1]", "[eth2]").Replace(config))
	refused := a.status(t, "refusal told", func(r statusReport) bool { return r.Tables.State == "retrying" })
	if diff := cmp.Diff([]string{"reconfigure: out of order"}, refused.Tables.Problems); diff != "" {
		t.Errorf("problems: -want +got:\n%s", diff)
	}
	if !a.hasService(t, "tcp/192.0.2.10:81") {
		t.Error("services waited for the interfaces")
	}
	f.refuse.Store(false)
	a.status(t, "reconfigured by a retry", synced)
	if diff := cmp.Diff([]string{"eth2"}, a.configured().Interfaces); diff != "" {
		t.Errorf("interfaces: -want +got:\n%s", diff)
	}
}

func TestModeOfCommandLine(t *testing.T) {
	a := startAgent(t, newFake(), agentFlags{mode: xdp.Off})
	a.status(t, "synced", synced)
	if got := a.configured().Mode; got != xdp.Off {
		t.Errorf("mode %q, want off", got)
	}
}

// Ending leaves the datapath as it is, closed, and the socket's place free.
func TestStop(t *testing.T) {
	f := newFake()
	a := startAgent(t, f, agentFlags{})
	a.status(t, "synced", synced)
	if _, err := listenSocket(t.Context(), a.socket); err == nil || !strings.Contains(err.Error(), "another agent serves there") {
		t.Errorf("second agent: %v", err)
	}
	if info, err := os.Stat(a.socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v %v", info, err)
	}
	if err := a.stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	if !f.closed || !f.hasService(t, "tcp/192.0.2.10:80") {
		t.Errorf("closed %t", f.closed)
	}
	if _, err := os.Stat(a.socket); !os.IsNotExist(err) {
		t.Errorf("socket stays: %v", err)
	}
}

// A socket that a killed agent left is taken over.
func TestListenOldSocket(t *testing.T) {
	directory, err := os.MkdirTemp("", "fl-socket-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(directory) })
	path := directory + "/agent.sock"
	first, err := listenSocket(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	first.(interface{ SetUnlinkOnClose(bool) }).SetUnlinkOnClose(false)
	first.Close()
	second, err := listenSocket(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	second.Close()
}

func TestFlows(t *testing.T) {
	f := newFake()
	f.flows = []xdp.Flow{flowOf("203.0.113.1:1000"), flowOf("203.0.113.2:2000", "client-fin"), flowOf("[2001:db8::1]:3000")}
	f.flows[2].PodPort = 1024
	other := flowOf("203.0.113.4:4000")
	other.Service = 9 // of no service that is wanted
	f.flows = append(f.flows, other)
	a := startAgent(t, f, agentFlags{})
	report := a.status(t, "synced", synced)
	if report.Services[0].Name != "default/web:http" {
		t.Fatalf("services: %+v", report.Services)
	}
	t.Run("table", func(t *testing.T) {
		code, stdout, stderr := a.command("flows")
		want := `PROTO  CLIENT              VIP            SERVICE           BACKEND          KIND  STATE        IDLE   REMARKS
tcp    203.0.113.1:1000    192.0.2.10:80  default/web:http  10.244.1.2:8080  own   established  1m30s  -
tcp    203.0.113.2:2000    192.0.2.10:80  default/web:http  10.244.1.2:8080  own   established  1m30s  client-fin
tcp    [2001:db8::1]:3000  192.0.2.10:80  default/web:http  10.244.1.2:8080  own   established  1m30s  pod-port=1024
`
		if diff := cmp.Diff(want, stdout); diff != "" || code != exitOK || stderr != "" {
			t.Errorf("%d %q; -want +got:\n%s", code, stderr, diff)
		}
	})
	type object struct {
		Flows []flowReport `json:"flows"`
		More  bool         `json:"more"`
	}
	for _, test := range []struct {
		name  string
		args  []string
		flows int
		more  bool
	}{
		{"all", nil, 3, false},
		{"limit", []string{"--limit", "2"}, 2, true},
		{"exact limit", []string{"--limit", "3"}, 3, false},
		{"no limit", []string{"--limit", "0"}, 3, false},
		{"by service", []string{"--service", "default/web"}, 3, false},
		{"by port", []string{"--service", "default/web:http"}, 3, false},
		{"by key", []string{"--service", "tcp/192.0.2.10:80"}, 3, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, stdout, stderr := a.command(append([]string{"flows", "-o", "json"}, test.args...)...)
			var got object
			if err := json.Unmarshal([]byte(stdout), &got); err != nil {
				t.Fatalf("%v: %q %q", err, stdout, stderr)
			}
			if len(got.Flows) != test.flows || got.More != test.more {
				t.Errorf("%d flows, more %t; want %d, %t", len(got.Flows), got.More, test.flows, test.more)
			}
		})
	}
	t.Run("unknown service", func(t *testing.T) {
		code, _, stderr := a.command("flows", "--service", "x")
		if diff := cmp.Diff("fairlead flows: the agent says: no service \"x\"\n", stderr); diff != "" || code != exitError {
			t.Errorf("%d; -want +got:\n%s", code, diff)
		}
	})
	t.Run("none", func(t *testing.T) {
		var b strings.Builder
		if err := (&jsonFlows{w: &b}).end(false); err != nil || !json.Valid([]byte(b.String())) {
			t.Errorf("%v: %q", err, b.String())
		}
	})
}

// unstarted is an agent that has applied its configuration but serves nowhere.
func unstarted(t *testing.T) *agent {
	t.Helper()
	started := startAgent(t, newFake(), agentFlags{})
	started.status(t, "synced", synced)
	a := &agent{log: slog.New(slog.DiscardHandler), source: newFileSource(started.path, nil), datapath: started.fake, latency: newLatency()}
	snapshot, err := file.Load(started.path)
	if err != nil {
		t.Fatal(err)
	}
	table, err := snapshot.Table()
	if err != nil {
		t.Fatal(err)
	}
	a.state = state{
		snapshot: snapshot, table: table, id: func(lb.ServiceKey) (lb.ServiceID, bool) { return 0, true },
		applied: snapshot.Revision, ready: true, reloads: 2, refused: 1, applyErrors: 3, configErr: errFake,
	}
	return a
}

func TestMetrics(t *testing.T) {
	const want = `
# HELP fairlead_config_reloads_total Changes of the configuration file by result, ok or error.
# TYPE fairlead_config_reloads_total counter
fairlead_config_reloads_total{result="error"} 1
fairlead_config_reloads_total{result="ok"} 2
# HELP fairlead_config_valid 1 if the configuration file as it is now is the running one, 0 if it is refused.
# TYPE fairlead_config_valid gauge
fairlead_config_valid 0
# HELP fairlead_packets_total Packets by what happened to them and why; each counts once on each node that it crosses.
# TYPE fairlead_packets_total counter
fairlead_packets_total{reason="bad_mac",verdict="drop"} 0
fairlead_packets_total{reason="new",verdict="deliver"} 7
# HELP fairlead_service_backends Backends of a service port by state.
# TYPE fairlead_service_backends gauge
fairlead_service_backends{port="80",protocol="tcp",service="default/web:http",state="draining",vip="192.0.2.10"} 1
fairlead_service_backends{port="80",protocol="tcp",service="default/web:http",state="ready",vip="192.0.2.10"} 1
# HELP fairlead_service_bytes_total Bytes of IP packets that this node handled for a service port.
# TYPE fairlead_service_bytes_total counter
fairlead_service_bytes_total{port="80",protocol="tcp",service="default/web:http",vip="192.0.2.10"} 1000
# HELP fairlead_service_packets_total Packets that this node handled for a service port.
# TYPE fairlead_service_packets_total counter
fairlead_service_packets_total{port="80",protocol="tcp",service="default/web:http",vip="192.0.2.10"} 10
# HELP fairlead_sync_errors_total Attempts to bring the configuration into the datapath that failed in part.
# TYPE fairlead_sync_errors_total counter
fairlead_sync_errors_total 3
# HELP fairlead_synced 1 if the datapath has all of the running configuration.
# TYPE fairlead_synced gauge
fairlead_synced 1
# HELP fairlead_xdp_mode 1 for the mode that the programs are attached in.
# TYPE fairlead_xdp_mode gauge
fairlead_xdp_mode{interface="eth0",mode="generic"} 1
`
	a := unstarted(t)
	if err := testutil.CollectAndCompare(collector{a}, strings.NewReader(want),
		"fairlead_config_reloads_total", "fairlead_config_valid", "fairlead_packets_total", "fairlead_service_backends",
		"fairlead_service_bytes_total", "fairlead_service_packets_total", "fairlead_sync_errors_total", "fairlead_synced",
		"fairlead_xdp_mode"); err != nil {
		t.Error(err)
	}
	problems, err := testutil.CollectAndLint(collector{a})
	if err != nil || len(problems) > 0 {
		t.Errorf("lint: %v %v", problems, err)
	}
}

func TestMetricsHandler(t *testing.T) {
	a := unstarted(t)
	handler := a.metricsHandler()
	get := func(path string) (int, string) {
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, path, nil))
		return recorder.Code, recorder.Body.String()
	}
	for _, name := range []string{"fairlead_packets_total", `fairlead_build_info{commit=`, "go_goroutines", "process_"} {
		if code, body := get("/metrics"); code != http.StatusOK || !strings.Contains(body, name) {
			t.Errorf("metrics: %d, no %s", code, name)
		}
	}
	if code, body := get("/healthz"); code != http.StatusOK || body != "ok\nconfig: error\n" {
		t.Errorf("healthz: %d %q", code, body)
	}
	if code, body := get("/readyz"); code != http.StatusOK || body != "ok\n" {
		t.Errorf("readyz: %d %q", code, body)
	}
	a.state.ready = false
	if code, _ := get("/readyz"); code != http.StatusServiceUnavailable {
		t.Errorf("readyz before the first sync: %d", code)
	}
	if code, _ := get("/status"); code != http.StatusNotFound {
		t.Errorf("status on the metrics address: %d", code)
	}
}
