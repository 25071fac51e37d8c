// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/xdp"
)

const (
	stopTimeout = 30 * time.Second
	logLines    = 20
)

// program is the controller or the agent.
type program struct {
	process *lab.Process
	log     string
	started time.Time
}

// start runs fairlead with these arguments in a namespace.
func (w *world) start(ns *lab.Namespace, args ...string) (*program, error) {
	p := &program{log: filepath.Join(w.dir, args[0]+".log")}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(w.options.binary, args...)
	cmd.Stdout, cmd.Stderr = log, log
	p.started = time.Now()
	p.process, err = ns.Start(cmd)
	return p, err
}

// stop ends the program as an operator does, and waits.
func (p *program) stop() error {
	if err := p.process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.process.Done():
		return nil
	case <-time.After(stopTimeout):
		return errors.Join(fmt.Errorf("process %d does not end", p.process.PID), p.process.Kill())
	}
}

// tail is the end of what the program said.
func (p *program) tail() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-logLines):], "\n")
}

func (w *world) startController() (*program, error) {
	config, err := w.control.AdminKubeconfig()
	if err != nil {
		return nil, err
	}
	return w.start(w.machine.Namespace, "controller", "--kubeconfig="+config, "--namespace="+systemNamespace)
}

// pins is where the agent keeps its maps.
func (w *world) pins() string { return filepath.Join(w.node.BPF, "fairlead") }

func (w *world) socket() string { return filepath.Join(w.node.Dir, "fairlead.sock") }

func (w *world) agentConfig() (path string, err error) {
	path = filepath.Join(w.dir, "agent.yaml")
	text := fmt.Sprintf("interfaces: [%s]\npinPath: %s\nsocket: %s\nlimits: {flows: 65536, services: 16384, backends: 131072, tableMemory: 256Mi}\n",
		lab.Uplink, w.pins(), w.socket())
	return path, os.WriteFile(path, []byte(text), 0o644)
}

func (w *world) startAgent() (*program, error) {
	kubeconfig, err := w.control.AdminKubeconfig()
	if err != nil {
		return nil, err
	}
	config, err := w.agentConfig()
	if err != nil {
		return nil, err
	}
	return w.start(w.node.Namespace, "agent", "--kubernetes", "--node-name="+w.node.Host, "--kubeconfig="+kubeconfig,
		"--namespace="+systemNamespace, "--config="+config)
}

// cleanUpAgent removes what the agent left in the kernel, so that the next one
// begins with nothing.
func (w *world) cleanUpAgent() error {
	return w.node.Do(func() error { return xdp.Cleanup(w.pins()) })
}
