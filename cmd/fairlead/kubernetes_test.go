// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/xdp"
)

// nobody is a kubeconfig of an API server that does not answer.
const nobody = `apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: u, user: {token: t}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
`

func TestKubernetesFlags(t *testing.T) {
	directory := t.TempDir()
	path := filepath.Join(directory, "agent.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name, file string
		args       []string
		code       int
		stdout     string
		stderr     string
	}{
		{
			name: "no node", args: []string{"--kubernetes"}, code: exitUsage,
			stderr: "fairlead agent: --node-name is missing: --kubernetes needs it: see 'fairlead agent --help'\n",
		},
		{name: "check nothing", args: []string{"--kubernetes", "--check"}, stdout: "ok\n"},
		{name: "check settings", file: "interfaces: [eth0]\n", args: []string{"--kubernetes", "--check", "--config", path}, stdout: "ok\n"},
		{
			name: "check what is the API's", file: "node: n\n", args: []string{"--kubernetes", "--check", "--config", path}, code: exitError,
			stderr: "fairlead agent: check " + path + ":\nnode: unknown field: want genevePort, interfaces, limits, pastTimeout, pinPath, socket or xdpMode\n",
		},
		{
			name: "no kubeconfig", args: []string{"--kubernetes", "--node-name=n", "--kubeconfig=" + directory + "/none"}, code: exitError,
			stderr: "fairlead agent: configure the Kubernetes client: stat " + directory + "/none: no such file or directory\n",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			write(test.file)
			code, stdout, stderr := runCommand(append([]string{"agent"}, test.args...)...)
			if code != test.code || stdout != test.stdout || stderr != test.stderr {
				t.Errorf("%d\nstdout %q\nstderr %q, want %d\nstdout %q\nstderr %q", code, stdout, stderr, test.code, test.stdout, test.stderr)
			}
		})
	}
}

// Without the API server an agent touches nothing, waits, and says so.
func TestWaiting(t *testing.T) {
	directory, err := os.MkdirTemp("", "fl-agent-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(directory) })
	a := &testAgent{fake: newFake(), socket: directory + "/agent.sock", log: &lockedBuffer{}}
	for path, text := range map[string]string{"/kubeconfig": nobody, "/agent.yaml": "socket: " + a.socket + "\n"} {
		if err := os.WriteFile(directory+path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	flags := agentFlags{config: directory + "/agent.yaml", kube: kubeFlags{
		on: true, node: "node1", clusterFlags: clusterFlags{kubeconfig: directory + "/kubeconfig", namespace: "fairlead-system"},
	}}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	opened := func(xdp.Config) (datapath, error) { return nil, errors.New("opened") }
	go func() { done <- serveAgent(ctx, flags, slog.New(slog.NewTextHandler(a.log, nil)), opened) }()
	report := a.status(t, "waiting", func(r statusReport) bool { return strings.Contains(r.Waiting, "connection refused") })
	if report.Node != "node1" || report.Ready || report.Tables.State != "waiting" || report.Kubernetes == nil || report.Kubernetes.Synced {
		t.Errorf("report: %+v", report)
	}
	_, stdout, stderr := a.command("status")
	for _, line := range []string{"Node:        node1\n", "Waiting:     not ready: the API has not been read yet: ", "Kubernetes:  reading, 0 services, "} {
		if !strings.Contains(stdout, line) || stderr != "" {
			t.Errorf("no %q in %q, %q", line, stdout, stderr)
		}
	}
	if code, _, stderr := a.command("flows"); code != exitError || !strings.HasPrefix(stderr, "fairlead flows: the agent says: the agent is waiting: not ready: ") {
		t.Errorf("flows: %d %q", code, stderr)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("stop: %v", err)
	}
}

// Before the datapath is open there are metrics of the cluster alone.
func TestWaitingMetrics(t *testing.T) {
	directory := t.TempDir()
	if err := os.WriteFile(directory+"/kubeconfig", []byte(nobody), 0o600); err != nil {
		t.Fatal(err)
	}
	flags := kubeFlags{on: true, node: "node1", clusterFlags: clusterFlags{kubeconfig: directory + "/kubeconfig", namespace: "fairlead-system"}}
	source, err := newKubeSource(flags, "", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	a := &agent{log: slog.New(slog.DiscardHandler), source: source, kube: source, latency: newLatency()}
	want := `
# HELP fairlead_kubernetes_objects Objects that the agent follows: services are Fairlead's own, members the nodes that forward.
# TYPE fairlead_kubernetes_objects gauge
fairlead_kubernetes_objects{kind="draining"} 0
fairlead_kubernetes_objects{kind="endpoints"} 0
fairlead_kubernetes_objects{kind="endpointslices"} 0
fairlead_kubernetes_objects{kind="members"} 0
fairlead_kubernetes_objects{kind="nodes"} 0
fairlead_kubernetes_objects{kind="services"} 0
# HELP fairlead_kubernetes_synced 1 once everything was heard of the Kubernetes API that the agent needs.
# TYPE fairlead_kubernetes_synced gauge
fairlead_kubernetes_synced 0
`
	if err := testutil.CollectAndCompare(collector{a}, strings.NewReader(want), "fairlead_kubernetes_objects", "fairlead_kubernetes_synced", "fairlead_packets_total"); err != nil {
		t.Error(err)
	}
	if problems, err := testutil.CollectAndLint(collector{a}); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v %v", problems, err)
	}
	recorder := httptest.NewRecorder()
	a.metricsHandler().ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if body := recorder.Body.String(); recorder.Code != http.StatusOK || !strings.Contains(body, "fairlead_programming_seconds_count 0") {
		t.Errorf("metrics: %d %s", recorder.Code, body)
	}
}

func TestPickUplinks(t *testing.T) {
	v4, v6 := netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("fd01::1")
	for _, test := range []struct {
		name string
		at   map[netip.Addr]string
		want []string
		err  string
	}{
		{"one device", map[netip.Addr]string{v4: "eth0", v6: "eth0"}, []string{"eth0"}, ""},
		{"one for each family", map[netip.Addr]string{v4: "eth0", v6: "bond0"}, []string{"eth0", "bond0"}, ""},
		{"one is on lo", map[netip.Addr]string{v4: "eth0"}, []string{"eth0"}, "interfaces: no device but lo has the node's address fd01::1: name the uplinks in the configuration file"},
	} {
		names, err := pickUplinks([]netip.Addr{v4, v6}, test.at)
		if diff := cmp.Diff(test.want, names); diff != "" || test.err != "" && (err == nil || err.Error() != test.err) || test.err == "" && err != nil {
			t.Errorf("%s: %v, -want +got:\n%s", test.name, err, diff)
		}
	}
}

func TestServiceProblems(t *testing.T) {
	key := lb.ServiceKey{VIP: netip.MustParseAddr("192.0.2.1"), Port: 80, Proto: lb.TCP}
	table, err := lb.NewTable("node1", []lb.Node{{Name: "node1"}}, []lb.Service{{Key: key, Name: "default/web:http", TableSize: 251}})
	if err != nil {
		t.Fatal(err)
	}
	other := key
	other.Port = 81
	failed := errors.Join(errors.New("reconfigure: busy"), fmt.Errorf("sync: %w", &lb.ServiceError{Key: key, Err: errFake}), &lb.ServiceError{Key: other, Err: errFake})
	want := []v1beta1.ServiceProblem{{Service: "default/web", Message: "sync: service tcp/192.0.2.1:80: out of order"}}
	if diff := cmp.Diff(want, serviceProblems(table, failed)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
