// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// ErrDeadline says that a condition did not come true in time.
var ErrDeadline = errors.New("condition not met before the deadline")

// pollInterval is how often Poll looks.
const pollInterval = 5 * time.Millisecond

// Poll waits until done says true. It returns ErrDeadline after the timeout,
// or the context's error.
func Poll(ctx context.Context, timeout time.Duration, done func() bool) error {
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline.C:
			return ErrDeadline
		case <-tick.C:
		}
	}
	return nil
}

// Process is a command that runs inside a namespace, whose lab kills it on
// Close, or a child of its own.
type Process struct {
	PID int

	ns   *Namespace // nil: a child outside every lab
	cmd  *exec.Cmd
	done chan struct{}
	err  error // of Wait, once done is closed
}

// Start runs cmd inside the namespace. The command gets its own process group,
// so that a Ctrl-C at the terminal reaches only the owner of the lab, and it
// outlives its owner when its outputs are files. Give it files or writers for
// its outputs, not pipes: it is waited for at once.
func (n *Namespace) Start(cmd *exec.Cmd) (*Process, error) {
	return n.start(cmd, n.Do)
}

// StartWith is Start in a cgroup too, one of Lab.AddCgroup or below it, and with
// what else the process inherits from the thread that makes it: prepare changes
// that thread, which is not used again.
func (n *Namespace) StartWith(cmd *exec.Cmd, cgroup string, prepare func() error) (*Process, error) {
	return n.start(cmd, func(fork func() error) error {
		return n.DoWith(prepare, func() error {
			leave, err := enterCgroup(cmd.SysProcAttr, cgroup)
			if err != nil {
				return err
			}
			defer leave()
			return fork()
		})
	})
}

// start makes the process on the thread that within gives.
func (n *Namespace) start(cmd *exec.Cmd, within func(func() error) error) (*Process, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	}
	// The child inherits the namespace of the thread that forks it.
	if err := within(cmd.Start); err != nil {
		return nil, fmt.Errorf("start %s in %s: %w", cmd.Path, n.Name, err)
	}
	p := &Process{PID: cmd.Process.Pid, ns: n, cmd: cmd, done: make(chan struct{})}
	go p.reap()
	n.lab.mu.Lock()
	n.lab.processes = append(n.lab.processes, p)
	n.lab.mu.Unlock()
	if err := n.lab.recordPID(p.PID); err != nil {
		return nil, errors.Join(err, p.Kill())
	}
	return p, nil
}

// StartChild runs cmd outside every lab, in the caller's own namespace and a
// process group of its own. It ends with its caller: the kernel kills it when
// the thread that made it ends, and that one waits for it. Nobody else does:
// the caller kills it.
func StartChild(cmd *exec.Cmd) (*Process, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p := &Process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if err == nil {
			p.PID = cmd.Process.Pid
		}
		started <- err
		if err == nil {
			p.reap()
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return p, nil
}

// reap waits for the process and lets the others know.
func (p *Process) reap() {
	p.err = p.cmd.Wait()
	close(p.done)
}

// Output runs a command inside the namespace to its end and returns what it
// wrote to its standard output; an error holds what it wrote to the other.
func (n *Namespace) Output(ctx context.Context, name string, args ...string) (string, error) {
	return n.OutputWith(exec.CommandContext(ctx, name, args...))
}

// OutputWith is Output for a command that the caller prepared.
func (n *Namespace) OutputWith(cmd *exec.Cmd) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	p, err := n.Start(cmd)
	if err != nil {
		return "", err
	}
	if err := p.Wait(); err != nil {
		return stdout.String(), fmt.Errorf("run %s in %s: %w: %s",
			strings.Join(cmd.Args, " "), n.Name, err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait returns the process's end as exec.Cmd.Wait does; any number may wait.
func (p *Process) Wait() error {
	<-p.done
	return p.err
}

// Signal sends a signal; to a process that has ended, that is success.
func (p *Process) Signal(s os.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal process %d: %w", p.PID, err)
	}
	return nil
}

// Kill ends the process at once and waits until it is gone.
func (p *Process) Kill() error {
	if err := p.Signal(os.Kill); err != nil {
		return err
	}
	<-p.done
	return nil
}

// killProcesses kills those that match and forgets all that have ended.
func (l *Lab) killProcesses(match func(*Process) bool) error {
	l.mu.Lock()
	processes := l.processes
	l.processes = nil
	l.mu.Unlock()
	var errs []error
	var rest []*Process
	for _, p := range processes {
		if match(p) {
			errs = append(errs, p.Kill())
		} else {
			rest = append(rest, p)
		}
	}
	l.mu.Lock()
	l.processes = append(rest, l.processes...)
	l.mu.Unlock()
	return errors.Join(errs...)
}
