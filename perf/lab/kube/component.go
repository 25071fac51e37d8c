// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/fairlead/fairlead/perf/lab"
)

// component is one program, with a log of its own that outlives restarts.
type component struct {
	name    string // of the program
	path    string
	args    []string
	log     string
	start   func(*exec.Cmd) (*lab.Process, error)
	process *lab.Process
}

// run starts the program, which must not be running.
func (c *component) run() (err error) {
	log, err := os.OpenFile(c.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("open log of %s: %w", c.name, err)
	}
	defer log.Close()
	cmd := exec.Command(c.path, c.args...)
	cmd.Stdout, cmd.Stderr = log, log
	// Some programs write to the working directory.
	cmd.Dir = filepath.Dir(c.log)
	c.process, err = c.start(cmd)
	return err
}

// kill ends the program at once; one that does not run is success.
func (c *component) kill() error {
	if c.process == nil {
		return nil
	}
	err := c.process.Kill()
	c.process = nil
	return err
}

// wait returns when done returns nil. It gives up after the timeout, with the
// context, or with the program; the error then has done's last one and what
// the program said.
func (c *component) wait(ctx context.Context, timeout time.Duration, what string, done func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var last error
	ended := func() bool {
		select {
		case <-c.process.Done():
			return true
		default:
			return false
		}
	}
	// Poll's own timeout is of no use: done may block until the context ends.
	err := lab.Poll(ctx, 2*timeout, func() bool {
		if ended() {
			return true
		}
		if err := done(ctx); err == nil || ctx.Err() == nil || last == nil {
			last = err
		}
		return last == nil
	})
	switch {
	case ended():
		return fmt.Errorf("wait for %s: %s ended: %w: %s", what, c.name, errors.Join(errEnded, c.process.Wait()), c.tail(10))
	case err != nil:
		return fmt.Errorf("wait for %s: %w: last: %w: %s", what, err, last, c.tail(10))
	}
	return nil
}

var errEnded = errors.New("process ended")

// tail is the end of the log.
func (c *component) tail(lines int) string {
	content, err := os.ReadFile(c.log)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(string(bytes.TrimSpace(content)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
