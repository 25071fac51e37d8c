// SPDX-License-Identifier: Apache-2.0

// Package agent runs `fairlead agent --kubernetes` on the nodes of a lab: for
// tests against a real API server, which live beside it.
package agent

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/cluster"
	"github.com/fairlead/fairlead/perf/lab/kube"
)

// Namespace is Fairlead's own.
const Namespace = "fairlead-system"

// startTimeout is far above what an idle machine needs, 2 s.
const startTimeout = 3 * time.Minute

// Agents are those of a lab's nodes. The lab ends them when it is closed.
type Agents struct {
	Control *kube.ControlPlane
	Lab     *lab.Lab
	Binary  string // fairlead
	Mode    string // as for --xdp-mode, or cluster.ModeUserspace
	// User has the rights of the agents; "": an administrator.
	User   string
	Groups []string

	kubeconfig string
	running    map[*lab.Node]*lab.Process
}

// Start runs a node's agent. It does not wait.
func (a *Agents) Start(n *lab.Node) error {
	args, err := a.args(n)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(LogFile(n), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("open agent log: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(a.Binary, append([]string{"agent"}, args...)...)
	cmd.Stdout, cmd.Stderr = log, log
	process, err := n.Start(cmd)
	if err != nil {
		return err
	}
	if a.running == nil {
		a.running = map[*lab.Node]*lab.Process{}
	}
	a.running[n] = process
	return nil
}

// args are the agent's, whose file is written along the way.
func (a *Agents) args(n *lab.Node) ([]string, error) {
	if a.kubeconfig == "" {
		var err error
		if a.User == "" {
			a.kubeconfig, err = a.Control.AdminKubeconfig()
		} else {
			a.kubeconfig, err = a.Control.Kubeconfig(a.User, a.Groups...)
		}
		if err != nil {
			return nil, err
		}
	}
	config := fmt.Sprintf("pinPath: %s\nsocket: %s\nlimits: {flows: 65536}\n", filepath.Join(n.BPF, "fairlead"), cluster.Socket(n))
	path := filepath.Join(n.Dir, "kubernetes.yaml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		return nil, fmt.Errorf("write configuration of %s: %w", n.Host, err)
	}
	args := []string{
		"--kubernetes", "--kubeconfig", a.kubeconfig, "--node-name", n.Host, "--namespace", Namespace, "--config", path,
	}
	return append(args, cluster.ModeArgs(a.Mode)...), nil
}

// Stop kills a node's agent.
func (a *Agents) Stop(n *lab.Node) error { return a.running[n].Kill() }

// End asks a node's agent to end, and waits.
func (a *Agents) End(n *lab.Node) error {
	if err := a.running[n].Signal(os.Interrupt); err != nil {
		return err
	}
	return a.running[n].Wait()
}

// Cleanup takes Fairlead off a node whose agent does not run.
func (a *Agents) Cleanup(ctx context.Context, n *lab.Node) error {
	args, err := a.args(n)
	if err != nil {
		return err
	}
	args = append([]string{"agent", "--cleanup"}, args...)
	_, err = n.Output(ctx, a.Binary, args...)
	return err
}

// LogFile is what the node's agents said.
func LogFile(n *lab.Node) string { return filepath.Join(n.Dir, "agent.log") }

// Status is the part of `fairlead status -o json` that tests read.
type Status struct {
	Node       string
	Ready      bool
	Waiting    string
	Tables     struct{ State string }
	Kubernetes struct {
		Synced                       bool
		Services, Endpoints, Members int
		Draining                     int
		Problems                     []string
	}
	Services []struct {
		Name     string
		VIP      string
		Port     int
		Protocol string
		Left     bool `json:"leftToKubeProxy"`
		Backends []struct{ Address, Node, State string }
	}
	Counters []cluster.Counter
}

// Status asks the node's agent.
func (a *Agents) Status(ctx context.Context, n *lab.Node) (Status, error) {
	out, err := n.Output(ctx, a.Binary, "status", "-o", "json", "--socket", cluster.Socket(n))
	if err != nil {
		return Status{}, err
	}
	return ParseStatus(out)
}

// ParseStatus reads what `fairlead status -o json` says.
func ParseStatus(out string) (Status, error) {
	var s Status
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		return Status{}, fmt.Errorf("parse status: %w", err)
	}
	return s, nil
}

// CheckBackends says where a Service, namespace/name, has not so many ready and
// draining backends at each of its ports.
func (s *Status) CheckBackends(service string, ready, draining int) error {
	found := false
	for _, one := range s.Services {
		if !strings.HasPrefix(one.Name, service+":") {
			continue
		}
		found = true
		count := map[string]int{}
		for _, b := range one.Backends {
			count[b.State]++
		}
		if count["ready"] != ready || count["draining"] != draining {
			return fmt.Errorf("%s %s: %v, want %d ready and %d draining", one.Name, one.VIP, count, ready, draining)
		}
	}
	if !found {
		return fmt.Errorf("no service %s", service)
	}
	return nil
}

// Announcements is the part of `fairlead status announcements -o json` that tests read.
type Announcements struct {
	Node    string
	Waiting string
	VIPs    []AnnouncedVIP
	Peers   []struct {
		Name, State, Error string
		Prefixes           int
		BFD                *struct{ State string }
	}
	Members *struct {
		Quorum bool
		Live   []string
	}
	Problems []string
}

// AnnouncedVIP is what becomes of a VIP on a node.
type AnnouncedVIP struct {
	VIP string
	BGP []struct {
		Peer      string
		Announced bool
		Reason    string
	}
	L2 *struct {
		Node       string // that answers
		Interfaces []string
		Reason     string
	}
	Not []struct{ Protocol, Reason, Message string }
}

// Announcements asks the node's agent what it announces.
func (a *Agents) Announcements(ctx context.Context, n *lab.Node) (Announcements, error) {
	out, err := n.Output(ctx, a.Binary, "status", "announcements", "-o", "json", "--socket", cluster.Socket(n))
	if err != nil {
		return Announcements{}, err
	}
	var r Announcements
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		return Announcements{}, fmt.Errorf("parse announcements of %s: %w", n.Host, err)
	}
	return r, nil
}

// Drain runs fairlead drain on the node.
func (a *Agents) Drain(ctx context.Context, n *lab.Node, args ...string) (string, error) {
	return n.Output(ctx, a.Binary, append([]string{"drain", "--socket", cluster.Socket(n)}, args...)...)
}

// Wait returns when the node's agent says that it is as wanted. The error has
// what was missing last, and the end of the agent's log.
func (a *Agents) Wait(ctx context.Context, n *lab.Node, wanted func(Status) error) error {
	var last error
	ended := func() bool {
		select {
		case <-a.running[n].Done():
			return true
		default:
			return false
		}
	}
	err := lab.Poll(ctx, startTimeout, func() bool {
		if ended() {
			return true
		}
		var s Status
		if s, last = a.Status(ctx, n); last == nil {
			last = wanted(s)
		}
		return last == nil
	})
	if ended() {
		return fmt.Errorf("agent of %s ended: %w: %s", n.Host, cmp.Or(a.running[n].Wait(), errEnded), logTail(n))
	}
	if err != nil {
		return fmt.Errorf("wait for agent of %s: %w: %w: %s", n.Host, err, last, logTail(n))
	}
	return nil
}

var errEnded = errors.New("without an error")

func logTail(n *lab.Node) string {
	content, err := os.ReadFile(LogFile(n))
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(content), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-8):], []byte("\n")))
}
