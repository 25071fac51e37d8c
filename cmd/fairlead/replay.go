// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"github.com/fairlead/fairlead/controller/watch/file"
)

// replayOptions are the command line of fairlead replay.
type replayOptions struct {
	capture, config, node, write string
	direction                    direction
	mtu                          int
	mac                          [6]byte
	json                         bool
}

// direction says which way packets go; auto tells by the source of each.
type direction string

const (
	directionAuto direction = "auto"
	directionIn   direction = "in"
	directionOut  direction = "out"
)

const defaultMTU = 1500 // Ethernet's

func parseReplay(env *env, args []string) (replayOptions, error) {
	o := replayOptions{direction: directionAuto}
	flags := newFlags("replay")
	flags.StringVar(&o.config, "config", "", "the agent's configuration `FILE`")
	flags.StringVar(&o.node, "node", "", "replay what this `NODE` of the configuration would do; default: the file's own")
	flags.StringVar(&o.write, "write", "", "write the packets that would be sent to a pcap `FILE`")
	flags.IntVar(&o.mtu, "mtu", defaultMTU, "the uplink's MTU in `BYTES`")
	flags.Func("direction", "`WAY` of all packets: in, from the network, out, to it, or auto (default auto): out if the source is the --mac or, without it, a VIP, a Pod of the node or the node itself and the destination no VIP", func(s string) error {
		switch d := direction(s); d {
		case directionAuto, directionIn, directionOut:
			o.direction = d
			return nil
		}
		return errors.New("want in, out or auto")
	})
	flags.Func("mac", "the uplink's `ADDRESS`: frames from it leave, and frames for another one are not for the node; default: all are", func(s string) error {
		mac, err := net.ParseMAC(s)
		if err != nil || len(mac) != len(o.mac) {
			return errors.New("want an Ethernet address")
		}
		o.mac = [6]byte(mac)
		return nil
	})
	outputFlag(flags, &o.json)
	given, err := parseArgs(env, flags, args, "CAPTURE")
	switch {
	case err != nil:
		return o, err
	case o.config == "":
		return o, usageError{errors.New("--config is missing")}
	}
	o.capture = given[0]
	return o, nil
}

func runReplay(ctx context.Context, env *env, args []string) error {
	o, err := parseReplay(env, args)
	if err != nil {
		return err
	}
	snapshot, err := file.Load(o.config)
	if err != nil {
		return fmt.Errorf("load %s:\n%w", o.config, err)
	}
	node, err := newReplayNode(snapshot, o)
	if err != nil {
		return err
	}
	capture, err := openCapture(o.capture)
	if err != nil {
		return err
	}
	defer capture.Close()
	var sent *captureWriter
	if o.write != "" {
		if sent, err = createCapture(o.write, capture); err != nil {
			return err
		}
	}
	list := newReplayList(env.stdout, o.json)
	r := replay{node: node, capture: capture, sent: sent, list: list, totals: newReplayTotals(o.mtu)}
	err = r.run(ctx)
	err = errors.Join(err, sent.Close(), list.end(r.totals))
	for _, warning := range r.totals.warnings() {
		fmt.Fprintln(env.stderr, "fairlead replay: "+warning)
	}
	return err
}

// replay takes packets from a capture through a node, one by one.
type replay struct {
	node    *replayNode
	capture *capture
	sent    *captureWriter // nil: nobody wants to see
	list    replayList
	totals  *replayTotals
}

// run ends at the capture's end, or with an error that names the packet.
func (r *replay) run(ctx context.Context) error {
	for number := 1; ; number++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := r.packet(number)
		if errors.Is(err, errCaptureEnd) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: packet %d: %w", r.capture.path, number, err)
		}
	}
}

func (r *replay) packet(number int) error {
	p, err := r.capture.next()
	if err != nil {
		return err
	}
	line := replayLine{Number: number, Time: p.time, Captured: len(p.frame), Length: p.length}
	if p.truncated {
		r.totals.truncated++
		return r.list.line(line)
	}
	tick, err := r.node.tick(p.time)
	if err != nil {
		return err
	}
	var failed error
	reason := r.node.forward(p.frame, tick, &line, func(frame []byte) {
		if failed == nil {
			failed = r.sent.write(p.time, frame)
		}
	})
	r.totals.count(line, reason)
	return errors.Join(failed, r.list.line(line))
}

// errCaptureEnd is io.EOF where a capture may end.
var errCaptureEnd = fmt.Errorf("end of capture: %w", io.EOF)

// sameFile says whether the path names the open file.
func sameFile(path string, open *os.File) bool {
	a, errA := os.Stat(path)
	b, errB := open.Stat()
	return errA == nil && errB == nil && os.SameFile(a, b)
}
