// SPDX-License-Identifier: Apache-2.0

// Command bench times the datapath on this machine: the programs alone, packet
// by packet, beside floor programs that do the same parsing and lookups and
// nothing else; and what the maps of many services take. Ratios within one run
// are to be compared, not nanoseconds between machines. It needs root.
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
	Scale   *Scale   `json:"scale,omitempty"`
}

// Result is one row: medians of the rounds, program only.
type Result struct {
	Name    string  `json:"name"`
	NS      float64 `json:"ns"`
	FloorNS float64 `json:"floorNs"`
	Ratio   float64 `json:"ratio"`
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
	results, err := timePrograms(out, *only, *rounds)
	if err != nil {
		return err
	}
	report.Results = results
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
	t := &table{w: tabwriter.NewWriter(out, 24, 0, 2, ' ', 0)}
	fmt.Fprintln(t.w, "ROW\tNS/PACKET\tFLOOR\tRATIO")
	return t
}

func (t *table) add(r Result) {
	t.rows = append(t.rows, r)
	fmt.Fprintf(t.w, "%s\t%.0f\t%.0f\t%.2f\n", r.Name, r.NS, r.FloorNS, r.Ratio)
	t.w.Flush()
}
