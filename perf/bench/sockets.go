// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/lb/afxdp"
	"github.com/fairlead/fairlead/perf/pktgen"
)

// socketRun is how long a row's packets are sent in each round.
const socketRun = 300 * time.Millisecond

// socketRow is packets of one kind that come to one station as fast as the
// generator makes them.
type socketRow struct {
	name    string
	station func(*wire) *station
	end     end
	floor   string // the name of its floor; "": it is one

	at        *station
	generator *pktgen.Generator
	samples   []sample
}

// end is where a row's packets end, and are counted.
type end uint8

const (
	dropped  end = iota // by XDP: a port that no service has
	received            // in the socket, where the loop lets them be
	sent                // at the other end of the veth, in a tunnel
)

// Rows of the XDP datapath, which the sockets are held against. It shares a core
// with the generator; the sockets' loop has another one.
const (
	receiveFloor = "afxdp/receive/xdp"
	remoteFloor  = "afxdp/remote/xdp"
)

func socketRows() []*socketRow {
	kernel := func(w *wire) *station { return w.kernel }
	native := func(w *wire) *station { return w.native }
	generic := func(w *wire) *station { return w.generic }
	return []*socketRow{
		{name: receiveFloor, station: kernel, end: dropped},
		{name: "afxdp/receive/native", station: native, end: received, floor: receiveFloor},
		{name: "afxdp/receive/generic", station: generic, end: received, floor: receiveFloor},
		{name: remoteFloor, station: kernel, end: sent},
		{name: "afxdp/remote/native", station: native, end: sent, floor: remoteFloor},
		{name: "afxdp/remote/generic", station: generic, end: sent, floor: remoteFloor},
	}
}

// timeSockets measures on veth, and says what came of a socket without copies.
func timeSockets(t *table, f family, only string, rounds int) (zeroCopy string, err error) {
	rows := chosen(socketRows(), func(r *socketRow) bool { return strings.Contains(f.rowName(r.name), only) })
	if len(rows) == 0 {
		return "", nil
	}
	w, err := newWire(f)
	if err != nil {
		return "", fmt.Errorf("wire: %w", err)
	}
	defer func() { err = errors.Join(err, w.close()) }()
	for _, r := range rows {
		vip := f.remote
		if r.end == dropped {
			vip = f.unknown
		}
		r.at = r.station(w)
		if r.generator, err = w.generator(r.at, vip); err != nil {
			return "", fmt.Errorf("%s: %w", f.rowName(r.name), err)
		}
		defer r.generator.Close()
	}
	release, err := reserveLoopCore()
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, release()) }()
	// One after the other in every round, so that all see the same load.
	for range rounds {
		for _, r := range rows {
			s, err := r.run()
			if err != nil {
				return "", fmt.Errorf("%s: %w", f.rowName(r.name), err)
			}
			r.samples = append(r.samples, s)
		}
	}
	floors := map[string]float64{}
	for _, r := range rows {
		result := r.result(f, floors[r.floor])
		if result.PPS == 0 {
			return "", fmt.Errorf("%s: no packets arrived", result.Name)
		}
		floors[r.name] = result.NS
		t.add(result)
	}
	return w.zeroCopy, nil
}

// chosen are the rows wanted, and their floors.
func chosen(rows []*socketRow, wanted func(*socketRow) bool) []*socketRow {
	return slices.DeleteFunc(slices.Clone(rows), func(r *socketRow) bool {
		return !wanted(r) && !slices.ContainsFunc(rows, func(o *socketRow) bool { return o.floor == r.name && wanted(o) })
	})
}

// result is the row's; a floor is its own.
func (r *socketRow) result(f family, floorNS float64) Result {
	result := Result{
		Name: f.rowName(r.name), FloorNS: floorNS,
		NS:         r.median(func(s sample) float64 { return s.senderNS + s.loopNS }),
		LoopNS:     r.median(func(s sample) float64 { return s.loopNS }),
		PPS:        r.median(func(s sample) float64 { return s.pps }),
		OfferedPPS: r.median(func(s sample) float64 { return s.offeredPPS }),
	}
	if r.floor == "" {
		result.FloorNS = result.NS
	}
	result.Ratio = result.NS / max(result.FloorNS, 1)
	return result
}

func (r *socketRow) median(of func(sample) float64) float64 {
	var all []float64
	for _, s := range r.samples {
		all = append(all, of(s))
	}
	return median(all)
}

// sample is one round of a row. Times are of the processor, so that what else
// the machine does counts for little.
type sample struct {
	pps, offeredPPS float64
	senderNS        float64 // per packet sent: the generator, and XDP on its core
	loopNS          float64 // per packet that the loop handled: its thread
}

// run sends packets for a while, and counts those that reach the end.
func (r *socketRow) run() (sample, error) {
	cpu := cpuTime(unix.CLOCK_PROCESS_CPUTIME_ID)
	loop := r.at.start(r.handler())
	before, err := r.arrived()
	if err != nil {
		return sample{}, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), socketRun)
	defer cancel()
	offered, err := r.generator.Run(ctx, math.MaxUint64)
	if err != nil {
		return sample{}, err
	}
	after, err := r.arrived()
	if err != nil {
		return sample{}, err
	}
	if err := loop.stop(); err != nil {
		return sample{}, err
	}
	cpu = cpuTime(unix.CLOCK_PROCESS_CPUTIME_ID) - cpu
	n := after.packets - before.packets
	if n > offered.Sent {
		return sample{}, fmt.Errorf("%d of %d packets arrived", n, offered.Sent)
	}
	return sample{
		pps: float64(n) / after.at.Sub(before.at).Seconds(), offeredPPS: offered.Rate(),
		senderNS: perPacket(cpu-loop.cpu, offered.Sent), loopNS: perPacket(loop.cpu, loop.handled),
	}, nil
}

// perPacket is in ns.
func perPacket(d time.Duration, packets uint64) float64 {
	return float64(d.Nanoseconds()) / float64(max(packets, 1))
}

// arrivals are the packets that have come to the end at a time.
type arrivals struct {
	packets uint64
	at      time.Time
}

func (r *socketRow) arrived() (a arrivals, err error) {
	switch r.end {
	case dropped:
		a.packets, err = r.at.unknownPort()
	case received:
		a.packets, err = r.at.handled()
	case sent:
		a.packets, err = r.at.sunk()
	}
	a.at = time.Now()
	return a, err
}

// handler is what the loop does with the row's packets; nil where there is none.
func (r *socketRow) handler() afxdp.Handler {
	if r.end == received {
		return ignore{}
	}
	return r.at.handler
}

// ignore is a Handler for frames that nothing becomes of.
type ignore struct{}

func (ignore) Handle([]byte, *afxdp.Tx) {}
