// SPDX-License-Identifier: Apache-2.0

// Package frr runs FRR (zebra, bgpd, bfdd) as a router in a namespace of a lab:
// configuration as text in, tables as JSON out. It stands beside road A.
package frr

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead/fairlead/perf/lab"
)

// Tools are the programs that Start needs, for lab.RequireRoot.
var Tools = []string{daemonDir + "zebra", daemonDir + "bgpd", daemonDir + "bfdd", "vtysh"}

const (
	daemonDir    = "/usr/lib/frr/"
	startTimeout = 10 * time.Second
)

// Router is FRR in a namespace. The lab kills what is left of it on Close, and
// removes its directory. One goroutine at a time.
type Router struct {
	ns      *lab.Namespace
	dir     string
	started []*lab.Process
}

// Start runs FRR in a namespace of the lab and waits until it takes
// configuration. There is one FRR in a namespace.
func Start(ctx context.Context, l *lab.Lab, ns *lab.Namespace, config string) (*Router, error) {
	r := &Router{ns: ns, dir: filepath.Join(l.Dir, "frr-"+ns.Name)}
	if err := makeDir(r.dir); err != nil {
		return nil, err
	}
	if err := r.Run(ctx); err != nil {
		return nil, errors.Join(err, r.Kill())
	}
	if err := r.Configure(ctx, config); err != nil {
		return nil, errors.Join(err, r.Kill())
	}
	return r, nil
}

// makeDir makes a directory that FRR, which gives up root, can write to.
func makeDir(dir string) error {
	owner, err := user.Lookup("frr")
	if err != nil {
		return fmt.Errorf("find FRR's user: %w", err)
	}
	uid, uerr := strconv.Atoi(owner.Uid)
	gid, gerr := strconv.Atoi(owner.Gid)
	if err := errors.Join(uerr, gerr); err != nil {
		return fmt.Errorf("read FRR's user: %w", err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return fmt.Errorf("make FRR's directory: %w", err)
	}
	if err := os.Chown(dir, uid, gid); err != nil {
		return fmt.Errorf("give FRR its directory: %w", err)
	}
	return nil
}

// Run starts the daemons of a router that was killed, without configuration.
func (r *Router) Run(ctx context.Context) error {
	// The others connect to zebra's socket at once.
	for _, d := range []struct {
		name, socket string
		args         []string
	}{
		{"zebra", "zserv.api", nil},
		{"bgpd", "bgpd.vty", []string{"-p", "179"}},
		{"bfdd", "bfdd.vty", []string{"--bfdctl", r.path("bfdd.sock")}},
	} {
		args := append([]string{
			"-N", r.ns.Name, "--vty_socket", r.dir, "-z", r.path("zserv.api"), "-P", "0",
			"--log", "file:" + r.path(d.name+".log"), "-i", r.path(d.name + ".pid"), "-f", "/dev/null",
		}, d.args...)
		p, err := r.ns.Start(exec.Command(daemonDir+d.name, args...))
		if err != nil {
			return err
		}
		r.started = append(r.started, p)
		if err := lab.Poll(ctx, startTimeout, func() bool { return ended(p) || listens(r.path(d.socket)) }); err != nil {
			return fmt.Errorf("wait for %s: %w", d.name, err)
		}
		if ended(p) {
			return fmt.Errorf("%s ended: %w", d.name, p.Wait())
		}
	}
	return nil
}

func (r *Router) path(name string) string { return filepath.Join(r.dir, name) }

func ended(p *lab.Process) bool {
	select {
	case <-p.Done():
		return true
	default:
		return false
	}
}

func listens(socket string) bool {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// Kill ends the daemons at once, as a crash would. The namespace's routes stay.
func (r *Router) Kill() error {
	var errs []error
	for _, p := range r.started {
		errs = append(errs, p.Kill())
	}
	r.started = nil
	return errors.Join(errs...)
}

// Configure adds configuration, as it would be in frr.conf.
func (r *Router) Configure(ctx context.Context, config string) error {
	file := r.path("frr.conf")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		return fmt.Errorf("write FRR's configuration: %w", err)
	}
	out, err := r.vtysh(ctx, "-f", file)
	// vtysh says what it does not understand, and goes on.
	if err == nil && bytes.Contains(out, []byte("% ")) {
		err = errors.New("configuration not understood")
	}
	if err != nil {
		return fmt.Errorf("configure FRR: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// Do runs a command of the shell and returns what it printed.
func (r *Router) Do(ctx context.Context, command string) (string, error) {
	out, err := r.vtysh(ctx, "-c", command)
	return string(out), err
}

// JSON runs a show command, which ends in "json", and decodes what it printed.
func (r *Router) JSON(ctx context.Context, command string, into any) error {
	out, err := r.vtysh(ctx, "-c", command)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(out, into); err != nil {
		return fmt.Errorf("decode FRR's %q: %w: %s", command, err, out)
	}
	return nil
}

// vtysh speaks with the daemons by their sockets, which are files.
func (r *Router) vtysh(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "vtysh", append([]string{"--vty_socket", r.dir, "--config_dir", r.dir}, args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.Bytes(), fmt.Errorf("run vtysh %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.Bytes(), nil
}
