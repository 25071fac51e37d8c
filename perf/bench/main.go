// SPDX-License-Identifier: Apache-2.0

// Command bench times the datapaths on this machine: the programs alone, packet
// by packet, beside floor programs that do the same parsing and lookups and
// nothing else; lb/forward alone beside a copy of the frame; AF_XDP sockets on
// veth beside XDP on the same; and what the maps of many services take. Ratios
// within one run are to be compared, not nanoseconds between machines. It needs
// root.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"text/tabwriter"

	"golang.org/x/sys/unix"
)

// Report is what bench.json holds.
type Report struct {
	Machine string   `json:"machine"`
	Kernel  string   `json:"kernel"`
	Go      string   `json:"go"`
	Results []Result `json:"results"`
	// ZeroCopy is what came of the attempt to open a socket without copies on veth.
	ZeroCopy string `json:"zeroCopy,omitempty"`
	Scale    *Scale `json:"scale,omitempty"`
}

// Result is one row: medians of the rounds. NS is the program's or the
// Forwarder's own time; with PPS it is the processor's for everything that
// happens to a packet, from the generator to the end, on all cores.
type Result struct {
	Name    string  `json:"name"`
	NS      float64 `json:"ns"`
	FloorNS float64 `json:"floorNs"`
	Ratio   float64 `json:"ratio"`
	// Allocs are allocations per packet, of lb/forward.
	Allocs *float64 `json:"allocs,omitempty"`
	// PPS are packets per second that came to the end, OfferedPPS those sent.
	PPS        float64 `json:"pps,omitempty"`
	OfferedPPS float64 `json:"offeredPps,omitempty"`
	// LoopNS is the part of NS that the loop over the sockets takes, on a core of
	// its own.
	LoopNS float64 `json:"loopNs,omitempty"`
}

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	file := flags.String("o", "perf/results/bench.json", "`FILE` for the results")
	only := flags.String("only", "", "run rows whose name contains `TEXT`")
	rounds := flags.Int("rounds", 7, "`ROUNDS` of which the median is taken")
	scale := flags.Bool("scale", true, "measure maps of 10,000 services, too, where no row is chosen")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("needs root: it loads BPF programs")
	}
	report := Report{Machine: machine(), Kernel: kernel(), Go: runtime.Version()}
	t, all := newTable(out), families()
	if err := timePrograms(t, all, *only, *rounds); err != nil {
		return err
	}
	if err := timeForward(t, all, *only, *rounds); err != nil {
		return err
	}
	var err error
	if report.ZeroCopy, err = timeSockets(t, all[0], *only, *rounds); err != nil {
		return err
	}
	report.Results = t.rows
	if report.ZeroCopy != "" {
		fmt.Fprintf(out, "\nafxdp without copies: %s\n", report.ZeroCopy)
	}
	if err := printForwardGoal(out, t.rows); err != nil {
		return err
	}
	if *scale && *only == "" {
		if report.Scale, err = measureScale(); err != nil {
			return err
		}
		report.Scale.print(out)
	}
	return write(*file, report)
}

func write(file string, report Report) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	b, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o644)
}

// machine is the processor's name.
func machine() string {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(b)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return fmt.Sprintf("%s, %d cores", strings.TrimSpace(value), runtime.NumCPU())
		}
	}
	return "unknown"
}

func kernel() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}

// table prints rows as they are measured.
type table struct {
	w    *tabwriter.Writer
	rows []Result
}

func newTable(out io.Writer) *table {
	t := &table{w: tabwriter.NewWriter(out, 12, 0, 2, ' ', tabwriter.AlignRight)}
	t.print("ROW", "NS/PACKET", "FLOOR", "RATIO", "ALLOCS", "MPPS", "OFFERED", "LOOP NS")
	return t
}

// print is a line of cells, the first of which keeps its width.
func (t *table) print(name string, cells ...string) {
	fmt.Fprintf(t.w, "%-24s\t%s\t\n", name, strings.Join(cells, "\t"))
	t.w.Flush()
}

func (t *table) add(r Result) {
	t.rows = append(t.rows, r)
	allocs := "-"
	if r.Allocs != nil {
		allocs = fmt.Sprintf("%.3g", *r.Allocs)
	}
	cell := func(format string, v float64) string {
		if v == 0 {
			return "-"
		}
		return fmt.Sprintf(format, v)
	}
	t.print(r.Name, fmt.Sprintf("%.0f", r.NS), fmt.Sprintf("%.0f", r.FloorNS), fmt.Sprintf("%.2f", r.Ratio),
		allocs, cell("%.2f", r.PPS/1e6), cell("%.2f", r.OfferedPPS/1e6), cell("%.0f", r.LoopNS))
}
