// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/dataplane"
	"github.com/fairlead/fairlead/lb/forward"
	"github.com/fairlead/fairlead/xdp"
)

const deadline = 20 * time.Second

// config is a file of one service; the node's name, the port and the socket vary.
const config = `node: node1
interfaces: [eth0, eth1]
key: "000102030405060708090a0b0c0d0e0f"
socket: SOCKET
limits: {flows: 1024, services: 16, backends: 64, tableMemory: 1Mi}
nodes:
- {name: node1, addresses: [10.1.0.11]}
- {name: node2, addresses: [10.1.0.12]}
services:
- name: default/web
  vips: [192.0.2.10]
  tableSize: 251
  ports:
  - name: http
    port: 80
    backends:
    - {address: 10.244.1.2, port: 8080, node: node1, weight: 3}
    - {address: 10.244.2.2, port: 8080, node: node2, state: draining}
`

var errFake = errors.New("out of order")

// fake is a datapath in memory.
type fake struct {
	maps *fakeMaps

	mu     sync.Mutex
	config xdp.Config
	closed bool
	flows  []xdp.Flow

	tracked []xdp.Connection // what conntrack knows; nil: there is none

	forwarder *forward.Forwarder // nil: no flow records; see carry
	hop       xdp.NextHop        // of every node

	refuse atomic.Bool // Reconfigure fails
}

// fakeMaps are real tables in memory that can be told to fail.
type fakeMaps struct {
	dataplane.Maps
	fail atomic.Bool
}

func (m *fakeMaps) PutService(id lb.ServiceID, e dataplane.ServiceEntry) error {
	if m.fail.Load() {
		return errFake
	}
	return m.Maps.PutService(id, e)
}

func (f *fake) name() string { return datapathKernel }

func (f *fake) sockets() ([]socketReport, error) {
	return []socketReport{{Interface: "eth0", Mode: "copy", Received: 5, Sent: 4, Dropped: 3, NotSent: 2}}, nil
}

func newFake() *fake {
	limits := dataplane.Limits{Nodes: 16, Backends: 64, Services: 16, Lines: 4096}
	return &fake{maps: &fakeMaps{Maps: forward.NewTables(limits)}}
}

func (f *fake) open(c xdp.Config) (datapath, error) { return f, f.Reconfigure(c) }

func (f *fake) tables() dataplane.Maps { return f.maps }

func (f *fake) Reconfigure(c xdp.Config) error {
	if f.refuse.Load() {
		return errFake
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.config = c
	return nil
}

func (f *fake) configured() xdp.Config {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.config
}

func (f *fake) Attachments() []xdp.Attachment {
	return []xdp.Attachment{{Interface: "eth0", Mode: xdp.Generic}}
}

func (f *fake) Counters() ([]xdp.Counter, error) {
	return []xdp.Counter{{Verdict: "deliver", Reason: "new", Packets: 7}, {Verdict: "drop", Reason: "bad_mac"}}, nil
}

func (f *fake) ServiceStats(ids []lb.ServiceID) (map[lb.ServiceID]xdp.Stats, error) {
	stats := map[lb.ServiceID]xdp.Stats{}
	for _, id := range ids {
		stats[id] = xdp.Stats{Packets: 10, Bytes: 1000}
	}
	return stats, nil
}

func (f *fake) Flows(each func(xdp.Flow) bool) error {
	for _, flow := range f.flows {
		if !each(flow) {
			return nil
		}
	}
	return nil
}

func (f *fake) TracksConnections() bool { return f.tracked != nil }

func (f *fake) Connections(each func(xdp.Connection)) error {
	if !f.TracksConnections() {
		return xdp.ErrNoConntrack
	}
	for _, c := range f.tracked {
		each(c)
	}
	return nil
}

func (f *fake) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func (f *fake) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	return nil
}

// testAgent is a running agent over a fake datapath.
type testAgent struct {
	*fake
	path, socket string
	stop         func() error
	log          *lockedBuffer
}

// startAgent writes the configuration and runs an agent until the test ends.
func startAgent(t *testing.T, f *fake, flags agentFlags) *testAgent {
	t.Helper()
	// Not t.TempDir: its path can be too long for a socket.
	directory, err := os.MkdirTemp("", "fl-agent-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(directory) })
	a := &testAgent{
		fake: f, path: filepath.Join(directory, "config.yaml"), socket: filepath.Join(directory, "run", "agent.sock"),
		log: &lockedBuffer{},
	}
	a.write(t, config)
	flags.config = a.path
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- serveAgent(ctx, flags, slog.New(slog.NewTextHandler(a.log, nil)), f.open) }()
	a.stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() {
		if err := a.stop(); err != nil {
			t.Errorf("agent: %v", err)
		}
	})
	return a
}

// write replaces the configuration in one step.
func (a *testAgent) write(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(a.path+".new", []byte(strings.ReplaceAll(text, "SOCKET", a.socket)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(a.path+".new", a.path); err != nil {
		t.Fatal(err)
	}
}

// command runs a client command against the agent.
func (a *testAgent) command(args ...string) (code int, stdout, stderr string) {
	return runCommand(append([]string{args[0], "--socket", a.socket}, args[1:]...)...)
}

func runCommand(args ...string) (code int, stdout, stderr string) {
	var out, wrong bytes.Buffer
	code = run(context.Background(), &env{stdout: &out, stderr: &wrong, getenv: func(string) string { return "" }}, args)
	return code, out.String(), wrong.String()
}

// eventually waits until the condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(deadline); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", deadline, what)
		}
	}
}

// hasService says whether the datapath has a service port.
func (f *fake) hasService(t *testing.T, key string) bool {
	t.Helper()
	state, err := f.maps.Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range state.Services {
		if s.Key.String() == key {
			return true
		}
	}
	return false
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func flowOf(client string, flags ...string) xdp.Flow {
	return xdp.Flow{
		Proto: lb.TCP, Client: netip.MustParseAddrPort(client), VIP: netip.MustParseAddrPort("192.0.2.10:80"),
		Backend: netip.MustParseAddrPort("10.244.1.2:8080"), PodPort: netip.MustParseAddrPort(client).Port(),
		Kind: "own", State: "established", Flags: flags, Idle: 90 * time.Second,
	}
}
