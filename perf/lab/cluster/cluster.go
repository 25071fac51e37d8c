// SPDX-License-Identifier: Apache-2.0

// Package cluster runs Fairlead in a lab as an operator would: an agent with a
// file on every node, a `fairlead pod` in every Pod. The demo and the root
// tests of the whole use it.
package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead/fairlead/perf/lab"
)

// The ports of every service, and of the Pods behind it.
const (
	ServicePort = 80
	PodPort     = 8080
)

// How long a process may take to be ready.
const (
	podTimeout   = 10 * time.Second
	agentTimeout = 60 * time.Second
)

// Cluster is the agents and Pods of one lab, which ends them when it is closed.
type Cluster struct {
	Lab    *lab.Lab
	Binary string // fairlead
	// XDPMode is for --xdp-mode; ModeUserspace is for the other datapath.
	XDPMode  string
	Services []*Service
	// Key and PreviousKey are the wire's; without a previous one there is one key.
	Key, PreviousKey string
	// NodesV6 leaves the nodes' IPv4 addresses out, so that tunnels are IPv6.
	NodesV6 bool
	// FlowLimit is the size of a node's flow table; 0: 65536.
	FlowLimit int
	// AgentPrefix is the command before an agent's own, such as one that takes
	// rights away and executes the rest; with nil the agent has the lab's rights.
	AgentPrefix func(*lab.Node) []string

	agents map[*lab.Node]*lab.Process
}

// New makes a cluster in which nothing runs yet.
func New(l *lab.Lab, binary, xdpMode string, services ...*Service) *Cluster {
	return &Cluster{
		Lab: l, Binary: binary, XDPMode: xdpMode, Services: services, Key: wireKey,
		agents: map[*lab.Node]*lab.Process{},
	}
}

// ConfigFile is the node's agent configuration.
func ConfigFile(n *lab.Node) string { return filepath.Join(n.Dir, "agent.yaml") }

// Socket is where the node's agent listens.
func Socket(n *lab.Node) string { return filepath.Join(n.Dir, "agent.sock") }

func logFile(n *lab.Node) string { return filepath.Join(n.Dir, "agent.log") }

// Start runs a server in every Pod and an agent on every node, and waits until
// all are ready.
func (c *Cluster) Start(ctx context.Context) error {
	for _, p := range c.Lab.Pods() {
		if err := c.StartPod(ctx, p); err != nil {
			return err
		}
	}
	if err := c.Apply(); err != nil {
		return err
	}
	for _, n := range c.Lab.Nodes {
		if err := c.startAgent(n); err != nil {
			return err
		}
	}
	for _, n := range c.Lab.Nodes {
		if err := c.waitAgent(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// Apply gives every agent the services as they are now. It does not wait.
func (c *Cluster) Apply() error {
	var errs []error
	for _, n := range c.Lab.Nodes {
		errs = append(errs, c.write(n))
	}
	return errors.Join(errs...)
}

// StartAgent runs the node's agent and waits until it is ready.
func (c *Cluster) StartAgent(ctx context.Context, n *lab.Node) error {
	if err := c.startAgent(n); err != nil {
		return err
	}
	return c.waitAgent(ctx, n)
}

// Agent is the node's running agent, nil before it is started.
func (c *Cluster) Agent(n *lab.Node) *lab.Process { return c.agents[n] }

// startAgent appends what the agent says to a file, which outlives this process.
func (c *Cluster) startAgent(n *lab.Node) error {
	log, err := os.OpenFile(logFile(n), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("open agent log: %w", err)
	}
	defer log.Close()
	args := append([]string{c.Binary, "agent", "--config", ConfigFile(n)}, ModeArgs(c.XDPMode)...)
	if c.AgentPrefix != nil {
		args = append(c.AgentPrefix(n), args...)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	c.agents[n], err = n.Start(cmd)
	return err
}

// waitAgent waits until the agent answers that it is ready.
func (c *Cluster) waitAgent(ctx context.Context, n *lab.Node) error {
	ctx, cancel := context.WithTimeout(ctx, agentTimeout)
	defer cancel()
	var last error
	err := lab.Poll(ctx, agentTimeout, func() bool {
		select {
		case <-c.agents[n].Done():
			return true
		default:
		}
		var s Status
		s, last = c.Status(ctx, n)
		return last == nil && s.ready()
	})
	select {
	case <-c.agents[n].Done():
		return fmt.Errorf("agent of %s ended: %v: %s", n.Host, c.agents[n].Wait(), logTail(n))
	default:
	}
	if err != nil {
		return fmt.Errorf("wait for agent of %s: %w (last: %v): %s", n.Host, err, last, logTail(n))
	}
	return nil
}

// logTail is the end of the agent's log.
func logTail(n *lab.Node) string {
	b, err := os.ReadFile(logFile(n))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "\n")
}

// Status is the part of `fairlead status -o json` that a lab reads.
type Status struct {
	Datapath string    `json:"datapath"`
	XDPMode  string    `json:"xdpMode"`
	Ready    *bool     `json:"ready"`
	Tables   Tables    `json:"tables"`
	Counters []Counter `json:"counters"`
	Services []struct {
		Name string `json:"name"`
		// Adopted are connections that kube-proxy still has; nil: the service is
		// not one that was taken over.
		Adopted *int `json:"adoptedConnections"`
	} `json:"services"`
}

// Tables say which configuration the datapath has.
type Tables struct {
	State    string `json:"state"` // synced when it has all of it
	Revision string `json:"revision"`
}

// Counter is how many packets had a reason.
type Counter struct {
	Verdict string `json:"verdict"`
	Reason  string `json:"reason"`
	Packets uint64 `json:"packets"`
}

func (s Status) ready() bool { return s.Ready == nil || *s.Ready }

// Status asks the node's agent.
func (c *Cluster) Status(ctx context.Context, n *lab.Node) (Status, error) {
	out, err := n.Output(ctx, c.Binary, "status", "-o", "json", "--socket", Socket(n))
	if err != nil {
		return Status{}, err
	}
	var s Status
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		return Status{}, fmt.Errorf("parse status of %s: %w", n.Host, err)
	}
	return s, nil
}

// StartPod runs `fairlead pod` in the Pod and waits until it is ready.
func (c *Cluster) StartPod(ctx context.Context, p *lab.Pod) error {
	path := filepath.Join(p.Node.Dir, p.Host+".log")
	log, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("open pod log: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(c.Binary, "pod", "--name", p.Host, "--port", strconv.Itoa(PodPort))
	cmd.Stdout, cmd.Stderr = log, log
	proc, err := p.Start(cmd)
	if err != nil {
		return err
	}
	var said []byte
	err = lab.Poll(ctx, podTimeout, func() bool {
		select {
		case <-proc.Done():
			return true
		default:
			said, _ = os.ReadFile(path)
			return bytes.Contains(said, []byte("ready"))
		}
	})
	if err == nil && bytes.Contains(said, []byte("ready")) {
		return nil
	}
	return fmt.Errorf("start pod %s: %w: %s", p.Host, errors.Join(err, errNotReady), bytes.TrimSpace(said))
}

var errNotReady = errors.New("not ready")
